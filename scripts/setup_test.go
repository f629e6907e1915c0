package scripts

import (
	"context"
	"crypto/x509"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

func TestMain(m *testing.M) { valkeytest.Main(m) }

// running is a store whose Run runs until the test ends, connected or not. Its
// time-out suits a busy machine; a test of the time-out sets its own.
func running(t testing.TB, opts Options) *Store {
	t.Helper()
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	s, err := New(opts)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// connected is a running store with both connections to every server.
func connected(t testing.TB, opts Options) *Store {
	t.Helper()
	s := running(t, opts)
	eventually(t, func() bool { return s.Ready() && s.conn.Listening() })
	return s
}

// eventually polls until ok, every millisecond, for at most 20 s.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, time.Millisecond)
}

// rawClient is the test's own client, beside the store.
func rawClient(t testing.TB, url string) valkey.Client {
	t.Helper()
	c, err := valkey.NewClient(rawOption(t, Options{URL: url}))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// rawOption is the settings of a client of the test's own: one connection that
// pipelines, as the store's.
func rawOption(t testing.TB, opts Options) valkey.ClientOption {
	t.Helper()
	opt, err := valkey.ParseURL(opts.URL)
	require.NoError(t, err)
	if opts.CA != nil {
		opt.TLSConfig.RootCAs = x509.NewCertPool()
		require.True(t, opt.TLSConfig.RootCAs.AppendCertsFromPEM(opts.CA))
	}
	opt.PipelineMultiplex, opt.AlwaysPipelining = -1, true
	opt.DisableCache, opt.DisableRetry = true, true
	opt.ClientName, opt.ClientSetInfo = "test", valkey.DisableClientSetInfo
	return opt
}

// command is a command from its words.
func command(c valkey.Client, words ...string) valkey.Completed {
	return c.B().Arbitrary(words...).Build()
}

func do(t testing.TB, c valkey.Client, words ...string) valkey.ValkeyResult {
	t.Helper()
	return c.Do(t.Context(), command(c, words...))
}

// newRef is a new session of a new trainer: keys that no other test uses.
func newRef() sessions.Ref {
	return sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()}
}

var home = geo.MustPoint(12.9763472, 77.5929284)

// journeyNow is a journey that starts now, by the real clock.
func journeyNow() sessions.Journey {
	return sessions.Journey{Ref: newRef(), Home: home, Mode: sessions.Car, StartedAt: time.Now().Truncate(time.Millisecond)}
}

func fixAt(p geo.Point) sessions.Fix { return sessions.Fix{Point: p, AccuracyM: 10} }

// spawnEach runs a test on a private server of each kind.
func spawnEach(t *testing.T, test func(*testing.T, *valkeyserver.Server)) {
	t.Helper()
	for _, kind := range valkeyserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, valkeytest.Private(t, kind))
		})
	}
}

// watched counts the wake-ups of a watcher.
type watched struct{ wakes *atomic.Int64 }

func watch(t testing.TB, s *Store, ref sessions.Ref) watched {
	t.Helper()
	w := watched{wakes: &atomic.Int64{}}
	stop, err := s.Watch(t.Context(), ref, func() { w.wakes.Add(1) })
	require.NoError(t, err)
	t.Cleanup(stop)
	return w
}

func (w watched) requireWoken(t testing.TB, atLeast int64) {
	t.Helper()
	eventually(t, func() bool { return w.wakes.Load() >= atLeast })
}
