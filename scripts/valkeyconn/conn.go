// Package valkeyconn keeps the connections to Valkey 8 or Redis 7 and later: to
// one server, to the primary that sentinels name, or to a cluster. It knows which
// server owns a slot. For each server it has a connection for calls, a connection
// for wake-ups, a circuit breaker and a probe, so that a server that is away or
// stalls costs the other servers' callers nothing. It knows no script and no key.
//
// A call passes conn.go (bulkhead, deadline, choice of the server, redirections)
// and node.go (breaker and connection of one server). topology.go finds out which
// server owns which slot, from what layout.go reads. watch.go and feed.go turn sharded publishes into
// wake-ups. The laps of conn.go distinguish a store that does not answer from a
// process that is too busy to read the answer.
package valkeyconn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/internal/pause"
)

// Conn is the connection to a live store, however many servers that is. A call is
// one round trip with its own deadline, behind a bulkhead and behind the breaker
// of the server that owns the key. So a server that stalls costs a caller at most
// Options.Timeout (more where this process is too busy to read the reply:
// docs/adr/0010), and nothing once the breaker is open.
//
// New connects to nothing; Run connects, and connects again after every loss.
// Until Run has connected, and whenever the store is away, every call fails at
// once. Safe for concurrent use.
type Conn struct {
	timeout  time.Duration
	servers  *topology
	inFlight chan struct{} // the bulkhead
	watch    *watcher
	laps     *laps
}

// The errors of Do, besides those that the server gives.
var (
	// ErrNotConnected: Run has not yet reached the server that owns the key.
	ErrNotConnected = errors.New("not connected yet")
	// ErrTooManyCalls: no place in the bulkhead came free within the time-out.
	ErrTooManyCalls = errors.New("too many calls in flight")
	// ErrBreakerOpen: the breaker of the server did not let the call through.
	ErrBreakerOpen = errors.New("circuit breaker is open")
	// ErrCallerLeft: the caller's context ended before the call did. It wraps the
	// reason.
	ErrCallerLeft = errors.New("the caller has left")
	// ErrBehind: this process had no time to read the reply. It says nothing
	// about the store.
	ErrBehind = errors.New("too busy to read the reply")

	// errForbidden begins what is logged of a right that is missing.
	errForbidden = errors.New("the user of the live store may not")

	// errTimeUp ends a call that took longer than Options.Timeout and the laps
	// after it.
	errTimeUp = fmt.Errorf("live store time-out: %w", context.DeadlineExceeded)
)

// New checks the settings. It does no I/O.
func New(opts Options) (*Conn, error) {
	opts = opts.withDefaults()
	option, err := clientOption(opts)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		timeout: opts.Timeout, inFlight: make(chan struct{}, maxInFlight),
		servers: newTopology(opts, option), laps: newLaps(),
	}
	c.watch = newWatcher(c.servers, c.laps, opts)
	return c, nil
}

// Run finds out which servers the URL leads to, and keeps a connection for calls
// and one for wake-ups to each of them that owns slots, until ctx ends. Then it
// closes them. Call it once.
func (c *Conn) Run(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	laps := c.laps
	lapping, end := context.WithCancel(context.WithoutCancel(ctx)) // calls that are still running at the end wait for laps, too
	var running sync.WaitGroup
	running.Go(func() { laps.run(lapping, r, w) })
	c.servers.run(ctx, c.watch.runFeed)
	end()
	running.Wait()
	return errors.Join(r.Close(), w.Close())
}

// Ready reports whether all of the store answers: every server answered its last
// probe, and no breaker is open. A half-open breaker counts as ready, because
// without traffic nothing would close it.
func (c *Conn) Ready() bool { return c.servers.ready() }

// Listening reports whether the wake-ups of every server have their connection.
// While one is away, Subscribe returns without a confirmation, and the watchers
// are woken when the connection is back.
func (c *Conn) Listening() bool { return c.watch.connected() }

// Denied reports whether the servers do not know the user with that password, or the user
// lacks a right without which nothing works, and has been so since the start. The rights
// are to ask a cluster which server owns which slots, to subscribe, and Options.Rights. The
// log says which.
func (c *Conn) Denied() bool { return c.servers.denied() || c.watch.denied() }

// InFlight is how many calls are running, and how many may run at once.
func (c *Conn) InFlight() (calls, limit int) { return len(c.inFlight), cap(c.inFlight) }

// Exchange is one round trip on a connection. (A script that the server does not
// have takes a second one, which sends it.)
type Exchange func(context.Context, valkey.Client) valkey.ValkeyResult

// maxRedirections of one call. Two in a row mean that the cluster is moving
// slots.
const maxRedirections = 3

