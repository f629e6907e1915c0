package sessions

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// partiesFor is how long an entry is used. The Reconciler renews those of the
	// sessions that are read, so a poll asks no store as a rule. A party that was
	// replaced in the table, or by way of another gateway, can read for that long; the
	// new one can at once (Service.Ref).
	partiesFor = 15*time.Second + 2*reconcileEvery
	// partiesRoom is the largest number of sessions remembered: some 40 MB.
	partiesRoom = 131_072
)

// parties remembers the parties of the sessions that were read lately, so that a
// student's next poll asks no store for them. Only Service.Rebook changes them, and
// notes that here. Nothing else of a session is kept. Safe for concurrent use.
type parties struct {
	mu       sync.Mutex
	sessions *simplelru.LRU[ID, partiesSeen]
}

type partiesSeen struct {
	id   ID // the session's, as one text for all who keep it: each request brings another
	meta Meta
	at   int64 // Unix nanoseconds
}

func newParties() *parties {
	l, _ := simplelru.NewLRU[ID, partiesSeen](partiesRoom, nil) // fails only for a size of 0 or less
	return &parties{sessions: l}
}

// get returns the parties if they were put less than partiesFor ago. A clock
// that was set back by more than that ends an entry, too.
func (p *parties) get(id ID, now time.Time) (partiesSeen, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen, ok := p.sessions.Get(id)
	if !ok || time.Duration(now.UnixNano()-seen.at).Abs() >= partiesFor {
		return partiesSeen{}, false
	}
	return seen, true
}

func (p *parties) forget(id ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions.Remove(id)
}

func (p *parties) put(id ID, m Meta, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions.Add(id, partiesSeen{id, m, now.UnixNano()})
}
