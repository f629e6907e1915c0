// Package valkeyconn keeps the connections to Valkey 8 or Redis 7 and later: to
// one server, to the primary that sentinels name, or to a cluster. It knows which
// server owns a slot. For each server it has a connection for calls, a connection
// for wake-ups, a circuit breaker and a probe, so that a server that is away or
// stalls costs the other servers' callers nothing. It knows no script and no key.
//
// A call passes conn.go (bulkhead, deadline, choice of the server, redirections)
// and node.go (breaker and connection of one server). topology.go and slots.go
// find out which server owns which slot. watch.go and feed.go turn sharded
// publishes into wake-ups. laps.go distinguishes a store that does not answer from a
// process that is too busy to read the answer.
package valkeyconn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"
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

// askingClient sends ASKING before a command. A cluster asks for that while a
// slot is on its way to the next owner.
type askingClient struct{ valkey.Client }

// Do sends both commands as one batch, so that no command of another caller can
// come between them.
func (a askingClient) Do(ctx context.Context, cmd valkey.Completed) valkey.ValkeyResult {
	return a.DoMulti(ctx, a.B().Asking().Build(), cmd)[1]
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
