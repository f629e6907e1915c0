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
	// guessMS is how much of the journey the pace must cover before an ETA is
	// given; with less it would be a guess.
	guessMS = 60_000
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

// ETA returns how long the rest of a journey takes at the pace so far, rounded
// to the second and never negative. known is false where a number would be a
// guess: within a minute of the first fix or of a re-anchor, and while the phone
// stands. distanceM is the great-circle distance to the home in metres; paceMMS
// and pacedMS are those of the Track; detour is a factor, see DefaultDetour.
//
// An ETA rises only by what the distance explains and, once a minute, by that
// minute's speed: a whole minute of standing makes it half as long again, after
// the second minute of a journey.
func ETA(distanceM float64, paceMMS, pacedMS int64, detour float64) (eta time.Duration, known bool) {
	if pacedMS < guessMS || paceMMS < crawlMMS || !(distanceM >= 0) {
		return 0, false
	}
	seconds := math.Round(distanceM * detour * 1000 / float64(paceMMS))
	return time.Duration(seconds) * time.Second, true
}
