package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/testclock"
	"doorstep/sessions"
	"doorstep/sessions/livetest"
	"doorstep/sessions/memory"
)

func TestLive(t *testing.T) { livetest.Run(t, openMemory) }

func BenchmarkLive(b *testing.B) { livetest.Bench(b, openMemory) }

// openMemory is livetest's fixture with a way to look into the store.
func openMemory(t testing.TB, rules sessions.LiveOptions) livetest.Fixture {
	t.Helper()
	f := livetest.Memory(t, rules)
	f.Kept = func(ref sessions.Ref) string { return livetest.MemoryOf(f).Kept(ref) }
	return f
}

// Expired journeys and metas must not stay in the process: a later write deletes
// them.
func TestLive_sweep(t *testing.T) {
	t.Parallel()
	clock := testclock.New()
	m := memory.NewLive(sessions.LiveOptions{}, clock.Now)
	for range 100 {
		open(t, m, clock.Now())
		require.NoError(t, m.SetMeta(t.Context(), sessions.NewID(), sessions.Meta{}))
	}
	clock.Advance(time.Hour)
	open(t, m, clock.Now())
	journeys, metas, _ := m.Size()
	require.Equal(t, 1, journeys)
	require.Zero(t, metas)
}

func TestLive_stop_leaves_nothing(t *testing.T) {
	t.Parallel()
	m := memory.NewLive(sessions.LiveOptions{}, time.Now)
	stop, err := m.Watch(t.Context(), sessions.Ref{TrainerID: sessions.NewID()}, func() {})
	require.NoError(t, err)
	stop()
	_, _, watched := m.Size()
	require.Zero(t, watched)
}

// Between two long polls a journey counts as watched.
func TestLive_watched_lingers(t *testing.T) {
	t.Parallel()
	clock := testclock.New()
	m := memory.NewLive(sessions.LiveOptions{}, clock.Now)
	j := sessions.Journey{Ref: sessions.Ref{TrainerID: sessions.NewID()}, Home: geo.MustPoint(1, 2), Mode: sessions.Walk, StartedAt: clock.Now()}
	_, err := m.Open(t.Context(), j)
	require.NoError(t, err)
	stop, err := m.Watch(t.Context(), j.Ref, func() {})
	require.NoError(t, err)
	stop()
	for _, watched := range []bool{true, true, false} {
		clock.Advance(7 * time.Second)
		r, err := m.Update(t.Context(), j.Ref, sessions.Fix{Point: geo.MustPoint(1, 2.1)})
		require.NoError(t, err)
		require.Equal(t, watched, r.Watched)
	}
}

func open(t *testing.T, m *memory.Live, started time.Time) {
	t.Helper()
	opened, err := m.Open(t.Context(), sessions.Journey{
		Ref:  sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()},
		Home: geo.MustPoint(1, 2), Mode: sessions.Walk, StartedAt: started,
	})
	require.NoError(t, err)
	require.True(t, opened)
}
