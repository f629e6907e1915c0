package sessions_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// land is two regions with a live store each, and one repository.
type land struct {
	now    *time.Time
	repo   *memory.Repository
	eu, us country
	admin  sessions.Caller
}

type country struct {
	*sessions.Service
	live    *memory.Live
	told    *[]sessions.Ref // OnElsewhere
	found   *sessions.Reconciler
	sweeper *sessions.Sweeper
}

func newLand(t *testing.T) land {
	t.Helper()
	now := noon
	l := land{now: &now, admin: sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}}
	l.repo = memory.NewRepositoryAt(l.clock, nil)
	l.eu, l.us = l.country("eu"), l.country("us")
	return l
}

func (l land) clock() time.Time { return *l.now }

func (l land) country(region string) country {
	c := country{live: memory.NewLive(sessions.LiveOptions{}, l.clock), told: new([]sessions.Ref)}
	c.Service = sessions.NewService(l.repo, c.live, sessions.ServiceOptions{
		Now: l.clock, Region: region, Regions: []string{"eu", "us"},
		OnElsewhere: func(ref sessions.Ref) { *c.told = append(*c.told, ref) },
	})
	c.found = sessions.NewReconciler(c.Service, nil, nil)
	c.sweeper = sessions.NewSweeper(c.Service, sessions.SweeperOptions{})
	return c
}

// booked books a session; region may be empty.
func (l land) booked(t *testing.T, region string) (s sessions.Session, trainer, student sessions.Caller) {
	t.Helper()
	s, _, err := l.us.Create(t.Context(), l.admin, sessions.Booking{
		TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5), Region: region,
	})
	require.NoError(t, err)
	return s, sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}, sessions.Caller{ID: s.StudentID, Role: sessions.Student}
}

// started is a session whose journey has started in eu, with a fix.
func (l land) started(t *testing.T) (s sessions.Session, trainer, student sessions.Caller) {
	t.Helper()
	s, trainer, student = l.booked(t, "")
	s, err := l.eu.Start(t.Context(), trainer, s.ID, "")
	require.NoError(t, err)
	require.Equal(t, "eu", s.Region)
	require.Equal(t, sessions.VerdictStored, l.fix(t, l.eu, trainer, s.ID).Verdict)
	return s, trainer, student
}

func (l land) fix(t *testing.T, in country, trainer sessions.Caller, id sessions.ID) sessions.Receipt {
	t.Helper()
	*l.now = l.now.Add(5 * time.Second)
	r, err := in.Update(t.Context(), trainer, id, sessions.Fix{Point: geo.MustPoint(52.5, 5), AccuracyM: 5})
	require.NoError(t, err)
	return r
}

func requireWrongRegion(t *testing.T, region string, err error) {
	t.Helper()
	var refused *sessions.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, sessions.WrongRegion, refused.Code)
	require.Equal(t, region, refused.Region)
}

func (l land) requireNothingIn(t *testing.T, c country, s sessions.Session) {
	t.Helper()
	snap, err := c.live.Latest(t.Context(), s.Journey().Ref)
	require.NoError(t, err)
	require.False(t, snap.Active)
	require.Nil(t, snap.Location)
}

