package scripts

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"
)

// watcher turns the scripts' sharded publishes into wake-ups. It has a
// connection of its own, so that no slow subscriber can stall an update, and is
// subscribed only to channels that somebody here watches, or has just watched:
// a student's next poll comes within seconds, so leaving is lazy.
//
// A publish carries nothing that is needed: whatever is lost while the
// connection is away costs a wait, never data, and when it is back everybody is
// woken to read again.
type watcher struct {
	url string
	log *slog.Logger
	// linger is how long a subscription that nobody watches stays, sweepEvery
	// how often such are looked for.
	linger, sweepEvery time.Duration

	// turn lets subscribes overtake each other but not an unsubscribe, which
	// would otherwise undo a subscribe sent before it.
	turn sync.RWMutex

	mu   sync.Mutex
	subs map[string]*subscription
	feed *feed // nil while the connection is away
}

// feed is one connection. Whoever finds it useless gives it up, and run closes
// it and starts afresh: closing one to a stalled server takes a second, which
// is not the finder's to wait.
type feed struct {
	valkey.DedicatedClient
	useless chan error
}

func (f *feed) giveUp(why error) {
	select {
	case f.useless <- why:
	default: // given up already
	}
}

type subscription struct {
	entries   map[*entry]struct{}
	confirmed chan struct{} // closed when the server has confirmed, or the connection has failed
	idleSince time.Time
}

type entry struct{ wake func() }

const (
	subscribeWithin = 2 * time.Second
	maxBackoff      = 2 * time.Second
)

func newWatcher(url string, log *slog.Logger) *watcher {
	return &watcher{
		url: url, log: log, linger: 15 * time.Second, sweepEvery: 5 * time.Second,
		subs: map[string]*subscription{},
	}
}

// add registers wake and returns once the server has confirmed the
// subscription. While the connection is away it returns at once: its coming
// back subscribes and wakes everybody. The only error is the context's.
func (w *watcher) add(ctx context.Context, channel string, wake func()) (func(), error) {
	w.turn.RLock()
	defer w.turn.RUnlock()
	e := &entry{wake: wake}
	sub, f, first := w.register(channel, e)
	stop := func() { w.remove(channel, e) }
	if first {
		defer close(sub.confirmed)
		if f != nil {
			f.subscribe(ctx, channel)
		}
		return stop, nil
	}
	select {
	case <-sub.confirmed:
		return stop, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

func (w *watcher) register(channel string, e *entry) (sub *subscription, f *feed, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sub = w.subs[channel]
	if sub == nil {
		sub = &subscription{entries: map[*entry]struct{}{}, confirmed: make(chan struct{})}
		w.subs[channel] = sub
		first = true
	}
	sub.entries[e] = struct{}{}
	return sub, w.feed, first
}

// subscribe is not cancelled by the caller's leaving: others may be waiting on
// the same confirmation.
func (f *feed) subscribe(ctx context.Context, channel string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), subscribeWithin)
	defer cancel()
	if err := f.Do(ctx, f.B().Ssubscribe().Channel(channel).Build()).Error(); err != nil {
		f.giveUp(err)
	}
}

func (w *watcher) remove(channel string, e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sub := w.subs[channel]
	if sub == nil {
		return
	}
	delete(sub.entries, e)
	if len(sub.entries) == 0 {
		sub.idleSince = time.Now()
	}
}

// run keeps a subscribed connection until ctx ends.
func (w *watcher) run(ctx context.Context) {
	backoff := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := w.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		w.log.WarnContext(ctx, "live store wake-ups interrupted", slog.Any("error", err))
		if time.Since(began) > maxBackoff {
			backoff = 50 * time.Millisecond
		}
		pause(ctx, backoff/2+rand.N(backoff/2)) //nolint:gosec // jitter, no secret
		backoff = min(2*backoff, maxBackoff)
	}
}

