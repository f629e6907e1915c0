package geo

import (
	"math"
	"time"
)

const (
	// paceMS is the memory of the smoothed speed: long enough for a traffic
	// light, short enough to notice a motorway. On the recordings 300 and
	// 600 s were worse at most look-outs.
	paceMS = 120_000
	// guessMS of journey is what an estimate needs; before that it is a guess.
	guessMS = 60_000
	// crawlMMS is the pace, 1 km/h, under which a phone is standing.
	crawlMMS = 280
)

// keepPace folds the leg of one minute into the smoothed speed: a plain mean
// until paceMS of journey have been seen, exponential after. Once a minute and
// not once a fix, because each write costs the script a microsecond. 1 dm/ms is
// 100 000 mm/s, and every product stays below 2^53.
func (t *Track) keepPace(way leg) {
	t.PaceMMS = (t.PaceMMS*t.PacedMS + way.distanceDM*100_000) / (t.PacedMS + way.ms)
	t.PacedMS = min(paceMS, t.PacedMS+way.ms)
}

// DefaultDetour is how much longer than the great circle the rest of the way
// is, against a speed that is itself made good over a minute. The recordings
// say 1.0 to 1.1 in every mode; 1.2 and 1.3 were worse at most look-outs.
const DefaultDetour = 1.05

// ETA is how long the rest of a journey takes at the pace so far, to the
// second, and never negative. known is false where a number would be a guess:
// within a minute of the first fix or of a re-anchor, and while the phone
// stands. paceMMS and pacedMS are the track's; see Track.
//
// It cannot rise by more than is explained by the distance and, once a minute,
// by that minute's speed: a whole one spent standing makes it half as long
// again, after the second minute of a journey.
func ETA(distanceM float64, paceMMS, pacedMS int64, detour float64) (eta time.Duration, known bool) {
	if pacedMS < guessMS || paceMMS < crawlMMS || !(distanceM >= 0) {
		return 0, false
	}
	seconds := math.Round(distanceM * detour * 1000 / float64(paceMMS))
	return time.Duration(seconds) * time.Second, true
}
