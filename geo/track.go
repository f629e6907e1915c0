package geo

import "math"

// Track is all that Judge remembers of a journey between two fixes. Its zero
// value is a journey without a fix. Every number in it is an integer, so the
// twin in Lua, whose only number is a double, computes the same bits.
type Track struct {
	Last TrackPoint // the live fix

	// Rival is the rival track: the last fix that was refused or, after a
	// re-anchor, the last fix of the track that was replaced.
	Rival TrackPoint
	Votes int64 // how many fixes in a row agree with the rival; 0 = no rival

	Anchor TrackPoint // where the phone was up to anchorMS ago

	// Guess says how far the track is confirmed. The first fix of a track is a
	// guess: one that contradicts it takes its place, once.
	Guess int64 // 2 = nothing agrees yet; 1 = it has taken the place of a guess; 0 = confirmed

	FastMS       int64 // when a fix over the limit was last believed; 0 = never
	ReanchoredMS int64 // store's clock: when the track last began anew or came out of a silence; 0 = never
	StillMS      int64 // since when the position has not moved by a centimetre; 0 = it moves
	Mismatches   int64 // legs in a row that the receiver's own speed contradicts
	PaceMMS      int64 // smoothed speed over ground, mm/s; see ETA
	PacedMS      int64 // how much of the journey PaceMMS covers, ms, at most paceMS
}

// Restored returns the track of a journey whose live location was lost: it
// expired after a silence, or the store lost it. Its first fix is believed, as
// any first fix is, but counts as a re-anchor. Without that, five minutes of
// silence would be a way to the door.
func Restored(nowMS int64) Track { return Track{ReanchoredMS: max(1, nowMS)} }

// AfterSilence compares the first fix after a silence with the last one before it,
// of which nothing is known but the distance from the home, in metres, and the time,
// Unix ms. It reports whether the trainer could have got there within the mode's
// limit. The flag is FlagSilence where that takes more than bankMS, or none.
func AfterSilence(home Point, awayM float64, lastMS int64, fix Fix, limits Limits) (reachable bool, flags Flags) {
	next := trackPoint(fix)
	way := TrackPoint{Point: home, TakenMS: lastMS}.legTo(next, limits)
	nearer := way.distanceDM - decimetres(awayM)
	way.reachDM = max(0, max(nearer, -nearer)-next.doubtDM(limits)-decimetres(limits.DefaultAccuracyM))
	if way.over(limits.LimitKMH) {
		return false, 0
	}
	if way.taking(limits.BankMS).over(limits.LimitKMH) {
		return true, FlagSilence
	}
	return true, 0
}

// TrackPoint is a fix as the store keeps it: rounded, and with its one time.
type TrackPoint struct {
	Point      Point
	AccuracyDM int64 // decimetres; 0 = the phone did not say
	TakenMS    int64 // when it was taken, by the store's clock, Unix ms; see Clock
}

// trackPoint rounds a fix. The ARGV of update.lua are made of exactly these
// numbers.
func trackPoint(fix Fix) TrackPoint {
	return TrackPoint{Point: fix.Point, AccuracyDM: decimetres(fix.AccuracyM), TakenMS: fix.TakenMS}
}

// decimetres rounds half up, as math.floor(x*10+0.5) does in Lua.
func decimetres(m float64) int64 { return int64(math.Floor(m*10 + 0.5)) }

// leg is the way from one track point to the next.
type leg struct {
	distanceDM int64 // great circle
	reachDM    int64 // the part of it that both accuracies do not explain
	ms         int64 // how long it took, at least minLegMS
}

const (
	// minLegMS is the shortest time of a leg: a phone that stamps whole seconds
	// must not cause a division by zero.
	minLegMS = 1000
	// kmhPerDMMS converts a speed: one decimetre a millisecond is 360 km/h.
	kmhPerDMMS = 360
)

// legTo measures a leg. Its time is that between the two takings, so a fix that
// waited for the network was not driven in no time. Takings lie between the start
// and now and only rise, so one back-dated fix does not pay for a jump at the next.
func (p TrackPoint) legTo(next TrackPoint, limits Limits) leg {
	l := leg{distanceDM: decimetres(DistanceM(p.Point, next.Point)), ms: max(minLegMS, next.TakenMS-p.TakenMS)}
	l.reachDM = max(0, l.distanceDM-p.doubtDM(limits)-next.doubtDM(limits))
	return l
}

// doubtDM is how far from its point the phone may be: its accuracy, within the
// limits.
func (p TrackPoint) doubtDM(limits Limits) int64 {
	if p.AccuracyDM == 0 {
		return decimetres(limits.DefaultAccuracyM)
	}
	return min(p.AccuracyDM, decimetres(limits.MaxAccuracyM))
}

// over reports whether the reach takes more than kmh. Both products are exact,
// so no two machines disagree.
func (l leg) over(kmh float64) bool { return float64(l.reachDM*kmhPerDMMS) > kmh*float64(l.ms) }

// taking returns the leg as if it had taken ms.
func (l leg) taking(ms int64) leg {
	l.ms = ms
	return l
}
