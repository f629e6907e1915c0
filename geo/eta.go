package geo

import (
	"math"
	"time"
)

const (
	// paceMS is the memory of the smoothed speed: long enough for a traffic
	// light, short enough to notice a motorway. With DefaultDetour, chosen on
	// every other recording; the rest of them agreed.
	paceMS = 120_000
	// guessMS of journey is what an estimate needs; before that it is a guess.
	guessMS = 60_000
	// crawlMMS is the pace, 1 km/h, under which a phone is standing.
	crawlMMS = 280
)

// keepPace folds one leg into the smoothed speed: a plain mean until paceMS of
// journey have been seen, exponential after. 1 dm/ms is 100 000 mm/s, and every
// product stays below 2^53.
func (t *Track) keepPace(way leg) {
	t.PaceMMS = (t.PaceMMS*t.PacedMS + way.distanceDM*100_000) / (t.PacedMS + way.ms)
	t.PacedMS = min(paceMS, t.PacedMS+way.ms)
}

// DefaultDetour is how much longer than the great circle the rest of the way
// is. The recordings are of people on their way somewhere, and have 1.0 to 1.2
// in every mode; the 1.3 of the literature is for errands across a city, and
// doubled the error here.
const DefaultDetour = 1.1

// ETA is how long the rest of a journey takes at the pace so far, to the
// second, and never negative. known is false where a number would be a guess:
// within a minute of the first fix or of a re-anchor, and while the phone
// stands. paceMMS and pacedMS are the track's; see Track.
//
// Between two fixes it cannot rise by more than is explained by the distance
// and by the time between them: a phone that stands still for s seconds
// stretches it by s/120 at most.
func ETA(distanceM float64, paceMMS, pacedMS int64, detour float64) (eta time.Duration, known bool) {
	if pacedMS < guessMS || paceMMS < crawlMMS || !(distanceM >= 0) {
		return 0, false
	}
	seconds := math.Round(distanceM * detour * 1000 / float64(paceMMS))
	return time.Duration(seconds) * time.Second, true
}
