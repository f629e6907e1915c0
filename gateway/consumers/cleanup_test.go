package consumers_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/gateway/consumers"
	"doorstep/geo"
	"doorstep/internal/servers/valkeytest"
	"doorstep/scripts"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/outbox"
)

// onEachStore runs a test on the live store in process and on a real Valkey.
func onEachStore(t *testing.T, test func(t *testing.T, h *fixture, live sessions.Live)) {
	t.Helper()
	t.Parallel()
	clock := func() time.Time { return noon.Add(2 * time.Minute) }
	fresh := func() *fixture {
		return &fixture{Repository: memory.NewRepository(nil), once: outbox.NewMemoryOnce()}
	}
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, fresh(), memory.NewLive(sessions.LiveOptions{}, clock))
	})
	t.Run("valkey", func(t *testing.T) {
		t.Parallel()
		store, err := scripts.New(scripts.Options{URL: valkeytest.Valkey(t), Now: clock, Timeout: 2 * time.Second})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- store.Run(ctx) }()
		t.Cleanup(func() { stop(); <-done })
		require.Eventually(t, store.Ready, 10*time.Second, 5*time.Millisecond)
		test(t, fresh(), store)
	})
}

func open(t testing.TB, live sessions.Live, s sessions.Session) {
	t.Helper()
	_, err := live.Open(t.Context(), s.Journey())
	require.NoError(t, err)
}

func publish(t testing.TB, live sessions.Live, s sessions.Session) sessions.Verdict {
	t.Helper()
	fix, err := sessions.NewFix(sessions.Fix{Point: geo.MustPoint(12.9, 77.6)})
	require.NoError(t, err)
	r, err := live.Update(t.Context(), s.Journey().Ref, fix)
	require.NoError(t, err)
	return r.Verdict
}

func latest(t testing.TB, live sessions.Live, s sessions.Session) sessions.Snapshot {
	t.Helper()
	snap, err := live.Latest(t.Context(), s.Journey().Ref)
	require.NoError(t, err)
	return snap
}

func (h *fixture) again(t testing.TB, s sessions.Session) sessions.Session {
	t.Helper()
	return h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", noon.Add(90*time.Second)) })
}

func TestCleanUp_takes_the_coordinates_away(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *fixture, live sessions.Live) {
		c := consumers.NewCleanUp(h, live, "")
		s := h.started(t)
		open(t, live, s)
		require.Equal(t, sessions.VerdictStored, publish(t, live, s))
		require.NoError(t, c.Handle(t.Context(), h.last()), "a start is nothing to clean up after")
		near := h.last()
		near.Type = sessions.JourneyArriving
		require.NoError(t, c.Handle(t.Context(), near), "nor is being near")
		require.True(t, latest(t, live, s).Active)

		h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			return s.Stop(sessions.EndTimeout, noon.Add(time.Minute))
		})
		for range 3 {
			require.NoError(t, c.Handle(t.Context(), h.last()))
			snap := latest(t, live, s)
			require.False(t, snap.Active)
			require.Nil(t, snap.Location)
		}
		version := latest(t, live, s).Version
		require.NoError(t, c.Handle(t.Context(), h.last()))
		require.Equal(t, version, latest(t, live, s).Version, "a repeat wakes nobody")
		require.NoError(t, c.Handle(t.Context(), h.raised[0]), "a start that comes late wakes nobody either")
		require.False(t, latest(t, live, s).Active)
	})
}

func TestCleanUp_leaves_a_newer_journey_alone(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *fixture, live sessions.Live) {
		c := consumers.NewCleanUp(h, live, "")
		s := h.stopped(t, sessions.EndCancelled)
		ended := h.last()
		newer := h.again(t, s)
		open(t, live, newer)
		require.Equal(t, sessions.VerdictStored, publish(t, live, newer))
		require.NoError(t, c.Handle(t.Context(), ended))
		require.NotNil(t, latest(t, live, newer).Location)
	})
}

// A store that has lost the newer journey must not be told of the older one's
// end: the mark would turn the newer one's fixes away until it runs out.
func TestCleanUp_heals_a_newer_journey_that_was_lost(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *fixture, live sessions.Live) {
		c := consumers.NewCleanUp(h, live, "")
		s := h.stopped(t, sessions.EndCancelled)
		ended := h.last()
		newer := h.again(t, s)
		require.NoError(t, c.Handle(t.Context(), ended))
		require.Equal(t, sessions.VerdictStored, publish(t, live, newer))
	})
}

