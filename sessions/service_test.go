package sessions_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// visit is a service with its own clock, and one booked session.
type visit struct {
	*sessions.Service
	now     *time.Time
	repo    *memory.Repository
	live    *memory.Live
	session sessions.Session
	trainer sessions.Caller
}

func newVisit(t *testing.T) visit {
	t.Helper()
	now := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	clock := func() time.Time { return now }
	repo := memory.NewRepository(nil)
	live := memory.NewLive(sessions.LiveOptions{}, clock)
	v := visit{
		Service: sessions.NewService(repo, live, sessions.ServiceOptions{Now: clock}), now: &now, repo: repo, live: live,
		trainer: sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer},
	}
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	var err error
	v.session, _, err = v.Create(t.Context(), admin, sessions.Booking{
		TrainerID: v.trainer.ID, StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5),
	})
	require.NoError(t, err)
	return v
}

func (v visit) start(t *testing.T) {
	t.Helper()
	_, err := v.Start(t.Context(), v.trainer, v.session.ID, "")
	require.NoError(t, err)
}

func (v visit) fix(t *testing.T, lat float64) sessions.Verdict {
	t.Helper()
	*v.now = v.now.Add(5 * time.Second)
	r, err := v.Update(t.Context(), v.trainer, v.session.ID, sessions.Fix{Point: geo.MustPoint(lat, 5), AccuracyM: 5})
	require.NoError(t, err)
	return r.Verdict
}

func (v visit) arrive(t *testing.T) sessions.Code {
	t.Helper()
	_, err := v.Arrive(t.Context(), v.trainer, v.session.ID, nil)
	return sessions.CodeOf(err)
}

// A stop and a start do not make a refused jump to the door believable.
func TestService_Arrive_after_a_restart(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	require.Equal(t, sessions.VerdictStored, v.fix(t, 52.5))
	require.Equal(t, sessions.VerdictStored, v.fix(t, 52.5001))
	require.Equal(t, sessions.VerdictJump, v.fix(t, 52))
	_, err := v.Stop(t.Context(), v.trainer, v.session.ID)
	require.NoError(t, err)
	v.start(t)
	require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
	require.Equal(t, sessions.SuspiciousLocation, v.arrive(t))
	for range 12 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
	}
	require.Equal(t, sessions.Code(""), v.arrive(t))
}

// An admin may drive a journey for the trainer, and the events say who did.
func TestService_an_admin_for_the_trainer(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	var raised []sessions.Event
	clock := func() time.Time { return *v.now }
	repo := memory.NewRepository(func(e sessions.Event) { raised = append(raised, e) })
	_, _, err := repo.Create(t.Context(), v.session)
	require.NoError(t, err)
	v.Service = sessions.NewService(repo, memory.NewLive(sessions.LiveOptions{}, clock), sessions.ServiceOptions{Now: clock})
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	_, err = v.Start(t.Context(), admin, v.session.ID, "")
	require.NoError(t, err)
	_, err = v.Stop(t.Context(), admin, v.session.ID)
	require.NoError(t, err)
	_, err = v.Start(t.Context(), admin, v.session.ID, "")
	require.NoError(t, err)
	for range 14 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
	}
	_, err = v.Arrive(t.Context(), admin, v.session.ID, nil)
	require.NoError(t, err)
	require.Len(t, raised, 4)
	for _, e := range raised {
		require.Equal(t, []any{sessions.Admin, admin.ID}, []any{e.By, e.ByID}, e.Type)
		parsed, err := sessions.ParseEvent(e.Type, e.Detail())
		require.NoError(t, err)
		require.Equal(t, e, parsed)
	}
}

// The operator may cancel a session while its journey runs: no lesson starts then.
func TestService_Arrive_at_a_cancelled_session(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	for range 3 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
	}
	_, err := v.repo.Change(t.Context(), v.session.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		s.Status = sessions.Cancelled
		return nil, nil
	})
	require.NoError(t, err)
	require.Equal(t, sessions.NoActiveJourney, v.arrive(t))
}

