package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

const (
	callTimeout = 100 * time.Millisecond
	// slack is what a busy machine with the race detector may add to a time-out.
	slack = 400 * time.Millisecond
)

// impatient is a breaker that probes after a tenth of a second.
func impatient(s *Store) { s.nodes.open = 100 * time.Millisecond }

// breaker is the one server's.
func (s *Store) breaker() *gobreaker.CircuitBreaker[valkey.ValkeyResult] {
	return s.nodes.at(0).breaker
}

func latest(ctx context.Context, s *Store) error {
	_, err := s.Latest(ctx, newRef())
	return err
}

// healed polls until three calls in a row are answered, which closes a breaker.
func healed(t *testing.T, s *Store) {
	t.Helper()
	eventually(t, func() bool {
		for range 3 {
			if latest(t.Context(), s) != nil {
				return false
			}
		}
		return s.Ready()
	})
}

// trip makes calls fail until the breaker opens.
func trip(t *testing.T, s *Store) {
	t.Helper()
	eventually(t, func() bool {
		atOnce(25, func() { _ = latest(t.Context(), s) })
		return s.breaker().State() == gobreaker.StateOpen
	})
}

func atOnce(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := New(Options{URL: "http://nowhere"})
	require.ErrorContains(t, err, "live store url")
	s, err := New(Options{URL: "redis://127.0.0.1:1"})
	require.NoError(t, err, "it connects to nothing")
	require.False(t, s.Ready())
}

func TestStore_down_at_start(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	require.NoError(t, server.Kill())
	calls := &recorder{}
	s := running(t, Options{URL: server.URL(), Metrics: calls})
	for range 100 {
		require.ErrorIs(t, latest(t.Context(), s), sessions.ErrUnavailable)
	}
	require.Less(t, calls.longest(), slack, "at once")
	require.Equal(t, 100, calls.failed(), "and told")
	require.False(t, s.Ready())
	woken := make(chan struct{}, 1)
	stop, err := s.Watch(t.Context(), newRef(), func() { woken <- struct{}{} })
	require.NoError(t, err)
	defer stop()

	require.NoError(t, server.Restart(t.Context()))
	healed(t, s)
	<-woken // its waiters read again
}

func TestStore_killed_and_restarted(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL()}, impatient)
	j := journeyNow()
	_, err := s.Open(t.Context(), j)
	require.NoError(t, err)

	require.NoError(t, server.Kill())
	require.ErrorIs(t, latest(t.Context(), s), sessions.ErrUnavailable)
	require.NoError(t, server.Restart(t.Context()))
	healed(t, s)
	// Its memory and its scripts are gone; the next calls bring both back.
	receipt, err := s.Update(t.Context(), j.Ref, fixAt(home))
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictUnknown, receipt.Verdict)
	requireTakesFix(t, s, j)
}

func requireTakesFix(t *testing.T, s *Store, j sessions.Journey) {
	t.Helper()
	opened, err := s.Open(t.Context(), j)
	require.NoError(t, err)
	require.True(t, opened)
	receipt, err := s.Update(t.Context(), j.Ref, fixAt(home))
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStored, receipt.Verdict)
}

func TestStore_lost_its_scripts(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL()})
	requireTakesFix(t, s, journeyNow())
	require.NoError(t, do(t, rawClient(t, server.URL()), "SCRIPT", "FLUSH").Error())
	requireTakesFix(t, s, journeyNow())
}

func TestStore_lost_its_data(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL()})
	j := journeyNow()
	requireTakesFix(t, s, j)
	require.NoError(t, do(t, rawClient(t, server.URL()), "FLUSHALL").Error())
	snap, err := s.Latest(t.Context(), j.Ref)
	require.NoError(t, err)
	require.Equal(t, sessions.Snapshot{}, snap)
	requireTakesFix(t, s, j)
}

// A stalled store costs each caller its time-out, soon nothing, and never a
// goroutine that stays.
func TestStore_stalled(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	s := connected(t, Options{URL: server.URL(), Timeout: callTimeout, Metrics: calls}, impatient)
	healed(t, s)

	require.NoError(t, server.Pause())
	atOnce(200, func() { assert.ErrorIs(t, latest(t.Context(), s), sessions.ErrUnavailable) })
	require.Less(t, calls.longest(), callTimeout+slack, "by its own deadline")
	trip(t, s)
	require.Contains(t, calls.breaker(), "open")
	require.False(t, s.Ready())

	// Longer than the breaker's patience: what probes may wait, the rest not.
	began, refused := time.Now(), 0
	for time.Since(began) < 5*callTimeout {
		if errors.Is(latest(t.Context(), s), gobreaker.ErrOpenState) {
			refused++
		}
	}
	require.Greater(t, refused, 100, "at once")

	require.NoError(t, server.Resume())
	healed(t, s)
	require.Zero(t, inFlight(s))
}

