package sessions

import "time"

// Steering is what decides when a phone shall send its next fix.
type Steering struct {
	Ended   bool // there is no journey any more
	Watched bool // somebody waits for its changes
	// DistanceM is how far the phone is from the home.
	DistanceM float64
	// SpeedKMH is how fast it moves; negative where that is not known.
	SpeedKMH float64
}

const (
	nearM        = 2_000 // from here on every fix counts: at 120 km/h the door is a minute away
	standingKMH  = 2     // receivers that lie still report up to this; a walk is 4 and more
	fastestKMH   = 120   // the limit of a car, where the speed is not known
	farPause     = 15 * time.Second
	standstill   = 25 * time.Second // under the 30 s after which apps show that the signal is lost
	afterJourney = 5 * time.Minute
)

// NextFix is how long the phone shall wait. It is shortest, the interval of the rate
// limit, while somebody watches and near the door; longer is for the battery only.
//
// On the way it is half the time to where near begins, so that a phone that doubles
// its speed meanwhile is still told in time.
func (s Steering) NextFix(shortest time.Duration) time.Duration {
	const metresPerSecond = 1 / 3.6 // of km/h
	pause := farPause
	switch {
	case s.Ended:
		return max(shortest, afterJourney)
	case s.Watched, !(s.DistanceM > nearM): // NaN, too
		return shortest
	case s.SpeedKMH >= 0 && s.SpeedKMH < standingKMH:
		return max(shortest, standstill)
	}
	speed := s.SpeedKMH
	if !(speed >= 0) {
		speed = fastestKMH
	}
	if seconds := (s.DistanceM - nearM) / (speed * metresPerSecond) / 2; seconds < pause.Seconds() {
		pause = time.Duration(seconds * float64(time.Second)).Truncate(time.Second)
	}
	return max(shortest, pause)
}