// A wrong role gets the same answer for a session that exists and for one that does
// not.
func TestService_wrong_role(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	student := sessions.Caller{ID: v.session.StudentID, Role: sessions.Student}
	for _, id := range []sessions.ID{v.session.ID, sessions.NewID()} {
		for name, call := range map[string]func() error{
			"start":    func() error { _, err := v.Start(t.Context(), student, id, ""); return err },
			"stop":     func() error { _, err := v.Stop(t.Context(), student, id); return err },
			"arrive":   func() error { _, err := v.Arrive(t.Context(), student, id, nil); return err },
			"verify":   func() error { _, err := v.Verify(t.Context(), student, id, "0000"); return err },
			"complete": func() error { _, err := v.Complete(t.Context(), student, id); return err },
			"review":   func() error { _, err := v.Review(t.Context(), v.trainer, id, 5, ""); return err },
		} {
			require.Equal(t, sessions.Forbidden, sessions.CodeOf(call()), name)
		}
	}
}

// A row that the operator's own system wrote may have no home: no journey can start.
func TestSession_Start_without_a_home(t *testing.T) {
	t.Parallel()
	s := sessions.Session{Status: sessions.Scheduled}
	_, err := s.Start("", time.Now())
	require.Equal(t, sessions.NotScheduled, sessions.CodeOf(err))
	require.False(t, s.JourneyActive())
}

// gone is a live store that is away.
type gone struct{ sessions.Live }

func (gone) CachedView(sessions.Ref) (sessions.Snapshot, bool) { return sessions.Snapshot{}, false }

func (gone) Latest(context.Context, sessions.Ref) (sessions.Snapshot, error) {
	return sessions.Snapshot{}, sessions.ErrUnavailable
}

// asked counts the reads of the repository.
type asked struct {
	sessions.Repository
	times int
}

func (r *asked) Session(ctx context.Context, id sessions.ID) (sessions.Session, error) {
	r.times++
	return r.Repository.Session(ctx, id)
}

// While the live store is away a waiting student costs the repository no read, and a
// single read is answered from the repository.
func TestService_Read_while_the_live_store_is_away(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	repo := &asked{Repository: v.repo}
	service := sessions.NewService(repo, gone{}, sessions.ServiceOptions{})
	ref := sessions.Ref{TrainerID: v.trainer.ID, SessionID: v.session.ID}
	look, err := service.Read(t.Context(), ref)
	require.NoError(t, err)
	require.True(t, look.Degraded)
	require.Zero(t, repo.times)
	view, err := service.View(t.Context(), ref)
	require.NoError(t, err)
	require.True(t, view.Degraded)
	require.Equal(t, 1, repo.times)
}

// The repetition of a stop whose gateway died between the two stores ends the journey
// in the live store too.
func TestService_Stop_again(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	require.Equal(t, sessions.VerdictStored, v.fix(t, 52.01))
	_, err := v.repo.Change(t.Context(), v.session.ID, func(s *sessions.Session) ([]sessions.Event, error) {
		return s.Stop(sessions.EndCancelled, *v.now)
	})
	require.NoError(t, err)
	view, err := v.View(t.Context(), v.session.Journey().Ref)
	require.NoError(t, err)
	require.True(t, view.Active, "the live store does not know of the stop")

	_, err = v.Stop(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}, v.session.ID)
	require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
	view, err = v.View(t.Context(), v.session.Journey().Ref)
	require.NoError(t, err)
	require.True(t, view.Active, "no other trainer can end it")

	_, err = v.Stop(t.Context(), v.trainer, v.session.ID)
	require.Equal(t, sessions.NoActiveJourney, sessions.CodeOf(err))
	view, err = v.View(t.Context(), v.session.Journey().Ref)
	require.NoError(t, err)
	require.False(t, view.Active)
	require.Nil(t, view.Location)

	v.start(t)
	view, err = v.View(t.Context(), v.session.Journey().Ref)
	require.NoError(t, err)
	require.True(t, view.Active, "a new journey is not touched")
}