// serve is the life of one connection.
func (w *watcher) serve(ctx context.Context) error {
	opt, err := clientOption(w.url)
	if err != nil {
		return err
	}
	client, err := valkey.NewClient(opt)
	if err != nil {
		return err
	}
	defer client.Close()
	if client.Mode() == valkey.ClientModeCluster {
		// A dedicated connection of a cluster panics at a second slot. Until
		// there is one a node, waits there end by their own time.
		return errCluster
	}
	dedicated, release := client.Dedicate()
	defer release()
	f := &feed{DedicatedClient: dedicated, useless: make(chan error, 1)}
	broken := f.SetPubSubHooks(valkey.PubSubHooks{
		OnMessage:      func(m valkey.PubSubMessage) { w.wake(m.Channel) },
		OnSubscription: func(s valkey.PubSubSubscription) { w.unasked(s, f) },
	})
	if err := w.adopt(ctx, f); err != nil {
		return err
	}
	defer w.drop()
	sweep := time.NewTicker(w.sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return errors.Join(errLost, err)
		case err := <-f.useless:
			return err
		case <-sweep.C:
			if err := w.sweep(ctx, f); err != nil {
				return err
			}
		}
	}
}

var (
	errLost  = errors.New("connection lost")
	errMoved = errors.New("unsubscribed by the server")
	// errCluster is said once a maxBackoff, by run.
	errCluster = errors.New("no wake-ups on a cluster yet: waits see a change when their time is up")
)

// adopt subscribes a new connection to all that is watched, makes it the feed,
// and wakes everybody. New channels that come meanwhile wait for their turn.
func (w *watcher) adopt(ctx context.Context, f *feed) error {
	w.turn.Lock()
	defer w.turn.Unlock()
	channels := w.watched()
	if err := f.all(ctx, channels, func(c string) valkey.Completed {
		return f.B().Ssubscribe().Channel(c).Build()
	}); err != nil {
		return err
	}
	w.mu.Lock()
	w.feed = f
	w.mu.Unlock()
	for _, c := range channels {
		w.wake(c)
	}
	return nil
}

func (w *watcher) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.feed = nil
}

func (w *watcher) watched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	channels := make([]string, 0, len(w.subs))
	for c := range w.subs {
		channels = append(channels, c)
	}
	return channels
}

// sweep unsubscribes from what nobody has watched for a while.
func (w *watcher) sweep(ctx context.Context, f *feed) error {
	w.turn.Lock()
	defer w.turn.Unlock()
	return f.all(ctx, w.forget(time.Now().Add(-w.linger)), func(c string) valkey.Completed {
		return f.B().Sunsubscribe().Channel(c).Build()
	})
}

// forget drops the subscriptions that have been idle since before and names
// them.
func (w *watcher) forget(before time.Time) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var idle []string
	for c, sub := range w.subs {
		if len(sub.entries) == 0 && sub.idleSince.Before(before) {
			delete(w.subs, c)
			idle = append(idle, c)
		}
	}
	return idle
}

func (w *watcher) wake(channel string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sub := w.subs[channel]; sub != nil {
		for e := range sub.entries {
			e.wake()
		}
	}
}

// unasked notices that the server ended a subscription that is still wanted, as
// a cluster does when it moves the slot.
func (w *watcher) unasked(s valkey.PubSubSubscription, f *feed) {
	if s.Kind != "sunsubscribe" {
		return
	}
	w.mu.Lock()
	_, wanted := w.subs[s.Channel]
	w.mu.Unlock()
	if wanted {
		f.giveUp(errMoved)
	}
}

// all pipelines one command a channel, in batches that a deadline can cover.
func (f *feed) all(ctx context.Context, channels []string, command func(string) valkey.Completed) error {
	for batch := range slices.Chunk(channels, 1000) {
		commands := make([]valkey.Completed, len(batch))
		for i, c := range batch {
			commands[i] = command(c)
		}
		if err := f.batch(ctx, commands); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) batch(ctx context.Context, commands []valkey.Completed) error {
	ctx, cancel := context.WithTimeout(ctx, subscribeWithin)
	defer cancel()
	for _, res := range f.DoMulti(ctx, commands...) {
		if err := res.Error(); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