// When the client has given up a connection and dials anew, to a server that
// takes the connection and says nothing, that is not the callers' wait.
func TestStore_stalled_dial(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL(), Timeout: callTimeout}, impatient)
	healed(t, s)
	require.NoError(t, server.Pause())
	var mu sync.Mutex
	var longest time.Duration
	began := time.Now()
	atOnce(4, func() {
		for time.Since(began) < 4*time.Second { // a second to give up, one a dial
			asked := time.Now()
			err := latest(t.Context(), s)
			took := time.Since(asked)
			assert.ErrorIs(t, err, sessions.ErrUnavailable)
			mu.Lock()
			longest = max(longest, took)
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
		}
	})
	require.Less(t, longest, callTimeout+slack)
	require.NoError(t, server.Resume())
	healed(t, s)
	require.Zero(t, inFlight(s))
}

func inFlight(s *Store) int { return len(s.slots) }

// What timed out may happen later: that must be harmless. The same fix, sent
// again after a lost answer, is stale and moves nothing.
func TestStore_timed_out_write_happens_later(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	now := time.Now().Truncate(time.Millisecond)
	s := connected(t, Options{URL: server.URL(), Timeout: callTimeout, Now: func() time.Time { return now }}, impatient)
	requireTakesFix(t, s, journeyNow()) // from here on the server has the script
	j := journeyNow()
	j.StartedAt = now
	_, err := s.Open(t.Context(), j)
	require.NoError(t, err)
	fix := fixAt(home)
	fix.RecordedAt = now

	require.NoError(t, server.Pause())
	_, err = s.Update(t.Context(), j.Ref, fix)
	require.ErrorIs(t, err, sessions.ErrUnavailable)
	require.NoError(t, server.Resume())
	var first sessions.Snapshot
	eventually(t, func() bool {
		first, err = s.Latest(t.Context(), j.Ref)
		return err == nil && first.Location != nil
	})
	now = now.Add(5 * time.Second)
	receipt, err := s.Update(t.Context(), j.Ref, fix)
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStale, receipt.Verdict)
	second, err := s.Latest(t.Context(), j.Ref)
	require.NoError(t, err)
	require.Equal(t, first, second)
}

// A caller that leaves says nothing about the store, nor one whose own time is
// up before ours.
func TestStore_caller_leaves(t *testing.T) {
	t.Parallel()
	for name, leaving := range map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		want    error
	}{
		"gone": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
		"out_of_time": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 20*time.Millisecond)
		}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := valkeytest.Private(t, valkeyserver.Valkey)
			s := connected(t, Options{URL: server.URL(), Timeout: 10 * time.Second})
			require.NoError(t, server.Pause())
			ctx, cancel := leaving.context(t.Context())
			defer cancel()
			atOnce(100, func() {
				err := latest(ctx, s)
				assert.ErrorIs(t, err, leaving.want)
				assert.NotErrorIs(t, err, sessions.ErrUnavailable)
			})
			require.Zero(t, s.breaker().Counts().TotalFailures)
			require.Equal(t, gobreaker.StateClosed, s.breaker().State())
			require.NoError(t, server.Resume())
			healed(t, s)
		})
	}
}

// A store that stalls is given up at once, however well it was until then.
func TestStore_breaker_opens_on_a_row(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL(), Timeout: callTimeout})
	for good := 0; good < 200; { // a busy machine may be late with one
		if latest(t.Context(), s) == nil {
			good++
		}
	}
	require.NoError(t, server.Pause())
	atOnce(19, func() { assert.ErrorIs(t, latest(t.Context(), s), sessions.ErrUnavailable) })
	require.Equal(t, gobreaker.StateClosed, s.breaker().State())
	require.ErrorIs(t, latest(t.Context(), s), sessions.ErrUnavailable)
	require.Equal(t, gobreaker.StateOpen, s.breaker().State())
}

func TestStore_bulkhead(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL(), MaxInFlight: 2})
	require.NoError(t, server.Pause())
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() { assert.NoError(t, latest(t.Context(), s)) })
	}
	eventually(t, func() bool { return inFlight(s) == 2 })
	require.NoError(t, server.Resume())
	calls.Wait()
}

