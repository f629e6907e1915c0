package api

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"doorstep/gateway/api/ingest"
	"doorstep/sessions"
)

const (
	// toldFor is how long a gateway relies on what it has told a phone. Another gateway
	// may have told it something else since. It is less than the longest interval, so a
	// phone that was told that one by another gateway is told anew.
	toldFor  = 4 * time.Minute
	toldRoom = 65_536
	// steerStep is what intervals are rounded to, so that a second more or less is no
	// change.
	steerStep = 5 * time.Second
	// longerAfter is how long a phone keeps an interval at least before it is told a
	// longer one: a red light is no reason to start the receiver anew, twice.
	longerAfter = time.Minute
	// paceStep is the least change in km/h of the speed by which an app is steered that is
	// told.
	paceStep = 15
)

// lately is what this gateway remembers of devices that report.
type lately struct {
	mu      *sync.Mutex
	devices *simplelru.LRU[sessions.ID, phoneLately]
}

type phoneLately struct {
	told   ingest.Steer // what it was last told
	at     time.Time    // when; zero: never
	newest time.Time    // the latest point of what was not dropped, by the phone's clock
}

func newLately() lately {
	l, _ := simplelru.NewLRU[sessions.ID, phoneLately](toldRoom, nil) // fails only for a size of 0 or less
	return lately{new(sync.Mutex), l}
}

// changes notes what a device is to do, and reports whether it must be told. Apps start
// their receiver anew at each command, so they get one only where it changes something:
// a shorter interval at once, a longer one after a while. since is the time since its
// last point; 0 where that is not known.
func (l lately) changes(device sessions.ID, s ingest.Steer, since time.Duration, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, _ := l.devices.Get(device)
	if !last.differs(s, since, now.Sub(last.at).Abs()) {
		return false
	}
	last.told, last.at = s, now
	l.devices.Add(device, last)
	return true
}

// differs is the rule of changes, ago after the device was last told something.
func (p phoneLately) differs(s ingest.Steer, since, ago time.Duration) bool {
	pace := s.SpeedKMH - p.told.SpeedKMH
	switch {
	case p.at.IsZero(), ago >= toldFor, s.Stop != p.told.Stop:
		return true
	case s.Interval > p.told.Interval:
		return ago >= longerAfter || s.Interval >= toldFor // the end of a journey is no red light
	case s.Interval < p.told.Interval:
		return true
	case since > s.Interval+steerStep && ago > s.Interval+steerStep: // another gateway may have told it a longer one
		return true
	}
	return max(pace, -pace) > max(paceStep, p.told.SpeedKMH/2)
}

// lastTold is what the device was last told, by this gateway and not long ago.
func (l lately) lastTold(device sessions.ID, now time.Time) (ingest.Steer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, _ := l.devices.Get(device)
	return last.told, !last.at.IsZero() && now.Sub(last.at).Abs() < toldFor
}

// forward reports whether the newest of the fixes is of the last five minutes and a second
// newer than what came before. An app empties its queue as fast as it can, the oldest
// point first: however fast that is, its last point must not be dropped. Of one device
// that are 600 points at once at most, and then one a second.
func (l lately) forward(device sessions.ID, fixes []sessions.Fix, now time.Time) bool {
	if len(fixes) == 0 {
		return false
	}
	newest := fixes[len(fixes)-1].RecordedAt
	l.mu.Lock()
	defer l.mu.Unlock()
	last, _ := l.devices.Get(device)
	if newest.IsZero() || now.Sub(newest).Abs() > ingest.KeptFor || newest.Sub(last.newest) < time.Second {
		return false
	}
	last.newest = newest
	l.devices.Add(device, last)
	return true
}

// steer is what the app is told; the zero value is nothing. While a journey runs that is
// what the receipt of a stored fix says, and without one the longest interval, or to stop.
func (a *API) steer(device sessions.Reporter, r received, receipt sessions.Receipt) ingest.Steer {
	if !a.deps.Steer || r.outcome == flooded {
		return ingest.Steer{}
	}
	now := a.deps.Now()
	ended := sessions.Steering{Ended: true}.NextFix(a.deps.RateInterval)
	var s ingest.Steer
	var since time.Duration
	switch {
	case device.SessionID == "" && a.deps.StopApps:
		s.Stop = true
	case device.SessionID == "":
		s.Interval = ended
	case receipt.Verdict == sessions.VerdictStored && !receipt.Late:
		s.Interval = max(a.deps.RateInterval, receipt.NextUpdate.Round(steerStep))
		if device.Format != sessions.Transistorsoft {
			since = receipt.SeenAgo
		} else if speed := r.Points[len(r.Points)-1].Fix.SpeedKMH; speed != nil { // it counts in metres
			s.SpeedKMH = *speed
		}
	default: // nothing new about the way, so what it knows will do, if that is of a running journey
		if told, ok := a.phones.lastTold(device.ID, now); ok && !told.Stop && told.Interval < ended {
			return ingest.Steer{}
		}
		s.Interval = a.deps.RateInterval
	}
	if !a.phones.changes(device.ID, s, since, now) {
		return ingest.Steer{}
	}
	return s
}
