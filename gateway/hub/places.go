package hub

import (
	"sync/atomic"
	"time"

	"doorstep/sessions"
)

// ComeBack is when a displaced caller may wait again: the Retry-After of its
// answer.
const ComeBack = 5 * time.Second

const (
	// returnsWithin is how long after ComeBack a new wait is taken for a displaced
	// one that has come back. It covers a client that adds a random part to the
	// Retry-After, and the network.
	returnsWithin = 5 * time.Second
	// remembered is how long it is remembered, after the last wait, that a reader
	// has more honest clients than places. It must outlast the pause between two
	// polls: one long poll, an error and a back-off.
	remembered = time.Minute
)

// reader is one caller that waits for one session. Its waits share the
// places.
type reader struct {
	caller, session sessions.ID
}

// places are the open waits of one reader, oldest first.
//
// The newest wait always gets a place, because behind a load balancer it is the
// only one that is known to have somebody at its end: the balancer keeps the
// connections of a phone that lost its network. So the oldest wait makes room,
// and is told to come back after ComeBack.
//
// Five honest tabs would then displace each other in turn for as long as they
// are open. What tells a tab from a dead connection is that it does come back. A
// wait that begins between ComeBack and ComeBack + returnsWithin after a
// displacement is taken for the one that was displaced, and gets a place of its
// own. A phone that loses its network again in just that time gets one, too, which
// is harmless: there are never more than twice as many places, and a wait on a
// dead connection ends by itself after 30 s.
type places struct {
	oldest, newest *place
	open           int
	first          place // of the reader's first wait: one allocation less, as most have no other

	extra   int         // places beyond the limit, of waits that came back
	due     []time.Time // when the displaced waits may come back, ascending; at most as many as places
	renewed time.Time   // when extra or due was last needed
	forget  *time.Timer // removes the entry; runs only while no wait is open
}

// place is one open wait.
type place struct {
	reader       reader
	older, newer *place
	wake         chan struct{} // of capacity 1: one wake-up is enough, because the next read sees all changes
	displaced    atomic.Bool   // it has no place any more; set before the wake-up
}

func (p *place) wakeUp() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// enter gives a wait its place. The reader's own limit is checked first, so that a
// reader who takes its own oldest place may do so even when the process is full.
func (h *Hub) enter(caller sessions.Caller, session sessions.ID) (*place, error) {
	limit := h.opts.PerCaller
	if caller.Role == sessions.Admin {
		limit = max(limit, PerAdmin)
	}
	by := reader{caller.ID, session}
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.places[by]
	var at *place
	switch {
	case of != nil && of.open >= limit && !of.cameBack(limit):
		h.displace(of, limit)
	case h.total.Load() >= int64(h.opts.Total):
		return nil, ErrFull
	case of == nil:
		of = &places{}
		h.places[by] = of
		at = &of.first
	case of.forget != nil:
		of.forget.Stop()
	}
	if at == nil {
		at = &place{}
	}
	at.reader, at.wake = by, make(chan struct{}, 1)
	h.total.Add(1)
	of.add(at)
	return at, nil
}

// cameBack reports whether there is a place beyond the limit for a new wait, and
// makes one if the wait is a displaced one that has come back.
func (of *places) cameBack(limit int) bool {
	now := time.Now()
	if of.extra > 0 && now.Sub(of.renewed) > remembered {
		of.extra = 0
	}
	for len(of.due) > 0 && now.Sub(of.due[0]) > returnsWithin {
		of.due = of.due[1:]
	}
	if of.extra < limit && of.open >= limit+of.extra && len(of.due) > 0 && !now.Before(of.due[0]) {
		of.due = of.due[1:]
		of.extra++
	}
	if of.open >= limit+of.extra {
		return false
	}
	of.renewed = now
	return true
}

// displace ends the oldest wait. Its goroutine may still be running for a
// moment; it has no place any more.
func (h *Hub) displace(of *places, limit int) {
	last := of.oldest
	of.remove(last)
	h.total.Add(-1)
	last.displaced.Store(true)
	last.wakeUp()
	if len(of.due) == limit {
		of.due = of.due[1:] // a flood: who waits for its first places to come back is not known
	}
	of.renewed = time.Now()
	of.due = append(of.due, of.renewed.Add(ComeBack))
}

func (h *Hub) leave(at *place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at.displaced.Load() {
		return
	}
	h.total.Add(-1)
	of := h.places[at.reader]
	of.remove(at)
	switch {
	case of.open > 0:
	case of.extra == 0 && len(of.due) == 0:
		delete(h.places, at.reader)
	case of.forget == nil:
		of.forget = time.AfterFunc(remembered, func() { h.forget(at.reader, of) })
	default:
		of.forget.Reset(remembered)
	}
}

// forget removes a reader who has not waited for as long as its displaced waits
// are remembered.
func (h *Hub) forget(r reader, of *places) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if of.open == 0 && h.places[r] == of {
		delete(h.places, r)
	}
}

func (of *places) add(at *place) {
	at.older = of.newest
	if of.newest == nil {
		of.oldest = at
	} else {
		of.newest.newer = at
	}
	of.newest = at
	of.open++
}

func (of *places) remove(at *place) {
	if at.older == nil {
		of.oldest = at.newer
	} else {
		at.older.newer = at.newer
	}
	if at.newer == nil {
		of.newest = at.older
	} else {
		at.newer.older = at.older
	}
	at.older, at.newer = nil, nil
	of.open--
}
