package valkeyconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/valkey-io/valkey-go"
)

// node is one server that takes our calls: the only one, a cluster's primary, or
// the server that the sentinels name. It has its own connection, breaker, probe
// and feed of wake-ups.
type node struct {
	addr    string // host:port, a socket's path, or empty for the sentinels' choice
	option  valkey.ClientOption
	log     *slog.Logger
	breaker *gobreaker.CircuitBreaker[valkey.ValkeyResult]
	feed    *feed

	client  atomic.Pointer[valkey.Client]
	demoted atomic.Bool                     // the server behind the connection has become a replica
	alive   atomic.Bool                     // it answered the last probe
	sealed  atomic.Bool                     // it answers, but takes no writes
	state   atomic.Pointer[gobreaker.State] // the breaker's, readable under its lock
	denied  atomic.Bool                     // the server did not let the user connect, or lacks it a right
	retired valkey.Client                   // replaced; closed one probe later, when its last calls are over. Only the probe uses it
	renewed bool                            // the connection was replaced, and the wake-ups' one not yet. Only the probe uses it

	rights  [][]string   // Options.Rights
	granted *atomic.Bool // a server has let the user have them all

	answers    atomic.Uint64 // how many calls it has answered
	unanswered atomic.Int64  // failures in a row of calls that began after its last answer

	onFailure func() // called after every call that got no answer
}

// newNode makes the node at an address.
func (tp *topology) newNode(addr string) *node {
	option := tp.option
	if !tp.usesSentinels() {
		option.InitAddress, option.ForceSingleClient = []string{addr}, true
	}
	n := &node{addr: addr, option: option, log: tp.log, rights: tp.rights, granted: &tp.granted, onFailure: tp.reportFailure}
	closed := gobreaker.StateClosed
	n.state.Store(&closed)
	n.breaker = gobreaker.NewCircuitBreaker[valkey.ValkeyResult](breakerSettings(tp.breakerOpen, &n.unanswered, func(to gobreaker.State) {
		n.state.Store(&to)
		tp.onBreaker(tp.worstBreaker().String())
	}))
	n.feed = newFeed(n)
	return n
}

// breakerSettings: twenty failures in a row open a breaker, and so do ten seconds
// (rolling) in which half of at least twenty calls failed. The first rule is for
// a store that stalls: with the second rule alone, the successful calls of the
// seconds before would keep the breaker closed for five seconds and more, until
// as many calls have failed as had succeeded. It counts the failures of calls that began
// after the server's last answer (unanswered). All calls go through one connection, so when
// the server is late for a moment the time of many is up together; docs/adr/0010 has what that
// did.
//
// A breaker stays open for a time of `open`, half a second in production; then three calls in
// a row that succeed close it. Half a second is as long as the slowest usual dial, which only the
// probe waits for, and well within the second that a failover may cost in
// addition.
//
// An error that the server gives is an answer and no failure. A caller that
// left, and a reply that this process had no time to read, say nothing about the
// store, so they do not count at all.
func breakerSettings(open time.Duration, unanswered *atomic.Int64, changed func(gobreaker.State)) gobreaker.Settings {
	return gobreaker.Settings{
		Name: "live-store", MaxRequests: 3, Timeout: open,
		Interval: 10 * time.Second, BucketPeriod: time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return unanswered.Load() >= 20 || c.Requests >= 20 && c.TotalFailures*2 >= c.Requests
		},
		IsSuccessful:  answered,
		IsExcluded:    saysNothing,
		OnStateChange: func(_ string, _, to gobreaker.State) { changed(to) },
	}
}

// saysNothing reports whether the error of a call says nothing about the store.
func saysNothing(err error) bool { return errors.Is(err, ErrCallerLeft) || errors.Is(err, ErrBehind) }

// answered reports whether a call shows that the store works. An error that the
// server itself gives is an answer: a store that is full still removes and reads,
// and the breaker must not stop that. The exceptions are the errors by which a
// server says that it cannot serve at all just now.
func answered(err error) bool {
	reply, ok := valkey.IsValkeyErr(err)
	if err == nil || !ok {
		return err == nil
	}
	return !beginsWith(reply, "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY")
}

