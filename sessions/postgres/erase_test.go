package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
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
