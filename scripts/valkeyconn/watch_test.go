package valkeyconn

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"
	"pgregory.net/rapid"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

// watched is a channel, and how often its watcher has been woken.
type watched struct {
	channel string
	wakes   *atomic.Int64
	stop    func()
}

func watch(t testing.TB, c *Conn, channel string) watched {
	t.Helper()
	w := watched{channel: channel, wakes: &atomic.Int64{}}
	var err error
	w.stop, err = c.Subscribe(t.Context(), channel, func() { w.wakes.Add(1) })
	require.NoError(t, err)
	return w
}

// publish publishes as the scripts do.
func (w watched) publish(t testing.TB, raw valkey.Client) {
	t.Helper()
	require.NoError(t, do(t, raw, "SPUBLISH", w.channel, "1").Error())
}

func (w watched) requireWoken(t testing.TB, atLeast int64) {
	t.Helper()
	eventually(t, func() bool { return w.wakes.Load() >= atLeast })
}

// subscribers asks every server how many it has on a channel.
func subscribers(t testing.TB, raw valkey.Client, channel string) (sum int64) {
	t.Helper()
	for _, server := range raw.Nodes() {
		reply, err := do(t, server, "PUBSUB", "SHARDNUMSUB", channel).ToArray()
		require.NoError(t, err)
		n, err := reply[1].AsInt64()
		require.NoError(t, err)
		sum += n
	}
	return sum
}

var watchTests = map[string]func(*testing.T, string, valkey.Client){
	"confirmed_before_it_returns":          testConfirmed,
	"one_subscription_a_channel":           testShared,
	"unsubscribed_later":                   testLinger,
	"watched_again":                        testAgain,
	"comes_and_goes":                       testChurn,
	"a_caller_that_has_left_does_not_wait": testLeaver,
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

// Nothing that is published after Subscribe has returned is missed, not even if it
// is published at once and by another client.
func testConfirmed(t *testing.T, url string, raw valkey.Client) {
	c := connected(t, Options{URL: url})
	for range 200 {
		w := watch(t, c, newChannel())
		require.EqualValues(t, 1, subscribers(t, raw, w.channel))
		w.publish(t, raw)
		w.requireWoken(t, 1)
		w.stop()
	}
}

func testShared(t *testing.T, url string, raw valkey.Client) {
	c := connected(t, Options{URL: url}, longLinger)
	channel := newChannel()
	all := make([]watched, 50)
	for i := range all {
		all[i] = watch(t, c, channel)
	}
	require.EqualValues(t, 1, subscribers(t, raw, channel))
	all[0].stop()
	all[1].publish(t, raw)
	for _, w := range all[1:] {
		w.requireWoken(t, 1)
	}
	require.Zero(t, all[0].wakes.Load())
}

func testLinger(t *testing.T, url string, raw valkey.Client) {
	c := connected(t, Options{URL: url}, shortLinger)
	first, second := watch(t, c, newChannel()), watch(t, c, newChannel())
	first.stop()
	eventually(t, func() bool { return subscribers(t, raw, first.channel) == 0 })
	require.EqualValues(t, 1, subscribers(t, raw, second.channel), "it is still watched")
	require.Equal(t, []string{second.channel}, c.watch.watched())
}

func testAgain(t *testing.T, url string, raw valkey.Client) {
	c := connected(t, Options{URL: url}, longLinger)
	channel := newChannel()
	watch(t, c, channel).stop()
	c.watch.syncNow(t, slotOf(channel))
	require.EqualValues(t, 1, subscribers(t, raw, channel), "it stays for the next long poll")
	again := watch(t, c, channel)
	again.publish(t, raw)
	again.requireWoken(t, 1)
}

// Watching and sweeping at once: a watcher is subscribed, whatever the sweep did a
// moment before, and no connection is lost.
func testChurn(t *testing.T, url string, raw valkey.Client) {
	c := connected(t, Options{URL: url}, shortLinger, noLinger)
	before := c.watch.current()
	channels := []string{newChannel(), newChannel(), newChannel()}
	atOnce(6, func() {
		for i := range 150 {
			w := watch(t, c, channels[i%len(channels)])
			w.publish(t, raw)
			w.requireWoken(t, 1)
			w.stop()
		}
	})
	require.Same(t, before, c.watch.current(), "the same connection")
	eventually(t, func() bool { return len(c.watch.watched()) == 0 })
	for _, channel := range channels {
		eventually(t, func() bool { return subscribers(t, raw, channel) == 0 })
	}
}

// current is the connection of the only server's feed.
func (w *watcher) current() *link { return w.servers.ownerOf(0).feed.link.Load() }

func (w *watcher) watched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return names(w.subs)
}

