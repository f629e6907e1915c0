package valkeyconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/internal/pause"
)

// feed receives the wake-ups of one server. It has its own connection, which
// is subscribed to the watched channels of the server's slots and is made
// again whenever it is lost.
type feed struct {
	node *node
	link atomic.Pointer[link] // nil while there is no connection

	// turn lets several subscribes run at once, but none together with an
	// unsubscribe, which could undo a subscribe that was sent before it.
	turn sync.RWMutex
	due  chan struct{} // a sync is requested

	denied atomic.Bool // its server does not let the user subscribe
}

// link is one connection of a feed. Code that finds it useless discards it; the
// feed then closes it and makes a new one. The finder does not close it itself,
// because closing the connection of a stalled server takes a second.
type link struct {
	valkey.DedicatedClient
	node    *node
	useless chan error
	left    []string // channels that it must unsubscribe from, guarded by watcher.mu
}

const (
	subscribeTimeout = 2 * time.Second
	// retrySubscribe is the time until a refused subscribe is tried again.
	retrySubscribe = 250 * time.Millisecond
	// After a lost connection the feed waits between half of this and all of it.
	// It doubles with every loss, up to maxBackoff.
	minBackoff, maxBackoff = 50 * time.Millisecond, 2 * time.Second
	// batchSize is how many commands one time-out can cover.
	batchSize = 1000
)

var (
	errLinkLost = errors.New("connection lost")
	errMoved    = errors.New("another server takes the calls now")
)

func newFeed(n *node) *feed { return &feed{node: n, due: make(chan struct{}, 1)} }

// discard makes the feed replace the connection.
func (l *link) discard(why error) {
	select {
	case l.useless <- why:
	default: // discarded already
	}
}

// requestSync makes the feed compare its subscriptions with the watched channels.
func (f *feed) requestSync() {
	select {
	case f.due <- struct{}{}:
	default: // requested already
	}
}

func (f *feed) requestSyncLater() { time.AfterFunc(retrySubscribe, f.requestSync) }

// runFeed keeps a feed connected until ctx ends.
func (w *watcher) runFeed(ctx context.Context, f *feed) {
	backoff := minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := w.runLink(ctx, f)
		if ctx.Err() != nil {
			return
		}
		w.log.WarnContext(ctx, "live store wake-ups interrupted", slog.Any("error", err))
		w.servers.reportFailure()
		if time.Since(began) > maxBackoff {
			backoff = minBackoff
		}
		_ = pause.For(ctx, backoff/2+rand.N(backoff/2)) //nolint:gosec // jitter, no secret
		backoff = min(2*backoff, maxBackoff)
	}
}

// runLink makes a connection and serves it until it is lost or ctx ends.
func (w *watcher) runLink(ctx context.Context, f *feed) error {
	option := f.node.option
	// With KeepAlive valkey-go would ping by itself, with its own time-out, and
	// would close the connection whenever this process is too busy to read the
	// reply.
	option.Dialer.KeepAlive = -1
	client, err := valkey.NewClient(option)
	if err != nil {
		return err
	}
	defer client.Close()
	server := serverOf(client)
	dedicated, _ := client.Dedicate()
	defer dedicated.Close() // closed and not released: a release sends clean-up commands, which the ACL may forbid
	l := &link{DedicatedClient: dedicated, node: f.node, useless: make(chan error, 1)}
	broken := l.SetPubSubHooks(valkey.PubSubHooks{
		OnMessage: func(m valkey.PubSubMessage) { w.deliver(l, m.Channel, m.Message) },
		OnSubscription: func(s valkey.PubSubSubscription) {
			if s.Kind == "sunsubscribe" {
				w.serverUnsubscribed(s.Channel, f, l)
			}
		},
	})
	if err := w.mayListen(ctx, f, l); err != nil {
		return err
	}
	defer w.linkLost(l)
	defer f.link.Store(nil)
	f.requestSync()
	sweep := time.NewTicker(w.sweepEvery)
	defer sweep.Stop()
	ping := time.NewTicker(w.pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return errors.Join(errLinkLost, err)
		case err := <-l.useless:
			return err
		case <-ping.C:
			// A planned failover leaves the connection to the old primary as it is.
			if serverOf(client) != server {
				return errMoved
			}
			if err := w.ping(ctx, l); err != nil {
				return err
			}
			continue
		case <-f.due:
		case <-sweep.C:
		}
		if err := w.sync(ctx, f, l); err != nil {
			return err
		}
	}
}

