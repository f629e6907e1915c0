package valkeyconn

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

func TestMain(m *testing.M) { valkeytest.Main(m) }

const (
	callTimeout = 100 * time.Millisecond
	// slack is what a busy machine with the race detector may add to a time-out. With
	// callTimeout it is less than the second that valkey-go waits for a dial or a reply,
	// which is what a caller must not wait for.
	slack = 850 * time.Millisecond
)

// running is a Conn whose Run runs until the test ends, connected or not. Its
// time-out suits a busy machine; a test of the time-out sets its own.
func running(t testing.TB, opts Options, prepare ...func(*Conn)) *Conn {
	t.Helper()
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	c, err := New(opts)
	require.NoError(t, err)
	for _, f := range prepare {
		f(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// connected is a running Conn with both connections to every server.
func connected(t testing.TB, opts Options, prepare ...func(*Conn)) *Conn {
	t.Helper()
	c := running(t, opts, prepare...)
	eventually(t, func() bool { return c.Ready() && c.Listening() })
	return c
}

// The ways to prepare a Conn.

// shortOpen makes an open breaker probe after a tenth of a second.
func shortOpen(c *Conn) { c.servers.breakerOpen = 100 * time.Millisecond }

// longOpen keeps a breaker open.
func longOpen(c *Conn) { c.servers.breakerOpen = time.Hour }

// bulkheadOf2 lets two calls run at once.
func bulkheadOf2(c *Conn) { c.inFlight = make(chan struct{}, 2) }

// shortLinger drops idle subscriptions after a few milliseconds.
func shortLinger(c *Conn) { c.watch.linger, c.watch.sweepEvery = 5*time.Millisecond, time.Millisecond }

// longLinger never drops idle subscriptions.
func longLinger(c *Conn) { c.watch.linger = time.Hour }

// noLinger drops idle subscriptions at the next sync.
func noLinger(c *Conn) { c.watch.linger = 0 }

// longLaps waits for laps however long they take on a busy machine.
func longLaps(c *Conn) { c.laps.atMost = time.Minute }

// breaker is the one server's.
func (c *Conn) breaker() *gobreaker.CircuitBreaker[valkey.ValkeyResult] {
	return c.servers.ownerOf(0).breaker
}

// eventually polls until ok, every millisecond, for at most 20 s.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, time.Millisecond)
}

// rawClient is the test's own client, beside the Conn.
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

// command is a command from its words.
func command(c valkey.Client, words ...string) valkey.Completed {
	return c.B().Arbitrary(words...).Build()
}

func do(t testing.TB, c valkey.Client, words ...string) valkey.ValkeyResult {
	t.Helper()
	return c.Do(t.Context(), command(c, words...))
}

// newKey and newChannel are names that no other test uses.
func newKey() string     { return "test:{" + rand.Text() + "}" }
func newChannel() string { return "test:live:{" + rand.Text() + "}" }

// call runs a command on a fresh key: its first word, the key, the other words.
func call(ctx context.Context, c *Conn, words ...string) error {
	key := newKey()
	words = slices.Insert(words, 1, key)
	_, err := c.Do(ctx, key, func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return c.Do(ctx, c.B().Arbitrary(words[0]).Keys(key).Args(words[2:]...).Build())
	})
	return err
}

// get reads a key that does not exist.
func get(ctx context.Context, c *Conn) error { return call(ctx, c, "GET") }

// set writes a key.
func set(ctx context.Context, c *Conn) error { return call(ctx, c, "SET", "value", "PX", "60000") }

// requireHealed polls until three calls in a row are answered, which closes a
// breaker.
func requireHealed(t *testing.T, c *Conn) {
	t.Helper()
	eventually(t, func() bool {
		for range 3 {
			if get(t.Context(), c) != nil {
				return false
			}
		}
		return c.Ready()
	})
}

// trip makes calls fail until the breaker opens.
func trip(t *testing.T, c *Conn) {
	t.Helper()
	eventually(t, func() bool {
		atOnce(25, func() { _ = get(t.Context(), c) })
		return c.breaker().State() == gobreaker.StateOpen
	})
}

func atOnce(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}

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

// recorder remembers how long calls took, how many failed, and the breaker's
// states.
type recorder struct {
	mu     sync.Mutex
	took   []time.Duration
	errs   int
	states []string
}

// record runs a call.
func (r *recorder) record(call func() error) error {
	began := time.Now()
	err := call()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = append(r.took, time.Since(began))
	if err != nil {
		r.errs++
	}
	return err
}

func (r *recorder) onBreaker(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = append(r.states, state)
}

func (r *recorder) longest() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Max(r.took)
}

func (r *recorder) failed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.errs
}

func (r *recorder) breaker() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.states)
}
