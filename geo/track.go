package geo

import "math"

// Track is all that Judge remembers of a journey between two fixes. Its zero
// value is a journey without a fix. Every number in it is an integer, so the
// twin in Lua, whose only number is a double, computes the same bits.
type Track struct {
	Last Sighting // the live fix

	// Rival is the last fix that was refused, or after a re-anchor the track
	// that was given up: another story of where the phone is.
	Rival Sighting
	Votes int64 // fixes in a row that tell the rival's story; 0 = no rival

	Mark Sighting // where the phone was up to markMS ago

	FastMS       int64 // when a fix was last over the limit and believed; 0 = never
	ReanchoredMS int64 // when the track last began anew or came out of a silence; 0 = never
	StillMS      int64 // since when the position has not moved by a centimetre; 0 = it moves
	Mismatches   int64 // legs in a row that the receiver's own speed contradicts
	PaceMMS      int64 // smoothed speed over ground, mm/s; see ETA
	PacedMS      int64 // how much time that smoothing has seen, capped
}

// Restored is the track of a journey whose live location was lost: expired
// after a silence, or gone with the store. Its first fix is believed, as any
// first fix is, but counts as a re-anchor: else five minutes of silence would
// be a way to the door.
func Restored(nowMS int64) Track { return Track{ReanchoredMS: max(1, nowMS)} }

// Sighting is a fix as the store keeps it: rounded, and stamped by both clocks.
type Sighting struct {
	Point      Point
	AccuracyDM int64 // decimetres; 0 = the phone did not say
	AtMS       int64 // the store's clock on arrival
	RecordedMS int64 // the phone's clock; 0 = absent or not sane
}

// sight rounds a fix and drops a clock that cannot be: the twin's ARGV are made
// of exactly these numbers.
func sight(fix Fix, nowMS int64, limits Limits) Sighting {
	s := Sighting{Point: fix.Point, AccuracyDM: decimetres(fix.AccuracyM), AtMS: nowMS}
	if fix.RecordedMS > 0 && fix.RecordedMS <= nowMS+limits.FutureMS {
		s.RecordedMS = fix.RecordedMS
	}
	return s
}

// decimetres rounds half up, as math.floor(x*10+0.5) does in Lua.
func decimetres(m float64) int64 { return int64(math.Floor(m*10 + 0.5)) }

// leg is the way from one sighting to the next.
type leg struct {
	distanceDM int64 // great circle
	reachDM    int64 // the least of it that is not explained by both accuracies
	ms         int64 // what it took, at least minLegMS
	aheadMS    int64 // by how much the phone's clock outran ours
}

// minLegMS keeps a phone that stamps whole seconds from dividing by nothing.
const minLegMS = 1000

// legTo measures a leg. Time is the phone's where both fixes have it and it
// rises: a fix that waited for the network was not driven in no time. It may
// outrun ours by CatchUpMS, as it does after such a wait, and no more: else
// back-dating one fix would pay for a jump at the next.
func (s Sighting) legTo(next Sighting, limits Limits) leg {
	l := leg{distanceDM: decimetres(DistanceM(s.Point, next.Point)), ms: next.AtMS - s.AtMS}
	if s.RecordedMS > 0 && next.RecordedMS > s.RecordedMS {
		phoneMS := next.RecordedMS - s.RecordedMS
		l.aheadMS = phoneMS - l.ms
		l.ms = min(phoneMS, l.ms+limits.CatchUpMS)
	}
	l.ms = max(l.ms, minLegMS)
	l.reachDM = max(0, l.distanceDM-s.doubtDM(limits)-next.doubtDM(limits))
	return l
}

func (s Sighting) doubtDM(limits Limits) int64 {
	if s.AccuracyDM == 0 {
		return decimetres(limits.DefaultAccuracyM)
	}
	return min(s.AccuracyDM, decimetres(limits.MaxAccuracyM))
}

// over reports whether the reach takes more than kmh. dm/ms is 360 km/h; both
// products are exact, so no two machines disagree.
func (l leg) over(kmh float64) bool { return float64(l.reachDM*360) > kmh*float64(l.ms) }

// lasting is the leg with another time.
func (l leg) lasting(ms int64) leg {
	l.ms = ms
	return l
}