// Whatever is asked of the other region, it says where the journey is, and has nothing of it.
func TestService_in_the_wrong_region(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, trainer, student := l.started(t)
	fix := sessions.Fix{Point: geo.MustPoint(52.5, 5), AccuracyM: 5}
	reporter := sessions.Reporter{Device: sessions.Device{TrainerID: trainer.ID}, RunningSession: sessions.RunningSession{SessionID: s.ID, Region: "eu"}}
	for name, call := range map[string]func(context.Context) error{
		"start":  func(ctx context.Context) error { _, err := l.us.Start(ctx, trainer, s.ID, ""); return err },
		"update": func(ctx context.Context) error { _, err := l.us.Update(ctx, trainer, s.ID, fix); return err },
		"batch": func(ctx context.Context) error {
			_, err := l.us.UpdateBatch(ctx, trainer, s.ID, []sessions.Fix{fix, fix}, func(sessions.Receipt) {})
			return err
		},
		"device": func(ctx context.Context) error {
			_, err := l.us.UpdateFromDevice(ctx, reporter, []sessions.Fix{fix}, func(sessions.Receipt) {})
			return err
		},
		"read":     func(ctx context.Context) error { _, err := l.us.Ref(ctx, student, s.ID); return err },
		"arrive":   func(ctx context.Context) error { _, err := l.us.Arrive(ctx, trainer, s.ID, nil); return err },
		"stop":     func(ctx context.Context) error { _, err := l.us.Stop(ctx, trainer, s.ID); return err },
		"cancel":   func(ctx context.Context) error { _, err := l.us.Cancel(ctx, l.admin, s.ID, ""); return err },
		"no-show":  func(ctx context.Context) error { _, err := l.us.MarkNoShow(ctx, trainer, s.ID); return err },
		"complete": func(ctx context.Context) error { _, err := l.us.Complete(ctx, trainer, s.ID); return err },
		"rebook": func(ctx context.Context) error {
			_, err := l.us.Rebook(ctx, l.admin, s.ID, sessions.Rebooking{})
			return err
		},
	} {
		for range 2 { // the second time from memory, where it is an update or a read
			requireWrongRegion(t, "eu", call(t.Context()))
			l.requireNothingIn(t, l.us, s)
		}
		require.Equal(t, "eu", first(l.us.Elsewhere(s.ID)), name)
		*l.now = l.now.Add(time.Minute)
		require.Empty(t, first(l.us.Elsewhere(s.ID)), "it is remembered for a minute")
	}
	got, err := l.us.Session(t.Context(), student, s.ID)
	require.NoError(t, err, "what is in the repository alone is read anywhere")
	require.True(t, got.JourneyActive())
	require.Empty(t, first(l.eu.Elsewhere(s.ID)))
	require.Equal(t, sessions.VerdictStored, l.fix(t, l.eu, trainer, s.ID).Verdict)
}

func first(region string, _ bool) string { return region }

// A live store that was emptied gets its own region's journeys back, and no others.
func TestService_restores_in_the_journeys_region(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, trainer, student := l.started(t)
	emptied := l.country("eu")
	require.Equal(t, sessions.VerdictStored, l.fix(t, emptied, trainer, s.ID).Verdict)
	ref, err := emptied.Ref(t.Context(), student, s.ID)
	require.NoError(t, err)
	view, err := emptied.View(t.Context(), ref)
	require.NoError(t, err)
	require.True(t, view.Active)
	_, err = l.us.View(t.Context(), ref)
	requireWrongRegion(t, "eu", err)
	l.requireNothingIn(t, l.us, s)
}

func TestService_pinned(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, trainer, student := l.booked(t, "us")
	require.Equal(t, "us", s.Region)
	require.False(t, l.eu.BackHere(t.Context(), s.ID), "nothing is remembered")
	_, err := l.eu.Start(t.Context(), trainer, s.ID, "")
	requireWrongRegion(t, "us", err)
	pin := func(region string) error {
		_, err := l.us.Rebook(t.Context(), l.admin, s.ID, sessions.Rebooking{Region: &region})
		return err
	}
	var refused *sessions.Error
	require.ErrorAs(t, pin("mars"), &refused)
	require.Equal(t, "region", refused.Field)
	require.Equal(t, "region must be one of eu, us", refused.Message)
	require.False(t, l.eu.BackHere(t.Context(), s.ID))
	require.NoError(t, pin("eu"))
	_, err = l.us.Start(t.Context(), trainer, s.ID, "")
	requireWrongRegion(t, "eu", err)
	_, err = l.eu.Ref(t.Context(), student, s.ID)
	requireWrongRegion(t, "us", err) // it remembers what it was told before
	require.True(t, l.eu.BackHere(t.Context(), s.ID))
	_, err = l.eu.Ref(t.Context(), student, s.ID)
	require.NoError(t, err)
	region := "us"
	_, err = l.eu.Rebook(t.Context(), l.admin, s.ID, sessions.Rebooking{Region: &region})
	require.NoError(t, err)
	_, err = l.eu.Start(t.Context(), trainer, s.ID, "")
	requireWrongRegion(t, "us", err)
	require.NoError(t, pin("eu"))
	_, err = l.eu.Start(t.Context(), trainer, s.ID, "")
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStored, l.fix(t, l.eu, trainer, s.ID).Verdict, "who reads the session finds out, too")
	_, err = l.eu.Stop(t.Context(), trainer, s.ID)
	require.NoError(t, err)
	_, err = l.eu.Rebook(t.Context(), l.admin, s.ID, sessions.Rebooking{Region: &region})
	require.Equal(t, sessions.NotChangeable, sessions.CodeOf(err), "what was made there stays there")
	history, err := l.us.History(t.Context(), l.admin, s.ID, sessions.HistoryPlace{}, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"region"}, history.Entries[1].Detail.Changed)
	require.Equal(t, sessions.AuditStarted, history.Entries[4].Kind)
}

