package geo

// Limits are the numbers that Judge uses. All of them are settings;
// DefaultLimits has the values and the reasons.
type Limits struct {
	LimitKMH   float64 // a fix over it is refused at first, then believed if more fixes agree
	CeilingKMH float64 // a fix over it is refused until fixes agree that the track was wrong

	DefaultAccuracyM float64 // assumed when the phone does not say
	MaxAccuracyM     float64 // the most doubt that one fix may claim for itself
	VagueM           float64 // a worse accuracy than this is ignored

	JumpM    float64 // with JumpMS, what makes a refusal a jump
	JumpMS   int64
	BankMS   int64 // the time credit: distance that needs a longer silence than this is flagged
	GraceMS  int64 // after so long without fast driving, it must be proved again
	FutureMS int64 // how far a clock may be off without having to be learnt

	Shadow Shadow // rules that count and let the fix pass
}

// Shadow is the set of refusing rules in shadow mode: they count and do not
// refuse.
type Shadow struct{ LowAccuracy, Speed, Ceiling bool }

// DefaultLimits returns the limits of one mode. A mode outside the list is Car.
// The speed limits are those of docs/origin.md. A ceiling is what the vehicle
// can do, with room for a receiver's noise: cars on an unlimited motorway do
// 190 km/h, racing bikes 60 downhill, a runner's sprint 30.
func DefaultLimits(mode Mode) Limits {
	l := Limits{
		LimitKMH: 120, CeilingKMH: 200,
		DefaultAccuracyM: 25, MaxAccuracyM: 100, VagueM: 200,
		JumpM: 1000, JumpMS: 5_000,
		BankMS: 120_000, GraceMS: 300_000, FutureMS: 2_000,
	}
	switch mode {
	case Bike:
		l.LimitKMH, l.CeilingKMH = 30, 60
	case Walk:
		l.LimitKMH, l.CeilingKMH = 15, 30
	}
	return l
}

// passes reports whether the rule behind a refusal is in shadow mode.
func (s Shadow) passes(v Verdict) bool {
	if v == RefusedSpeed {
		return s.Speed
	}
	return s.Ceiling
}
