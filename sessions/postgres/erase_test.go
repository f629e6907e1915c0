package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// After an erasure no row of any table has the user's id, whatever the table is called.
func TestRepository_EraseUser_everywhere(t *testing.T) {
	t.Parallel()
	t.Run("as_it_is", func(t *testing.T) {
		t.Parallel()
		eraseEverywhere(t, setup(t), func(bundle) {})
	})
	t.Run("the_operator_has_deleted_the_session", func(t *testing.T) {
		t.Parallel()
		eraseEverywhere(t, setup(t), func(b bundle) { b.exec(t, `DELETE FROM tutoring_sessions`) })
	})
}

func eraseEverywhere(t *testing.T, b bundle, before func(bundle)) {
	t.Helper()
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	s := booking()
	for _, user := range []sessions.ID{s.TrainerID, s.StudentID} {
		require.NoError(t, b.PutPushToken(t.Context(), sessions.PushToken{Token: "t" + string(user), UserID: user, Platform: sessions.IOS, RegisteredAt: noon}))
	}
	_, _, err := b.CreateOnce(t.Context(), sessions.BookingKey{CallerID: s.StudentID, Key: "k", At: noon}, s)
	require.NoError(t, err)
	var raised []sessions.Event
	change := func(f func(*sessions.Session) ([]sessions.Event, error)) {
		_, err := b.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			events, err := f(s)
			raised = append(raised, events...)
			return events, err
		})
		require.NoError(t, err)
	}
	change(start)
	change(func(s *sessions.Session) ([]sessions.Event, error) {
		s.JourneyEndedBy = s.TrainerID
		return s.Cancel(sessions.Caller{ID: s.StudentID, Role: sessions.Student}, "a reason of a person", noon.Add(time.Minute))
	})
	for _, e := range raised {
		_, _, err := b.RecordJourney(t.Context(), e)
		require.NoError(t, err)
	}
	_, err = b.Review(t.Context(), s.ID, func(s sessions.Session) (sessions.Review, error) {
		return sessions.Review{SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID, Stars: 5, Comment: "of a person", At: noon}, nil
	})
	require.NoError(t, err)
	b.exec(t, `UPDATE outbox SET published_at = now() WHERE seq = 1`)
	b.exec(t, `UPDATE outbox SET dead_at = now() WHERE seq = 2`)

	before(b)
	for _, user := range []sessions.ID{s.StudentID, s.TrainerID} {
		data, err := b.UserData(t.Context(), user)
		require.NoError(t, err)
		require.Equal(t, []int{1, 1}, []int{len(data.Reviews), len(data.Journeys)})
		require.NotEmpty(t, tablesWith(t, b, string(user)))
		e := sessions.Erasure{UserID: user, Alias: sessions.NewID(), By: admin, At: noon.Add(time.Hour)}
		pending, err := b.EraseUser(t.Context(), e)
		require.NoError(t, err)
		if pending > 0 {
			require.NotEmpty(t, tablesWith(t, b, string(user)), "an event that waits must name whom it concerns")
			b.exec(t, `UPDATE outbox SET published_at = now() WHERE published_at IS NULL AND dead_at IS NULL`)
			pending, err = b.EraseUser(t.Context(), e)
			require.NoError(t, err)
		}
		require.Zero(t, pending)
		require.Empty(t, tablesWith(t, b, string(user)))
	}
	require.Empty(t, tablesWith(t, b, "of a person"))
	require.Empty(t, tablesWith(t, b, "a reason of a person"))
	require.Zero(t, value[int](t, b.sql, `SELECT count(*) FROM tutoring_sessions WHERE student_home_location IS NOT NULL OR close_reason IS NOT NULL`))
	require.Equal(t, 3, value[int](t, b.sql, `SELECT count(*) FROM outbox`), "the events stay")
}

// Wherever a row has a user's id, and whoever else it is about, an erasure finds it.
func TestRepository_EraseUser_every_column(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.booked(t)
	fill := strings.NewReplacer("{session}", "'"+string(s.ID)+"'", "{user}", "'"+string(s.StudentID)+"'").Replace(`
		INSERT INTO session_reviews VALUES ({session}, {user}, {user}, 5, '', now()) ON CONFLICT DO NOTHING;
		INSERT INTO trainer_ratings VALUES ({user}, 5, 1) ON CONFLICT DO NOTHING;
		INSERT INTO journey_analytics (session_id, started_at) VALUES ({session}, '2026-03-14') ON CONFLICT DO NOTHING;
		INSERT INTO push_tokens (token, user_id, platform, language, registered_at) VALUES ('t', {user}, 'ios', '', now()) ON CONFLICT DO NOTHING;
		INSERT INTO devices VALUES ({session}, {user}, '', 'osmand', sha256('t'), now(), now()) ON CONFLICT DO NOTHING;
		INSERT INTO share_links VALUES ({session}, sha256('t'), {session}, {user}, {user}, NULL, now()) ON CONFLICT DO NOTHING;
		INSERT INTO booking_keys VALUES ({user}, 'k', '', {session}, now()) ON CONFLICT DO NOTHING`)
	rows, err := b.sql.Query(t.Context(), `SELECT table_name || ' SET ' || column_name FROM information_schema.columns WHERE table_schema = 'public'
		AND (column_name LIKE '%\_by' OR column_name LIKE '%\_id' AND column_name NOT IN ('session_id', 'event_id', 'request_id'))`)
	require.NoError(t, err)
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, columns, "tutoring_sessions SET closed_by")
	for _, column := range columns {
		b.exec(t, fill)
		user := sessions.NewID()
		tag, err := b.sql.Exec(t.Context(), `UPDATE `+column+` = $1`, string(user))
		require.NoError(t, err)
		require.NotZero(t, tag.RowsAffected(), "the test shows nothing of %s", column)
		e := sessions.Erasure{UserID: user, Alias: sessions.NewID(), At: noon}
		for range 2 { // what the first one cancels has an event
			_, err = b.EraseUser(t.Context(), e)
			require.NoError(t, err)
			b.exec(t, `UPDATE outbox SET published_at = now()`)
		}
		require.Empty(t, tablesWith(t, b, string(user)), column)
	}
}

