package sessions_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// awayOnce is a live store that misses one Open.
type awayOnce struct {
	sessions.Live
	away bool
}

func (l *awayOnce) Open(ctx context.Context, j sessions.Journey) (bool, error) {
	if l.away {
		l.away = false
		return false, sessions.ErrUnavailable
	}
	return l.Live.Open(ctx, j)
}

// The tombstone of the old journey does not refuse the fixes of a new one that was
// started while the live store was away.
func TestService_Update_started_again_while_the_live_store_was_away(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	clock := func() time.Time { return now }
	live := &awayOnce{Live: memory.NewLive(sessions.LiveOptions{}, clock)}
	service := sessions.NewService(memory.NewRepository(nil), live, sessions.ServiceOptions{Now: clock})
	ctx := t.Context()
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	s, _, err := service.Create(ctx, admin, sessions.Booking{TrainerID: trainer.ID, StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5)})
	require.NoError(t, err)
	fix := sessions.Fix{Point: geo.MustPoint(52.01, 5), AccuracyM: 5}

	_, err = service.Start(ctx, trainer, s.ID, "")
	require.NoError(t, err)
	_, err = service.Stop(ctx, trainer, s.ID)
	require.NoError(t, err)
	_, err = service.Update(ctx, trainer, s.ID, fix)
	require.Equal(t, sessions.NoActiveJourney, sessions.CodeOf(err))

	now = now.Add(time.Second)
	live.away = true
	_, err = service.Start(ctx, trainer, s.ID, "")
	require.NoError(t, err)
	receipt, err := service.Update(ctx, trainer, s.ID, fix)
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStored, receipt.Verdict)
}

// deafOnce is a live store that misses one SetMeta.
type deafOnce struct {
	sessions.Live
	deaf bool
}

func (l *deafOnce) SetMeta(ctx context.Context, id sessions.ID, m sessions.Meta) error {
	if l.deaf {
		l.deaf = false
		return sessions.ErrUnavailable
	}
	return l.Live.SetMeta(ctx, id, m)
}

// A student who was replaced is not let in, and locks nobody out, where the live store did not
// hear of it.
func TestService_Ref_of_a_student_who_was_replaced(t *testing.T) {
	t.Parallel()
	repo, live := memory.NewRepository(nil), &deafOnce{Live: memory.NewLive(sessions.LiveOptions{}, time.Now)}
	service := sessions.NewService(repo, live, sessions.ServiceOptions{})
	before, after := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}, sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
	s, _, err := service.Create(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin},
		sessions.Booking{TrainerID: sessions.NewID(), StudentID: before.ID, Home: geo.MustPoint(52, 5)})
	require.NoError(t, err)
	_, err = service.Ref(t.Context(), before, s.ID)
	require.NoError(t, err)

	_, err = repo.Rebook(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) { // as by SQL
		s.StudentID = after.ID
		return nil, nil
	})
	require.NoError(t, err)
	live.deaf = true
	_, err = service.Ref(t.Context(), after, s.ID)
	require.NoError(t, err)
	require.False(t, live.deaf)
	_, err = service.Ref(t.Context(), before, s.ID)
	require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
	require.NoError(t, service.Party(after, s.ID), "who waits")
}

// countedReads is a repository that counts the reads of one session.
type countedReads struct {
	sessions.Repository
	reads atomic.Int64
}

func (r *countedReads) Session(ctx context.Context, id sessions.ID) (sessions.Session, error) {
	r.reads.Add(1)
	return r.Repository.Session(ctx, id)
}

// away is a live store that cannot be asked.
type away struct{ sessions.Live }

func (away) Meta(context.Context, sessions.ID) (sessions.Meta, bool, error) {
	return sessions.Meta{}, false, sessions.ErrUnavailable
}

func (away) SetMeta(context.Context, sessions.ID, sessions.Meta) error {
	return sessions.ErrUnavailable
}

func (away) Update(context.Context, sessions.Ref, sessions.Fix) (sessions.Receipt, error) {
	return sessions.Receipt{}, sessions.ErrUnavailable
}

func (away) UpdateAll(context.Context, sessions.Ref, []sessions.Fix) ([]sessions.Receipt, error) {
	return nil, sessions.ErrUnavailable
}

// lookups is a service whose reads of the repository are counted. Its clock stands
// still until a test moves it.
type lookups struct {
	*sessions.Service
	repo    *countedReads
	counter *sessions.FixCounter
	now     time.Time
}

func countLookups(t *testing.T, live func(sessions.Live) sessions.Live) *lookups {
	t.Helper()
	records := memory.NewRepository(nil)
	l := &lookups{now: time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)}
	clock := func() time.Time { return l.now }
	l.repo = &countedReads{Repository: records}
	l.counter = sessions.NewFixCounter(records, sessions.FixCounterOptions{})
	l.Service = sessions.NewService(l.repo, live(memory.NewLive(sessions.LiveOptions{}, clock)), sessions.ServiceOptions{
		Now: clock, Counter: l.counter,
	})
	return l
}

func asItIs(l sessions.Live) sessions.Live { return l }

