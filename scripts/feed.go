package scripts

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
)

// feed is one server's wake-ups: a connection of their own, made anew whenever
// it is lost, that is subscribed to the watched channels of the server's slots.
type feed struct {
	node *node
	link atomic.Pointer[link] // nil while the connection is away

	// turn lets subscribes overtake each other but not an unsubscribe, which
	// would otherwise undo a subscribe sent before it.
	turn sync.RWMutex
	due  chan struct{} // see to the channels now
}

// link is one connection. Whoever finds it useless gives it up, and the feed
// closes it and starts afresh: closing one to a stalled server takes a second,
// which is not the finder's to wait.
type link struct {
	valkey.DedicatedClient
	node    *node
	useless chan error
	left    []string // channels that another connection is to have; under watcher.mu
}

const (
	subscribeWithin = 2 * time.Second
	refusedFor      = 250 * time.Millisecond // until a refused subscribe is tried again
	maxBackoff      = 2 * time.Second
)

var errLost = errors.New("connection lost")

func newFeed(n *node) *feed { return &feed{node: n, due: make(chan struct{}, 1)} }

func (l *link) giveUp(why error) {
	select {
	case l.useless <- why:
	default: // given up already
	}
}

// look has the feed see to its channels.
func (f *feed) look() {
	select {
	case f.due <- struct{}{}:
	default: // about to
	}
}

func (f *feed) lookSoon() { time.AfterFunc(refusedFor, f.look) }

// feed keeps a server's feed going until ctx ends.
func (w *watcher) feed(ctx context.Context, f *feed) {
	backoff := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := w.serve(ctx, f)
		if ctx.Err() != nil {
			return
		}
		w.log.WarnContext(ctx, "live store wake-ups interrupted", slog.Any("error", err))
		w.nodes.trouble()
		if time.Since(began) > maxBackoff {
			backoff = 50 * time.Millisecond
		}
		pause(ctx, backoff/2+rand.N(backoff/2)) //nolint:gosec // jitter, no secret
		backoff = min(2*backoff, maxBackoff)
	}
}

// serve is the life of one connection.
func (w *watcher) serve(ctx context.Context, f *feed) error {
	option := f.node.option
	option.Dialer.KeepAlive = -1 // with it the client would ask, and a busy moment of ours be the end of the connection
	client, err := valkey.NewClient(option)
	if err != nil {
		return err
	}
	defer client.Close()
	dedicated, _ := client.Dedicate()
	defer dedicated.Close() // not released: that would tidy it with commands that the store's user need not have
	l := &link{DedicatedClient: dedicated, node: f.node, useless: make(chan error, 1)}
	broken := l.SetPubSubHooks(valkey.PubSubHooks{
		OnMessage: func(m valkey.PubSubMessage) { w.deliver(l, m.Channel, m.Message) },
		OnSubscription: func(s valkey.PubSubSubscription) {
			if s.Kind == "sunsubscribe" {
				w.unasked(s.Channel, f, l)
			}
		},
	})
	defer w.lost(l)
	defer f.link.Store(nil)
	f.look()
	sweep := time.NewTicker(w.sweepEvery)
	defer sweep.Stop()
	ask := time.NewTicker(w.askEvery)
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return errors.Join(errLost, err)
		case err := <-l.useless:
			return err
		case <-ask.C:
			if err := w.ask(ctx, l); err != nil {
				return err
			}
			continue
		case <-f.due:
		case <-sweep.C:
		}
		if err := w.tend(ctx, f, l); err != nil {
			return err
		}
	}
}

// ask finds out whether the connection still leads to a server.
func (w *watcher) ask(ctx context.Context, l *link) error {
	ctx, stop := w.laps.within(ctx, w.askEvery)
	defer stop()
	err := l.Do(ctx, l.B().Ping().Build()).NonValkeyError()
	if err == nil || errors.Is(context.Cause(ctx), errBehind) {
		return nil
	}
	return errors.Join(errLost, err, context.Cause(ctx))
}

// tend subscribes a connection to what it lacks and wakes those channels'
// watchers, makes it the feed's, and unsubscribes it from what it need not
// have. New channels that come meanwhile wait for their turn.
func (w *watcher) tend(ctx context.Context, f *feed, l *link) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.link.Store(l)
	lacking, idle := w.due(l, time.Now().Add(-w.linger))
	for channels := range slices.Chunk(names(lacking), batchOf) {
		results := l.batch(ctx, channels, func(c string) valkey.Completed { return l.B().Ssubscribe().Channel(c).Build() })
		for i, res := range results {
			if w.settle(f, l, channels[i], lacking[channels[i]], res.Error()) {
				w.wake(channels[i])
			} else if err := res.NonValkeyError(); err != nil {
				return err
			}
		}
	}
	for channels := range slices.Chunk(idle, batchOf) {
		for _, res := range l.batch(ctx, channels, func(c string) valkey.Completed { return l.B().Sunsubscribe().Channel(c).Build() }) {
			if err := res.NonValkeyError(); err != nil {
				return err // a refusal is of a slot that has gone, and took the subscription along
			}
		}
	}
	return nil
}

// batchOf commands are what one deadline can cover.
const batchOf = 1000

func (l *link) batch(ctx context.Context, channels []string, command func(string) valkey.Completed) []valkey.ValkeyResult {
	ctx, cancel := context.WithTimeout(ctx, subscribeWithin)
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

// refused reports whether the server itself said no.
func refused(err error) bool {
	_, ok := valkey.IsValkeyErr(err)
	return ok
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
