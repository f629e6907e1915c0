package sessions_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

func TestSession_Rebook(t *testing.T) {
	t.Parallel()
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	t.Run("all_of_it", func(t *testing.T) {
		t.Parallel()
		s := booked()
		before := s
		at, home, mode, trainer, student := noon, geo.MustPoint(1, 1), sessions.Walk, sessions.NewID(), sessions.NewID()
		events, err := s.Rebook(sessions.Rebooking{ScheduledAt: &at, Home: &home, Mode: &mode, TrainerID: &trainer, StudentID: &student}, admin, noon)
		require.NoError(t, err)
		require.Empty(t, events)
		before.ScheduledAt, before.Home, before.Mode, before.TrainerID, before.StudentID = at, home, mode, trainer, student
		before.HomeMovedAt = noon
		require.Equal(t, before, s)
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		s := at["travelling"]()
		before, home := s, s.Home
		_, err := s.Rebook(sessions.Rebooking{Home: &home}, admin, noon)
		require.NoError(t, err)
		require.Equal(t, before, s)
	})
	t.Run("another_trainer_ends_the_journey", func(t *testing.T) {
		t.Parallel()
		s := at["travelling"]()
		old, trainer := s.TrainerID, sessions.NewID()
		events, err := s.Rebook(sessions.Rebooking{TrainerID: &trainer}, admin, noon.Add(time.Minute))
		require.NoError(t, err)
		require.Len(t, events, 1)
		require.Equal(t, []any{sessions.JourneyEnded, sessions.EndCancelled, old, sessions.Admin},
			[]any{events[0].Type, events[0].Reason, events[0].TrainerID, events[0].By})
		require.False(t, s.JourneyActive())
		require.Equal(t, trainer, s.TrainerID)
		mustEvents(s.Start("", noon.Add(2*time.Minute)))
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		for _, station := range []string{"arrived", "teaching", "completed", "cancelled"} {
			s := at[station]()
			_, err := s.Rebook(sessions.Rebooking{}, admin, noon)
			require.Equal(t, sessions.NotChangeable, sessions.CodeOf(err), station)
		}
		s := at["travelling"]()
		before := s
		_, err := s.Rebook(sessions.Rebooking{TrainerID: &s.StudentID}, admin, noon)
		require.Equal(t, sessions.InvalidRequest, sessions.CodeOf(err))
		require.Equal(t, before, s)
	})
}

// rebook changes the booking of the visit.
func (v visit) rebook(t *testing.T, b sessions.Rebooking) sessions.Session {
	t.Helper()
	s, err := v.Rebook(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, v.session.ID, b)
	require.NoError(t, err)
	return s
}

func TestService_Rebook_moves_the_fence(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	for range 3 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
	}
	home := geo.MustPoint(52.01, 5)
	v.rebook(t, sessions.Rebooking{Home: &home})
	view, err := v.View(t.Context(), v.session.Journey().Ref)
	require.NoError(t, err)
	require.Equal(t, sessions.OnTheWay, view.Phase())
	require.InDelta(t, 1112, view.DistanceM, 1)
	require.Equal(t, sessions.NotWithinRadius, v.arrive(t), "the old door is not the new one")
	for range 8 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
	}
	require.Equal(t, sessions.NotWithinRadius, v.arrive(t))
	for lat := 52.001; lat < 52.0101; lat += 0.001 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, lat))
	}
	require.Equal(t, sessions.Code(""), v.arrive(t))
}

// What was seen before the move counts no more, also where the live store loses it.
func TestService_Rebook_forgets_the_way_to_the_old_home(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	clock := func() time.Time { return *v.now }
	counter := sessions.NewFixCounter(v.repo, sessions.FixCounterOptions{})
	v.Service = sessions.NewService(v.repo, memory.NewLive(sessions.LiveOptions{}, clock), sessions.ServiceOptions{Now: clock, Counter: counter})
	v.start(t)
	for range 3 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
	}
	home := geo.MustPoint(52.01, 5)
	*v.now = v.now.Add(10 * time.Minute) // silence: the hash is gone
	v.rebook(t, sessions.Rebooking{Home: &home})
	for range 3 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52.01))
	}
	require.Equal(t, sessions.SuspiciousLocation, v.arrive(t), "a track that began anew")
}

func TestService_Rebook_other_parties(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	require.Equal(t, sessions.VerdictStored, v.fix(t, 52.01))
	student := sessions.Caller{ID: v.session.StudentID, Role: sessions.Student}
	ref, err := v.Ref(t.Context(), student, v.session.ID)
	require.NoError(t, err)
	woken := 0
	stop, err := v.live.Watch(t.Context(), ref, func() { woken++ })
	require.NoError(t, err)
	defer stop()

	other := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
	v.rebook(t, sessions.Rebooking{StudentID: &other.ID})
	require.Equal(t, 1, woken, "who waits looks again")
	require.Equal(t, sessions.Forbidden, sessions.CodeOf(v.Party(student, v.session.ID)))
	require.NoError(t, v.Party(other, v.session.ID))
	_, err = v.Ref(t.Context(), student, v.session.ID)
	require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
	_, err = v.Ref(t.Context(), other, v.session.ID)
	require.NoError(t, err)
	view, err := v.View(t.Context(), ref)
	require.NoError(t, err)
	require.NotNil(t, view.Location, "the journey goes on")

	trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	v.rebook(t, sessions.Rebooking{TrainerID: &trainer.ID})
	view, err = v.View(t.Context(), ref)
	require.NoError(t, err)
	require.Nil(t, view.Location)
	_, err = v.Update(t.Context(), v.trainer, v.session.ID, sessions.Fix{Point: geo.MustPoint(52, 5), AccuracyM: 5})
	require.Equal(t, sessions.Forbidden, sessions.CodeOf(err), "the old trainer's phone")
	ref, err = v.Ref(t.Context(), other, v.session.ID)
	require.NoError(t, err)
	require.Equal(t, trainer.ID, ref.TrainerID)
	_, err = v.Start(t.Context(), trainer, v.session.ID, "")
	require.NoError(t, err)
	view, err = v.View(t.Context(), ref)
	require.NoError(t, err)
	require.True(t, view.Active)
}

// Two offices that move the home at the same time leave both stores with one home.
func TestService_Rebook_race(t *testing.T) {
	t.Parallel()
	for range 20 {
		v := newVisit(t)
		v.start(t)
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
		done := make(chan struct{})
		for i := range 4 {
			go func() {
				defer func() { done <- struct{}{} }()
				home := geo.MustPoint(52.01+float64(i)/1000, 5)
				_, err := v.Rebook(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, v.session.ID, sessions.Rebooking{Home: &home})
				if err != nil {
					t.Error(err)
				}
			}()
		}
		for range 4 {
			<-done
		}
		s, err := v.repo.Session(t.Context(), v.session.ID)
		require.NoError(t, err)
		view, err := v.View(t.Context(), s.Journey().Ref)
		require.NoError(t, err)
		require.InDelta(t, geo.DistanceM(s.Home, geo.MustPoint(52, 5)), view.DistanceM, 0.1)
	}
}
