// Package hub is who waits for which session: one hub a process, behind the
// long poll of live reads. It holds no data: a wake-up only says "look again",
// so a lost one costs a waiter its time-out, never a change.
package hub

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/sessions"
)

var (
	// ErrTooMany is returned when a caller has as many waits open as it may.
	ErrTooMany = errors.New("too many waits")
	// ErrFull is returned when the whole process has, which is no one caller's
	// fault.
	ErrFull = errors.New("too many waits of all callers")
)

// ErrUnread is what a read says that could not find out: the hub reads again
// soon, and does not leave it to a wake-up that may have been the last one.
var ErrUnread = errors.New("not to be read just now")

// Source is the part of the live store that the hub waits on: sessions.Live.
type Source interface {
	Watch(ctx context.Context, ref sessions.Ref, wake func()) (stop func(), err error)
}

// Metrics is told of every wait.
type Metrics interface {
	// Waiting gets +1 and -1.
	Waiting(delta int)
	// Waited: how a wait ended, one of the outcomes below.
	Waited(outcome string, took time.Duration)
}

// Outcome is how a wait ended.
type Outcome string

// The outcomes.
const (
	Changed  Outcome = "changed"
	TimedOut Outcome = "timed_out"
	Left     Outcome = "left"
	Drained  Outcome = "drained"
	Failed   Outcome = "failed"
)

// Outcomes is that list.
func Outcomes() []Outcome { return []Outcome{Changed, TimedOut, Left, Drained, Failed} }

// Options are the hub's limits. Zero means default.
type Options struct {
	PerCaller int // open waits a caller: 4
	Total     int // open waits in the process: 100,000
	Metrics   Metrics
}

// Hub lets callers wait for changes. Safe for concurrent use.
type Hub struct {
	source Source
	opts   Options
	total  atomic.Int64
	drain  chan struct{}
	once   sync.Once
	spread atomic.Uint64 // of the retries

	mu      sync.Mutex
	waiting map[sessions.ID]int
}

// New makes a hub on a source. It starts nothing.
func New(source Source, opts Options) *Hub {
	if opts.PerCaller == 0 {
		opts.PerCaller = 4
	}
	if opts.Total == 0 {
		opts.Total = 100_000
	}
	if opts.Metrics == nil {
		opts.Metrics = noMetrics{}
	}
	return &Hub{source: source, opts: opts, drain: make(chan struct{}), waiting: map[sessions.ID]int{}}
}

// Wait calls read until it reports a change, then returns Changed. It registers
// first and reads then, so a change between the two is not missed; it reads
// again at every wake-up, and once more when the time is up, which it tells
// read, or the hub drains; and again soon after a read that said ErrUnread, at
// first within 100 ms and at last every 4 s, and not all at once, since after an
// outage a great many do. It returns TimedOut after timeout, Left when ctx ends,
// Drained when the hub drains, and Failed with read's error.
//
// The cost is a map entry, a channel and a timer; no goroutine.
func (h *Hub) Wait(ctx context.Context, caller sessions.ID, ref sessions.Ref, timeout time.Duration,
	read func(ctx context.Context, timeUp bool) (changed bool, err error),
) (Outcome, error) {
	if err := h.enter(caller); err != nil {
		return "", err
	}
	defer h.leave(caller)
	began := time.Now()
	h.opts.Metrics.Waiting(1)
	defer h.opts.Metrics.Waiting(-1)
	outcome, err := h.wait(ctx, ref, timeout, read)
	if err != nil && ctx.Err() != nil {
		outcome, err = Left, nil // whatever failed, failed for that
	}
	h.opts.Metrics.Waited(string(outcome), time.Since(began))
	return outcome, err
}

func (h *Hub) wait(ctx context.Context, ref sessions.Ref, timeout time.Duration,
	read func(context.Context, bool) (bool, error),
) (Outcome, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	wake := make(chan struct{}, 1)
	stop, err := h.source.Watch(ctx, ref, func() {
		select {
		case wake <- struct{}{}:
		default: // one is enough: the reader will see all that has happened
		}
	})
	if err != nil {
		return Failed, err
	}
	defer stop()
	again := retry{spread: &h.spread}
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
		case <-wake:
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

// retry is when to read again after a read that could not find out. A zero
// after is never.
type retry struct {
	timer  *time.Timer
	after  time.Duration // up to; 0: never
	spread *atomic.Uint64
}

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 4 * time.Second
)

func (r *retry) soon() {
	r.after = min(max(2*r.after, firstRetry), lastRetry)
	// The fractional parts of the multiples of the golden ratio: of any number of
	// waiters each has a moment of its own, evenly, and a test the same every time.
	fraction := r.spread.Add(0x9e3779b97f4a7c15) >> 32
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

// Waiting is how many waits are open.
func (h *Hub) Waiting() int { return int(h.total.Load()) }

// enter asks the caller's own limit first: who floods is told so, however full
// it is.
func (h *Hub) enter(caller sessions.ID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting[caller] >= h.opts.PerCaller {
		return ErrTooMany
	}
	if h.total.Load() >= int64(h.opts.Total) {
		return ErrFull
	}
	h.total.Add(1)
	h.waiting[caller]++
	return nil
}

func (h *Hub) leave(caller sessions.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total.Add(-1)
	if h.waiting[caller]--; h.waiting[caller] <= 0 {
		delete(h.waiting, caller)
	}
}

type noMetrics struct{}

func (noMetrics) Waiting(int)                  {}
func (noMetrics) Waited(string, time.Duration) {}
