package postgres_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/postgres"
	"doorstep/sessions/repotest"
)

// onBoth runs a test on a fresh repository of each kind, beside each other.
func onBoth(t *testing.T, test func(t *testing.T, f repotest.Fixture)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB) repotest.Fixture{"memory": repotest.Memory, "postgres": fixture} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// gateways are several on one repository and one live store, each with a
// service and a sweeper of its own, on one clock.
type gateways struct {
	repotest.Fixture
	live *memory.Live
	all  []gateway

	mu  sync.Mutex
	now time.Time

	timedOut, silent, stuck int
}

type gateway struct {
	*sessions.Service
	*sessions.Sweeper
	counter *sessions.FixCounter
}

func openGateways(t testing.TB, f repotest.Fixture, n int) *gateways {
	t.Helper()
	g := &gateways{Fixture: f, now: noon}
	g.live = memory.NewLive(sessions.LiveOptions{}, g.clock)
	for range n {
		g.add()
	}
	return g
}

// add starts one more: a gateway that knows nothing of what was before.
func (g *gateways) add() gateway {
	counter := sessions.NewFixCounter(g.Repo, sessions.FixCounterOptions{})
	s := sessions.NewService(g.Repo, g.live, sessions.ServiceOptions{Now: g.clock, Counter: counter})
	one := gateway{s, sessions.NewSweeper(s, sessions.SweeperOptions{Metrics: g}), counter}
	g.all = append(g.all, one)
	return one
}

func (g *gateways) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *gateways) move(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = g.now.Add(d)
}

func (g *gateways) JourneyTimedOut() { g.mu.Lock(); defer g.mu.Unlock(); g.timedOut++ }
func (g *gateways) JourneySilent()   { g.mu.Lock(); defer g.mu.Unlock(); g.silent++ }
func (g *gateways) Swept(error)      {}

func (g *gateways) JourneysStuck(n int) { g.mu.Lock(); defer g.mu.Unlock(); g.stuck = n }

// started is a journey that has begun now.
func (g *gateways) started(t testing.TB) sessions.Session {
	t.Helper()
	s := create(t, g.Repo)
	s, err := g.all[0].Start(t.Context(), sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}, s.ID, "")
	require.NoError(t, err)
	return s
}

// fix sends one through a gateway, which says at once whom it has heard.
func (g *gateways) fix(t testing.TB, by gateway, s sessions.Session) {
	t.Helper()
	fix, err := sessions.NewFix(sessions.Fix{Point: geo.MustPoint(12.9, 77.5)})
	require.NoError(t, err)
	_, err = by.Update(t.Context(), sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}, s.ID, fix)
	require.NoError(t, err)
	require.NoError(t, by.counter.Flush(t.Context()))
}

// sweep lets all gateways look at the same moment.
func (g *gateways) sweep(t testing.TB) {
	t.Helper()
	var all sync.WaitGroup
	for _, one := range g.all {
		all.Go(func() { assert.NoError(t, one.Sweep(context.WithoutCancel(t.Context()))) })
	}
	all.Wait()
}

// minutes lets time go by, with a look every minute.
func (g *gateways) minutes(t testing.TB, n int) {
	t.Helper()
	for range n {
		g.move(time.Minute)
		g.sweep(t)
	}
}

func (g *gateways) told(t testing.TB, s sessions.Session, what sessions.EventType) []sessions.Event {
	t.Helper()
	return slices.DeleteFunc(g.Events(t, s.ID), func(e sessions.Event) bool { return e.Type != what })
}

func TestSweeper_ends_at_the_hour_once(t *testing.T) {
	onBoth(t, func(t *testing.T, f repotest.Fixture) {
		g := openGateways(t, f, 6)
		overdue := make([]sessions.Session, 40)
		for i := range overdue {
			overdue[i] = g.started(t)
		}
		g.fix(t, g.all[0], overdue[0])
		g.move(time.Hour - time.Millisecond)
		young := g.started(t)
		g.sweep(t)
		require.Empty(t, g.told(t, overdue[0], sessions.JourneyEnded), "a millisecond to go")

		g.move(time.Millisecond)
		g.sweep(t)
		g.sweep(t)
		for _, s := range overdue {
			ended := g.told(t, s, sessions.JourneyEnded)
			require.Len(t, ended, 1)
			require.Equal(t, sessions.EndTimeout, ended[0].Reason)
			after, err := f.Repo.Session(t.Context(), s.ID)
			require.NoError(t, err)
			require.Equal(t, sessions.Scheduled, after.Status, "it may be started again")
			require.Equal(t, s.JourneyStartedAt.Add(time.Hour), after.JourneyEndedAt)
		}
		require.Equal(t, len(overdue), g.timedOut)
		require.Empty(t, g.told(t, young, sessions.JourneyEnded))
		snap, err := g.live.Latest(t.Context(), overdue[0].Journey().Ref)
		require.NoError(t, err)
		require.False(t, snap.Active)
		require.Nil(t, snap.Location)
	})
}

