package valkeyconn

import (
	"context"
	"os"
	"runtime"
	"sync"
	"time"

	"doorstep/internal/pause"
)

// laps distinguish a store that does not answer from a process that is too busy
// to read the answer. docs/adr/0010 has the reasons and the measurements.
//
// One goroutine writes commands to a connection and another one reads the
// replies. Both wait until it is their turn among all goroutines that are ready
// to run; the reader also waits in the poller, behind every connection that got
// data earlier. When thousands of students are woken at one instant, that takes
// hundreds of milliseconds, measured, with the replies still in the socket or the
// commands not yet sent. A deadline is a timer, which does not wait for a turn.
// So a call whose time is up ends only after two laps. A lap is one byte that
// this process sends to itself through a pipe. It goes the same way as a reply:
// through the poller and the run queue. In a process with nothing else to do,
// laps take about 10 µs, and the call ends in time.
type laps struct {
	// atMost is how long a call waits for its laps, because its caller waits, too.
	atMost time.Duration

	mu    sync.Mutex
	next  chan struct{} // closed after a lap that has not begun; nil: no call waits
	asked chan struct{} // signals that next is set
}

func newLaps() *laps {
	return &laps{atMost: 1750 * time.Millisecond, asked: make(chan struct{}, 1)}
}

// run runs laps through the pipe r, w for the calls that wait, until ctx ends.
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

// lap waits until its own byte has come through the pipe, and then until all
// goroutines that are ready have run. The write is in a new goroutine, which as a
// rule runs only when this one waits in Read: a reader that does not wait is not
// woken by the poller, and would measure nothing.
func lap(r, w *os.File) {
	var b [1]byte
	go func() { _, _ = w.Write([]byte{0}) }()
	_, _ = r.Read(b[:])
	runtime.Gosched()
}

// over returns a channel that is closed after the next lap that begins. All calls
// that wait share that lap.
func (l *laps) over() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = make(chan struct{})
		l.asked <- struct{}{} // does not block: run took the last signal before it took the last next
	}
	return l.next
}

// within is a context that ends after timeout and the laps after it. Call stop
// when the call is over.
func (l *laps) within(ctx context.Context, timeout time.Duration) (_ context.Context, stop func()) {
	up := time.Now().Add(timeout)
	if sooner, ok := ctx.Deadline(); ok && sooner.Before(up) {
		up = sooner
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeout, func() { cancel(l.timeUp(ctx, timeout)) })
	return timed{ctx, up}, func() { timer.Stop(); cancel(nil) }
}

// timed is a context whose Deadline is the end of the time-out, though the context
// itself may end later. valkey-go uses that deadline when it dials again and sends
// HELLO, and does not watch the context meanwhile. Without a deadline it allows
// one second for that.
type timed struct {
	context.Context //nolint:containedctx // it is one itself
	up              time.Time
}

func (t timed) Deadline() (time.Time, bool) { return t.up, true }

// timeUp is called when a call's time is up. It waits for the laps and returns
// why the call ends, or nil when the call has ended meanwhile. After the first lap
// the call's command has been sent, at the latest. So the store then gets as much
// time as that lap took, and the reply gets another lap to be read.
func (l *laps) timeUp(call context.Context, timeout time.Duration) error {
	began, patience := time.Now(), time.NewTimer(l.atMost)
	defer patience.Stop()
	for _, last := range []bool{false, true} {
		select {
		case <-l.over():
		case <-patience.C:
			return ErrBehind
		case <-call.Done():
			return nil
		}
		if !last {
			_ = pause.For(call, min(time.Since(began), timeout))
		}
	}
	return errTimeUp
}
