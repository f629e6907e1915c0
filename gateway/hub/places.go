package hub

import (
	"slices"
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
	waits          []*Wait
	first          [1]*Wait // where waits begins: most readers have one, which takes no memory of its own
	*displacements          // nil as long as there was none
}

// displacements are what is remembered of a reader's displaced waits.
type displacements struct {
	extra   int         // places beyond the limit, of waits that came back
	due     []time.Time // when the displaced waits may come back, ascending; at most as many as places
	renewed time.Time   // when extra or due was last needed
	forget  *time.Timer // removes the entry; runs only while no wait is open
}

// enter gives a wait its place and its watch. It returns the wait that it took the place
// of, for the caller to end. The reader's own limit is checked first, so that a reader
// who takes its own oldest place may do so even when the process is full.
func (h *Hub) enter(w *Wait, caller sessions.Caller, ref sessions.Ref) (displaced *Wait, err error) {
	limit := h.opts.PerCaller
	if caller.Has(sessions.Admin) || caller.Has(sessions.LinkReader) {
		limit = max(limit, PerMany)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	by := reader{caller.ID, ref.SessionID}
	of := h.places[by]
	switch {
	case of != nil && len(of.waits) >= limit && !of.cameBack(limit):
		displaced = h.displace(of, limit)
	case h.total >= h.opts.Total:
		return nil, ErrFull
	case of == nil:
		of = &places{}
		of.waits = of.first[:0]
		h.places[by] = of
	case of.displacements != nil && of.forget != nil:
		of.forget.Stop()
	}
	h.total++
	of.waits = append(of.waits, w)
	w.watch = h.watchOf(ref)
	w.wakes = w.watch.wakes
	return displaced, nil
}

// cameBack reports whether there is a place beyond the limit for a new wait, and
// makes one if the wait is a displaced one that has come back.
func (of *places) cameBack(limit int) bool {
	if of.displacements == nil {
		return false
	}
	now := time.Now()
	if of.extra > 0 && now.Sub(of.renewed) > remembered {
		of.extra = 0
	}
	for len(of.due) > 0 && now.Sub(of.due[0]) > returnsWithin {
		of.due = of.due[1:]
	}
	if of.extra < limit && len(of.waits) >= limit+of.extra && len(of.due) > 0 && !now.Before(of.due[0]) {
		of.due = of.due[1:]
		of.extra++
	}
	if len(of.waits) >= limit+of.extra {
		return false
	}
	of.renewed = now
	return true
}

// displace takes the place of the oldest wait. It returns the wait for the caller to end,
// or nil where Start will do that.
func (h *Hub) displace(of *places, limit int) (oldest *Wait) {
	oldest = of.waits[0]
	of.waits = slices.Delete(of.waits, 0, 1)
	h.total--
	oldest.displaced = true
	if of.displacements == nil {
		of.displacements = &displacements{}
	}
	if len(of.due) == limit {
		of.due = of.due[1:] // a flood: who waits for its first places to come back is not known
	}
	of.renewed = time.Now()
	of.due = append(of.due, of.renewed.Add(ComeBack))
	if !oldest.waiting {
		return nil
	}
	oldest.watch.remove(oldest)
	return oldest
}

func (h *Hub) leave(w *Wait) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.watch.release()
	if w.displaced {
		return
	}
	h.total--
	by := reader{w.caller, w.watch.ref.SessionID}
	of := h.places[by]
	of.waits = without(of.waits, w)
	switch {
	case len(of.waits) > 0:
	case of.displacements == nil:
		delete(h.places, by)
	default:
		of.forget = time.AfterFunc(remembered, func() { h.forget(by, of) })
	}
}

// forget removes a reader who has not waited for as long as its displaced waits
// are remembered.
func (h *Hub) forget(r reader, of *places) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(of.waits) == 0 && h.places[r] == of {
		delete(h.places, r)
	}
}