// stubborn is a repository with sessions that cannot be changed.
type stubborn struct {
	sessions.Repository
	bad   map[sessions.ID]bool
	tried int
}

func (r *stubborn) Change(ctx context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error)) (sessions.Session, error) {
	if r.bad[id] {
		r.tried++
		return sessions.Session{}, sessions.Fault(sessions.DatabaseUnavailable, "the operator's trigger refuses", errors.New("check violation"))
	}
	return r.Repository.Change(ctx, id, f)
}

// One journey that cannot be ended holds up no other, however many there are and
// however old.
func TestSweeper_stuck_journeys_hold_up_nobody(t *testing.T) {
	onBoth(t, func(t *testing.T, f repotest.Fixture) {
		bad := &stubborn{Repository: f.Repo, bad: map[sessions.ID]bool{}}
		f.Repo = bad
		g := openGateways(t, f, 1)
		const many = 210 // more than one look gives
		for range many {
			bad.bad[g.started(t).ID] = true
		}
		g.move(time.Minute)
		good := g.started(t)
		g.move(time.Hour)
		g.sweep(t)
		require.Len(t, g.told(t, good, sessions.JourneyEnded), 1)
		require.Equal(t, many, g.stuck)
		g.sweep(t)
		require.Equal(t, many, bad.tried, "left alone for a while")
		bad.bad = nil
		g.move(time.Minute)
		g.sweep(t)
		require.Zero(t, g.stuck)
		require.Equal(t, many+1, g.timedOut)
	})
}

func TestSweeper_down_at_the_hour(t *testing.T) {
	onBoth(t, func(t *testing.T, f repotest.Fixture) {
		g := openGateways(t, f, 1)
		s := g.started(t)
		g.move(5 * time.Hour)
		g.all = nil
		g.add()
		g.add()
		g.sweep(t)
		ended := g.told(t, s, sessions.JourneyEnded)
		require.Len(t, ended, 1)
		require.Equal(t, s.JourneyStartedAt.Add(time.Hour), ended[0].At, "as if nothing had been down")
	})
}

// More than one look gives: all of them in one sweep.
func TestSweeper_many_at_once(t *testing.T) {
	t.Parallel()
	g := openGateways(t, repotest.Memory(t), 2)
	for range 500 {
		g.started(t)
	}
	g.move(time.Hour)
	g.sweep(t)
	require.Equal(t, 500, g.timedOut)
}

// Whoever stops or starts at the same moment: one end a journey.
func TestSweeper_races_with_a_stop(t *testing.T) {
	onBoth(t, func(t *testing.T, f repotest.Fixture) {
		g := openGateways(t, f, 3)
		for range 10 {
			s := g.started(t)
			trainer := sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}
			g.move(time.Hour)
			var all sync.WaitGroup
			all.Go(func() { g.sweep(t) })
			all.Go(func() { _, _ = g.all[0].Stop(context.WithoutCancel(t.Context()), trainer, s.ID) })
			all.Go(func() { _, _ = g.all[1].Start(context.WithoutCancel(t.Context()), trainer, s.ID, "") })
			all.Wait()
			ended := map[time.Time]int{}
			for _, e := range g.told(t, s, sessions.JourneyEnded) {
				ended[e.JourneyStartedAt]++
				require.Equal(t, 1, ended[e.JourneyStartedAt], "one end a journey")
				require.False(t, e.Reason == sessions.EndTimeout && e.JourneyStartedAt != s.JourneyStartedAt, "a new journey has its hour before it")
			}
			require.Equal(t, 1, ended[s.JourneyStartedAt])
			g.move(time.Hour)
			g.sweep(t)
		}
	})
}

