// Package hub wakes long polls when a session changes. A process has one hub,
// behind the live reads that wait. It holds no data: a wake-up only says "look
// again". So a lost wake-up costs a wait its time-out and never a change.
//
// A wait has no goroutine: hub.go registers it, reads, and then calls back when it
// is over. watch.go looks at a session for all of its waits. places.go bounds the
// waits of one caller. deadlines.go ends them when their time is up.
package hub

import (
	"cmp"
	"context"
	"errors"
	"sync"
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

// Source is the part of the live store that the hub waits on: sessions.Live.
type Source interface {
	Watch(ctx context.Context, ref sessions.Ref, wake func()) (stop func(), err error)
}

// Reader reads a session: sessions.Service. A view that is degraded says that it could
// not be read just now.
type Reader interface {
	// Cached is Read without a round trip. It is false where there must be one.
	Cached(ref sessions.Ref) (sessions.View, bool)
	Read(ctx context.Context, ref sessions.Ref) (sessions.View, error)
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
	Left      Outcome = "left"      // the caller's context ended: it has gone, or its share link has ended
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

// PerMany is how many waits for one session an admin and a share link may have open. An
// admin is a machine of the operator that follows a session for many screens, and a link
// is given to many people.
const PerMany = 100

// Options are the hub's limits.
type Options struct {
	PerCaller int     // open waits of one caller for one session. 0: DefaultPerCaller. Admins and share links: PerMany, if that is more
	Total     int     // open waits of the process. 0: DefaultTotal. Negative: every wait is refused
	Metrics   Metrics // nil: none
}

// Hub lets callers wait until a session changes. Safe for concurrent use.
type Hub struct {
	source Source
	reader Reader
	opts   Options

	mu      sync.Mutex // not held while source or reader is called
	total   int        // open waits
	drained bool
	places  map[reader]*places
	watches map[sessions.Ref]*watch
	queue   []*watch // to be looked at, in the order of the wake-ups
	working int      // goroutines that look at them
	due     deadlines
	alarm   *time.Timer // for the first of due; nil until it is needed
	epoch   time.Time   // what the instants of waits count from: a time.Time has three words
}

// New makes a hub. It starts nothing.
func New(source Source, reads Reader, opts Options) *Hub {
	opts.PerCaller = cmp.Or(opts.PerCaller, DefaultPerCaller)
	opts.Total = cmp.Or(opts.Total, DefaultTotal)
	if opts.Metrics == nil {
		opts.Metrics = noMetrics{}
	}
	return &Hub{
		source: source, reader: reads, opts: opts, places: map[reader]*places{}, watches: map[sessions.Ref]*watch{},
		epoch: time.Now(),
	}
}

// Result is how a wait ended.
type Result struct {
	Outcome Outcome // empty with ErrFull
	Change  *Change // of the outcome Changed
	Err     error   // of the outcomes Failed and Displaced, and ErrFull
}

// Change is a view that is news to waits. All waits that one look ends get the same
// Change, one after the other and on one goroutine.
type Change struct {
	sessions.View
	Encoded any // nil at first: the first wait may leave here what is the same for all
}

// Wait is one open wait. There may be 100,000, so each byte of it counts.
type Wait struct {
	ctx          context.Context //nolint:containedctx // of its reads
	news         func(sessions.View) bool
	end          func(Result)  // set by Start
	began, until time.Duration // since Hub.epoch
	caller       sessions.ID
	watch        *watch
	unwatch      func() // nil: Source.Watch has failed

	// Guarded by Hub.mu.
	wakes     uint64 // the watch's when this wait was registered
	at        int32  // where it is in Hub.due
	unread    bool   // its first read was degraded
	waiting   bool   // started, and not over
	displaced bool   // it has no place any more
}

// Begin registers a wait and reads then, so a change between the two is not missed. If
// that ends the wait, Begin returns nil and how it ended. Otherwise call Start on the
// wait that it returns; nothing ends the wait before.
//
// A wait ends as Changed when news is true of a view; as TimedOut after timeout; as Left
// when ctx ends or Leave is called; as Drained when the hub drains; as Displaced, with ErrTooMany, when a
// newer wait took its place (see enter); and as Failed with the error of a read. If the
// process has too many waits open, the error is ErrFull. The session is read again
//   - at every wake-up, once for all of its waits;
//   - when the time is up, by Reader.Read, or when the hub drains;
//   - soon after a read that was degraded: see readAgain.
//
// news is never called from two goroutines at once, nor with a degraded view. It must
// be quick, and must not call the hub, whose lock is held.
//
// A wait costs some map entries, and no goroutine.
func (h *Hub) Begin(ctx context.Context, caller sessions.Caller, ref sessions.Ref, timeout time.Duration,
	news func(sessions.View) bool,
) (w *Wait, over Result) {
	now := time.Since(h.epoch)
	wait := &Wait{ctx: ctx, news: news, began: now, until: now + timeout, caller: caller.ID}
	displaced, err := h.enter(wait, caller, ref)
	if displaced != nil {
		displaced.finish(Result{Outcome: Displaced, Err: ErrTooMany})
	}
	if err != nil {
		return nil, Result{Err: err}
	}
	h.opts.Metrics.Waiting(1)
	over.Outcome = Failed // as a panic, which the caller's server recovers
	defer func() {
		if w == nil {
			wait.close(over.Outcome)
		}
	}()
	view, err := wait.firstRead(ref)
	if over = wait.after(view, err); over.Outcome != "" {
		return nil, over
	}
	wait.unread = view.Degraded
	return wait, over
}

func (w *Wait) firstRead(ref sessions.Ref) (sessions.View, error) {
	unwatch, err := w.watch.hub.source.Watch(w.ctx, ref, w.watch.wake)
	if err != nil {
		return sessions.View{}, err
	}
	w.unwatch = unwatch
	if view, ok := w.watch.hub.reader.Cached(ref); ok {
		return view, nil
	}
	return w.watch.hub.reader.Read(w.ctx, ref)
}

// after is how a wait ends after a read of its own. The outcome is empty if it goes on.
func (w *Wait) after(view sessions.View, err error) Result {
	switch {
	case err != nil && w.ctx.Err() != nil: // the error only means that the caller has left
		return Result{Outcome: Left}
	case err != nil:
		return Result{Outcome: Failed, Err: err}
	case !view.Degraded && w.news(view):
		return Result{Outcome: Changed, Change: &Change{View: view}}
	}
	return Result{}
}

// Start lets a wait wait. end is called once, when it is over, maybe before Start
// returns; it must not block. ctx is for the reads from now on; its end does not end the
// wait: that is for Leave, which costs less than to look out for the ends of so many.
func (w *Wait) Start(ctx context.Context, end func(Result)) {
	w.ctx, w.end = ctx, end
	h, over := w.watch.hub, Result{}
	h.mu.Lock()
	switch {
	case w.displaced:
		over = Result{Outcome: Displaced, Err: ErrTooMany}
	case h.drained:
		over = Result{Outcome: Drained}
	default:
		w.watch.add(w)
	}
	h.mu.Unlock()
	if over.Outcome != "" {
		w.finish(over)
	}
}

// Await is Start for a caller that waits on a goroutine of its own. The wait ends with
// the context that Begin was given, too.
func (w *Wait) Await() Result {
	ended, ctx := make(chan Result, 1), w.ctx
	w.Start(ctx, func(r Result) { ended <- r })
	defer context.AfterFunc(ctx, w.Leave)()
	return <-ended
}

// timeUp ends a wait that was removed from its watch. It reads once more, because the
// last wake-ups may not have come through.
func (w *Wait) timeUp() {
	over := w.after(w.watch.hub.read(w.ctx, w.watch.ref))
	over.Outcome = cmp.Or(over.Outcome, TimedOut)
	w.finish(over)
}

// Leave ends a wait that was started, because its caller has left. After its end it does
// nothing.
func (w *Wait) Leave() {
	h := w.watch.hub
	h.mu.Lock()
	waiting := w.waiting
	if waiting {
		w.watch.remove(w)
	}
	h.mu.Unlock()
	if waiting {
		w.finish(Result{Outcome: Left})
	}
}

// finish ends a wait that was removed from its watch, or never added.
func (w *Wait) finish(r Result) {
	w.close(r.Outcome)
	w.end(r)
}

// close gives back all that a wait has.
func (w *Wait) close(outcome Outcome) {
	if w.unwatch != nil {
		w.unwatch()
	}
	h := w.watch.hub
	h.leave(w)
	h.opts.Metrics.Waiting(-1)
	h.opts.Metrics.Waited(string(outcome), time.Since(h.epoch)-w.began)
}

// Read is the Read of the hub's Reader.
func (h *Hub) Read(ctx context.Context, ref sessions.Ref) (sessions.View, error) {
	return h.reader.Read(ctx, ref)
}

// Drain ends every wait, now and from now on. Idempotent.
func (h *Hub) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drained = true
	for _, of := range h.watches {
		of.look()
	}
}

type noMetrics struct{}

func (noMetrics) Waiting(int)                  {}
func (noMetrics) Waited(string, time.Duration) {}
