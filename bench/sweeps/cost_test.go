// Package sweeps measures what one gateway's reconciler and sweeper cost with many
// running journeys, on a PostgreSQL and a Valkey of its own:
//
//	go test ./sweeps -v -args -journeys=100000 -for=1m
package sweeps

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/scripts"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

var (
	journeys = flag.Int("journeys", 2000, "how many run")
	lasts    = flag.Duration("for", 16*time.Second, "how long each part is measured")
)

// book makes running journeys of the last 20 minutes, and as many that have ended within
// the last hour.
const book = `INSERT INTO tutoring_sessions (id, trainer_id, student_id, status, student_home_location, created_at, scheduled_at,
		journey_mode, journey_started_at, journey_ended_at, journey_end_reason)
	SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'scheduled', '{"latitude": 12.9, "longitude": 77.5}', now(), now(), 'car',
		now() - n %% 1200 * interval '1 s' - %[1]s, %[2]s, %[3]s FROM generate_series(1, $1) n`

// counts are the questions and corrections of a reconciler, and the time-outs of a sweeper.
type counts struct{ asked, rows, corrected, timedOut atomic.Int64 }

func (c *counts) Reconciled(n int, _ error) { c.asked.Add(1); c.rows.Add(int64(n)) }
func (c *counts) Corrected(string)          { c.corrected.Add(1) }
func (c *counts) JourneyTimedOut()          { c.timedOut.Add(1) }
func (c *counts) JourneySilent()            {}
func (c *counts) Swept(error)               {}
func (c *counts) JourneysStuck(int)         {}

func TestCost(t *testing.T) {
	ctx := t.Context()
	database, valkey := postgrestest.Private(t), valkeytest.Private(t, valkeyserver.Valkey)
	require.NoError(t, postgres.Migrate(ctx, database.DSN(), nil))
	sql, err := pgx.Connect(ctx, database.DSN())
	require.NoError(t, err)
	exec := func(query string, args ...any) {
		_, err := sql.Exec(ctx, query, args...)
		require.NoError(t, err)
	}
	exec(fmt.Sprintf(book, "interval '0'", "NULL", "NULL"), *journeys)
	exec(fmt.Sprintf(book, "interval '40 min'", "now() - n % 1200 * interval '1 s' - interval '20 min'", "'arrived'"), *journeys)
	exec(`VACUUM ANALYZE tutoring_sessions`)

	repo, err := postgres.Open(ctx, postgres.Options{URL: database.DSN(), CallTimeout: time.Minute})
	require.NoError(t, err)
	defer repo.Close()
	live, err := scripts.New(scripts.Options{URL: valkey.URL(), Timeout: 5 * time.Second})
	require.NoError(t, err)
	running(t, live.Run)
	require.Eventually(t, live.Ready, 10*time.Second, 10*time.Millisecond)
	var n counts
	service := sessions.NewService(repo, live, sessions.ServiceOptions{})
	reconciler := sessions.NewReconciler(service, nil, &n)
	sweeper := sessions.NewSweeper(service, sessions.SweeperOptions{Metrics: &n})

	list, err := repo.Running(ctx, time.Now(), sessions.JourneyKey{}, *journeys)
	require.NoError(t, err)
	var all sync.WaitGroup
	for worker := range 32 {
		all.Go(func() {
			for i := worker; i < len(list); i += 32 {
				_, _ = service.Update(ctx, sessions.Caller{ID: list[i].TrainerID, Role: sessions.Trainer}, list[i].ID, sessions.Fix{Point: geo.MustPoint(12.95, 77.5)})
			}
		})
	}
	all.Wait()
	use := func() {
		for _, s := range list { // the parties are remembered, so it asks no store
			_, _ = service.Ref(ctx, sessions.Caller{ID: s.StudentID, Role: sessions.Student}, s.ID)
		}
	}
	use()
	require.NoError(t, reconciler.Pass(ctx))

	cpu := func() [3]time.Duration {
		return [3]time.Duration{ofProcess(t, os.Getpid()), ofPostgres(t, sql), ofProcess(t, valkey.Process().Pid)}
	}
	report := func(what string, before [3]time.Duration, took time.Duration) {
		after := cpu()
		for i, whose := range []string{"gateway", "PostgreSQL", "Valkey"} {
			t.Logf("%s: %s %.2f CPU seconds a minute", what, whose, (after[i]-before[i]).Seconds()/took.Minutes())
		}
	}
	before, began, asked, rows := cpu(), time.Now(), n.asked.Load(), n.rows.Load()
	t.Run("served", func(t *testing.T) {
		running(t, reconciler.Run)
		running(t, sweeper.Run)
		for time.Since(began) < *lasts {
			time.Sleep(min(*lasts, 20*time.Second))
			use()
		}
	})
	took := time.Since(began)
	report("reconciler and sweeper", before, took)
	t.Logf("in 15 s: %.0f questions, %.0f rows; %d corrections", float64(n.asked.Load()-asked)/took.Seconds()*15,
		float64(n.rows.Load()-rows)/took.Seconds()*15, n.corrected.Load())
	require.Positive(t, n.rows.Load()-rows)
	require.Zero(t, n.corrected.Load(), "all agreed")

	exec(`UPDATE tutoring_sessions SET journey_started_at = journey_started_at - interval '1 h' WHERE journey_ended_at IS NULL`)
	before, began = cpu(), time.Now()
	limited, cancel := context.WithTimeout(ctx, *lasts)
	defer cancel()
	_ = sweeper.Sweep(limited)
	took = time.Since(began)
	report("time-outs at once", before, took)
	t.Logf("%d of %d ended in %s", n.timedOut.Load(), *journeys, took.Round(time.Second))
	require.Positive(t, n.timedOut.Load())
}

// running runs a part until the test ends.
func running(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func ofProcess(t *testing.T, pid int) time.Duration {
	t.Helper()
	usage, err := rig.UsageOf(pid)
	require.NoError(t, err)
	return usage.CPU
}

// ofPostgres is the CPU time of the server's backends that are connected now, and of its
// other processes.
func ofPostgres(t *testing.T, sql *pgx.Conn) (sum time.Duration) {
	t.Helper()
	rows, err := sql.Query(t.Context(), `SELECT pid FROM pg_stat_activity`)
	require.NoError(t, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	require.NoError(t, err)
	for _, pid := range pids {
		sum += ofProcess(t, int(pid))
	}
	return sum
}
