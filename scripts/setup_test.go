package scripts

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

func TestMain(m *testing.M) { valkeytest.Main(m) }

// running is a store that is being run, and ends with the test; connected or
// not. It has time for a busy machine: a test of the time-out sets its own.
func running(t testing.TB, opts Options, prepare ...func(*Store)) *Store {
	t.Helper()
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	s, err := New(opts)
	require.NoError(t, err)
	for _, f := range prepare {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// connected is a running store whose two connections are up.
func connected(t testing.TB, opts Options, prepare ...func(*Store)) *Store {
	t.Helper()
	s := running(t, opts, prepare...)
	eventually(t, func() bool { return s.Ready() && s.watch.connected() })
	return s
}

// connected: every server's wake-ups have their connection.
func (w *watcher) connected() bool {
	feeds := w.nodes.inUse()
	return len(feeds) > 0 && !slices.ContainsFunc(feeds, func(n *node) bool { return n.feed.link.Load() == nil })
}

// eventually polls until ok, which takes a millisecond or the test's patience.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, time.Millisecond)
}

// rawClient talks to the server beside the store: the test's own eyes and hands.
func rawClient(t testing.TB, url string) valkey.Client {
	t.Helper()
	opt, err := clientOption(Options{URL: url})
	require.NoError(t, err)
	opt.ClientName = "test"
	c, err := valkey.NewClient(opt)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// command is a command in words.
func command(c valkey.Client, words ...string) valkey.Completed {
	return c.B().Arbitrary(words...).Build()
}

func do(t testing.TB, c valkey.Client, words ...string) valkey.ValkeyResult {
	t.Helper()
	return c.Do(t.Context(), command(c, words...))
}

// newRef is a fresh trainer's fresh session: a key of the test's own.
func newRef() sessions.Ref {
	return sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()}
}

var home = geo.MustPoint(12.9763472, 77.5929284)

// journeyNow is a journey that starts now, by the real clock.
func journeyNow() sessions.Journey {
	return sessions.Journey{Ref: newRef(), Home: home, Mode: sessions.Car, StartedAt: time.Now().Truncate(time.Millisecond)}
}

func fixAt(p geo.Point) sessions.Fix { return sessions.Fix{Point: p, AccuracyM: 10} }