func TestSweeper_reports_a_silence_once(t *testing.T) {
	onBoth(t, func(t *testing.T, f repotest.Fixture) {
		g := openGateways(t, f, 3)
		never, once, speaks := g.started(t), g.started(t), g.started(t)
		g.minutes(t, 4)
		g.fix(t, g.all[1], once)
		for range 12 {
			g.minutes(t, 1)
			g.fix(t, g.all[2], speaks)
		}
		require.Equal(t, 1, g.silent)
		told := g.told(t, never, sessions.LocationSuspicious)
		require.Len(t, told, 1)
		require.Equal(t, sessions.VerdictSilent, told[0].Verdict)
		require.Equal(t, never.JourneyStartedAt, told[0].JourneyStartedAt)
		require.Empty(t, g.told(t, once, sessions.LocationSuspicious), "heard 12 minutes ago")

		for range 20 {
			g.minutes(t, 1)
			g.fix(t, g.all[2], speaks)
		}
		require.Len(t, g.told(t, once, sessions.LocationSuspicious), 1)
		require.Empty(t, g.told(t, speaks, sessions.LocationSuspicious))

		g.fix(t, g.all[0], never) // at minute 36: and then silent again
		g.minutes(t, 16)
		require.Len(t, g.told(t, never, sessions.LocationSuspicious), 2, "once a silence")
		g.minutes(t, 10)
		require.Equal(t, 3+1, g.silent, "the last of them, speaks, is silent since minute 36, too")
		require.Len(t, g.told(t, never, sessions.JourneyEnded), 1, "and its hour comes all the same")
	})
}

// Rows that other transactions hold keep no other silence from being reported, and their own comes later.
func TestSweeper_reports_silences_past_locked_rows(t *testing.T) {
	t.Parallel()
	database := postgrestest.Private(t)
	g := openGateways(t, privateFixture(t, database.DSN()), 1)
	locked, others := []sessions.Session{g.started(t), g.started(t)}, []sessions.Session{g.started(t), g.started(t)}
	g.minutes(t, 15)
	conn, err := pgx.Connect(t.Context(), database.DSN())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	_, err = conn.Exec(t.Context(), `BEGIN; SELECT FROM tutoring_sessions WHERE id IN ('`+string(locked[0].ID)+`', '`+string(locked[1].ID)+`') FOR UPDATE`)
	require.NoError(t, err)
	for range 2 {
		g.move(time.Minute)
		require.Error(t, g.all[0].Sweep(t.Context()), "it says so")
	}
	for _, s := range others {
		require.Len(t, g.told(t, s, sessions.LocationSuspicious), 1)
	}
	_, err = conn.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	g.minutes(t, 1)
	for _, s := range locked {
		require.Len(t, g.told(t, s, sessions.LocationSuspicious), 1)
	}
}

// After an outage the gateways have a minute to say whom they have heard.
func TestSweeper_reports_no_silence_after_an_outage(t *testing.T) {
	t.Parallel()
	database := postgrestest.Private(t)
	f := privateFixture(t, database.DSN())
	g := openGateways(t, f, 1)
	s := g.started(t)
	g.minutes(t, 2)
	require.NoError(t, database.Stop())
	g.move(17 * time.Minute)
	require.Error(t, g.all[0].Sweep(t.Context()))
	fix, err := sessions.NewFix(sessions.Fix{Point: geo.MustPoint(12.9, 77.5)})
	require.NoError(t, err)
	_, err = g.all[0].Update(t.Context(), sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}, s.ID, fix)
	require.NoError(t, err, "not on this path")
	require.Error(t, g.all[0].counter.Flush(t.Context()))
	require.NoError(t, database.Restart(t.Context()))
	g.minutes(t, 1)
	require.NoError(t, g.all[0].counter.Flush(t.Context()), "what could not be written was kept")
	g.minutes(t, 5)
	require.Zero(t, g.silent)
	record, known, err := f.Repo.JourneyRecord(t.Context(), sessions.JourneyKey{SessionID: s.ID, StartedAt: s.JourneyStartedAt})
	require.NoError(t, err)
	require.True(t, known)
	require.EqualValues(t, 1, record.Accepted, "and counted once")
}

// The bounds are in Go and in the migration.
func TestAnalytics_median_as_in_Go(t *testing.T) {
	t.Parallel()
	b := setup(t)
	check := func(l sessions.Latencies) {
		want, known := l.MedianMS()
		got := value[*int64](t, b.sql, `SELECT doorstep_median_ms($1)`, l[:])
		require.Equal(t, known, got != nil)
		if known {
			require.Equal(t, want, *got, "%v", l)
		}
	}
	check(sessions.Latencies{})
	for i := range sessions.LatencyBoundsMS {
		var one, two sessions.Latencies
		one[i] = 3
		check(one)
		two[0], two[i] = 2, two[i]+2
		check(two)
		two[len(two)-1] += 3
		check(two)
	}
}

// privateFixture is a fixture on a server of the test's own.
func privateFixture(t testing.TB, url string) repotest.Fixture {
	t.Helper()
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	repo := open(t, postgres.Options{URL: url})
	return repotest.Fixture{
		Repo:   repo,
		Events: func(t testing.TB, id sessions.ID) []sessions.Event { return events(t, url, id) },
	}
}
