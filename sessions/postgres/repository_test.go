package postgres_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

func TestNew(t *testing.T) {
	t.Parallel()
	t.Run("connects_to_nothing", func(t *testing.T) {
		t.Parallel()
		repo, err := postgres.New(postgres.Options{URL: "postgres://nobody@127.0.0.1:1/none"})
		require.NoError(t, err)
		repo.Close()
		repo.Close()
	})
	for name, bad := range map[string]postgres.Options{
		"parse URL":                {URL: "postgres://user:hunter2@host:port/"},
		"CallTimeout":              {CallTimeout: -1},
		"ConnectTimeout":           {ConnectTimeout: time.Microsecond},
		"StatementTimeout":         {StatementTimeout: -time.Second},
		"LockTimeout":              {LockTimeout: time.Nanosecond},
		"IdleInTransactionTimeout": {IdleInTransactionTimeout: -1},
		"MaxConnLifetime":          {MaxConnLifetime: -1},
		"MaxConnIdleTime":          {MaxConnIdleTime: -1},
		"MaxConns":                 {MaxConns: -1},
	} {
		t.Run("refuses_"+name, func(t *testing.T) {
			t.Parallel()
			_, err := postgres.New(bad)
			require.ErrorContains(t, err, name)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// A password that was not encoded is taken for other parts of the URL.
func TestNew_repeats_no_password(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://user:hun/ter2@host/db", "postgres://user:hun@ter2@host:x/db", "postgres://user:hun%zzter2@host/db",
		"postgres://user:hun ter2@host/db", "host=h password=hun ter2", "host=h password='hun'ter2", "postgrez://user:hunter2@host/db",
		"postgres://user:hunter2@host/db?sslmode=hun",
	} {
		_, err := postgres.New(postgres.Options{URL: url})
		require.ErrorContains(t, err, "parse URL", url)
		require.NotContains(t, err.Error(), "hun", url)
		require.NotContains(t, err.Error(), "ter2", url)
	}
}

// Who ended the wait is told by the SQLSTATE: each time-out here is reached
// alone, the others being longer.
func TestRepository_server_timeouts(t *testing.T) {
	t.Parallel()
	const soon, late = 50 * time.Millisecond, time.Minute
	for name, test := range map[string]struct {
		opts     postgres.Options
		params   string
		sqlstate string
	}{
		"lock":           {postgres.Options{LockTimeout: soon, StatementTimeout: late}, "", "55P03"},
		"statement":      {postgres.Options{LockTimeout: late, StatementTimeout: soon}, "", "57014"},
		"by_default":     {postgres.Options{}, "", "55P03"},
		"the_URL's_hold": {postgres.Options{LockTimeout: late, StatementTimeout: late}, "&lock_timeout=50", "55P03"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			test.opts.URL = b.url + test.params
			repo := open(t, test.opts)
			unlock := b.lockTable(t)
			_, err := repo.Session(t.Context(), sessions.NewID())
			unlock()
			requireUnavailable(t, err)
			require.ErrorContains(t, err, "SQLSTATE "+test.sqlstate)
		})
	}
	t.Run("idle_in_transaction", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.booked(t)
		repo := open(t, postgres.Options{URL: b.url, IdleInTransactionTimeout: soon})
		stood, err := repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			b.awaitNoTransaction(t)
			return start(s)
		})
		requireUnavailable(t, err)
		require.Equal(t, s, stood)
		require.Empty(t, events(t, b.url, s.ID))
	})
}

