package client

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"
)

// defaultWait is how long one long poll waits. It is under the 30 s at which
// many load balancers and mobile networks close a silent connection.
const defaultWait = 25 * time.Second

// LiveReader reads a live location: a *Client.
type LiveReader interface {
	Live(ctx context.Context, sessionID string, o ReadOptions) (View, error)
}

// Follower is a student's app that watches one journey. Zero fields mean the
// defaults. Do not change it while Views runs.
type Follower struct {
	Client    LiveReader
	SessionID string
	// Begun says that the journey is known to have begun: then a first view that
	// is not active ends Views, too. False: Views waits for the beginning.
	Begun bool
	// Wait is how long one poll waits for news: whole seconds, 1 to 30 s. 0: 25 s.
	Wait time.Duration
	// Now and Sleep are the clock of the pauses. Nil: the wall clock.
	Now   func() time.Time
	Sleep Sleep
}

// Views reads at once and then by long poll, each with the ETag of the answer
// before, and yields each new view. A read that failed is yielded as its error,
// and comes again after a pause: 1 s, doubled up to 30 s, with jitter, or what
// Retry-After asks for. A degraded view is yielded, and read again like a
// failure.
//
// The sequence ends after a view that is not active, once the journey has been
// active; after an *Error that no repeat mends, such as Forbidden; and when ctx
// ends, without an error. Break out of the loop to end it earlier.
func (f Follower) Views(ctx context.Context) iter.Seq2[View, error] {
	if f.Wait == 0 {
		f.Wait = defaultWait
	}
	if f.Now == nil {
		f.Now = time.Now
	}
	if f.Sleep == nil {
		f.Sleep = sleep
	}
	return func(yield func(View, error) bool) {
		p := poll{Follower: f, yield: yield, active: f.Begun}
		for p.once(ctx) {
			if f.Sleep(ctx, p.pause) != nil {
				return
			}
		}
	}
}

// poll is the state between two reads.
type poll struct {
	Follower
	yield    func(View, error) bool
	etag     string        // of the last view; empty: none yet
	active   bool          // the journey has been active
	failures int           // in a row
	pause    time.Duration // before the next read
}

// once reads once; false ends the sequence.
func (p *poll) once(ctx context.Context) bool {
	o := ReadOptions{ETag: p.etag}
	if p.etag != "" {
		o.Wait = p.Wait
	}
	began := p.Now()
	v, err := p.Client.Live(ctx, p.SessionID, o)
	switch {
	case err != nil && ctx.Err() != nil:
		return false
	case err != nil:
		return p.failed(err)
	case v.Degraded:
		p.failures++
		p.pause = backOff(p.failures)
		return p.yield(v, nil)
	}
	p.failures, p.pause = 0, 0
	if v.NotModified || v.ETag == p.etag { // no news: at once only where the gateway has waited
		p.pause = minGap - p.Now().Sub(began)
	}
	if v.NotModified {
		return true
	}
	p.etag = v.ETag
	ended := p.active && !v.Active
	p.active = p.active || v.Active
	return p.yield(v, nil) && !ended
}

func (p *poll) failed(err error) bool {
	p.failures++
	p.pause = backOff(p.failures)
	if e, ok := errors.AsType[*Error](err); ok {
		p.pause = max(p.pause, e.RetryAfter+rand.N(minGap)) //nolint:gosec // jitter, so that not all come in one instant
	}
	return p.yield(View{}, err) && Temporary(err)
}