func beginsWith(reply *valkey.ValkeyError, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(reply.Error(), w) })
}

// ErrNoWrites is the error of every call, reads included, to a server that answers
// and takes no writes: a replica, one without enough replicas
// (min-replicas-to-write), one that cannot save. A journey that cannot be ended there
// must not be shown. A server that is full is none of them: it still removes.
var ErrNoWrites = errors.New("the server takes no writes")

// noWrites reports whether a server's error says that it takes no writes.
func noWrites(reply *valkey.ValkeyError) bool {
	return beginsWith(reply, "READONLY", "NOREPLICAS", "MISCONF")
}

// do runs one exchange behind the breaker. ctx carries the call's deadline.
func (n *node) do(ctx context.Context, e Exchange) (valkey.ValkeyResult, error) {
	client := n.client.Load()
	if client == nil {
		n.onFailure()
		return valkey.ValkeyResult{}, ErrNotConnected
	}
	if n.sealed.Load() {
		return valkey.ValkeyResult{}, ErrNoWrites
	}
	res, err := n.breaker.Execute(func() (res valkey.ValkeyResult, err error) {
		before := n.answers.Load()
		if n.healthy() {
			res = e(ctx, *client)
			err = n.faultOf(ctx, res)
		} else {
			res, err = n.doWithoutWaitingForDial(ctx, *client, e)
		}
		n.count(err, before)
		return res, err
	})
	if !answered(err) {
		n.onFailure()
	}
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		err = ErrBreakerOpen
	}
	return res, err
}

// count notes how a call ended for the breaker's first rule. before is what answers was when
// the call began.
func (n *node) count(err error, before uint64) {
	switch {
	case answered(err):
		n.answers.Add(1)
		n.unanswered.Store(0)
	case !saysNothing(err) && n.answers.Load() == before:
		n.unanswered.Add(1)
	}
}

// healthy reports whether there is no sign that the connection has to be dialled
// anew.
func (n *node) healthy() bool { return n.alive.Load() && *n.state.Load() == gobreaker.StateClosed }

// doWithoutWaitingForDial runs an exchange and returns when ctx ends, at the
// latest. valkey-go waits for a dial that another caller has begun and ignores
// ctx meanwhile (its mux, in _pipe). With a server that takes connections and
// says nothing that wait is more than a second, measured. So the exchange runs in
// a goroutine, which ends with the dial, two seconds later at the latest. It
// costs a goroutine a call, so it is used only where a dial may be under way.
func (n *node) doWithoutWaitingForDial(ctx context.Context, client valkey.Client, e Exchange) (valkey.ValkeyResult, error) {
	done := make(chan valkey.ValkeyResult, 1)
	go func() { done <- e(ctx, client) }()
	select {
	case res := <-done:
		return res, n.faultOf(ctx, res)
	case <-ctx.Done():
		return valkey.ValkeyResult{}, leftOr(ctx, context.Cause(ctx))
	}
}

// leftOr returns err, or ErrCallerLeft where ctx has ended for a reason of the
// caller's own. The breaker must not count that reason, but must count our
// deadline.
func leftOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errTimeUp) && !errors.Is(cause, ErrBehind) {
		return fmt.Errorf("%w: %w", ErrCallerLeft, cause)
	}
	return err
}

