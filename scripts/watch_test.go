package scripts

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// hasty forgets idle subscriptions after a few milliseconds.
func hasty(s *Store) { s.watch.linger, s.watch.sweepEvery = 5*time.Millisecond, time.Millisecond }

// patient never does.
func patient(s *Store) { s.watch.linger = time.Hour }

// watched is a ref, and how often it has been told.
type watched struct {
	sessions.Ref
	wakes *atomic.Int64
	stop  func()
}

func watch(t testing.TB, s *Store, ref sessions.Ref) watched {
	t.Helper()
	w := watched{Ref: ref, wakes: &atomic.Int64{}}
	var err error
	w.stop, err = s.Watch(t.Context(), ref, func() { w.wakes.Add(1) })
	require.NoError(t, err)
	return w
}

// tell publishes as the scripts do.
func (w watched) tell(t testing.TB, raw valkey.Client) {
	t.Helper()
	require.NoError(t, do(t, raw, "SPUBLISH", liveChannel(w.Ref), "1").Error())
}

func (w watched) requireWoken(t testing.TB, atLeast int64) {
	t.Helper()
	eventually(t, func() bool { return w.wakes.Load() >= atLeast })
}

// subscribers asks every server how many it has on a channel.
func subscribers(t testing.TB, raw valkey.Client, ref sessions.Ref) (sum int64) {
	t.Helper()
	for _, server := range raw.Nodes() {
		reply, err := do(t, server, "PUBSUB", "SHARDNUMSUB", liveChannel(ref)).ToArray()
		require.NoError(t, err)
		n, err := reply[1].AsInt64()
		require.NoError(t, err)
		sum += n
	}
	return sum
}

var watchTests = map[string]func(*testing.T, string, valkey.Client){
	"confirmed_before_it_returns":         testConfirmed,
	"one_subscription_a_channel":          testShared,
	"left_lazily":                         testLazily,
	"left_and_come_back_to":               testComeBack,
	"comes_and_goes":                      testChurn,
	"a_caller_who_has_left_does_not_wait": testLeaver,
}

func TestWatch(t *testing.T) {
	t.Parallel()
	for name, test := range watchTests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			valkeytest.Each(t, func(t *testing.T, url string) {
				t.Parallel()
				test(t, url, rawClient(t, url))
			})
		})
	}
}

// Register, then read: nothing published after Watch has returned is missed,
// not even at once, by whoever.
func testConfirmed(t *testing.T, url string, raw valkey.Client) {
	s := connected(t, Options{URL: url})
	for range 200 {
		w := watch(t, s, newRef())
		require.EqualValues(t, 1, subscribers(t, raw, w.Ref))
		w.tell(t, raw)
		w.requireWoken(t, 1)
		w.stop()
	}
}

func testShared(t *testing.T, url string, raw valkey.Client) {
	s := connected(t, Options{URL: url}, patient)
	ref := newRef()
	all := make([]watched, 50)
	for i := range all {
		all[i] = watch(t, s, ref)
	}
	require.EqualValues(t, 1, subscribers(t, raw, ref))
	all[0].stop()
	all[1].tell(t, raw)
	for _, w := range all[1:] {
		w.requireWoken(t, 1)
	}
	require.Zero(t, all[0].wakes.Load())
}

func testLazily(t *testing.T, url string, raw valkey.Client) {
	s := connected(t, Options{URL: url}, hasty)
	first, second := watch(t, s, newRef()), watch(t, s, newRef())
	first.stop()
	eventually(t, func() bool { return subscribers(t, raw, first.Ref) == 0 })
	require.EqualValues(t, 1, subscribers(t, raw, second.Ref), "somebody waits")
	require.Equal(t, []string{liveChannel(second.Ref)}, s.watch.watched())
}

func testComeBack(t *testing.T, url string, raw valkey.Client) {
	s := connected(t, Options{URL: url}, patient)
	ref := newRef()
	watch(t, s, ref).stop()
	s.watch.tidy(t, slotOf(liveChannel(ref)))
	require.EqualValues(t, 1, subscribers(t, raw, ref), "it stays for the next poll")
	again := watch(t, s, ref)
	again.tell(t, raw)
	again.requireWoken(t, 1)
}