// The newer one, ended too, while an older hash was left behind by a store that
// was down.
func TestCleanUp_ends_what_was_left_behind(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *fixture, live sessions.Live) {
		c := consumers.NewCleanUp(h, live, "")
		s := h.started(t)
		open(t, live, s)
		require.Equal(t, sessions.VerdictStored, publish(t, live, s))
		h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			return s.Stop(sessions.EndCancelled, noon.Add(time.Minute))
		})
		ended := h.last()
		h.again(t, s)
		h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			return s.Stop(sessions.EndCancelled, noon.Add(100*time.Second))
		})
		require.NoError(t, c.Handle(t.Context(), ended))
		require.Nil(t, latest(t, live, s).Location)
	})
}

// The journeys of another region are not in this live store, and never get into it.
func TestCleanUp_of_another_region(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *fixture, live sessions.Live) {
		s := h.stopped(t, sessions.EndCancelled)
		ended := h.last()
		h.again(t, s)
		in := func(region string) {
			h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) { s.Region = region; return nil, nil })
			require.NoError(t, consumers.NewCleanUp(h, live, "us").Handle(t.Context(), ended))
		}
		in("eu")
		require.False(t, latest(t, live, s).Known)
		in("us")
		require.True(t, latest(t, live, s).Active)
	})
}

func TestCleanUp_of_a_session_that_is_gone(t *testing.T) {
	onEachStore(t, func(t *testing.T, h *fixture, live sessions.Live) {
		s := h.stopped(t, sessions.EndArrived)
		open(t, live, s)
		require.Equal(t, sessions.VerdictStored, publish(t, live, s))
		empty := &fixture{Repository: memory.NewRepository(nil)}
		require.NoError(t, consumers.NewCleanUp(empty, live, "").Handle(t.Context(), h.last()))
		require.Nil(t, latest(t, live, s).Location)
	})
}

type brokenLive struct{ err error }

func (b brokenLive) End(context.Context, sessions.Journey) error          { return b.err }
func (b brokenLive) Open(context.Context, sessions.Journey) (bool, error) { return false, b.err }

type brokenRepository struct {
	sessions.Repository
	err error
}

func (b brokenRepository) Session(context.Context, sessions.ID) (sessions.Session, error) {
	return sessions.Session{}, b.err
}

func TestCleanUp_asks_for_another_try(t *testing.T) {
	t.Parallel()
	h := &fixture{Repository: memory.NewRepository(nil)}
	h.stopped(t, sessions.EndCancelled)
	down := errors.Join(sessions.ErrUnavailable)
	require.True(t, consumers.Down(consumers.NewCleanUp(h, brokenLive{down}, "").Handle(t.Context(), h.last())))
	away := brokenRepository{h, sessions.Fault(sessions.DatabaseUnavailable, "away", errors.New("x"))}
	require.True(t, consumers.Down(consumers.NewCleanUp(away, brokenLive{}, "").Handle(t.Context(), h.last())))
}

func TestAnalytics_counts_once(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		counted := &outcomes{}
		a := consumers.NewAnalytics(h, counted)
		s := h.stopped(t, sessions.EndTimeout)
		for range 3 {
			for _, e := range h.raised {
				require.NoError(t, a.Handle(t.Context(), e))
			}
		}
		require.Equal(t, map[string]int{"started": 1, "ended timeout": 1}, counted.all())
		r, known, err := h.JourneyRecord(t.Context(), sessions.JourneyKey{SessionID: s.ID, StartedAt: s.JourneyStartedAt})
		require.NoError(t, err)
		require.True(t, known)
		require.Equal(t, time.Minute, r.Duration())

		near := h.last()
		near.Type, near.Reason = sessions.JourneyArriving, ""
		require.NoError(t, a.Handle(t.Context(), near))
		require.Equal(t, map[string]int{"started": 1, "ended timeout": 1}, counted.all())

		for verdict, label := range map[string]string{"silent": "silent", "mock": "mock", "whatever they send": "other"} {
			e := h.last()
			e.Type, e.Verdict = sessions.LocationSuspicious, verdict
			require.NoError(t, a.Handle(t.Context(), e))
			require.Equal(t, 1, counted.all()["suspicious "+label], "%v", counted.all())
		}
	})
}
