package hub

import (
	"container/heap"
	"context"
	"fmt"
	"hash/crc32"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"doorstep/internal/stack"
	"doorstep/sessions"
)

// watch is what the waits of one session share. A wake-up puts it into the hub's
// queue; one of a few goroutines, as many as cores, then looks at the session once and
// ends the waits to whom that is news. So a mass wake-up makes no more than those
// goroutines ready to run, and the replies of the live store are read in between. A read
// that takes a round trip has a goroutine of its own, because another session must not
// wait for it.
type watch struct {
	hub  *Hub
	ref  sessions.Ref
	wake func() // wakeUp, as one value for all its waits

	// Guarded by Hub.mu.
	open  int     // waits that are registered
	waits []*Wait // those of them that wait, oldest first
	wakes uint64
	phase phase

	retry *time.Timer   // nil until a read is degraded
	after time.Duration // the longest pause before the session is read again; 0: it is not
	turn  uint64        // where in its pauses this session is read; moves on with every read
}

type phase int

const (
	asleep  phase = iota
	queued        // it is in Hub.queue
	looking       // a goroutine looks at it
	woken         // while it is looked at
)

// watchOf returns the watch of a session, with one open wait more. Call it with mu held.
func (h *Hub) watchOf(ref sessions.Ref) *watch {
	of := h.watches[ref]
	if of == nil {
		of = &watch{hub: h, ref: ref}
		of.wake = of.wakeUp
		h.watches[ref] = of
	}
	of.open++
	return of
}

// release forgets an open wait. Call it with mu held.
func (of *watch) release() {
	if of.open--; of.open > 0 {
		return
	}
	if of.retry != nil {
		of.retry.Stop()
	}
	delete(of.hub.watches, of.ref)
}

// add starts a wait that has read nothing new. Call it with mu held.
func (of *watch) add(w *Wait) {
	w.waiting = true
	of.hub.await(w)
	of.waits = append(of.waits, w)
	switch {
	case w.wakes != of.wakes: // woken since it was registered
		of.look()
	case w.unread && of.after == 0:
		of.readAgain()
	case !w.unread && of.after > 0: // it can be read again, and the others do not know
		of.look()
	}
}

// remove takes a wait out. Call it with mu held.
func (of *watch) remove(w *Wait) {
	of.over(w)
	of.waits = without(of.waits, w)
}

// without removes a wait from waits, which it changes.
func without(waits []*Wait, w *Wait) []*Wait {
	i := slices.Index(waits, w)
	return slices.Delete(waits, i, i+1)
}

// over notes that a wait is over. Call it with mu held.
func (of *watch) over(w *Wait) {
	w.waiting = false
	heap.Remove(&of.hub.due, int(w.at))
}

// wakeUp is what Source.Watch calls.
func (of *watch) wakeUp() {
	of.hub.mu.Lock()
	defer of.hub.mu.Unlock()
	of.wakes++
	of.look()
}

// Look has a session looked at by its waits, as a wake-up does: what it is has changed
// somewhere else than in its live store.
func (h *Hub) Look(ref sessions.Ref) {
	h.mu.Lock()
	of := h.watches[ref]
	h.mu.Unlock()
	if of != nil {
		of.wakeUp()
	}
}

// look has the session looked at, at once or again. Call it with mu held.
func (of *watch) look() {
	h := of.hub
	switch {
	case of.phase == looking:
		of.phase = woken
	case of.phase == asleep && len(of.waits) > 0: // who is only registered reads for itself
		of.phase = queued
		h.queue = append(h.queue, of)
		if h.working < runtime.GOMAXPROCS(0) {
			h.working++
			go h.work()
		}
	}
}

// work looks at the sessions of the queue until there is none.
func (h *Hub) work() {
	stack.Grow()
	for {
		of, ctx, drained := h.next()
		if of == nil {
			return
		}
		if view, ok := h.reader.Cached(of.ref); ok {
			of.looked(view, nil, drained)
			continue
		}
		go func() {
			view, err := h.read(ctx, of.ref)
			of.looked(view, err, drained)
		}()
	}
}

// next takes the first watch of the queue, and the context for its read, which is its
// oldest wait's. No caller that leaves cancels it, because it is read for all.
func (h *Hub) next() (of *watch, ctx context.Context, drained bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.queue) > 0 {
		of, h.queue = h.queue[0], h.queue[1:]
		if len(of.waits) > 0 {
			of.phase = looking
			return of, context.WithoutCancel(of.waits[0].ctx), h.drained
		}
		of.phase, of.after = asleep, 0
	}
	h.queue = nil
	h.working--
	return nil, nil, false
}

// read is Reader.Read on a goroutine of the hub, where nobody else recovers.
func (h *Hub) read(ctx context.Context, ref sessions.Ref) (view sessions.View, err error) {
	defer func() {
		if rec := recover(); rec != nil {
			err = fmt.Errorf("panic: %v\n%s", rec, debug.Stack())
		}
	}()
	return h.reader.Read(ctx, ref)
}

// looked ends the waits to whom a view is news. An error and the drain, if it had begun
// before the look, end all.
func (of *watch) looked(view sessions.View, err error, drained bool) {
	changed := Result{Outcome: Changed, Change: &Change{View: view}}
	otherwise := Result{Err: err}
	switch {
	case err != nil:
		otherwise.Outcome = Failed
	case drained:
		otherwise.Outcome = Drained
	}
	news, others := of.judge(view, err, otherwise.Outcome != "")
	for _, w := range news {
		w.finish(changed)
	}
	for _, w := range others {
		w.finish(otherwise)
	}
}

// judge takes out the waits that are over: those to whom a view is news, and with all the
// others, too.
func (of *watch) judge(view sessions.View, err error, all bool) (news, others []*Wait) {
	of.hub.mu.Lock()
	defer of.hub.mu.Unlock()
	of.waits = slices.DeleteFunc(of.waits, func(w *Wait) bool {
		switch {
		case err == nil && !view.Degraded && w.news(view):
			news = append(news, w)
		case all:
			others = append(others, w)
		default:
			return false
		}
		of.over(w)
		return true
	})
	again := of.phase == woken
	of.phase = asleep
	switch {
	case again:
		of.look()
	case view.Degraded && len(of.waits) > 0:
		of.readAgain()
	}
	if !view.Degraded || len(of.waits) == 0 {
		of.after = 0
	}
	return news, others
}

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 4 * time.Second
)

// readAgain has the session read soon, and does not rely on a wake-up: the last one
// may have been lost. It is after at most 100 ms at first, and at most 4 s later on. The
// reads of all sessions are spread over that time, because in an outage very many are
// read again. Call it with mu held.
//
// The spread is by the session's id and not by who came first, which goroutines at one
// instant would decide differently in every run of a test. The fractional parts of the
// multiples of the golden ratio move it on evenly.
func (of *watch) readAgain() {
	if of.turn == 0 {
		of.turn = uint64(crc32.ChecksumIEEE([]byte(of.ref.SessionID))) << 32
	}
	of.turn += 0x9e3779b97f4a7c15
	of.after = min(max(2*of.after, firstRetry), lastRetry)
	pause := of.after/2 + of.after/2*time.Duration(of.turn>>32)>>32
	if of.retry == nil {
		of.retry = time.AfterFunc(pause, of.retryNow)
	} else {
		of.retry.Reset(pause)
	}
}

func (of *watch) retryNow() {
	of.hub.mu.Lock()
	defer of.hub.mu.Unlock()
	switch {
	case len(of.waits) == 0:
		of.after = 0 // the next wait that cannot be read begins anew
	case of.after > 0:
		of.look()
	}
}