// faultOf returns the error of a result. It is nil for an answer, and a nil
// reply is an answer.
//
// A server that has become a replica answers pings and refuses writes for ever.
// The new primary has another address behind the same name, or will soon have
// it. So the next probe connects anew.
func (n *node) faultOf(ctx context.Context, res valkey.ValkeyResult) error {
	err := res.Error()
	if err == nil || valkey.IsValkeyNil(err) {
		return nil
	}
	if err := leftOr(ctx, err); errors.Is(err, ErrCallerLeft) {
		return err
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	n.notice(err)
	return err
}

// notice looks at an error for a sign that the server takes no writes.
func (n *node) notice(err error) {
	if reply, ok := valkey.IsValkeyErr(err); ok && noWrites(reply) {
		n.sealed.Store(true)
		n.demoted.Store(n.demoted.Load() || beginsWith(reply, "READONLY"))
	}
}

// run keeps the connection until ctx ends.
func (n *node) run(ctx context.Context) {
	n.probe(ctx)
	n.closeRetired()
	if c := n.client.Swap(nil); c != nil {
		(*c).Close()
	}
}

// writeProbe does nothing, but a server that takes no writes refuses it: a script
// that is not declared as free of writes. It has no key, so every server of a cluster
// runs it. allow-oom, as in end.lua: a full server still ends journeys.
const writeProbe = "#!lua flags=allow-oom\nreturn 1"

// probeTimeout bounds one question of the probe.
const probeTimeout = 2 * time.Second

// probe asks the server every half second and connects anew where needed. While
// the breaker is open no caller dials, so no caller's short deadline can spoil a
// dial, and the probe's long deadline lets one succeed. Without the probe a store
// that takes longer to dial than a call may last would never come back.
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
	if (n.client.Load() == nil || n.demoted.Swap(false)) && !n.connect(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c := *n.client.Load()
	err := c.Do(ctx, c.B().Eval().Script(writeProbe).Numkeys(0).Build()).Error()
	n.notice(err)
	if err == nil {
		n.sealed.Store(false)
		n.followCalls()
	}
	n.alive.Store(err == nil)
	if err != nil && ctx.Err() == nil {
		n.onFailure()
		n.log.DebugContext(ctx, "live store probe", slog.Any("error", err))
	}
}

// followCalls has the wake-ups' connection made anew, once, when that of the calls has been and
// reaches a server that takes writes. The old one may lead to the server that was demoted, which
// answers pings and gets no message of its own any more.
func (n *node) followCalls() {
	if l := n.feed.link.Load(); l != nil && n.renewed {
		l.discard(errMoved)
	}
	n.renewed = false
}

// connect makes a new connection. It does not say that the server behind it takes writes: it may
// be the same replica.
func (n *node) connect(ctx context.Context) (done bool) {
	c, err := valkey.NewClient(n.option)
	if err == nil {
		if err = n.mayCall(ctx, c); err != nil {
			c.Close()
		}
	}
	err = signIn(err)
	n.denied.Store(errors.Is(err, errForbidden))
	if err != nil {
		n.log.Warn("live store not reached", slog.Any("error", err))
		return false
	}
	if old := n.client.Swap(&c); old != nil {
		n.retired, n.renewed = *old, true
	}
	n.granted.Store(true)
	n.alive.Store(true)
	n.log.Info("live store connected")
	return true
}

// mayCall asks a new connection's server for the rights. A call without one of them would
// fail in the middle of a script, after the writes before it.
func (n *node) mayCall(ctx context.Context, c valkey.Client) error {
	if len(n.rights) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	commands := make([]valkey.Completed, len(n.rights))
	for i, words := range n.rights {
		commands[i] = c.B().Arbitrary(words...).Build()
	}
	var missing []string
	var refusal error
	for i, res := range c.DoMulti(ctx, commands...) {
		if err := res.NonValkeyError(); err != nil {
			return err
		}
		if err := res.Error(); forbidden(err) {
			missing, refusal = append(missing, n.rights[i][0]), err
		}
	}
	if refusal == nil {
		return nil
	}
	return fmt.Errorf("%w: call %s, on these keys or channels: %w", errForbidden, strings.Join(slices.Compact(missing), ", "), refusal)
}

func (n *node) closeRetired() {
	if n.retired != nil {
		n.retired.Close()
		n.retired = nil
	}
}

// ready reports whether the server answers. It must not be called under the
// breaker's lock.
func (n *node) ready() bool {
	return n.client.Load() != nil && n.alive.Load() && !n.sealed.Load() && n.breaker.State() != gobreaker.StateOpen
}
