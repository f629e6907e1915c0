package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
	"doorstep/sessions/repotest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// bundle is a migrated database of the test's own, a repository on it, and a
// plain connection to look behind it.
type bundle struct {
	*postgres.Repository
	url string
	sql *pgx.Conn
}

// setup takes the pool down to fewer connections than the races have racers.
func setup(t testing.TB) bundle {
	t.Helper()
	url := postgrestest.New(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	return bundle{open(t, postgres.Options{URL: url, MaxConns: 6, CallTimeout: 20 * time.Second}), url, connect(t, url)}
}

func open(t testing.TB, opts postgres.Options) *postgres.Repository {
	t.Helper()
	repo, err := postgres.Open(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(repo.Close)
	return repo
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) }) // which has ended: no goodbye
	return conn
}

func (b bundle) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := b.sql.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func value[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

func booking() sessions.Session {
	return sessions.Session{
		ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(),
		Status: sessions.Scheduled, ScheduledAt: noon, Home: geo.MustPoint(12.9763472, 77.5929284),
		Mode: sessions.Car, CreatedAt: noon.Add(-time.Hour),
	}
}

func (b bundle) booked(t testing.TB) sessions.Session {
	t.Helper()
	return create(t, b.Repository)
}

func create(t testing.TB, repo sessions.Repository) sessions.Session {
	t.Helper()
	s, created, err := repo.Create(t.Context(), booking())
	require.NoError(t, err)
	require.True(t, created)
	return s
}

func start(s *sessions.Session) ([]sessions.Event, error)  { return s.Start("", noon) }
func arrive(s *sessions.Session) ([]sessions.Event, error) { return s.Arrive(noon) }

// events reads the outbox as a relay would, and a consumer the detail.
func events(t testing.TB, url string, id sessions.ID) []sessions.Event {
	t.Helper()
	conn := connect(t, url)
	rows, err := conn.Query(t.Context(), `SELECT type, detail FROM outbox WHERE session_id = $1 ORDER BY seq`, string(id))
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sessions.Event, error) {
		var (
			eventType string
			detail    []byte
		)
		if err := row.Scan(&eventType, &detail); err != nil {
			return sessions.Event{}, err
		}
		return sessions.ParseEvent(sessions.EventType(eventType), detail)
	})
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	return list
}

func fixture(t testing.TB) repotest.Fixture {
	b := setup(t)
	return repotest.Fixture{
		Repo:   b.Repository,
		Events: func(t testing.TB, id sessions.ID) []sessions.Event { return events(t, b.url, id) },
		Deliver: func(t testing.TB) {
			conn := connect(t, b.url) // several tests' goroutines would share b.sql
			_, err := conn.Exec(t.Context(), `UPDATE outbox SET published_at = now()`)
			require.NoError(t, err)
		},
	}
}

func TestRepository(t *testing.T) {
	t.Parallel()
	repotest.Run(t, fixture)
}

func TestRepository_Histories(t *testing.T) {
	t.Parallel()
	repotest.Histories(t, fixture)
}

// explained are the lines of an EXPLAIN.
func explained(t testing.TB, conn interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, sql string, args ...any,
) string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}