// syncNow syncs the feed of a slot's server, now.
func (w *watcher) syncNow(t testing.TB, slot uint16) {
	t.Helper()
	f := w.servers.ownerOf(slot).feed
	require.NoError(t, w.sync(t.Context(), f, f.link.Load()))
}

// The first watcher of a channel subscribes for all. A later one that waits for the
// confirmation may leave before it comes.
func testLeaver(t *testing.T, url string, _ valkey.Client) {
	c := connected(t, Options{URL: url})
	channel := newChannel()
	c.watch.register(channel, func() {}) // a first watcher whose confirmation does not come
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Subscribe(ctx, channel, func() {})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, c.watch.subs[channel].entries, 1, "it left nothing behind")
}

// A lost connection loses messages. So all watchers are woken when the next one has
// subscribed to their channels, and nothing after that is missed.
func TestWatch_connection_lost(t *testing.T) {
	t.Parallel()
	spawnEach(t, func(t *testing.T, server *valkeyserver.Server) {
		c := connected(t, Options{URL: server.URL()}, longLinger)
		raw := rawClient(t, server.URL())
		all := make([]watched, 100)
		for i := range all {
			all[i] = watch(t, c, newChannel())
		}
		for round := range int64(3) {
			feed := c.watch.current()
			killSubscriber(t, raw)
			for _, w := range all {
				w.requireWoken(t, 2*round+1)
			}
			require.NotSame(t, feed, c.watch.current())
			for _, w := range all {
				require.EqualValues(t, 1, subscribers(t, raw, w.channel))
				w.publish(t, raw)
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

// A watcher that comes while the connection is away does not wait. It is subscribed
// and woken when the connection is back.
func TestWatch_while_the_server_is_away(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL()}, longLinger)
	before := watch(t, c, newChannel())
	require.NoError(t, server.Kill())
	eventually(t, func() bool { return !c.Listening() })
	began := time.Now()
	during := watch(t, c, newChannel())
	require.Less(t, time.Since(began), slack)

	require.NoError(t, server.Restart(t.Context()))
	raw := rawClient(t, server.URL())
	for _, w := range []watched{before, during} {
		w.requireWoken(t, 1)
		w.publish(t, raw)
		w.requireWoken(t, 2)
	}
}

// A stalled server is noticed within seconds, though the connection stays open. Until
// then a new watcher waits for a bounded time.
func TestWatch_stalled(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL()}, longLinger)
	before := watch(t, c, newChannel())
	require.NoError(t, server.Pause())
	began := time.Now()
	during := watch(t, c, newChannel())
	require.Less(t, time.Since(began), subscribeTimeout+slack)
	eventually(t, func() bool { return !c.Listening() })
	require.NoError(t, server.Resume())
	raw := rawClient(t, server.URL())
	for _, w := range []watched{before, during} {
		w.requireWoken(t, 1)
		w.publish(t, raw)
		w.requireWoken(t, 2)
	}
}

// A cluster ends subscriptions by itself when it moves a slot. The channel is then
// subscribed to again, and its watchers are woken.
func TestWatch_unsubscribed_by_the_server(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL()}, longLinger)
	w := watch(t, c, newChannel())
	feed := c.watch.current()
	require.NoError(t, feed.Do(t.Context(), feed.B().Sunsubscribe().Channel(w.channel).Build()).Error())
	w.requireWoken(t, 1)
	w.publish(t, rawClient(t, server.URL()))
	w.requireWoken(t, 2)
}

// After a planned failover both servers would send every message, because the old one
// takes subscriptions as a replica, too. Here the new one has the channel first.
func TestWatch_owner_changed(t *testing.T) {
	t.Parallel()
	url := valkeytest.Valkey(t)
	c := connected(t, Options{URL: url}, longLinger)
	raw := rawClient(t, url)
	w := watch(t, c, newChannel())
	old, next := c.servers.ownerOf(0), successor(t, c)
	for range 3 {
		(*c.servers.owners.Load())[0].Store(next)
		w.wakes.Store(0)
		next.feed.requestSync()
		w.requireWoken(t, 1)
		old.feed.requestSync() // a survey makes all feeds sync
		eventually(t, func() bool { return subscribers(t, raw, w.channel) == 1 })
		w.publish(t, raw)
		w.requireWoken(t, 2)
		old, next = next, old
	}
}

// successor is a second node of the same address, whose feed runs.
func successor(t *testing.T, c *Conn) *node {
	t.Helper()
	next := c.servers.newNode(c.servers.ownerOf(0).addr)
	running := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer close(running); c.watch.runFeed(ctx, next.feed) }()
	t.Cleanup(func() { cancel(); <-running })
	eventually(t, func() bool { return next.feed.link.Load() != nil })
	return next
}

