package sessions

import (
	"sync"
	"time"
)

// etaErrors measures how far ETAs were off: it keeps the arrival time that a
// student was shown, and compares it with the real one. It knows only what this
// process has shown. If the student meanwhile polls another gateway, the
// comparison is missing, but no comparison is wrong. Safe for concurrent use.
type etaErrors struct {
	limit int // of journeys

	mu       sync.Mutex
	expected map[Ref]time.Time // when the student was told that the trainer arrives
}

// The first ETA between minETA and maxETA is the one that is compared. A longer one
// is of less use to a student, a shorter one is easy to get right.
const (
	maxETA = 5 * time.Minute
	minETA = 4 * time.Minute
)

// shown notes the ETA that a student sees. Once the trainer is inside the fence it
// reports true, and the ETA error: the arrival minus the expected arrival, negative
// for an early arrival. Both instants come from fixes and are of the same clock; the
// time until a fix is seen is measured elsewhere. The ETA is to the door and the
// fence is before it, so a perfect ETA is early by the time for the last 150 m.
func (e *etaErrors) shown(v View, now time.Time) (late time.Duration, arrived bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	expected, known := e.expected[v.Ref]
	switch {
	case v.Arriving && known:
		delete(e.expected, v.Ref)
		return v.Location.RecordedAt.Sub(expected), true
	case v.Arriving || known:
		return 0, false
	}
	eta := v.ETASeconds()
	if eta == nil {
		return 0, false
	}
	if left := time.Duration(*eta) * time.Second; left >= minETA && left <= maxETA {
		e.expect(v.Ref, v.Location.RecordedAt.Add(left), now)
	}
	return 0, false
}

// expect keeps an arrival time if there is room, or if old ones can be removed: no
// journey lasts longer than an hour.
func (e *etaErrors) expect(ref Ref, at, now time.Time) {
	if len(e.expected) >= e.limit {
		for old, at := range e.expected {
			if now.Sub(at) > time.Hour {
				delete(e.expected, old)
			}
		}
	}
	if len(e.expected) < e.limit {
		e.expected[ref] = at
	}
}
