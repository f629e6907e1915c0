package scripts

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

func latest(ctx context.Context, s *Store) error {
	_, err := s.Latest(ctx, newRef())
	return err
}

// requireHealed polls until three calls in a row are answered, which closes a breaker.
func requireHealed(t *testing.T, s *Store) {
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
	require.Less(t, calls.longest(), 5*time.Second, "at once: the time-out is 10 s")
	require.Equal(t, 100, calls.count("latest not_connected"))
	require.False(t, s.Ready())
	woken := make(chan struct{}, 1)
	stop, err := s.Watch(t.Context(), newRef(), func() { woken <- struct{}{} })
	require.NoError(t, err)
	defer stop()

	require.NoError(t, server.Restart(t.Context()))
	requireHealed(t, s)
	<-woken // watchers read again
}

func TestStore_killed_and_restarted(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL()})
	j := journeyNow()
	_, err := s.Open(t.Context(), j)
	require.NoError(t, err)

	require.NoError(t, server.Kill())
	require.ErrorIs(t, latest(t.Context(), s), sessions.ErrUnavailable)
	require.NoError(t, server.Restart(t.Context()))
	requireHealed(t, s)
	// The server has lost its data and its scripts. The next calls restore both.
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
	require.Equal(t, sessions.Snapshot{Now: snap.Now}, snap)
	requireTakesFix(t, s, j)
}

// While the server stalls, calls fail by the time-out until the breaker opens. The
// metrics show both.
func TestStore_stalled(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	s := connected(t, Options{URL: server.URL(), Timeout: 100 * time.Millisecond, Metrics: calls})
	requireHealed(t, s)
	require.NoError(t, server.Pause())
	eventually(t, func() bool {
		require.ErrorIs(t, latest(t.Context(), s), sessions.ErrUnavailable)
		return calls.count("latest breaker_open") > 0
	})
	require.Positive(t, calls.count("latest timeout"))
	require.Contains(t, calls.breaker(), "open")
	require.False(t, s.Ready())
	require.NoError(t, server.Resume())
	requireHealed(t, s)
	inFlight, limit := s.InFlight()
	require.Zero(t, inFlight)
	require.Equal(t, 4096, limit)
}

// The error of a caller that has left is its own and not sessions.ErrUnavailable.
func TestStore_caller_leaves(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	s := connected(t, Options{URL: server.URL(), Metrics: calls})
	require.NoError(t, server.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := latest(ctx, s)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, sessions.ErrUnavailable)
	require.Equal(t, 1, calls.count("latest left"))
	_, err = s.Watch(ctx, newRef(), func() {})
	require.NotErrorIs(t, err, sessions.ErrUnavailable)
	require.NoError(t, server.Resume())
}

// A call that timed out may still be executed later. That must be harmless: the same
// fix, sent again after a lost answer, is stale and changes nothing.
func TestStore_timed_out_write_happens_later(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	now := time.Now().Truncate(time.Millisecond)
	s := connected(t, Options{URL: server.URL(), Timeout: 500 * time.Millisecond, Now: func() time.Time { return now }})
	requireTakesFix(t, s, journeyNow()) // from now on the server has the script
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
	first.Now, second.Now = time.Time{}, time.Time{}
	require.Equal(t, first, second)
}

// A store that is full takes no journey, but a journey can be ended: its coordinates
// must be removed in any case.
func TestStore_full(t *testing.T) {
	t.Parallel()
	spawnEach(t, func(t *testing.T, server *valkeyserver.Server) {
		s := connected(t, Options{URL: server.URL()})
		j := journeyNow()
		requireTakesFix(t, s, j)
		require.NoError(t, do(t, rawClient(t, server.URL()), "CONFIG", "SET", "maxmemory", "1").Error())
		for range 30 { // as many failures would open the breaker
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

// A key of another type, written by another program, fails only the calls for that
// key.
func TestStore_foreign_key(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		s := connected(t, Options{URL: url})
		j := journeyNow()
		raw := rawClient(t, url)
		for _, key := range []string{journeyKey(j.Ref), metaKey(j.SessionID)} {
			require.NoError(t, do(t, raw, "SET", key, "foreign").Error())
		}
		for verb, call := range map[string]func() error{
			"open":     func() error { _, err := s.Open(t.Context(), j); return err },
			"publish":  func() error { _, err := s.Update(t.Context(), j.Ref, fixAt(home)); return err },
			"latest":   func() error { _, err := s.Latest(t.Context(), j.Ref); return err },
			"move":     func() error { _, err := s.Move(t.Context(), j); return err },
			"end":      func() error { return s.End(t.Context(), j) },
			"meta":     func() error { _, _, err := s.Meta(t.Context(), j.SessionID); return err },
			"set_meta": func() error { return s.SetMeta(t.Context(), j.SessionID, sessions.Meta{}) },
		} {
			require.ErrorIs(t, call(), sessions.ErrUnavailable, verb)
		}
		requireTakesFix(t, s, journeyNow())
	})
}

// recorder is a Metrics that remembers.
type recorder struct {
	mu     sync.Mutex
	calls  []string // verb and result
	took   []time.Duration
	states []string
}

func (r *recorder) StoreCall(verb, result string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, verb+" "+result)
	r.took = append(r.took, took)
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

// count is how many calls of a verb had a result.
func (r *recorder) count(call string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (r *recorder) breaker() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.states)
}