func TestService_lookups(t *testing.T) {
	t.Parallel()
	fix := sessions.Fix{Point: geo.MustPoint(52.01, 5), AccuracyM: 5}
	flood := func(t *testing.T, l *lookups, c sessions.Caller, ask func(sessions.ID) error) {
		t.Helper()
		refused := 0
		for range 1000 {
			if err := ask(sessions.NewID()); sessions.CodeOf(err) == sessions.RateLimited {
				require.ErrorIs(t, err, sessions.ErrLookups)
				refused++
			}
		}
		require.Equal(t, []any{990, int64(10)}, []any{refused, l.repo.reads.Load()}, "%s: ten reads for a thousand made-up ids", c.Role)
		l.now = l.now.Add(3 * time.Second)
		for range 1000 {
			_ = ask(sessions.NewID())
		}
		require.EqualValues(t, 13, l.repo.reads.Load(), "and one a second from then on")
	}
	t.Run("of_made_up_ids_are_few/live_read", func(t *testing.T) {
		t.Parallel()
		for _, role := range []sessions.Role{sessions.Trainer, sessions.Student} {
			l, c := countLookups(t, asItIs), sessions.Caller{ID: sessions.NewID(), Role: role}
			flood(t, l, c, func(id sessions.ID) error { _, err := l.Ref(t.Context(), c, id); return err })
		}
	})
	t.Run("of_made_up_ids_are_few/update", func(t *testing.T) {
		t.Parallel()
		l, c := countLookups(t, asItIs), sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
		flood(t, l, c, func(id sessions.ID) error { _, err := l.Update(t.Context(), c, id, fix); return err })
	})
	t.Run("of_made_up_ids_are_few/live_store_away", func(t *testing.T) {
		t.Parallel()
		l, c := countLookups(t, func(l sessions.Live) sessions.Live { return away{l} }), sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
		flood(t, l, c, func(id sessions.ID) error { _, err := l.Ref(t.Context(), c, id); return err })
	})
	t.Run("of_others_leave_a_caller_alone", func(t *testing.T) {
		t.Parallel()
		l := countLookups(t, asItIs)
		flooder, other := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}, sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
		for range 100 {
			_, _ = l.Ref(t.Context(), flooder, sessions.NewID())
		}
		_, err := l.Ref(t.Context(), other, sessions.NewID())
		require.Equal(t, sessions.SessionNotFound, sessions.CodeOf(err))
	})
	t.Run("that_find_something_are_free", func(t *testing.T) {
		t.Parallel()
		l := countLookups(t, func(l sessions.Live) sessions.Live { return away{l} }) // so each read is a look-up
		admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
		student := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
		booked := func() sessions.ID {
			s, _, err := l.Create(t.Context(), admin, sessions.Booking{TrainerID: sessions.NewID(), StudentID: student.ID, Home: geo.MustPoint(52, 5)})
			require.NoError(t, err)
			return s.ID
		}
		for id := booked(); l.repo.reads.Load() < 100; id = booked() {
			_, err := l.Ref(t.Context(), student, id)
			require.NoError(t, err)
		}
		stranger := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
		for range 10 {
			_, err := l.Ref(t.Context(), stranger, booked())
			require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
		}
		_, err := l.Ref(t.Context(), stranger, booked())
		require.Equal(t, sessions.RateLimited, sessions.CodeOf(err), "somebody else's session is nothing, too")
	})
	t.Run("of_what_was_asked_for_lately_are_none", func(t *testing.T) {
		t.Parallel()
		l := countLookups(t, func(l sessions.Live) sessions.Live { return away{l} })
		student := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
		s, _, err := l.Create(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin},
			sessions.Booking{TrainerID: sessions.NewID(), StudentID: student.ID, Home: geo.MustPoint(52, 5)})
		require.NoError(t, err)
		for range 100 {
			ref, err := l.Ref(t.Context(), student, s.ID)
			require.NoError(t, err)
			require.Equal(t, sessions.Ref{TrainerID: s.TrainerID, SessionID: s.ID}, ref)
		}
		require.EqualValues(t, 1, l.repo.reads.Load())
		l.now = l.now.Add(time.Minute)
		_, err = l.Ref(t.Context(), student, s.ID)
		require.NoError(t, err)
		require.EqualValues(t, 2, l.repo.reads.Load(), "not for long")
		_, err = l.Ref(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}, s.ID)
		require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
		require.EqualValues(t, 3, l.repo.reads.Load(), "what is remembered refuses nobody")
	})
	t.Run("of_admins_are_not_counted", func(t *testing.T) {
		t.Parallel()
		l, admin := countLookups(t, asItIs), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
		for range 100 {
			_, err := l.Ref(t.Context(), admin, sessions.NewID())
			require.Equal(t, sessions.SessionNotFound, sessions.CodeOf(err))
		}
	})
	t.Run("of_a_caller_that_disconnects_count", func(t *testing.T) {
		t.Parallel()
		l, c := countLookups(t, asItIs), sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 {
			_, _ = l.Ref(gone, c, sessions.NewID())
		}
		require.EqualValues(t, 10, l.repo.reads.Load())
	})
	t.Run("bound_what_is_counted_while_the_live_store_is_away", func(t *testing.T) {
		t.Parallel()
		l, c := countLookups(t, func(l sessions.Live) sessions.Live { return away{l} }), sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
		for range 1000 {
			_, err := l.Update(t.Context(), c, sessions.NewID(), fix)
			require.Equal(t, sessions.LiveStoreUnavailable, sessions.CodeOf(err), "the phone is answered all the same")
		}
		require.Equal(t, 10, l.counter.Journeys())
		require.Zero(t, l.repo.reads.Load())
	})
}