// awaitNoTransaction waits until the server has ended those that idle.
func (b bundle) awaitNoTransaction(t testing.TB) {
	t.Helper()
	const idle = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`
	require.Eventually(t, func() bool { return value[int](t, b.sql, idle) == 0 }, 10*time.Second, 10*time.Millisecond)
}

// lockTable keeps everybody else from reading tutoring_sessions.
func (b bundle) lockTable(t testing.TB) func() {
	t.Helper()
	tx, err := b.sql.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE tutoring_sessions IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

func TestRepository_Change(t *testing.T) {
	t.Parallel()
	t.Run("event_on_the_wire", eventOnTheWire)
	t.Run("home_keeps_its_other_fields", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.booked(t)
		b.exec(t, `UPDATE tutoring_sessions SET student_home_location = student_home_location || '{"floor": 3}',
			trainer_start_location = '{"latitude": 1}' WHERE id = $1`, string(s.ID))
		_, err := b.Change(t.Context(), s.ID, start)
		require.NoError(t, err)
		require.Equal(t, "3", value[string](t, b.sql, `SELECT student_home_location->>'floor' FROM tutoring_sessions`))
		require.Equal(t, "1", value[string](t, b.sql, `SELECT trainer_start_location->>'latitude' FROM tutoring_sessions`))
	})
	t.Run("nothing_changed_writes_nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.booked(t)
		const row = `SELECT xmin::text FROM tutoring_sessions`
		before := value[string](t, b.sql, row)
		_, err := b.Change(t.Context(), s.ID, func(*sessions.Session) ([]sessions.Event, error) { return nil, nil })
		require.NoError(t, err)
		require.Equal(t, before, value[string](t, b.sql, row))
	})
	t.Run("a_refusal_keeps_its_connection", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		repo := open(t, postgres.Options{URL: b.url + "&application_name=this_test", MaxConns: 1})
		s := b.booked(t)
		const backends = `SELECT array_agg(pid::int) FROM pg_stat_activity WHERE application_name = 'this_test'`
		before := value[[]int](t, b.sql, backends)
		_, err := repo.Change(t.Context(), s.ID, func(*sessions.Session) ([]sessions.Event, error) {
			return nil, sessions.Refuse(sessions.Forbidden, "no")
		})
		require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
		require.NoError(t, repo.Ping(t.Context()))
		require.Equal(t, before, value[[]int](t, b.sql, backends))
	})
	t.Run("row_locked_elsewhere", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.booked(t)
		repo := open(t, postgres.Options{URL: b.url, LockTimeout: 50 * time.Millisecond})
		_, err := b.Change(t.Context(), s.ID, func(*sessions.Session) ([]sessions.Event, error) {
			_, err := repo.Change(t.Context(), s.ID, start)
			return nil, err
		})
		requireUnavailable(t, err)
	})
}

func eventOnTheWire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.booked(t)
	_, err := b.Change(t.Context(), s.ID, start)
	require.NoError(t, err)
	arrived, err := b.Change(t.Context(), s.ID, arrive)
	require.NoError(t, err)
	rows, err := b.sql.Query(t.Context(), `SELECT event_id::text, session_id::text, type, detail, attempts,
		published_at IS NULL AND dead_at IS NULL AND locked_until IS NULL AND next_attempt_at <= now() AS due FROM outbox ORDER BY seq`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToMap)
	require.NoError(t, err)
	require.Len(t, list, 2)
	parties := map[string]any{
		"schemaVersion": 1.0, "trainerId": string(s.TrainerID), "studentId": string(s.StudentID),
		"sessionId": string(s.ID), "startTime": "2026-03-14T12:00:00.000Z",
	}
	for i, more := range []map[string]any{
		{"type": "TrainerJourneyStarted"},
		{"type": "TrainerJourneyEnded", "endTime": "2026-03-14T12:00:00.001Z", "reason": "arrived"},
	} {
		want := map[string]any{"eventId": list[i]["event_id"]}
		for _, from := range []map[string]any{parties, more} {
			maps.Copy(want, from)
		}
		delete(want, "type")
		require.Equal(t, more["type"], list[i]["type"])
		require.Equal(t, want, list[i]["detail"], "nothing else is ever in it, %s least of all", arrived.OTP)
		require.Equal(t, string(s.ID), list[i]["session_id"])
		require.Equal(t, true, list[i]["due"])
		require.EqualValues(t, 0, list[i]["attempts"])
	}
}

func TestOutbox_refuses_a_place_and_a_code(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, detail := range []string{`{"otp": "1234"}`, `{"latitude": 1}`, `{"location": {}}`} {
		_, err := b.sql.Exec(t.Context(), `INSERT INTO outbox (event_id, session_id, type, detail) VALUES ($1, $1, 'x', $2)`,
			string(sessions.NewID()), detail)
		require.ErrorContains(t, err, "outbox_no_place_no_code")
	}
}

// The lease of a region is one row, whose instant only rises.
func TestRepository_RenewLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	renewed := func(region string) time.Time {
		require.NoError(t, b.RenewLease(t.Context(), region))
		return value[time.Time](t, b.sql, `SELECT renewed_at FROM region_leases WHERE region = $1`, region)
	}
	now := value[time.Time](t, b.sql, `SELECT now()::timestamptz(3)`)
	first := renewed("eu-west-1")
	require.False(t, first.Before(now.Add(-time.Millisecond)))
	require.False(t, renewed("eu-west-1").Before(first))
	b.exec(t, `UPDATE region_leases SET renewed_at = now() + interval '1 hour'`)
	require.True(t, renewed("eu-west-1").After(first.Add(time.Minute)), "as after a failover to a server whose clock is behind")
	renewed("us")
	require.Equal(t, 2, value[int](t, b.sql, `SELECT count(*)::int FROM region_leases`))
}

// Another service may write the region of a session, but no name that none can have.
func TestRepository_region_of_another_service(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.booked(t)
	b.exec(t, `UPDATE tutoring_sessions SET journey_region = 'eu' WHERE id = $1`, string(s.ID))
	read, err := b.Session(t.Context(), s.ID)
	require.NoError(t, err)
	require.Equal(t, "eu", read.Region)
	_, err = b.sql.Exec(t.Context(), `UPDATE tutoring_sessions SET journey_region = 'EU' WHERE id = $1`, string(s.ID))
	require.ErrorContains(t, err, "doorstep_journey_region")
}

func TestRepository_context(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.booked(t)
	gone, leave := context.WithCancel(t.Context())
	leave()
	t.Run("gone_before", func(t *testing.T) {
		t.Parallel()
		_, err := b.Session(gone, s.ID)
		requireUnavailable(t, err)
		require.ErrorIs(t, err, context.Canceled)
		_, _, err = b.Create(gone, booking())
		require.ErrorIs(t, err, context.Canceled)
		_, err = b.List(gone, sessions.SessionQuery{StudentID: s.StudentID, Limit: 200})
		require.ErrorIs(t, err, context.Canceled)
		_, err = b.Change(gone, s.ID, func(*sessions.Session) ([]sessions.Event, error) {
			t.Error("f was called for somebody who has gone")
			return nil, nil
		})
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("gone_during_a_change", func(t *testing.T) {
		t.Parallel()
		s := b.booked(t)
		ctx, leave := context.WithCancel(t.Context())
		_, err := b.Change(ctx, s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			leave()
			return start(s)
		})
		require.NoError(t, err, "what has begun is done")
		require.Len(t, events(t, b.url, s.ID), 1)
	})
}

func requireUnavailable(t testing.TB, err error) {
	t.Helper()
	var fault *sessions.Error
	require.ErrorAs(t, err, &fault)
	require.Equal(t, sessions.DatabaseUnavailable, fault.Code, "%v", err)
	require.Equal(t, time.Second, fault.RetryAfter)
	require.NotContains(t, fault.Message, "SQLSTATE", "the message is for callers")
	require.Error(t, fault.Unwrap())
}