// A channel that nobody watches is unsubscribed from on every server that has it, also
// when its slot has moved to another server and back meanwhile.
func TestWatch_owner_changed_and_expired(t *testing.T) {
	t.Parallel()
	for name, cameBack := range map[string]bool{"come_back": true, "gone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := valkeytest.Valkey(t)
			c := connected(t, Options{URL: url}, noLinger)
			raw := rawClient(t, url)
			w := watch(t, c, newChannel())
			old, next := c.servers.ownerOf(0), successor(t, c)
			owner := &(*c.servers.owners.Load())[0]
			owner.Store(next)
			if cameBack {
				next.feed.requestSync()
				eventually(t, func() bool { return subscribers(t, raw, w.channel) == 2 })
				owner.Store(old)
				old, next = next, old
			}
			w.stop()
			next.feed.requestSync()
			eventually(t, func() bool { return len(c.watch.watched()) == 0 })
			old.feed.requestSync()
			next.feed.requestSync()
			eventually(t, func() bool { return subscribers(t, raw, w.channel) == 0 })
		})
	}
}

// More channels than one batch holds are subscribed to again after a lost connection,
// and unsubscribed from at the end.
func TestWatch_many_channels(t *testing.T) {
	t.Parallel()
	const count = 5000
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL()}, noLinger)
	raw := rawClient(t, server.URL())
	all := make([]watched, count)
	for i := range all {
		all[i] = watch(t, c, newChannel())
	}
	require.Equal(t, count, channelCount(t, raw))
	killSubscriber(t, raw)
	for _, w := range all {
		w.requireWoken(t, 1)
	}
	commands := make([]valkey.Completed, count)
	for i, w := range all {
		commands[i] = command(raw, "SPUBLISH", w.channel, strconv.Itoa(i))
	}
	for _, res := range raw.DoMulti(t.Context(), commands...) {
		require.NoError(t, res.Error())
	}
	for _, w := range all {
		w.requireWoken(t, 2)
		w.stop()
	}
	c.watch.syncNow(t, 0)
	require.Zero(t, channelCount(t, raw))
}

func channelCount(t *testing.T, raw valkey.Client) int {
	t.Helper()
	list, err := do(t, raw, "PUBSUB", "SHARDCHANNELS").AsStrSlice()
	require.NoError(t, err)
	slices.Sort(list)
	return len(slices.Compact(list))
}

// Run ends its goroutines, also while channels are watched.
func TestWatch_after_the_end(t *testing.T) {
	t.Parallel()
	c, err := New(Options{URL: valkeytest.Valkey(t)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	eventually(t, func() bool { return c.Ready() && c.Listening() })
	w := watch(t, c, newChannel())
	cancel()
	require.NoError(t, <-ended)
	require.ErrorIs(t, get(t.Context(), c), ErrNotConnected)
	after := watch(t, c, newChannel())
	after.stop()
	w.stop()
	assert.False(t, c.Listening())
}

// Watchers of one channel leave in any order, and more than once; the others stay.
func TestWatch_leave_in_any_order(t *testing.T) {
	t.Parallel()
	w := &watcher{subs: map[string]*subscription{}}
	rapid.Check(t, func(t *rapid.T) {
		clear(w.subs)
		woken := make([]int, rapid.IntRange(1, 8).Draw(t, "watchers"))
		var all []*entry
		for i := range woken {
			e, _, _ := w.register("channel", func() { woken[i]++ })
			all = append(all, e)
		}
		for range rapid.IntRange(0, 10).Draw(t, "leaves") {
			i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
			w.remove(all[i])
			woken[i] = -1
			w.wake("channel")
			for n, times := range woken {
				if times == -1 {
					continue
				}
				require.Equal(t, 1, times, "watcher %d after %d left", n, i)
				woken[n] = 0
			}
		}
	})
}

// A name leads to another server, and the old one is demoted and keeps its connections: the wake-ups go where the calls go.
func TestWatch_name_leads_elsewhere(t *testing.T) {
	t.Parallel()
	before, after := valkeytest.Private(t, valkeyserver.Valkey), valkeytest.Private(t, valkeyserver.Valkey)
	name := filepath.Join(t.TempDir(), "store")
	require.NoError(t, os.Symlink(before.Socket(), name))
	c := connected(t, Options{URL: "unix://" + name}, shortOpen)
	w := watch(t, c, newChannel())
	require.NoError(t, os.Remove(name))
	require.NoError(t, os.Symlink(after.Socket(), name))
	require.NoError(t, do(t, rawClient(t, before.URL()), "REPLICAOF", "127.0.0.1", "1").Error())
	eventually(t, func() bool { return set(t.Context(), c) == nil })
	raw := rawClient(t, after.URL())
	eventually(t, func() bool { return subscribers(t, raw, w.channel) == 1 })
	woken := w.wakes.Load()
	w.publish(t, raw)
	w.requireWoken(t, woken+1)
}
