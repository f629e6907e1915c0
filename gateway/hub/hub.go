// Package hub wakes long polls when a session changes. A process has one hub,
// behind the live reads that wait. It holds no data: a wake-up only says "read
// again". So a lost wake-up costs a waiter its time-out and never a change.
package hub

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/sessions"
)

var (
	// ErrTooMany ends a wait whose place was taken by a newer wait of the same
	// caller for the same session. The caller should be told to come back after
	// ComeBack.
	ErrTooMany = errors.New("too many waits")
	// ErrFull is returned when all callers together have Options.Total waits open.
	ErrFull = errors.New("too many waits of all callers")
)

// ErrUnread is returned by a read that could not find out whether there is a
// change. The hub then reads again soon and does not rely on a wake-up, because
// the last one may have been lost.
var ErrUnread = errors.New("not to be read just now")

// Source is the part of the live store that the hub waits on: sessions.Live.
type Source interface {
	Watch(ctx context.Context, ref sessions.Ref, wake func()) (stop func(), err error)
}

// Metrics counts the waits. The methods are called from many goroutines at once.
type Metrics interface {
	Waiting(delta int)                         // +1 when a wait begins and -1 when it ends
	Waited(outcome string, took time.Duration) // one of Outcomes
}

// Outcome is how a wait ended.
type Outcome string

// The outcomes.
const (
	Changed   Outcome = "changed"
	TimedOut  Outcome = "timed_out"
	Left      Outcome = "left"      // the caller's context ended
	Drained   Outcome = "drained"   // the process is shutting down
	Displaced Outcome = "displaced" // a newer wait of the caller took its place
	Failed    Outcome = "failed"    // a read or the watch failed
)

// Outcomes lists every outcome.
func Outcomes() []Outcome { return []Outcome{Changed, TimedOut, Left, Drained, Displaced, Failed} }

// Defaults of Options. A test holds the settings of `gateway serve` to them.
const (
	DefaultPerCaller = 4
	DefaultTotal     = 100_000
)

// PerAdmin is how many waits for one session an admin may have open. An admin is
// a machine of the operator that follows a session for many screens.
const PerAdmin = 100

// Options are the hub's limits.
type Options struct {
	PerCaller int     // open waits of one caller for one session. 0: DefaultPerCaller. Admins: PerAdmin, if that is more
	Total     int     // open waits of the process. 0: DefaultTotal. Negative: every wait is refused
	Metrics   Metrics // nil: none
}

// Hub lets callers wait until a session changes. Safe for concurrent use.
type Hub struct {
	source Source
	opts   Options
	total  atomic.Int64
	drain  chan struct{}
	once   sync.Once
	spread atomic.Uint64 // see retry

	mu     sync.Mutex
	places map[reader]*places
}

// New makes a hub on a source. It starts nothing.
func New(source Source, opts Options) *Hub {
	opts.PerCaller = cmp.Or(opts.PerCaller, DefaultPerCaller)
	opts.Total = cmp.Or(opts.Total, DefaultTotal)
	if opts.Metrics == nil {
		opts.Metrics = noMetrics{}
	}
	return &Hub{source: source, opts: opts, drain: make(chan struct{}), places: map[reader]*places{}}
}

// Wait calls read until read reports a change, and then returns Changed. It
// registers first and reads then, so a change between the two is not missed. It
// reads again
//   - at every wake-up;
//   - once more when the time is up (timeUp is true then) or when the hub drains;
//   - soon after a read that returned ErrUnread: after at most 100 ms at first, and
//     at most 4 s later on. The reads of all waits are spread over that time,
//     because in an outage very many waits read again.
//
// It returns TimedOut after timeout, Left when ctx ends, Drained when the hub
// drains, Displaced with ErrTooMany when a newer wait took its place (see
// enter), and Failed with read's error. If the process has too many waits open,
// it returns ErrFull without an outcome.
//
// A wait costs a map entry, a channel and a timer, and no goroutine.
func (h *Hub) Wait(ctx context.Context, caller sessions.Caller, ref sessions.Ref, timeout time.Duration,
	read func(ctx context.Context, timeUp bool) (changed bool, err error),
) (Outcome, error) {
	at, err := h.enter(caller, ref.SessionID)
	if err != nil {
		return "", err
	}
	defer h.leave(at)
	began := time.Now()
	h.opts.Metrics.Waiting(1)
	defer h.opts.Metrics.Waiting(-1)
	outcome, err := h.wait(ctx, at, ref, timeout, read)
	if outcome == Failed && ctx.Err() != nil {
		outcome, err = Left, nil // the error only means that the caller has left
	}
	h.opts.Metrics.Waited(string(outcome), time.Since(began))
	return outcome, err
}

func (h *Hub) wait(ctx context.Context, at *place, ref sessions.Ref, timeout time.Duration,
	read func(context.Context, bool) (bool, error),
) (Outcome, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	stop, err := h.source.Watch(ctx, ref, at.wakeUp)
	if err != nil {
		return Failed, err
	}
	defer stop()
	again := retry{spread: h.spread.Add(golden)}
	defer again.stop()
	for {
		changed, err := read(ctx, false)
		switch {
		case errors.Is(err, ErrUnread):
			again.soon()
		case err != nil:
			return Failed, err
		case changed:
			return Changed, nil
		default:
			again.after = 0
		}
		select {
		case <-at.wake:
			if at.displaced.Load() {
				return Displaced, ErrTooMany
			}
		case <-again.due():
		case <-ctx.Done():
			return Left, nil
		case <-h.drain:
			return last(ctx, Drained, read)
		case <-timer.C:
			return last(ctx, TimedOut, read)
		}
	}
}

// last is the read at the end of a wait.
func last(ctx context.Context, outcome Outcome, read func(context.Context, bool) (bool, error)) (Outcome, error) {
	changed, err := read(ctx, outcome == TimedOut)
	switch {
	case err != nil && !errors.Is(err, ErrUnread):
		return Failed, err
	case changed:
		return Changed, nil
	default:
		return outcome, nil
	}
}

// retry is when to read again after a read that returned ErrUnread.
type retry struct {
	timer  *time.Timer
	after  time.Duration // the longest pause; 0: do not read again
	spread uint64        // where in its pauses this wait reads; moves on with every read
}

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 4 * time.Second

	// The fractional parts of the multiples of the golden ratio spread any number
	// of waits evenly over time. They are the same in every run of a test.
	golden = 0x9e3779b97f4a7c15
)

func (r *retry) soon() {
	r.after = min(max(2*r.after, firstRetry), lastRetry)
	// The wait's own number, not the hub's next one: which of two waits reads
	// first at one instant must not decide when they read again.
	r.spread += golden
	fraction := r.spread >> 32
	d := r.after/2 + r.after/2*time.Duration(fraction)>>32
	if r.timer == nil {
		r.timer = time.NewTimer(d)
	} else {
		r.timer.Reset(d)
	}
}

func (r *retry) due() <-chan time.Time {
	if r.after == 0 {
		return nil
	}
	return r.timer.C
}

func (r *retry) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

// Drain ends every wait, now and from now on. Idempotent.
func (h *Hub) Drain() { h.once.Do(func() { close(h.drain) }) }

// Waiting is the number of open waits.
func (h *Hub) Waiting() int { return int(h.total.Load()) }

type noMetrics struct{}

func (noMetrics) Waiting(int)                  {}
func (noMetrics) Waited(string, time.Duration) {}

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
