package postgres_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/scripts"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
	"doorstep/sessions/repotest"
)

// trueTime is the servers' clock, which a test can move on.
type trueTime struct{ moved atomic.Int64 }

func (c *trueTime) now() time.Time       { return time.Now().Add(time.Duration(c.moved.Load())) }
func (c *trueTime) move(d time.Duration) { c.moved.Add(int64(d)) }

// valkeyAt is a live store whose scripts go by this clock.
func valkeyAt(t *testing.T, server *valkeyserver.Server, now func() time.Time) *scripts.Store {
	t.Helper()
	live, err := scripts.New(scripts.Options{URL: server.URL(), Now: now})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- live.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ran })
	require.Eventually(t, live.Ready, 10*time.Second, 10*time.Millisecond)
	return live
}

// A gateway whose clock is an hour off ends nobody's journey early and refuses no
// arrival, its own journeys or another gateway's, and still ends a journey at its hour.
func TestGateway_clock_an_hour_off(t *testing.T) {
	t.Parallel()
	b, truth := setup(t), &trueTime{}
	live := valkeyAt(t, valkeytest.Private(t, valkeyserver.Valkey), truth.now)
	database := func(ctx context.Context) (time.Time, error) {
		at, err := b.Now(ctx)
		return at.Add(time.Duration(truth.moved.Load())), err
	}
	open := func(now func() time.Time) gateway {
		s := sessions.NewService(b.Repository, live, sessions.ServiceOptions{Now: now})
		return gateway{Service: s, Sweeper: sessions.NewSweeper(s, sessions.SweeperOptions{Silence: -1})}
	}
	right := open(truth.now)
	for name, off := range map[string]time.Duration{"ahead": 61 * time.Minute, "behind": -61 * time.Minute} {
		own := func() time.Time { return truth.now().Add(off) }
		clock := sessions.NewClock(own)
		require.NoError(t, clock.Sync(t.Context(), database))
		wrong := open(clock.Now)
		ended := func(by gateway, s sessions.Session) bool {
			require.NoError(t, by.Sweep(t.Context()))
			now, err := b.Session(t.Context(), s.ID)
			require.NoError(t, err)
			return !now.JourneyActive()
		}
		start := func(by gateway) sessions.Session {
			s := b.booked(t)
			s, err := by.Start(t.Context(), trainerOf(s), s.ID, "")
			require.NoError(t, err)
			require.WithinDuration(t, truth.now(), s.JourneyStartedAt, time.Minute, name)
			return s
		}
		for _, by := range [][2]gateway{{right, wrong}, {wrong, right}, {wrong, wrong}} {
			s := start(by[0])
			require.False(t, ended(by[1], s), name)
			for range 3 {
				truth.move(6 * time.Second)
				r, err := by[1].Update(t.Context(), trainerOf(s), s.ID, sessions.Fix{Point: s.Home})
				require.NoError(t, err)
				require.Equal(t, sessions.VerdictStored, r.Verdict, name)
			}
			require.False(t, ended(by[1], s), name)
			arrived, err := by[1].Arrive(t.Context(), trainerOf(s), s.ID, nil)
			require.NoError(t, err, name)
			require.Equal(t, sessions.CodeActive, arrived.CodeState(truth.now()))
			require.Equal(t, "arrived", string(events(t, b.url, s.ID)[1].Reason))
		}
		s := start(right)
		truth.move(59 * time.Minute)
		require.False(t, ended(wrong, s), name)
		truth.move(2 * time.Minute)
		require.True(t, ended(wrong, s), name)
		require.Equal(t, s.JourneyStartedAt.Add(time.Hour), events(t, b.url, s.ID)[1].At)
		if s = start(right); off > 0 {
			require.True(t, ended(open(own), s), "a gateway that went by its own clock would end it")
		}
	}
}

// A cancellation at the moment of the time-out: one end a journey, and nothing runs.
func TestSweeper_races_with_a_cancellation(t *testing.T) {
	onBoth(t, func(t *testing.T, f repotest.Fixture) {
		g := openGateways(t, f, 3)
		for i := range 16 {
			s := g.started(t)
			g.fix(t, g.all[0], s)
			by := []sessions.Caller{studentOf(s), {ID: sessions.NewID(), Role: sessions.Admin}}[i%2]
			g.move(time.Hour)
			var all sync.WaitGroup
			all.Go(func() { g.sweep(t) })
			all.Go(func() {
				_, err := g.all[i%3].Cancel(context.WithoutCancel(t.Context()), by, s.ID, "")
				assert.NoError(t, err)
			})
			all.Wait()
			require.Len(t, g.told(t, s, sessions.JourneyEnded), 1, "one end a journey")
			require.Len(t, g.told(t, s, sessions.SessionCancelled), 1)
			require.Empty(t, g.told(t, s, sessions.CodeIssued))
			after, err := f.Repo.Session(t.Context(), s.ID)
			require.NoError(t, err)
			require.Equal(t, []any{sessions.Cancelled, false, ""}, []any{after.Status, after.JourneyActive(), after.OTP})
			snap, err := g.live.Latest(t.Context(), s.Journey().Ref)
			require.NoError(t, err)
			require.False(t, snap.Active)
			require.Nil(t, snap.Location)
		}
	})
}