// serverOf is the address of the server that a client of one server uses: with sentinels the one
// that they name now.
func serverOf(c valkey.Client) (addr string) {
	for addr = range c.Nodes() {
	}
	return addr
}

// mayListen subscribes to a channel that nobody publishes on. The user of a new
// connection may lack the right to: without this every watcher would find that out for
// itself, and wait for messages that never come. A redirection is a permission, too: the
// server looks at the rights first.
func (w *watcher) mayListen(ctx context.Context, f *feed, l *link) error {
	if w.probe == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	err := l.Do(ctx, l.B().Ssubscribe().Channel(w.probe).Build()).Error()
	f.denied.Store(forbidden(err))
	switch {
	case forbidden(err):
		return fmt.Errorf("%w: subscribe (+ssubscribe, and its channels): %w", errForbidden, err)
	case err == nil:
		err = l.Do(ctx, l.B().Sunsubscribe().Channel(w.probe).Build()).NonValkeyError()
	case refused(err):
		err = nil
	}
	if err == nil {
		w.granted.Store(true)
	}
	return err
}

// ping checks whether the connection still leads to a server. That this process
// is too busy to read the reply is no reason to give the connection up.
func (w *watcher) ping(ctx context.Context, l *link) error {
	ctx, stop := w.laps.within(ctx, w.pingEvery)
	defer stop()
	err := l.Do(ctx, l.B().Ping().Build()).NonValkeyError()
	if err == nil || errors.Is(context.Cause(ctx), ErrBehind) {
		return nil
	}
	return errors.Join(errLinkLost, err, context.Cause(ctx))
}

// sync makes a connection the feed's, subscribes it to the channels that it
// lacks, wakes their watchers, and unsubscribes it from the channels that it need
// not have. A subscribe of a new channel waits meanwhile.
func (w *watcher) sync(ctx context.Context, f *feed, l *link) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.link.Store(l)
	missing, surplus := w.due(l, time.Now().Add(-w.linger))
	for channels := range slices.Chunk(names(missing), batchSize) {
		results := l.batch(ctx, channels, func(c string) valkey.Completed { return l.B().Ssubscribe().Channel(c).Build() })
		for i, res := range results {
			if w.settle(f, l, channels[i], missing[channels[i]], res.Error()) {
				w.wake(channels[i])
			} else if err := res.NonValkeyError(); err != nil {
				return err
			}
		}
	}
	for channels := range slices.Chunk(surplus, batchSize) {
		for _, res := range l.batch(ctx, channels, func(c string) valkey.Completed { return l.B().Sunsubscribe().Channel(c).Build() }) {
			// An error of the server's means that the slot has moved, and that the
			// subscription went with it.
			if err := res.NonValkeyError(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *link) batch(ctx context.Context, channels []string, command func(string) valkey.Completed) []valkey.ValkeyResult {
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	commands := make([]valkey.Completed, len(channels))
	for i, c := range channels {
		commands[i] = command(c)
	}
	return l.DoMulti(ctx, commands...)
}

func names(subs map[string]*subscription) []string {
	list := make([]string, 0, len(subs))
	for c := range subs {
		list = append(list, c)
	}
	return list
}

// refused reports whether an error is the server's own answer.
func refused(err error) bool {
	_, ok := valkey.IsValkeyErr(err)
	return ok
}
