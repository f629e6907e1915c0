package scripts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/valkey-io/valkey-go"
)

// node is one server that takes our calls: the only one, a cluster's primary,
// or whichever the sentinels name. It has a connection, a breaker before it and
// a probe behind it of its own, so that a server that is away or stalls costs
// the others of its cluster nothing.
type node struct {
	addr    string // host:port, a socket's path, or empty for the sentinels' choice
	option  valkey.ClientOption
	log     *slog.Logger
	breaker *gobreaker.CircuitBreaker[valkey.ValkeyResult]
	feed    *feed

	client  atomic.Pointer[valkey.Client]
	demoted atomic.Bool                     // the server behind the connection has become a replica
	alive   atomic.Bool                     // it answered the last probe
	state   atomic.Pointer[gobreaker.State] // the breaker's, readable under its lock
	retired valkey.Client                   // replaced, and closed a probe later, when its last calls are over; probe's own

	troubled func() // told of every call that got no answer
}

// breakerSettings: twenty failures in a row open it, and so does a rolling ten
// seconds in which half of at least twenty calls failed. The row is for a store
// that stalls: the good calls of the seconds before would else have it that as
// many callers as there were wait in vain, for five seconds and more. Once open,
// half a second later three probes in a row close it. That is as long
// as the slowest usual dial, which only the probe's patience brings about, and
// within the second that a failover may cost on top. What the store refuses is
// an answer, and neither a caller that left says anything about the store nor a
// reply that we did not come to read.
func breakerSettings(open time.Duration, changed func(gobreaker.State)) gobreaker.Settings {
	return gobreaker.Settings{
		Name: "live-store", MaxRequests: 3, Timeout: open,
		Interval: 10 * time.Second, BucketPeriod: time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= 20 || c.Requests >= 20 && c.TotalFailures*2 >= c.Requests
		},
		IsSuccessful:  answered,
		IsExcluded:    func(err error) bool { return errors.Is(err, errLeft) || errors.Is(err, errBehind) },
		OnStateChange: func(_ string, _, to gobreaker.State) { changed(to) },
	}
}

var (
	// errLeft is of a caller that went, or had no more time of its own.
	errLeft = errors.New("the caller has left")
	// errOurDeadline ends a call that took longer than Options.Timeout, and the
	// laps behind it.
	errOurDeadline = fmt.Errorf("live store time-out: %w", context.DeadlineExceeded)
)

// answered reports whether a call says that the store is well. An error that the
// server itself gives is an answer: a store that is full still removes and
// reads, and must not be cut off from that. But not one that says that it cannot
// serve at all just now.
func answered(err error) bool {
	said, ok := valkey.IsValkeyErr(err)
	if err == nil || !ok {
		return err == nil
	}
	for _, unwell := range []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"} {
		if strings.HasPrefix(said.Error(), unwell) {
			return false
		}
	}
	return true
}

// do runs one command under the breaker. ctx carries the call's deadline.
func (n *node) do(ctx context.Context, f exchange) (valkey.ValkeyResult, error) {
	client := n.client.Load()
	if client == nil {
		n.troubled()
		return valkey.ValkeyResult{}, errNotConnected
	}
	res, err := n.breaker.Execute(func() (valkey.ValkeyResult, error) {
		if n.well() {
			res := f(ctx, *client)
			return res, n.faultOf(ctx, res)
		}
		return n.patiently(ctx, *client, f)
	})
	if !answered(err) {
		n.troubled()
	}
	return res, err
}

// well reports whether nothing speaks for a connection that has to be dialled
// anew.
func (n *node) well() bool { return n.alive.Load() && *n.state.Load() == gobreaker.StateClosed }

// patiently runs a command for a caller who does not wait longer than ctx says.
// The client waits for a dial that somebody else has begun without a look at
// ctx (its mux, in _pipe): to a server that takes connections and says nothing
// that is a second and more, measured. Only where one may be under way is a
// goroutine spent on it; it ends with the dial, two seconds later at the latest.
func (n *node) patiently(ctx context.Context, client valkey.Client, f exchange) (valkey.ValkeyResult, error) {
	done := make(chan valkey.ValkeyResult, 1)
	go func() { done <- f(ctx, client) }()
	select {
	case res := <-done:
		return res, n.faultOf(ctx, res)
	case <-ctx.Done():
		return valkey.ValkeyResult{}, leftOr(ctx, context.Cause(ctx))
	}
}

// leftOr is err, unless ctx has ended for a reason that is the caller's own: that
// must not count against the store; our deadline must.
func leftOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errOurDeadline) && !errors.Is(cause, errBehind) {
		return fmt.Errorf("%w: %w", errLeft, cause)
	}
	return err
}

// faultOf is nil for an answer. A nil reply is one.
//
// A server that has become a replica answers pings and refuses writes for ever:
// the one with the writes has another address by now, or will soon have, behind
// the same name. So the next probe connects anew.
func (n *node) faultOf(ctx context.Context, res valkey.ValkeyResult) error {
	err := res.Error()
	if err == nil || valkey.IsValkeyNil(err) {
		return nil
	}
	if err := leftOr(ctx, err); errors.Is(err, errLeft) {
		return err
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	if refused, ok := valkey.IsValkeyErr(err); ok && strings.HasPrefix(refused.Error(), "READONLY") {
		n.demoted.Store(true)
	}
	return err
}

// run keeps the connection until ctx ends.
func (n *node) run(ctx context.Context) {
	n.probe(ctx)
	n.closeRetired()
	if c := n.client.Swap(nil); c != nil {
		(*c).Close()
	}
}

// probe is what reconnects: while the breaker is open no caller's short
// deadline can spoil a dial, and this long one wins it. Without it a store
// that takes longer to dial than a call may last never comes back.
func (n *node) probe(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		n.ping(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *node) ping(ctx context.Context) {
	n.closeRetired()
	if n.client.Load() == nil || n.demoted.Swap(false) {
		n.connect()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c := *n.client.Load()
	err := c.Do(ctx, c.B().Ping().Build()).Error()
	n.alive.Store(err == nil)
	if err != nil && ctx.Err() == nil {
		n.troubled()
		n.log.DebugContext(ctx, "live store probe", slog.Any("error", err))
	}
}

func (n *node) connect() {
	c, err := valkey.NewClient(n.option)
	if err != nil {
		n.log.Warn("live store not reached", slog.Any("error", err))
		return
	}
	if old := n.client.Swap(&c); old != nil {
		n.retired = *old
	}
	n.alive.Store(true)
	n.log.Info("live store connected")
}

func (n *node) closeRetired() {
	if n.retired != nil {
		n.retired.Close()
		n.retired = nil
	}
}

// ready reports whether the server answers. It must not be asked under the
// breaker's lock.
func (n *node) ready() bool {
	return n.client.Load() != nil && n.alive.Load() && n.breaker.State() != gobreaker.StateOpen
}

// asker goes before a command that a cluster sends to a slot's next owner while
// the slot is still on its way.
type asker struct{ valkey.Client }

// Do sends both as one: nothing of another caller's can come between.
func (a asker) Do(ctx context.Context, cmd valkey.Completed) valkey.ValkeyResult {
	return a.DoMulti(ctx, a.B().Asking().Build(), cmd)[1]
}