// PostgreSQL is away at the hour, and the live store when it is back: the journey ends
// once, as of the hour, and nobody sees its place.
func TestSweeper_stores_away(t *testing.T) {
	t.Parallel()
	database, server, truth := postgrestest.Private(t), valkeytest.Private(t, valkeyserver.Valkey), &trueTime{}
	require.NoError(t, postgres.Migrate(t.Context(), database.DSN(), nil))
	repo := open(t, postgres.Options{URL: database.DSN()})
	live := valkeyAt(t, server, truth.now)
	s := sessions.NewService(repo, live, sessions.ServiceOptions{Now: truth.now})
	sweeper := sessions.NewSweeper(s, sessions.SweeperOptions{Silence: -1})
	reconciler := sessions.NewReconciler(s, nil, nil)
	session := create(t, repo)
	session, err := s.Start(t.Context(), trainerOf(session), session.ID, "")
	require.NoError(t, err)
	fix := func() (sessions.Receipt, error) {
		return s.Update(t.Context(), trainerOf(session), session.ID, sessions.Fix{Point: geo.MustPoint(12.9, 77.5)})
	}
	truth.move(59 * time.Minute)
	receipt, err := fix()
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStored, receipt.Verdict)

	require.NoError(t, database.Stop())
	truth.move(time.Minute)
	for range 3 {
		require.Error(t, sweeper.Sweep(t.Context()))
		require.Error(t, reconciler.Pass(t.Context()))
	}
	receipt, err = fix()
	require.True(t, err != nil || receipt.Verdict == sessions.VerdictEnded, "past the hour no fix is taken, whoever is away")

	require.NoError(t, server.Pause())
	require.NoError(t, database.Restart(t.Context()))
	require.Eventually(t, func() bool { return sweeper.Sweep(t.Context()) == nil }, 20*time.Second, 50*time.Millisecond)
	told := events(t, database.DSN(), session.ID)
	require.Len(t, told, 2)
	require.Equal(t, []any{sessions.EndTimeout, session.JourneyStartedAt.Add(time.Hour)}, []any{told[1].Reason, told[1].At})

	require.NoError(t, server.Resume())
	require.Eventually(t, func() bool {
		_, err := live.Latest(t.Context(), session.Journey().Ref)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, sweeper.Sweep(t.Context()))
	require.NoError(t, reconciler.Pass(t.Context()))
	ref, err := s.Ref(t.Context(), studentOf(session), session.ID)
	require.NoError(t, err)
	view, err := s.View(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, []any{false, false, sessions.Ended}, []any{view.Degraded, view.Active, view.Phase()})
	require.Nil(t, view.Location)
	require.Len(t, events(t, database.DSN(), session.ID), 2, "exactly once")
}

// A home that another service moves by SQL decides the next arrival, whether the
// reconciler has seen it or not, and what was seen of the way to the old one counts no
// more, not even after a silence.
func TestService_Arrive_at_a_home_moved_by_sql(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ pass, silence bool }{
		"at_once": {}, "after_a_pass": {pass: true}, "after_a_silence": {pass: true, silence: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, truth := setup(t), &trueTime{}
			server := valkeytest.Private(t, valkeyserver.Valkey)
			live := valkeyAt(t, server, truth.now)
			counter := sessions.NewFixCounter(b.Repository, sessions.FixCounterOptions{})
			s := sessions.NewService(b.Repository, live, sessions.ServiceOptions{Now: truth.now, Counter: counter})
			reconciler := sessions.NewReconciler(s, nil, nil)
			session := b.booked(t)
			session, err := s.Start(t.Context(), trainerOf(session), session.ID, "")
			require.NoError(t, err)
			at := func(p geo.Point) {
				truth.move(6 * time.Second)
				r, err := s.Update(t.Context(), trainerOf(session), session.ID, sessions.Fix{Point: p})
				require.NoError(t, err)
				require.Equal(t, sessions.VerdictStored, r.Verdict)
			}
			arrive := func() sessions.Code {
				_, err := s.Arrive(t.Context(), trainerOf(session), session.ID, nil)
				return sessions.CodeOf(err)
			}
			for range 3 {
				at(session.Home)
			}
			require.NoError(t, counter.Flush(t.Context()))
			next := geo.MustPoint(session.Home.Lat()+0.002, session.Home.Lng()) // 222 m
			b.exec(t, `UPDATE tutoring_sessions SET student_home_location = $2 WHERE id = $1`, string(session.ID),
				map[string]any{"latitude": next.Lat(), "longitude": next.Lng()})
			if row.pass {
				require.NoError(t, reconciler.Pass(t.Context()))
			}
			if row.silence {
				truth.move(6 * time.Minute)
				_, err := server.Do(t.Context(), "FLUSHALL") // as the server does then, by its own clock
				require.NoError(t, err)
				at(next)
				require.Equal(t, sessions.SuspiciousLocation, arrive(), "the way to the old home says nothing of this one")
				return
			}
			require.Equal(t, sessions.NotWithinRadius, arrive())
			at(next)
			require.Equal(t, sessions.SuspiciousLocation, arrive(), "its proof begins anew")
			at(next)
			at(next)
			require.Empty(t, arrive())
		})
	}
}
