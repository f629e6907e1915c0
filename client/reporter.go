package client

import (
	"cmp"
	"context"
	"errors"
	"slices"
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
	// spacing is the least time between two fixes of which the gateway takes both.
	spacing = usualInterval - time.Second
	// usualQueue is how many fixes of 5 minutes the gateway takes. Older ones are
	// stale.
	usualQueue = 60
)

// Updater sends fixes: a *Client.
type Updater interface {
	Update(ctx context.Context, sessionID string, f Fix) (Receipt, error)
	UpdateBatch(ctx context.Context, sessionID string, fixes []Fix) (Receipt, error)
}

// Attempt is one request, and what came of it.
type Attempt struct {
	Fix     Fix       // that was sent; of a batch the newest
	Older   []Fix     // the others of a batch, oldest first
	Try     int       // of Fix: 1 for the first time
	SentAt  time.Time // when the request began
	Receipt Receipt   // empty where Err is not nil
	Err     error     // an *Error for a refusal, else there was no answer
}

// ReporterOptions are the settings of a Reporter.
type ReporterOptions struct {
	// Queue is how many fixes are kept, those that are being sent included, and so
	// the most of a batch. When it is full the oldest gives way. 0: 60, which is what
	// the gateway takes of 5 minutes without network; at most MaxBatch.
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
// a fix into its queue and never blocks. Run sends what waits in the queue, one
// fix by Update and more by UpdateBatch, with the SentAt of each try:
//
//   - the next request leaves when the gateway says: NextUpdate less 500 ms, or
//     RetryAfter after a refusal, and never within 1 s of the one before;
//   - fixes are sent again where there was no answer, and after 202, 408, 429 and
//     5xx, until they are answered or newer ones have taken their place. A repeat
//     is harmless only with Fix.RecordedAt;
//   - a fix that was answered otherwise is done: stored, stale, too vague,
//     implausible or malformed;
//   - a waiting fix gives way to the next one where the gateway would not take
//     both: it was recorded within 4 s of the one before it, or has no RecordedAt.
//     So a receiver may report every second.
//
// A Reporter is safe for concurrent use; only one Run at a time.
type Reporter struct {
	to      Updater
	session string
	o       ReporterOptions

	mu     sync.Mutex
	queue  []*queued // oldest first
	sent   time.Time // RecordedAt of the last fix that left the queue or was sent
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
	o.Queue = min(max(cmp.Or(o.Queue, usualQueue), 1), MaxBatch)
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
	if n := len(r.queue); n > 0 && r.tooClose() {
		r.overtake(n - 1)
	}
	for len(r.queue) >= r.o.Queue {
		r.overtake(0)
	}
	r.queue = append(r.queue, &queued{fix: f})
	r.signal()
}

// tooClose reports whether the newest fix of the queue waits, and is one that the
// gateway would not take beside the one before it.
func (r *Reporter) tooClose() bool {
	n := len(r.queue)
	newest, before := r.queue[n-1], r.sent
	if n > 1 {
		before = r.queue[n-2].fix.RecordedAt
	}
	return newest.tries == 0 && (newest.fix.RecordedAt.IsZero() || newest.fix.RecordedAt.Sub(before).Abs() < spacing)
}

// overtake takes a fix off the queue that a newer one takes the place of.
func (r *Reporter) overtake(i int) {
	if r.queue[i].tries == 0 { // else OnAttempt has told of it, or will
		r.o.OnOvertaken(r.queue[i].fix)
	}
	r.queue = slices.Delete(r.queue, i, i+1)
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
		if err := r.send(ctx); err != nil {
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

func (r *Reporter) send(ctx context.Context) error {
	a := Attempt{SentAt: r.o.Now()}
	r.mu.Lock()
	sending := slices.Clone(r.queue) // not empty: only Run makes the queue empty
	for i, q := range sending {
		q.tries++
		if i > 0 {
			a.Older = append(a.Older, a.Fix)
		}
		a.Fix, a.Try = q.fix, q.tries
	}
	r.sent = a.Fix.RecordedAt
	r.mu.Unlock()
	a.Receipt, a.Err = r.request(ctx, a)
	if a.Err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if Temporary(a.Err) {
		r.failures++
	} else {
		r.failures = 0
	}
	step := nextStep(a.Receipt, a.Err, r.failures)
	r.due = latest(a.SentAt.Add(minGap), r.o.Now().Add(step.pause))
	if !step.again {
		r.done(sending)
	}
	r.o.OnAttempt(a)
	if step.over {
		return a.Err
	}
	return nil
}

// request makes the request of an attempt.
func (r *Reporter) request(ctx context.Context, a Attempt) (Receipt, error) {
	f := a.Fix
	f.SentAt = a.SentAt
	if len(a.Older) == 0 {
		return r.to.Update(ctx, r.session, f)
	}
	return r.to.UpdateBatch(ctx, r.session, append(slices.Clip(a.Older), f))
}

// done takes fixes off the queue, where they still are there.
func (r *Reporter) done(sent []*queued) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = slices.DeleteFunc(r.queue, func(q *queued) bool { return slices.Contains(sent, q) })
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
