package scripts

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"
)

// laps tell a store that does not answer from a process that does not come
// round to the answer. A command is written and its reply read by one goroutine
// each, which take their turn: the reader in the poller, behind every connection
// that had something to say before, and both among all that are to run. When
// thousands of students are woken at one instant that takes hundreds of
// milliseconds, measured, with the replies in the socket or the commands still
// here; and a deadline, a timer, takes no turn. So a call whose time is up
// waits for laps, a lap being a byte of our own that goes the same way. Where
// nothing else is to be done that takes some 10 µs, and the call ends in time.
type laps struct {
	// atMost is how long a call waits for its laps: its caller waits, too.
	atMost time.Duration

	mu    sync.Mutex
	next  chan struct{} // closed behind a lap that has not begun; nil: nobody waits
	asked chan struct{} // there is a next
}

// errBehind ends a call whose laps took longer than laps.atMost. It says nothing
// about the store.
var errBehind = errors.New("too busy to read the reply")

func newLaps() *laps {
	return &laps{atMost: 1750 * time.Millisecond, asked: make(chan struct{}, 1)}
}

// run runs laps on a pipe for those who wait, until ctx ends.
func (l *laps) run(ctx context.Context, r, w *os.File) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.asked:
		}
		l.mu.Lock()
		over := l.next
		l.next = nil
		l.mu.Unlock()
		lap(r, w)
		close(over)
	}
}

// lap waits for its own byte, and then behind all that are to run. The read
// begins first, as a rule, for a new goroutine runs when this one waits; and who
// does not wait is not woken by the poller.
func lap(r, w *os.File) {
	var b [1]byte
	go func() { _, _ = w.Write([]byte{0}) }()
	_, _ = r.Read(b[:])
	runtime.Gosched()
}

// over is closed behind a lap that begins from now on.
func (l *laps) over() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = make(chan struct{})
		l.asked <- struct{}{} // has room: whoever took the last next had taken its word
	}
	return l.next
}

// within is a context that ends after timeout and the laps behind it. Call stop
// when what it is for is over.
func (l *laps) within(ctx context.Context, timeout time.Duration) (_ context.Context, stop func()) {
	up := time.Now().Add(timeout)
	if sooner, ok := ctx.Deadline(); ok && sooner.Before(up) {
		up = sooner
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeout, func() { cancel(l.timeUp(ctx, timeout)) })
	return timed{ctx, up}, func() { timer.Stop(); cancel(nil) }
}

// timed is a context that says when its time is up, as it may end later. The
// client goes by that where it dials anew and greets the server, and looks at
// nothing else meanwhile; without a deadline it takes a second for it.
type timed struct {
	context.Context //nolint:containedctx // it is one itself
	up              time.Time
}

func (t timed) Deadline() (time.Time, bool) { return t.up, true }

// timeUp is called when a call has had its time, and returns why it ends, behind
// its laps; nil when it has ended meanwhile. Behind the first lap its command
// has left, if as late as that; so the store is given the time that the lap has
// taken, and the reply a lap to be read.
func (l *laps) timeUp(call context.Context, timeout time.Duration) error {
	began, patience := time.Now(), time.NewTimer(l.atMost)
	defer patience.Stop()
	for _, last := range []bool{false, true} {
		select {
		case <-l.over():
		case <-patience.C:
			return errBehind
		case <-call.Done():
			return nil
		}
		if !last {
			pause(call, min(time.Since(began), timeout))
		}
	}
	return errOurDeadline
}