// A full house is no fault of the store: who finds no place in time is told so,
// and only the calls that were made count.
func TestStore_bulkhead_full(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL(), MaxInFlight: 2, Timeout: 300 * time.Millisecond})
	require.NoError(t, server.Pause())
	var calls sync.WaitGroup
	var full atomic.Int64
	for range 100 {
		calls.Go(func() {
			err := latest(t.Context(), s)
			assert.ErrorIs(t, err, sessions.ErrUnavailable)
			if errors.Is(err, errTooMany) {
				full.Add(1)
			}
		})
	}
	calls.Wait()
	require.Positive(t, full.Load())
	require.LessOrEqual(t, int64(s.breaker().Counts().TotalFailures), 100-full.Load())
	require.NoError(t, server.Resume())
}

// After a failover the server behind an open connection may be a replica. It
// answers pings; only a new connection can reach the new primary.
func TestStore_demoted_server(t *testing.T) {
	t.Parallel()
	spawnEach(t, func(t *testing.T, server *valkeyserver.Server) {
		s := connected(t, Options{URL: server.URL()}, impatient)
		raw := rawClient(t, server.URL())
		before := connectionsOf(t, raw)
		require.NoError(t, do(t, raw, "REPLICAOF", "127.0.0.1", "1").Error())
		_, err := s.Open(t.Context(), journeyNow())
		require.ErrorIs(t, err, sessions.ErrUnavailable)
		require.ErrorContains(t, err, "READONLY")
		eventually(t, func() bool {
			return slices.ContainsFunc(connectionsOf(t, raw), func(id int64) bool { return !slices.Contains(before, id) })
		})
		require.NoError(t, do(t, raw, "REPLICAOF", "NO", "ONE").Error())
		healed(t, s)
		requireTakesFix(t, s, journeyNow())
	})
}

// A store that is full takes no journey, but must let one be ended: the
// coordinates go, whatever else.
func TestStore_full(t *testing.T) {
	t.Parallel()
	spawnEach(t, func(t *testing.T, server *valkeyserver.Server) {
		s := connected(t, Options{URL: server.URL()})
		j := journeyNow()
		requireTakesFix(t, s, j)
		require.NoError(t, do(t, rawClient(t, server.URL()), "CONFIG", "SET", "maxmemory", "1").Error())
		for range 30 { // as many as would open the breaker, were they faults
			_, err := s.Open(t.Context(), journeyNow())
			require.ErrorIs(t, err, sessions.ErrUnavailable)
		}
		require.NoError(t, s.End(t.Context(), j))
		snap, err := s.Latest(t.Context(), j.Ref)
		require.NoError(t, err)
		require.False(t, snap.Active)
		require.Nil(t, snap.Location)
	})
}

// A key of another type, written by somebody else, fails its own calls only.
func TestStore_foreign_key(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		s := connected(t, Options{URL: url})
		j := journeyNow()
		raw := rawClient(t, url)
		for _, key := range []string{journeyKey(j.Ref), metaKey(j.SessionID)} {
			require.NoError(t, do(t, raw, "SET", key, "theirs").Error())
		}
		for verb, call := range map[string]func() error{
			"open":     func() error { _, err := s.Open(t.Context(), j); return err },
			"update":   func() error { _, err := s.Update(t.Context(), j.Ref, fixAt(home)); return err },
			"latest":   func() error { _, err := s.Latest(t.Context(), j.Ref); return err },
			"end":      func() error { return s.End(t.Context(), j) },
			"meta":     func() error { _, _, err := s.Meta(t.Context(), j.SessionID); return err },
			"set_meta": func() error { return s.SetMeta(t.Context(), j.SessionID, sessions.Meta{}) },
		} {
			require.ErrorIs(t, call(), sessions.ErrUnavailable, verb)
		}
		requireTakesFix(t, s, journeyNow())
	})
}

// connectionsOf lists the ids of a store's connections.
func connectionsOf(t *testing.T, raw valkey.Client) []int64 {
	t.Helper()
	list, err := do(t, raw, "CLIENT", "LIST").ToString()
	require.NoError(t, err)
	var ids []int64
	for line := range strings.SplitSeq(list, "\n") {
		var id int64
		if _, err := fmt.Sscanf(line, "id=%d", &id); err == nil && strings.Contains(line, "name=doorstep") {
			ids = append(ids, id)
		}
	}
	return ids
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

// recorder is a Metrics that remembers.
type recorder struct {
	mu     sync.Mutex
	took   []time.Duration
	errs   int
	states []string
}

func (r *recorder) StoreCall(_, result string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = append(r.took, took)
	if result != "ok" {
		r.errs++
	}
}

func (r *recorder) StoreBreaker(state string) {
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
