package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// early is how much before NextUpdate the next fix leaves. The gateway
	// tolerates 1 s. Without a margin every round trip would push all later fixes
	// back; with all of it, any jitter would be a refusal.
	early = 500 * time.Millisecond
	// usualInterval is when the next fix leaves where a refusal does not say.
	usualInterval = 5 * time.Second
)

// Updater sends one fix: a *Client.
type Updater interface {
	Update(ctx context.Context, sessionID string, f Fix) (Receipt, error)
}

// Attempt is one fix that was sent once, and what came of it.
type Attempt struct {
	Fix     Fix
	Try     int       // 1 for the first time
	SentAt  time.Time // when the request began
	Receipt Receipt   // empty where Err is not nil
	Err     error     // an *Error for a refusal, else there was no answer
}

// ReporterOptions are the settings of a Reporter.
type ReporterOptions struct {
	// Queue is how many fixes are kept, the one that is being sent included. When
	// it is full the oldest gives way. 0: 1, so that only the newest is kept. That
	// is right for a gateway that counts one update in 5 s on its own clock: there
	// a longer queue never gets shorter, and the student sees the past.
	Queue int
	// OnAttempt is called after each try, and OnOvertaken with each fix that gave
	// way to a newer one. Both are called one at a time, OnAttempt by Run and
	// OnOvertaken by Report, and must not call the Reporter. Nil: nothing.
	OnAttempt   func(Attempt)
	OnOvertaken func(Fix)
	// Now and Sleep are the clock. Nil: the wall clock.
	Now   func() time.Time
	Sleep Sleep
}

// Reporter is the sending half of a trainer's phone on one journey. Report puts
// a fix into its queue and never blocks. Run sends the queue in order:
//
//   - the next request leaves when the gateway says: NextUpdate less 500 ms, or
//     RetryAfter after a refusal, and never within 1 s of the one before;
//   - a fix is sent again where there was no answer, and after 202, 408, 429 and
//     5xx, until it is answered or a newer one has taken its place. A repeat
//     is harmless only with Fix.RecordedAt;
//   - a fix that was answered otherwise is done: stored, stale, too vague,
//     implausible or malformed.
//
// A Reporter is safe for concurrent use; only one Run at a time.
type Reporter struct {
	to      Updater
	session string
	o       ReporterOptions

	mu     sync.Mutex
	queue  []*queued // oldest first
	closed bool
	wake   chan struct{} // capacity 1: the queue or closed has changed

	due      time.Time // no request before; Run's own
	failures int       // in a row; Run's own
}

type queued struct {
	fix   Fix
	tries int
}

// NewReporter makes a Reporter for the journey to a session. It sends nothing
// until Run.
func NewReporter(to Updater, sessionID string, o ReporterOptions) *Reporter {
	o.Queue = max(o.Queue, 1)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.OnAttempt == nil {
		o.OnAttempt = func(Attempt) {}
	}
	if o.OnOvertaken == nil {
		o.OnOvertaken = func(Fix) {}
	}
	return &Reporter{to: to, session: sessionID, o: o, wake: make(chan struct{}, 1)}
}

// Report queues a fix. It never blocks. After Close it does nothing.
func (r *Reporter) Report(f Fix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	for len(r.queue) >= r.o.Queue {
		if r.queue[0].tries == 0 { // else OnAttempt has told of it, or will
			r.o.OnOvertaken(r.queue[0].fix)
		}
		r.queue = r.queue[1:]
	}
	r.queue = append(r.queue, &queued{fix: f})
	r.signal()
}

// Close says that no fix follows. Run returns once the queue is empty.
func (r *Reporter) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.signal()
}

func (r *Reporter) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run sends the fixes of the queue. It returns nil when Close was called and
// the queue is empty, and ctx's error when ctx has ended. It also returns an
// *Error after which no fix of this journey can succeed: NoActiveJourney or
// SessionNotFound when the journey is over, Unauthenticated or Forbidden when
// the user must sign in again. The queue is kept then, and Run may be called
// again.
func (r *Reporter) Run(ctx context.Context) error {
	for {
		if more, err := r.await(ctx); err != nil || !more {
			return err
		}
		if err := r.o.Sleep(ctx, r.due.Sub(r.o.Now())); err != nil {
			return err
		}
		if err := r.sendOldest(ctx); err != nil {
			return err
		}
	}
}

// await waits for a fix; false when none will come any more.
func (r *Reporter) await(ctx context.Context) (more bool, err error) {
	for {
		r.mu.Lock()
		waiting, closed := len(r.queue), r.closed
		r.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case waiting > 0:
			return true, nil
		case closed:
			return false, nil
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
		}
	}
}

func (r *Reporter) sendOldest(ctx context.Context) error {
	r.mu.Lock()
	q := r.queue[0] // only Run makes the queue empty
	q.tries++
	try := q.tries
	r.mu.Unlock()
	sent := r.o.Now()
	receipt, err := r.to.Update(ctx, r.session, q.fix)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if Temporary(err) {
		r.failures++
	} else {
		r.failures = 0
	}
	step := nextStep(receipt, err, r.failures)
	r.due = latest(sent.Add(minGap), r.o.Now().Add(step.pause))
	if !step.again {
		r.done(q)
	}
	r.o.OnAttempt(Attempt{Fix: q.fix, Try: try, SentAt: sent, Receipt: receipt, Err: err})
	if step.over {
		return err
	}
	return nil
}

// done takes a fix off the queue, where it still is there.
func (r *Reporter) done(q *queued) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) > 0 && r.queue[0] == q {
		r.queue = r.queue[1:]
	}
}

// step is what follows an answer.
type step struct {
	pause time.Duration // before the next request
	again bool          // the fix is not done
	over  bool          // no fix can succeed
}

// nextStep decides after an answer; failures counts the temporary ones in a row,
// this one included.
func nextStep(r Receipt, err error, failures int) step {
	if err == nil {
		if r.Verdict == NotStored {
			return step{pause: r.NextUpdate, again: true}
		}
		return step{pause: r.NextUpdate - early}
	}
	var e *Error
	if !errors.As(err, &e) {
		return step{pause: backOff(failures), again: true}
	}
	switch {
	case e.Code == RateLimited && e.RetryAfter > 0:
		return step{pause: e.RetryAfter, again: true}
	case Temporary(err):
		return step{pause: max(e.RetryAfter, backOff(failures)), again: true}
	case e.Code == NoActiveJourney, e.Code == SessionNotFound, e.Code == Unauthenticated, e.Code == Forbidden:
		return step{again: true, over: true}
	case e.RetryAfter > 0:
		return step{pause: e.RetryAfter}
	default:
		return step{pause: usualInterval}
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
