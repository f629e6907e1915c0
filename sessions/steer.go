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

// longest is the longest that NextFix returns while a journey runs.
func longest(shortest time.Duration, steer bool) time.Duration {
	if steer {
		return max(shortest, standstill)
	}
	return shortest
}

// steer makes the time until the next fix longer where the fix allows it. Of a queue
// there is more to come at once. The rate stays as it is: a phone may always send more
// often than it is told.
func (s *Service) steer(fix Fix, r *Receipt) {
	if !s.opts.Steer || r.Verdict != VerdictStored || r.Late {
		return
	}
	is := Steering{Watched: r.Watched, DistanceM: r.DistanceM, SpeedKMH: -1}
	if fix.SpeedKMH != nil {
		is.SpeedKMH = *fix.SpeedKMH
	}
	r.NextUpdate += is.NextFix(s.opts.RateInterval) - s.opts.RateInterval
}

// telling is what this process has last told a journey's phone.
type telling struct {
	at       time.Time // by the store's clock
	interval time.Duration
}

// sameFix is how far apart the store's two words for the time of one fix are: the rate
// may count it up to its tolerance later.
const sameFix = 2 * time.Second

// tell notes what the answer to a fix tells the phone.
func (s *counterShard) tell(ref Ref, r Receipt, shortest time.Duration) {
	if r.Verdict >= VerdictVague && r.Verdict != VerdictBeforeStart && r.Verdict != VerdictIgnoredTooSoon { // it counts against the rate
		s.told[ref] = telling{r.At, max(shortest, r.NextUpdate)}
	}
}

// dueAfter is how long after the fix before a stored one was due. Where another process
// has answered that, it may have told the phone the longest interval.
func (s *counterShard) dueAfter(ref Ref, r Receipt, o FixCounterOptions) time.Duration {
	told, ok := s.told[ref]
	if before := r.At.Add(-r.SeenAgo); ok && before.Sub(told.at).Abs() < sameFix {
		return told.interval
	}
	return longest(o.RateInterval, o.Steer)
}

// forget drops what makes no difference any more: after so long it is a silence,
// whatever the phone was told.
func (s *counterShard) forget(o FixCounterOptions) {
	now, enough := o.Now(), longest(o.RateInterval, o.Steer)+silenceAfter
	for ref, told := range s.told {
		if now.Sub(told.at).Abs() > enough {
			delete(s.told, ref)
		}
	}
}