// Without regions nothing is elsewhere, and no booking can name one.
func TestService_without_regions(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, trainer, _ := l.started(t)
	live := memory.NewLive(sessions.LiveOptions{}, l.clock)
	alone := country{Service: sessions.NewService(l.repo, live, sessions.ServiceOptions{Now: l.clock}), live: live}
	require.Equal(t, sessions.VerdictStored, l.fix(t, alone, trainer, s.ID).Verdict)
	_, _, err := alone.Create(t.Context(), l.admin, sessions.Booking{TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5), Region: "eu"})
	var refused *sessions.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "region", refused.Field)
	b, trainer, _ := l.booked(t, "")
	started, err := alone.Start(t.Context(), trainer, b.ID, "")
	require.NoError(t, err)
	require.Empty(t, started.Region)
}

// Who waits in one region for a session that starts in another is told to look there.
func TestReconciler_started_elsewhere(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, trainer, student := l.booked(t, "")
	ref, err := l.us.Ref(t.Context(), student, s.ID)
	require.NoError(t, err)
	view, err := l.us.View(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, sessions.NotStarted, view.Phase())
	_, err = l.eu.Start(t.Context(), trainer, s.ID, "")
	require.NoError(t, err)
	require.NoError(t, l.us.found.Pass(t.Context()))
	require.Equal(t, []sessions.Ref{ref}, *l.us.told)
	_, cached := l.us.Cached(ref)
	require.False(t, cached)
	_, err = l.us.Read(t.Context(), ref)
	requireWrongRegion(t, "eu", err)
	requireWrongRegion(t, "eu", l.us.Party(student, s.ID))
	meta, known, err := l.us.live.Meta(t.Context(), s.ID)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, "eu", meta.Region, "other gateways of the region ask, too")
	require.NoError(t, l.eu.found.Pass(t.Context()))
	require.Empty(t, *l.eu.told)
	require.Equal(t, sessions.VerdictStored, l.fix(t, l.eu, trainer, s.ID).Verdict)
}

// Who waits for a journey of another region and is not its party any more is found out like one
// who waits in the right region. Nothing else is done for such a session again and again.
func TestReconciler_parties_of_another_region(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t)
		s, _, student := l.started(t)
		for range 3 {
			_, err := l.us.Ref(t.Context(), student, s.ID)
			requireWrongRegion(t, "eu", err)
			require.NoError(t, l.us.found.Pass(t.Context()))
			time.Sleep(15 * time.Second)
		}
		require.Len(t, *l.us.told, 1)
		requireWrongRegion(t, "eu", l.us.Party(student, s.ID))
		other := sessions.NewID()
		_, err := l.eu.Rebook(t.Context(), l.admin, s.ID, sessions.Rebooking{StudentID: &other})
		require.NoError(t, err)
		require.NoError(t, l.us.found.Pass(t.Context()))
		require.Equal(t, sessions.Forbidden, sessions.CodeOf(l.us.Party(student, s.ID)))
	})
}

// A journey that was stopped and started again by another region, which could not reach this
// one, goes on here as the new one.
func TestReconciler_started_again_elsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t)
		s, trainer, student := l.started(t)
		ref, err := l.eu.Ref(t.Context(), student, s.ID)
		require.NoError(t, err)
		require.NoError(t, l.eu.found.Pass(t.Context()))
		away := sessions.WithRegionAway(t.Context())
		_, err = l.us.Stop(away, trainer, s.ID)
		require.NoError(t, err)
		*l.now = l.now.Add(time.Second)
		again, err := l.us.Start(away, trainer, s.ID, "")
		require.NoError(t, err)
		time.Sleep(15 * time.Second)
		require.NoError(t, l.eu.found.Pass(t.Context()))
		snap, err := l.eu.live.Latest(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, again.JourneyStartedAt, snap.StartedAt)
		require.Nil(t, snap.Location, "that was of the journey before")
	})
}

