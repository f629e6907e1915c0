package sessions

import (
	"sync"
	"time"
)

const (
	// partiesFor is a few polls' time: it spares nine look-ups of ten, and a
	// session whose parties somebody changes in the table itself, which no call
	// here does, is seen by its new ones at once (Service.Ref) and by its old ones
	// for a minute at most.
	partiesFor = 30 * time.Second
	// partiesRoom sessions are in a generation at most: 131,072 in both, some 30 MB.
	partiesRoom = 65_536
)

// parties remembers whose session is whose, so that a student's next poll asks
// nobody for it: no call here changes a session's parties, so what was read once
// is not wrong soon after. Nothing else of a session is kept here.
//
// There are two generations: what is asked for goes into the young one, and when
// that is full or has been young for partiesFor it becomes the old one, and the
// old one goes. So an entry lives for partiesFor to twice that, and no more are
// kept than two generations hold, without a time or a list for each.
//
// The zero value is ready. Safe for concurrent use.
type parties struct {
	mu         sync.Mutex
	young, old map[ID]Meta
	since      time.Time // the young generation's
}

func (p *parties) get(id ID, now time.Time) (Meta, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.age(now)
	if m, ok := p.young[id]; ok {
		return m, true
	}
	m, ok := p.old[id]
	return m, ok
}

func (p *parties) put(id ID, m Meta, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.age(now)
	if len(p.young) >= partiesRoom {
		p.turn(now)
	}
	p.young[id] = m
}

// age ends a generation that has had its time. A clock that was set back ends
// it, too; but not one that is only read earlier than another caller's.
func (p *parties) age(now time.Time) {
	switch young := now.Sub(p.since); {
	case young >= 2*partiesFor:
		p.young = nil // the old one's time has passed with it
		p.turn(now)
	case young >= partiesFor, young < -partiesFor:
		p.turn(now)
	}
}

func (p *parties) turn(now time.Time) { p.young, p.old, p.since = map[ID]Meta{}, p.young, now }