// Watching and sweeping at once: whoever watches is subscribed, whatever the
// sweeper did a moment before, and no connection is lost over it.
func testChurn(t *testing.T, url string, raw valkey.Client) {
	s := connected(t, Options{URL: url}, hasty, func(s *Store) { s.watch.linger = 0 })
	before := s.watch.current()
	refs := []sessions.Ref{newRef(), newRef(), newRef()}
	atOnce(6, func() {
		for i := range 150 {
			w := watch(t, s, refs[i%len(refs)])
			w.tell(t, raw)
			w.requireWoken(t, 1)
			w.stop()
		}
	})
	require.Same(t, before, s.watch.current(), "the same connection")
	eventually(t, func() bool { return len(s.watch.watched()) == 0 })
	for _, ref := range refs {
		eventually(t, func() bool { return subscribers(t, raw, ref) == 0 })
	}
}

// current is the one server's connection.
func (w *watcher) current() *link { return w.nodes.at(0).feed.link.Load() }

func (w *watcher) watched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return names(w.subs)
}

// tidy has the feed of a slot's server see to its channels, now.
func (w *watcher) tidy(t testing.TB, slot uint16) {
	t.Helper()
	f := w.nodes.at(slot).feed
	require.NoError(t, w.tend(t.Context(), f, f.link.Load()))
}

// The first on a channel subscribes for all; the others need not stay for it.
func testLeaver(t *testing.T, url string, _ valkey.Client) {
	s := connected(t, Options{URL: url})
	ref := newRef()
	s.watch.register(liveChannel(ref), &entry{wake: func() {}}) // a first one whose confirmation does not come
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Watch(ctx, ref, func() {})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, sessions.ErrUnavailable)
	require.Len(t, s.watch.subs[liveChannel(ref)].entries, 1, "it left nothing behind")
}

// A lost connection loses wakes, so everybody is woken when the next one has
// subscribed to all; nothing after that is missed.
func TestWatch_connection_lost(t *testing.T) {
	t.Parallel()
	spawnEach(t, func(t *testing.T, server *valkeyserver.Server) {
		s := connected(t, Options{URL: server.URL()}, patient)
		raw := rawClient(t, server.URL())
		all := make([]watched, 100)
		for i := range all {
			all[i] = watch(t, s, newRef())
		}
		for round := range int64(3) {
			feed := s.watch.current()
			killSubscriber(t, raw)
			for _, w := range all {
				w.requireWoken(t, 2*round+1)
			}
			require.NotSame(t, feed, s.watch.current())
			for _, w := range all {
				require.EqualValues(t, 1, subscribers(t, raw, w.Ref))
				w.tell(t, raw)
			}
			for _, w := range all {
				w.requireWoken(t, 2*round+2)
			}
		}
	})
}

func killSubscriber(t *testing.T, raw valkey.Client) {
	t.Helper()
	killed, err := do(t, raw, "CLIENT", "KILL", "TYPE", "pubsub").AsInt64()
	require.NoError(t, err)
	require.EqualValues(t, 1, killed)
}

// Whoever comes while the connection is away is not held up, and is subscribed
// and woken when it is back.
func TestWatch_while_the_server_is_away(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL()}, patient)
	before := watch(t, s, newRef())
	require.NoError(t, server.Kill())
	eventually(t, func() bool { return !s.watch.connected() })
	began := time.Now()
	during := watch(t, s, newRef())
	require.Less(t, time.Since(began), slack)

	require.NoError(t, server.Restart(t.Context()))
	raw := rawClient(t, server.URL())
	for _, w := range []watched{before, during} {
		w.requireWoken(t, 1)
		w.tell(t, raw)
		w.requireWoken(t, 2)
	}
}

// A stalled server is noticed, by its silence, within seconds, though the
// connection stays open; until then whoever comes waits a bounded time.
func TestWatch_stalled(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL()}, patient)
	before := watch(t, s, newRef())
	require.NoError(t, server.Pause())
	began := time.Now()
	during := watch(t, s, newRef())
	require.Less(t, time.Since(began), subscribeWithin+slack)
	eventually(t, func() bool { return !s.watch.connected() })
	require.NoError(t, server.Resume())
	raw := rawClient(t, server.URL())
	for _, w := range []watched{before, during} {
		w.requireWoken(t, 1)
		w.tell(t, raw)
		w.requireWoken(t, 2)
	}
}

// A cluster ends subscriptions by itself when it moves a slot: that is a lost
// connection to us.
func TestWatch_unsubscribed_by_the_server(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL()}, patient)
	w := watch(t, s, newRef())
	feed := s.watch.current()
	require.NoError(t, feed.Do(t.Context(), feed.B().Sunsubscribe().Channel(liveChannel(w.Ref)).Build()).Error())
	w.requireWoken(t, 1)
	w.tell(t, rawClient(t, server.URL()))
	w.requireWoken(t, 2)
}