// A region that cannot be reached is answered for like a live store that is away, and finds
// out later.
func TestService_region_away(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, trainer, student := l.started(t)
	ctx := sessions.WithRegionAway(t.Context())
	for range 2 {
		_, err := l.us.Update(ctx, trainer, s.ID, sessions.Fix{Point: geo.MustPoint(52.5, 5)})
		require.True(t, sessions.Unavailable(err), "%v", err)
		ref, err := l.us.Ref(ctx, student, s.ID)
		require.NoError(t, err)
		view, err := l.us.View(ctx, ref)
		require.NoError(t, err)
		require.True(t, view.Degraded)
		require.True(t, view.Active)
		require.Nil(t, view.Location)
		_, err = l.us.Arrive(ctx, trainer, s.ID, nil)
		require.Equal(t, sessions.LiveStoreUnavailable, sessions.CodeOf(err))
	}
	list, err := l.us.Journeys(t.Context(), l.admin, "", sessions.Cursor{}, 10)
	require.NoError(t, err)
	require.True(t, list[0].View.Degraded)
	_, err = l.us.Stop(ctx, trainer, s.ID)
	require.NoError(t, err)
	l.requireNothingIn(t, l.us, s)
	snap, err := l.eu.live.Latest(t.Context(), s.Journey().Ref)
	require.NoError(t, err)
	require.True(t, snap.Active, "it does not know yet")
	require.NoError(t, l.eu.found.Pass(t.Context()))
	l.requireNothingIn(t, l.eu, s)
}

// Who may see a journey of another region is known while the repository is away, too, for as
// long as the live store remembers it.
func TestService_Ref_of_another_region_without_the_repository(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, _, student := l.started(t)
	repo := &brokenRepo{Repository: l.repo}
	us := sessions.NewService(repo, l.us.live, sessions.ServiceOptions{Now: l.clock, Region: "us", Regions: []string{"eu", "us"}})
	_, err := us.Ref(t.Context(), student, s.ID)
	requireWrongRegion(t, "eu", err)

	repo.away = true
	for range 3 {
		*l.now = l.now.Add(70 * time.Second) // longer than this process remembers
		ref, err := us.Ref(t.Context(), student, s.ID)
		requireWrongRegion(t, "eu", err)
		require.Equal(t, s.Journey().Ref, ref)
		_, err = us.Ref(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}, s.ID)
		require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
	}
	*l.now = l.now.Add(5 * time.Minute) // longer than the live store does
	_, err = us.Ref(t.Context(), student, s.ID)
	require.Equal(t, sessions.DatabaseUnavailable, sessions.CodeOf(err))
}

func TestSweeper_of_two_regions(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, _, _ := l.started(t)
	ended := func() bool {
		now, err := l.repo.Session(t.Context(), s.ID)
		require.NoError(t, err)
		return !now.JourneyActive()
	}
	*l.now = s.JourneyStartedAt.Add(time.Hour + 2*time.Minute - time.Millisecond)
	require.NoError(t, l.us.sweeper.Sweep(t.Context()))
	require.False(t, ended(), "its own region is to end it")
	*l.now = l.now.Add(time.Millisecond)
	require.NoError(t, l.us.sweeper.Sweep(t.Context()))
	require.True(t, ended(), "that one is cut off")
	l.requireNothingIn(t, l.us, s)

	s, _, _ = l.started(t)
	*l.now = s.JourneyStartedAt.Add(time.Hour)
	require.NoError(t, l.eu.sweeper.Sweep(t.Context()))
	require.True(t, ended())
}

func TestService_OpenLink_of_another_region(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	s, trainer, student := l.booked(t, "")
	_, token, err := l.us.CreateShareLink(t.Context(), student, s.ID, false)
	require.NoError(t, err)
	shared, err := l.us.OpenLink(t.Context(), token, false)
	require.NoError(t, err)
	var gone []error
	watch := l.us.WatchLink(shared, func(err error) { gone = append(gone, err) })
	defer watch.Close()
	_, err = l.eu.Start(t.Context(), trainer, s.ID, "")
	require.NoError(t, err)
	require.NoError(t, l.us.CheckLinks(t.Context()))
	require.Len(t, gone, 1)
	requireWrongRegion(t, "eu", gone[0])
	_, err = l.us.OpenLink(t.Context(), token, false)
	requireWrongRegion(t, "eu", err)
	_, err = l.us.OpenLink(sessions.WithRegionAway(t.Context()), token, false)
	require.Equal(t, sessions.LiveStoreUnavailable, sessions.CodeOf(err))
	_, err = l.eu.OpenLink(t.Context(), token, false)
	require.NoError(t, err)
}

func TestValidRegion(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{
		"eu": true, "eu-west-1": true, "abcdefghijklmnopqrstuvwxyz-01234": true,
		"": false, "EU": false, "eu_west": false, "eu west": false, "ü": false, "abcdefghijklmnopqrstuvwxyz-012345": false,
	} {
		require.Equal(t, valid, sessions.ValidRegion(name), name)
	}
}