// From a far region a round trip takes 100 ms or more, and a trainer has many bookings.
func TestRepository_EraseUser_round_trips(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var sent []string
	repo := open(t, postgres.Options{URL: b.url, Trace: func(ctx context.Context, what string) (context.Context, func(error)) {
		sent = append(sent, what)
		return ctx, func(error) {}
	}})
	e := sessions.Erasure{UserID: sessions.NewID(), Alias: sessions.NewID(), At: noon}
	const bookings = 30
	for range bookings {
		s := booking()
		s.TrainerID = e.UserID
		_, _, err := b.Create(t.Context(), s)
		require.NoError(t, err)
	}
	for _, waiting := range []int{bookings, 0} {
		sent = nil
		pending, err := repo.EraseUser(t.Context(), e)
		require.NoError(t, err)
		require.Equal(t, waiting, pending)
		require.LessOrEqual(t, len(sent), 7, "%q", sent)
		b.exec(t, `UPDATE outbox SET published_at = now()`)
	}
	require.Empty(t, tablesWith(t, b, string(e.UserID)))
}

// A trainer may have thousands of sessions: no event is compared with each of them, also in a plan for all arguments.
func TestRepository_EraseUser_looks_sessions_up(t *testing.T) {
	t.Parallel()
	b := setup(t)
	args := pgx.NamedArgs{"user": string(sessions.NewID()), "ids": []string{string(sessions.NewID())}}
	for _, table := range []string{"outbox", "outbox_deliveries"} {
		plan := explained(t, b.sql, `EXPLAIN UPDATE `+table+` SET detail = detail WHERE `+postgres.AboutUser, args)
		require.Contains(t, plan, "hashed SubPlan", table)
	}
}

// An erasure of much takes longer than other calls may, also where a pooler keeps the pool from
// setting its own limits. Afterwards these hold again, and a locked row is waited for no longer.
func TestRepository_EraseUser_takes_its_time(t *testing.T) {
	t.Parallel()
	server := withSchema(t)
	sql := connect(t, server.DSN())
	b := bundle{url: server.DSN(), sql: sql}
	b.exec(t, `ALTER ROLE postgres SET statement_timeout = '400ms'`)
	b.exec(t, `ALTER ROLE postgres SET lock_timeout = '100ms'`)
	b.exec(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.6); RETURN NEW; END $$`)
	b.exec(t, `CREATE TRIGGER slow BEFORE UPDATE OF detail ON outbox FOR EACH ROW EXECUTE FUNCTION slow()`)
	for name, opts := range map[string]postgres.Options{
		"direct": {URL: server.DSN(), StatementTimeout: 400 * time.Millisecond, LockTimeout: 100 * time.Millisecond, CallTimeout: time.Second},
		"pooled": {URL: postgrestest.PgBouncer(t, server.DSN()), Pooled: true, CallTimeout: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			opts.MaxConns = 1
			b.Repository = open(t, opts)
			s := b.booked(t)
			_, err := b.Change(t.Context(), s.ID, start)
			require.NoError(t, err)
			_, err = b.Change(t.Context(), s.ID, arrive)
			require.NoError(t, err)
			e := sessions.Erasure{UserID: s.StudentID, Alias: sessions.NewID(), At: noon.Add(time.Hour)}
			unlock := b.lockTable(t)
			_, err = b.EraseUser(t.Context(), e)
			unlock()
			require.ErrorContains(t, err, "SQLSTATE 55P03")
			for _, waiting := range []int{3, 0} {
				pending, err := b.EraseUser(t.Context(), e)
				require.NoError(t, err)
				require.Equal(t, waiting, pending)
				b.exec(t, `UPDATE outbox SET published_at = now() WHERE published_at IS NULL`)
			}
			require.Empty(t, tablesWith(t, b, string(s.StudentID)))
			var left string
			require.NoError(t, b.Conns().QueryRow(t.Context(), `SHOW statement_timeout`).Scan(&left))
			require.Equal(t, "400ms", left)
		})
	}
}

// tablesWith lists the tables with a row that has this text.
func tablesWith(t *testing.T, b bundle, text string) (found []string) {
	t.Helper()
	rows, err := b.sql.Query(t.Context(), `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, table := range tables {
		if value[bool](t, b.sql, `SELECT EXISTS (SELECT FROM `+table+` r WHERE strpos(r::text, $1) > 0)`, text) {
			found = append(found, table)
		}
	}
	return found
}

// The operator's own rule may not let an id go.
func TestRepository_EraseUser_refused_by_the_table(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.booked(t)
	b.exec(t, `UPDATE tutoring_sessions SET status = 'completed'`)
	b.exec(t, `CREATE TABLE users (id uuid PRIMARY KEY)`)
	b.exec(t, `INSERT INTO users SELECT student_id FROM tutoring_sessions`)
	b.exec(t, `ALTER TABLE tutoring_sessions ADD FOREIGN KEY (student_id) REFERENCES users`)
	_, err := b.EraseUser(t.Context(), sessions.Erasure{UserID: s.StudentID, Alias: sessions.NewID(), At: noon})
	require.Equal(t, sessions.NotSupported, sessions.CodeOf(err), "%v", err)
}
