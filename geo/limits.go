package geo

// Limits are the numbers Judge goes by, all of them settings. DefaultLimits has
// the values and why.
type Limits struct {
	LimitKMH   float64 // over it alone: refused at first, then believed if fixes agree
	CeilingKMH float64 // over it: refused, until fixes agree that the track was wrong

	DefaultAccuracyM float64 // what a phone that says nothing is taken to mean
	MaxAccuracyM     float64 // how much doubt one fix may claim for itself
	VagueM           float64 // worse than this is ignored

	JumpM       float64 // with JumpMS, what makes a refusal a jump
	JumpMS      int64
	BankMS      int64 // silence beyond this buys no distance unmarked
	CatchUpMS   int64 // by how much the phone's clock may run ahead of ours between two fixes
	GraceMS     int64 // quiet time after which fast driving must prove itself again
	FutureMS    int64 // a recordedAt further ahead is no clock at all
	ClockSkewMS int64 // a recordedAt further off, either way, is flagged

	Shadow Shadow // rules that count and let pass
}

// Shadow is the set of refusing rules that only count.
type Shadow struct{ LowAccuracy, Speed, Ceiling bool }

// DefaultLimits are the limits of one mode; a mode outside the list is Car.
// The limits are the review's. A ceiling is what the vehicle can do, with room
// for a receiver's noise: cars on an unlimited motorway do 190, racing bikes
// 60 downhill, a runner's sprint 30.
func DefaultLimits(mode Mode) Limits {
	l := Limits{
		LimitKMH: 120, CeilingKMH: 200,
		DefaultAccuracyM: 25, MaxAccuracyM: 100, VagueM: 200,
		JumpM: 1000, JumpMS: 5_000,
		BankMS: 120_000, CatchUpMS: 10_000, GraceMS: 300_000, FutureMS: 2_000, ClockSkewMS: 60_000,
	}
	switch mode {
	case Bike:
		l.LimitKMH, l.CeilingKMH = 30, 60
	case Walk:
		l.LimitKMH, l.CeilingKMH = 15, 30
	}
	return l
}

// passes reports whether the rule behind a refusal is only to count.
func (s Shadow) passes(v Verdict) bool {
	if v == RefusedSpeed {
		return s.Speed
	}
	return s.Ceiling
}