// After a planned failover both servers would tell of every change: the old one
// takes subscriptions as a replica, too. Here the new one has the channel first.
func TestWatch_owner_changed(t *testing.T) {
	t.Parallel()
	url := valkeytest.Valkey(t)
	s := connected(t, Options{URL: url}, patient)
	raw := rawClient(t, url)
	w := watch(t, s, newRef())
	old, next := s.nodes.at(0), successor(t, s)
	for range 3 {
		(*s.nodes.table.Load())[0].Store(next)
		w.wakes.Store(0)
		next.feed.look()
		w.requireWoken(t, 1)
		old.feed.look() // a survey has all of them look
		eventually(t, func() bool { return subscribers(t, raw, w.Ref) == 1 })
		w.tell(t, raw)
		w.requireWoken(t, 2)
		old, next = next, old
	}
}

// successor is a second server of the same address, whose feed runs.
func successor(t *testing.T, s *Store) *node {
	t.Helper()
	next := s.nodes.node(s.nodes.at(0).addr)
	running := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer close(running); s.watch.feed(ctx, next.feed) }()
	t.Cleanup(func() { cancel(); <-running })
	eventually(t, func() bool { return next.feed.link.Load() != nil })
	return next
}

// A channel that nobody waits for is left by every server that has it, also when
// its slot has gone to another one and come back meanwhile.
func TestWatch_owner_changed_and_forgotten(t *testing.T) {
	t.Parallel()
	for name, cameBack := range map[string]bool{"come_back": true, "gone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := valkeytest.Valkey(t)
			s := connected(t, Options{URL: url}, func(s *Store) { s.watch.linger = 0 })
			raw := rawClient(t, url)
			w := watch(t, s, newRef())
			old, next := s.nodes.at(0), successor(t, s)
			owner := &(*s.nodes.table.Load())[0]
			owner.Store(next)
			if cameBack {
				next.feed.look()
				eventually(t, func() bool { return subscribers(t, raw, w.Ref) == 2 })
				owner.Store(old)
				old, next = next, old
			}
			w.stop()
			next.feed.look()
			eventually(t, func() bool { return len(s.watch.watched()) == 0 })
			old.feed.look()
			next.feed.look()
			eventually(t, func() bool { return subscribers(t, raw, w.Ref) == 0 })
		})
	}
}

// As many channels as a gateway may wait for, more than one batch: over a lost
// connection, and left again.
func TestWatch_many_channels(t *testing.T) {
	t.Parallel()
	const channels = 5000
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL()}, func(s *Store) { s.watch.linger = 0 })
	raw := rawClient(t, server.URL())
	all := make([]watched, channels)
	for i := range all {
		all[i] = watch(t, s, newRef())
	}
	require.Equal(t, channels, channelCount(t, raw))
	killSubscriber(t, raw)
	for _, w := range all {
		w.requireWoken(t, 1)
	}
	commands := make([]valkey.Completed, channels)
	for i, w := range all {
		commands[i] = command(raw, "SPUBLISH", liveChannel(w.Ref), strconv.Itoa(i))
	}
	for _, res := range raw.DoMulti(t.Context(), commands...) {
		require.NoError(t, res.Error())
	}
	for _, w := range all {
		w.requireWoken(t, 2)
		w.stop()
	}
	s.watch.tidy(t, 0)
	require.Zero(t, channelCount(t, raw))
}

func channelCount(t *testing.T, raw valkey.Client) int {
	t.Helper()
	list, err := do(t, raw, "PUBSUB", "SHARDCHANNELS").AsStrSlice()
	require.NoError(t, err)
	slices.Sort(list)
	return len(slices.Compact(list))
}

// A store's goroutines end with it, whoever still watches.
func TestWatch_after_the_end(t *testing.T) {
	t.Parallel()
	s, err := New(Options{URL: valkeytest.Valkey(t)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	eventually(t, func() bool { return s.Ready() && s.watch.connected() })
	w := watch(t, s, newRef())
	cancel()
	require.NoError(t, <-ended)
	require.ErrorIs(t, latest(t.Context(), s), sessions.ErrUnavailable)
	after := watch(t, s, newRef())
	after.stop()
	w.stop()
	assert.False(t, s.watch.connected())
}
