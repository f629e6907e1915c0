package sessions

import (
	"sync"
	"time"
)

// promises is when students were told that their trainer would be there, to be
// compared with when the trainer was. It knows what this process has shown: a
// student who meanwhile polls another gateway is a comparison lost, not a wrong
// one. Safe for concurrent use.
type promises struct {
	limit int

	mu  sync.Mutex
	due map[Ref]time.Time
}

// The look-out: the first estimate between four and five minutes is the one that
// counts. A longer one is of less use to a student, a shorter one is easy.
const (
	lookOut      = 5 * time.Minute
	shortLookOut = 4 * time.Minute
)

// shown notes what a student sees. Once the trainer is within the fence it
// answers by how much later that is than was promised. Both instants are of
// fixes, by the same clock: how long they took to be seen is counted elsewhere.
// The estimate is to the door and the fence is before it, so a perfect one is
// early by the last 150 m.
func (p *promises) shown(v View, now time.Time) (by time.Duration, came bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due, promised := p.due[v.Ref]
	switch {
	case v.Arriving && promised:
		delete(p.due, v.Ref)
		return v.Location.RecordedAt.Sub(due), true
	case v.Arriving || promised:
		return 0, false
	}
	eta := v.ETASeconds()
	if eta == nil {
		return 0, false
	}
	if left := time.Duration(*eta) * time.Second; left >= shortLookOut && left <= lookOut {
		p.note(v.Ref, v.Location.RecordedAt.Add(left), now)
	}
	return 0, false
}

// note keeps a promise, if there is room or old ones can go: nobody travels
// longer than an hour.
func (p *promises) note(ref Ref, due, now time.Time) {
	if len(p.due) >= p.limit {
		for old, at := range p.due {
			if now.Sub(at) > time.Hour {
				delete(p.due, old)
			}
		}
	}
	if len(p.due) < p.limit {
		p.due[ref] = due
	}
}