// Do runs e on the server that owns key, under the bulkhead and the deadline. All
// redirections of one call share its deadline. A nil reply is an answer, not an
// error.
func (c *Conn) Do(ctx context.Context, key string, e Exchange) (valkey.ValkeyResult, error) {
	n := c.servers.ownerOfKey(key)
	if n == nil {
		return valkey.ValkeyResult{}, ErrNotConnected
	}
	ctx, stop := c.laps.within(ctx, c.timeout)
	defer stop()
	select {
	case c.inFlight <- struct{}{}:
		defer func() { <-c.inFlight }()
	case <-ctx.Done():
		return valkey.ValkeyResult{}, leftOr(ctx, ErrTooManyCalls)
	}
	res, err := n.do(ctx, e)
	for range maxRedirections {
		to, asking, redirected := c.servers.redirection(key, n, err)
		if !redirected {
			break
		}
		if asking {
			res, err = to.do(ctx, func(ctx context.Context, c valkey.Client) valkey.ValkeyResult { return e(ctx, askingClient{c}) })
		} else {
			res, err = to.do(ctx, e)
		}
		n = to
	}
	return res, err
}

// askingClient sends ASKING before each command. A cluster asks for that while a
// slot is on its way to the next owner.
type askingClient struct{ valkey.Client }

// Do is DoMulti of one command.
func (a askingClient) Do(ctx context.Context, cmd valkey.Completed) valkey.ValkeyResult {
	return a.DoMulti(ctx, cmd)[0]
}

// DoMulti sends all as one batch, so that no command of another caller can come between
// ASKING and the command that it is for.
func (a askingClient) DoMulti(ctx context.Context, commands ...valkey.Completed) []valkey.ValkeyResult {
	var asked []valkey.Completed
	for _, cmd := range commands {
		asked = append(asked, a.B().Asking().Build(), cmd)
	}
	results := a.Client.DoMulti(ctx, asked...)
	for i := range commands {
		results[i] = results[2*i+1]
	}
	return results[:len(commands)]
}

// EachServer calls f once for every server in use, one after the other, and stops
// at the first error. It is an error if one of them is away. All calls share one
// Options.Timeout. They pass neither bulkhead nor breaker.
func (c *Conn) EachServer(ctx context.Context, f func(context.Context, valkey.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	nodes := c.servers.inUse()
	if len(nodes) == 0 {
		return ErrNotConnected
	}
	for _, n := range nodes {
		client := n.client.Load()
		if client == nil || !n.alive.Load() {
			return ErrNotConnected
		}
		if err := f(ctx, *client); err != nil {
			return err
		}
	}
	return nil
}

// Subscribe calls wake, which must not block, for every message on a sharded
// channel, until stop is called. It returns once the server has confirmed the
// subscription, so that nothing published later is missed. While the server is
// away it returns at once. wake is also called whenever a message may have been
// missed. The only error is the context's.
func (c *Conn) Subscribe(ctx context.Context, channel string, wake func()) (stop func(), err error) {
	return c.watch.add(ctx, channel, wake)
}

// Message is a message of a channel.
type Message struct {
	Value    any       // what Options.Decode made of its text
	Received time.Time // by this process's clock
}

// LastMessage is the last message on a channel that is subscribed to. It is false
// where there was none yet, where a later one may have been missed, or where the
// server takes no writes. It costs one look-up in a map.
func (c *Conn) LastMessage(channel string) (Message, bool) {
	if n := c.servers.ownerOfKey(channel); n == nil || n.sealed.Load() {
		return Message{}, false
	}
	return c.watch.lastMessage(channel)
}

// laps distinguish a store that does not answer from a process that is too busy
// to read the answer. docs/adr/0010 has the reasons and the measurements.
//
// One goroutine writes commands to a connection and another one reads the
// replies. Both wait until it is their turn among all goroutines that are ready
// to run; the reader also waits in the poller, behind every connection that got
// data earlier. When thousands of students are woken at one instant, that takes
// hundreds of milliseconds, measured, with the replies still in the socket or the
// commands not yet sent. A deadline is a timer, which does not wait for a turn.
// So a call whose time is up ends only after four laps. A lap is one byte that
// this process sends to itself through a pipe. It goes the same way as a reply:
// through the poller and the run queue. In a process with nothing else to do,
// laps take some 20 µs, and the call ends in time.
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

// turns are how often a call waits for its turn among all goroutines of the process: the
// one that writes is woken, and then waits a moment for more commands; the one that reads
// is woken by the reply; the caller is given it.
const turns = 4

// timeUp is called when a call's time is up. It waits for the laps and returns
// why the call ends, or nil when the call has ended meanwhile. After half of the laps
// the call's command has been sent. So the store then gets as much time as they took, and
// the reply gets the other half to be read.
func (l *laps) timeUp(call context.Context, timeout time.Duration) error {
	began, patience := time.Now(), time.NewTimer(l.atMost)
	defer patience.Stop()
	for turn := range turns {
		select {
		case <-l.over():
		case <-patience.C:
			return ErrBehind
		case <-call.Done():
			return nil
		}
		if turn == turns/2-1 {
			_ = pause.For(call, min(time.Since(began), timeout))
		}
	}
	return errTimeUp
}