// ending is a repository whose first reader gets the session as it was just before
// the journey ended. Between that read and what the reader does with it, the journey
// is stopped, and the live store loses its tombstone.
type ending struct {
	*memory.Repository
	stop func()
}

func (r *ending) Session(ctx context.Context, id sessions.ID) (sessions.Session, error) {
	before, err := r.Repository.Session(ctx, id)
	if stop := r.stop; stop != nil {
		r.stop = nil
		stop()
	}
	return before, err
}

func TestService_Update_restores_nothing_that_ended_meanwhile(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	repo := &ending{Repository: v.repo, stop: func() {
		_, err := v.repo.Change(t.Context(), v.session.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			return s.Stop(sessions.EndCancelled, *v.now)
		})
		require.NoError(t, err)
	}}
	clock := func() time.Time { return *v.now }
	v.Service = sessions.NewService(repo, memory.NewLive(sessions.LiveOptions{}, clock), sessions.ServiceOptions{Now: clock})

	_, err := v.Update(t.Context(), v.trainer, v.session.ID, sessions.Fix{Point: geo.MustPoint(52.01, 5), AccuracyM: 5})
	require.Equal(t, sessions.NoActiveJourney, sessions.CodeOf(err))
	require.Nil(t, repo.stop)
	view, err := v.View(t.Context(), v.session.Journey().Ref)
	require.NoError(t, err)
	require.False(t, view.Active)
}

// The repetition of a start whose gateway died between the two stores opens the
// journey in the live store. It does not count as restored, so it can arrive at once.
func TestService_Start_again(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after time.Duration
		want  sessions.Suspicions
	}{
		"soon":     {2 * time.Second, 0},
		"too late": {40 * time.Second, sessions.Suspicions(geo.FlagReanchored)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVisit(t)
			_, err := v.repo.Change(t.Context(), v.session.ID, func(s *sessions.Session) ([]sessions.Event, error) {
				return s.Start(sessions.Car, *v.now)
			})
			require.NoError(t, err)
			*v.now = v.now.Add(c.after)
			_, err = v.Start(t.Context(), v.trainer, v.session.ID, "")
			require.Equal(t, sessions.JourneyAlreadyStarted, sessions.CodeOf(err))

			r, err := v.Update(t.Context(), v.trainer, v.session.ID, sessions.Fix{Point: geo.MustPoint(52.01, 5), AccuracyM: 5})
			require.NoError(t, err)
			require.Equal(t, sessions.VerdictStored, r.Verdict)
			require.Equal(t, c.want, r.Suspicions)
		})
	}
}

// forgetful is a live store that loses all that is written.
type forgetful struct{ sessions.Live }

func (forgetful) Latest(context.Context, sessions.Ref) (sessions.Snapshot, error) {
	return sessions.Snapshot{}, nil
}

// A journey that the live store does not know is not reported as ended.
func TestService_View_of_a_store_that_forgets_at_once(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	clock := func() time.Time { return *v.now }
	live := forgetful{memory.NewLive(sessions.LiveOptions{}, clock)}
	v.Service = sessions.NewService(v.repo, live, sessions.ServiceOptions{Now: clock})
	view, err := v.View(t.Context(), v.session.Journey().Ref)
	require.NoError(t, err)
	require.True(t, view.Active)
	require.True(t, view.Degraded)
}

