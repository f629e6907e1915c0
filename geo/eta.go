package geo

import (
	"math"
	"time"
)

const (
	// paceMS is how much time the smoothed speed remembers. It is long enough for
	// a traffic light and short enough to notice a motorway. On the recordings
	// 300 s and 600 s were worse at most look-outs.
	paceMS = 120_000
	// usualMS is how much of the journey the mode's usual speed counts for. On the
	// recordings 60 s was worse in the first minute, and 15 s after it.
	usualMS = 30_000
	// crawlMMS is the pace in mm/s, 1 km/h, below which a phone counts as standing.
	crawlMMS = 280
	// mmsPerDMMS converts a speed: one decimetre a millisecond is 100,000 mm/s.
	mmsPerDMMS = 100_000
)

// smoothPace adds the leg of one minute to the smoothed speed: a plain mean
// until the pace covers paceMS of the journey, an exponential mean after that.
// It runs once a minute and not with each fix, because each write costs the
// script a microsecond. Every product stays below 2^53, so the twin in Lua is
// exact.
func (t *Track) smoothPace(way leg) {
	t.PaceMMS = (t.PaceMMS*t.PacedMS + way.distanceDM*mmsPerDMMS) / (t.PacedMS + way.ms)
	t.PacedMS = min(paceMS, t.PacedMS+way.ms)
}

// DefaultDetour is how many times longer than the great circle the rest of the
// way is. The speed that it is divided by is itself measured along great circles
// of one minute, so the factor is small: on the recordings it is 1.0 to 1.1 in
// every mode, and 1.2 and 1.3 were worse at most look-outs.
const DefaultDetour = 1.05

// UsualMMS is the speed in mm/s that a journey is assumed to have before it has been
// measured: 40 km/h by car, 18 by bike, 4 on foot. They are the medians of the
// recordings, along the great circle to the home, with all traffic lights and breaks.
func UsualMMS(mode Mode) int64 {
	switch mode {
	case Bike:
		return 4_900
	case Walk:
		return 1_100
	default:
		return 11_000
	}
}

// PaceFrom returns the pace of a Track and over how many ms it was measured. Until the
// first minute has told one, it is that of the way from the anchor, where the track
// began, to the last fix; 0 and 0 where that is the first fix, or one that has
// replaced it.
func PaceFrom(anchor, last TrackPoint, paceMMS, pacedMS int64) (mms, overMS int64) {
	if ms := last.TakenMS - anchor.TakenMS; pacedMS == 0 && ms > 0 {
		ms = max(minLegMS, ms)
		return decimetres(DistanceM(anchor.Point, last.Point)) * mmsPerDMMS / ms, min(paceMS, ms)
	}
	return paceMMS, pacedMS
}

// ETA returns how long the rest of a journey takes at the pace so far, rounded
// to the second and never negative. The pace counts for as long as it was measured,
// and the mode's usual speed for usualMS. known is false where a number would be a
// guess: at the first fix, at a re-anchor, and while the phone stands. distanceM is
// the great-circle distance to the home in metres; paceMMS and pacedMS are those of
// PaceFrom; detour is a factor, see DefaultDetour.
//
// After the first minute an ETA rises only by what the distance explains and, once a
// minute, by that minute's speed: a whole minute of standing makes it at most half as
// long again, after the second minute of a journey.
func ETA(distanceM float64, mode Mode, paceMMS, pacedMS int64, detour float64) (eta time.Duration, known bool) {
	if pacedMS <= 0 || paceMMS < crawlMMS || !(distanceM >= 0) {
		return 0, false
	}
	mms := float64(UsualMMS(mode)*usualMS+paceMMS*pacedMS) / float64(usualMS+pacedMS)
	return time.Duration(math.Round(distanceM*detour*1000/mms)) * time.Second, true
}
