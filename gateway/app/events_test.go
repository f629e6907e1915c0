package app_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/postgres"
)

// journey books a session and takes its trainer on the way and back.
func journey(t testing.TB, a *app.App) sessions.ID {
	t.Helper()
	trainer := sessions.NewID()
	call := func(caller sessions.Caller, path, body string) {
		token, err := a.Token(caller, time.Minute)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.Addr().String()+"/api/v1/admin/sessions"+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Less(t, res.StatusCode, 300, "%s", text)
	}
	id := sessions.NewID()
	call(sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, "", fmt.Sprintf(
		`{"sessionId":%q,"trainerId":%q,"studentId":%q,"studentHome":{"latitude":1,"longitude":2}}`, id, trainer, sessions.NewID()))
	call(sessions.Caller{ID: trainer, Role: sessions.Trainer}, "/"+string(id)+"/start-journey", "")
	call(sessions.Caller{ID: trainer, Role: sessions.Trainer}, "/"+string(id)+"/stop-journey", "")
	return id
}

// A journey's events are on EventBridge within a second, in memory and on
// PostgreSQL; while the bus is away nobody notices, and afterwards they come.
func TestApp_events_to_EventBridge(t *testing.T) {
	awstest.SetEnv(t.Setenv)
	for name, on := range map[string]func(*app.Options){"embedded": func(*app.Options) {}, "servers": onServers(t)} {
		t.Run(name, func(t *testing.T) {
			s := awstest.Start()
			defer s.Close()
			s.Bus("application-events")
			a := started(t, settings(on, func(o *app.Options) { o.EventBus, o.EventBridgeEndpoint = "application-events", s.URL() }))
			arrived := func(id sessions.ID) (types []string) {
				for _, entry := range s.Events() {
					e, err := sessions.ParseEvent(sessions.EventType(entry.DetailType), []byte(entry.Detail))
					require.NoError(t, err)
					if e.SessionID == id {
						types = append(types, entry.DetailType)
					}
				}
				return types
			}
			both := []string{"TrainerJourneyStarted", "TrainerJourneyEnded"}

			id, began := journey(t, a), time.Now()
			require.Eventually(t, func() bool { return len(arrived(id)) == 2 }, patience, time.Millisecond)
			assert.Equal(t, both, arrived(id))
			t.Logf("both there %s after the second was answered", time.Since(began))

			s.Fail(awstest.Drop)
			id = journey(t, a)
			measured := func(series string) {
				t.Helper()
				require.Eventually(t, func() bool {
					_, page := get(t, a.MetricsAddr(), "/metrics")
					return strings.Contains(page, series)
				}, 2*patience, 20*time.Millisecond, series)
			}
			measured(`doorstep_event_failures_total{relay="bus",why="down"}`)
			assert.Empty(t, arrived(id))
			s.Fail(awstest.None)
			require.Eventually(t, func() bool { return len(arrived(id)) == 2 }, 2*patience, 10*time.Millisecond)
			assert.Equal(t, both, arrived(id))

			measured(`doorstep_event_publish_delay_seconds_count{relay="bus"} 4`)
		})
	}
	t.Run("a_name_that_is_none_is_refused_at_the_start", func(t *testing.T) {
		_, err := app.New(settings(func(o *app.Options) { o.EventBus = "two words" }))
		require.ErrorContains(t, err, "event-bus")
	})
	t.Run("so_is_no_region", func(t *testing.T) {
		t.Setenv("AWS_REGION", "")
		_, err := app.New(settings(func(o *app.Options) { o.EventBus = "application-events" }))
		require.ErrorContains(t, err, "AWS_REGION")
	})
}

// What one gateway leaves undelivered another one delivers.
func TestApp_events_in_process_outlive_it(t *testing.T) {
	t.Parallel()
	o := settings(onServers(t))
	first := started(t, o)
	id := journey(t, first)
	require.NoError(t, stop(first))
	started(t, o)
	repo, err := postgres.Open(t.Context(), postgres.Options{URL: o.DatabaseURL})
	require.NoError(t, err)
	t.Cleanup(repo.Close)
	require.Eventually(t, func() bool {
		list, err := repo.Outbox().Backlog(context.Background(), []string{"notify", "clean_up", "analytics"})
		return err == nil && len(list) == 4 && !slices.ContainsFunc(list, func(b outbox.Backlog) bool { return b.Waiting+b.Dead > 0 })
	}, patience, 10*time.Millisecond)
	session, err := repo.Session(t.Context(), id)
	require.NoError(t, err)
	record, ok, err := repo.JourneyRecord(t.Context(), sessions.JourneyKey{SessionID: id, StartedAt: session.JourneyStartedAt})
	require.NoError(t, err)
	require.True(t, ok, "analytics has its row")
	assert.Equal(t, sessions.EndCancelled, record.Reason)
}

// A gateway that nobody uses asks the database at most once a second, all its parts
// together. pg_stat_statements counts; it is one of PostgreSQL's own extensions.
func TestApp_idle_asks_the_database_once_a_second(t *testing.T) {
	t.Parallel()
	server := postgrestest.Private(t, "shared_preload_libraries=pg_stat_statements")
	require.NoError(t, postgres.Migrate(t.Context(), server.DSN(), nil))
	conn, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	_, err = conn.Exec(t.Context(), `CREATE EXTENSION pg_stat_statements`)
	require.NoError(t, err)
	started(t, settings(func(o *app.Options) { o.DatabaseURL = server.DSN() }))
	<-time.After(2 * time.Second) // the start has its own: the schema's check, the first look at everything
	_, err = conn.Exec(t.Context(), `SELECT pg_stat_statements_reset()`)
	require.NoError(t, err)
	const seconds = 40
	<-time.After(seconds * time.Second)
	rows, err := conn.Query(t.Context(), `SELECT format('%s × %s', calls, left(regexp_replace(query, '\s+', ' ', 'g'), 90)) FROM pg_stat_statements
		WHERE query !~ 'pg_stat_statements' ORDER BY calls DESC`)
	require.NoError(t, err)
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	var calls int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT sum(calls) FROM pg_stat_statements WHERE query !~ 'pg_stat_statements'`).Scan(&calls))
	t.Logf("%d statements in %d s:\n%s", calls, seconds, strings.Join(statements, "\n"))
	assert.LessOrEqual(t, calls, seconds)
	assert.NotZero(t, calls)
}