// The fix of an arrival is judged as an update. Only one that is not believed is
// refused.
func TestService_Arrive_with_a_fix(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	arrive := func(lat float64) sessions.Code {
		*v.now = v.now.Add(5 * time.Second)
		_, err := v.Arrive(t.Context(), v.trainer, v.session.ID, &sessions.Fix{Point: geo.MustPoint(lat, 5), AccuracyM: 5})
		return sessions.CodeOf(err)
	}
	require.Equal(t, sessions.NotWithinRadius, arrive(52.5))
	require.Equal(t, sessions.NotWithinRadius, arrive(52.5), "confirms the first")
	require.Equal(t, sessions.ImplausibleJump, arrive(52))

	v = newVisit(t)
	v.start(t)
	require.Equal(t, sessions.SuspiciousLocation, arrive(52), "one fix opens no door")
	require.Equal(t, sessions.SuspiciousLocation, arrive(52))
	require.Empty(t, arrive(52), "the third: no update before it")
	require.Empty(t, arrive(52.5), "a repeat ignores the fix")
}

// After a natural expiry a place that could be reached in the time is no re-anchor,
// and who was at the door and is there again may arrive.
func TestService_Arrive_after_a_silence(t *testing.T) {
	t.Parallel()
	for name, flush := range map[string]bool{"counted_in_this_process": false, "written": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVisit(t)
			clock := func() time.Time { return *v.now }
			counter := sessions.NewFixCounter(v.repo, sessions.FixCounterOptions{})
			v.Service = sessions.NewService(v.repo, memory.NewLive(sessions.LiveOptions{}, clock), sessions.ServiceOptions{Now: clock, Counter: counter})
			v.start(t)
			for _, lat := range []float64{52.01, 52.009, 52.008, 52} {
				*v.now = v.now.Add(time.Minute)
				require.Equal(t, sessions.VerdictStored, v.fix(t, lat))
			}
			if flush {
				require.NoError(t, counter.Flush(t.Context()))
			}
			*v.now = v.now.Add(385 * time.Second)
			view, err := v.View(t.Context(), v.session.Journey().Ref)
			require.NoError(t, err)
			require.Equal(t, sessions.Arriving, view.Phase())
			require.Nil(t, view.Location)
			require.Equal(t, sessions.NoFreshLocation, v.arrive(t))
			_, err = v.Arrive(t.Context(), v.trainer, v.session.ID, &sessions.Fix{Point: geo.MustPoint(52, 5), AccuracyM: 5})
			require.NoError(t, err)
		})
	}
}

// full is a live store that answers and takes no fix.
type full struct{ sessions.Live }

func (full) Update(context.Context, sessions.Ref, sessions.Fix) (sessions.Receipt, error) {
	return sessions.Receipt{}, sessions.ErrUnavailable
}

// A fix at the door that the live store could not take is not a trainer who is away.
func TestService_Arrive_while_the_live_store_is_full(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	clock := func() time.Time { return *v.now }
	live := memory.NewLive(sessions.LiveOptions{}, clock)
	v.Service = sessions.NewService(v.repo, live, sessions.ServiceOptions{Now: clock})
	v.start(t)
	require.Equal(t, sessions.VerdictStored, v.fix(t, 52.5))
	v.Service = sessions.NewService(v.repo, full{live}, sessions.ServiceOptions{Now: clock})
	_, err := v.Arrive(t.Context(), v.trainer, v.session.ID, &sessions.Fix{Point: geo.MustPoint(52, 5)})
	require.True(t, sessions.Unavailable(err), "%v", err)
	require.Equal(t, sessions.NotWithinRadius, v.arrive(t), "without a fix the last one decides")
}

func TestReceipt_Refusal(t *testing.T) {
	t.Parallel()
	want := map[sessions.Verdict]sessions.Code{
		sessions.VerdictJump: sessions.ImplausibleJump, sessions.VerdictSpeed: sessions.ImplausibleSpeed, sessions.VerdictCeiling: sessions.ImplausibleSpeed,
		sessions.VerdictTooSoon: sessions.RateLimited, sessions.VerdictUnknown: sessions.NoActiveJourney, sessions.VerdictEnded: sessions.NoActiveJourney,
	}
	for _, v := range sessions.Verdicts() {
		require.Equal(t, want[v], sessions.CodeOf(sessions.Receipt{Verdict: v}.Refusal()), v)
	}
}
