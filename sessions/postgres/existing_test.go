package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// existingTables are an operator's table as it may be found: the columns that
// docs/origin.md names, in the types they may have.
var existingTables = map[string]string{
	"uuid_ids": `CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid NOT NULL,
		status varchar(20) NOT NULL DEFAULT 'scheduled', subject text, student_home_location jsonb,
		trainer_start_location jsonb, student_otp varchar(6))`,
	"text_ids_json_and_old_timestamps": `CREATE TABLE tutoring_sessions (id varchar(36) PRIMARY KEY,
		trainer_id varchar(36), student_id varchar(36) NOT NULL, status text NOT NULL, subject text,
		student_home_location json, trainer_start_location json, student_otp char(4),
		created_at timestamp DEFAULT '2025-01-02 03:04:05.6789', scheduled_at timestamp with time zone)`,
	"enum_status": `CREATE TYPE their_status AS ENUM ('draft', 'scheduled', 'pending_verification', 'in_progress',
		'completed', 'cancelled', 'no_show');
		CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid NOT NULL,
		status their_status NOT NULL, subject text, student_home_location jsonb, trainer_start_location jsonb, student_otp text)`,
}

const (
	existing = sessions.ID("11111111-1111-4111-8111-111111111111")
	trainer  = sessions.ID("22222222-2222-4222-8222-222222222222")
	student  = sessions.ID("33333333-3333-4333-8333-333333333333")
)

const insertExistingRow = `INSERT INTO tutoring_sessions (id, trainer_id, student_id, status, subject, student_home_location)
	VALUES ($1, $2, $3, $4, 'algebra', $5)`

// existingBundle is an operator's table with one bookable row in it, migrated.
func existingBundle(t *testing.T, ddl string) bundle {
	t.Helper()
	url := postgrestest.New(t)
	b := bundle{url: url, sql: connect(t, url)}
	b.exec(t, ddl)
	b.exec(t, insertExistingRow, string(existing), string(trainer), string(student), "scheduled",
		`{"latitude": 12.97634721, "longitude": "77.5929284", "flat": "4b"}`)
	require.NoError(t, postgres.Migrate(t.Context(), url, nil))
	b.Repository = open(t, postgres.Options{URL: url})
	return b
}

func TestMigrate_existing_table(t *testing.T) {
	t.Parallel()
	for name, ddl := range existingTables {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("its_row_is_travelled_to", func(t *testing.T) {
				t.Parallel()
				travelled(t, existingBundle(t, ddl))
			})
			t.Run("its_own_statuses_stay_writable", func(t *testing.T) {
				t.Parallel()
				foreignStatus(t, existingBundle(t, ddl))
			})
			t.Run("its_home_is_moved", func(t *testing.T) {
				t.Parallel()
				moved(t, existingBundle(t, ddl))
			})
			t.Run("booked_from_here", func(t *testing.T) {
				t.Parallel()
				b := existingBundle(t, ddl)
				s := b.booked(t)
				again, created, err := b.Create(t.Context(), s)
				require.NoError(t, err)
				require.False(t, created)
				require.Equal(t, s, again)
			})
		})
	}
}

// travelled takes a row that another service wrote through all its transitions.
func travelled(t *testing.T, b bundle) {
	s, err := b.Session(t.Context(), existing)
	require.NoError(t, err)
	require.Equal(t, trainer, s.TrainerID)
	require.Equal(t, geo.MustPoint(12.9763472, 77.5929284), s.Home)
	require.Equal(t, sessions.Car, s.Mode)
	if !s.CreatedAt.IsZero() {
		require.Equal(t, time.Date(2025, 1, 2, 3, 4, 5, 678e6, time.UTC), s.CreatedAt)
	}
	_, err = b.Change(t.Context(), existing, start)
	require.NoError(t, err)
	arrived, err := b.Change(t.Context(), existing, arrive)
	require.NoError(t, err)
	require.Len(t, arrived.OTP, 4)
	lesson, err := b.Change(t.Context(), existing, func(s *sessions.Session) ([]sessions.Event, error) {
		return nil, s.Verify(arrived.OTP, noon)
	})
	require.NoError(t, err)
	require.Equal(t, sessions.InProgress, lesson.Status)
	list, err := b.List(t.Context(), sessions.SessionQuery{StudentID: student, Limit: 200})
	require.NoError(t, err)
	require.Equal(t, []sessions.Session{lesson}, list)
	require.Equal(t, "algebra", value[string](t, b.sql, `SELECT subject FROM tutoring_sessions`))
	require.Equal(t, "4b", value[string](t, b.sql, `SELECT student_home_location->>'flat' FROM tutoring_sessions`))
}

// A home that is moved keeps what another service stores in it.
func moved(t *testing.T, b bundle) {
	home := geo.MustPoint(52, 5)
	s, err := b.Rebook(t.Context(), existing, func(s *sessions.Session) ([]sessions.Event, error) {
		return s.Rebook(sessions.Rebooking{Home: &home}, sessions.Caller{ID: trainer, Role: sessions.Admin}, noon)
	})
	require.NoError(t, err)
	require.Equal(t, home, s.Home)
	require.Equal(t, "4b", value[string](t, b.sql, `SELECT student_home_location->>'flat' FROM tutoring_sessions`))
	b.exec(t, `UPDATE tutoring_sessions SET student_home_location = 'null'`)
	s, err = b.Rebook(t.Context(), existing, func(s *sessions.Session) ([]sessions.Event, error) {
		return s.Rebook(sessions.Rebooking{Home: &home}, sessions.Caller{ID: trainer, Role: sessions.Admin}, noon)
	})
	require.NoError(t, err)
	require.Equal(t, home, s.Home)
}

// foreignStatus: another service may write a status that is not in our list, and a
// session of that status is no fault to read and no start.
func foreignStatus(t *testing.T, b bundle) {
	b.exec(t, `UPDATE tutoring_sessions SET status = 'no_show'`)
	_, err := b.Change(t.Context(), existing, start)
	require.Equal(t, sessions.NotScheduled, sessions.CodeOf(err))
	list, err := b.List(t.Context(), sessions.SessionQuery{StudentID: student, Limit: 200})
	require.NoError(t, err)
	require.Equal(t, sessions.Status("no_show"), list[0].Status)
}

// Another service's list of statuses may not have no_show.
func TestRepository_no_show_where_the_table_has_none(t *testing.T) {
	t.Parallel()
	for name, ddl := range map[string]string{
		"enum": `CREATE TYPE their_status AS ENUM ('scheduled', 'pending_verification', 'in_progress', 'completed', 'cancelled');
			CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid NOT NULL, subject text,
			status their_status NOT NULL, student_home_location jsonb)`,
		"check": `CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid NOT NULL, subject text,
			status text NOT NULL CHECK (status <> 'no_show'), student_home_location jsonb)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := existingBundle(t, ddl)
			_, err := b.Change(t.Context(), existing, start)
			require.NoError(t, err)
			arrived, err := b.Change(t.Context(), existing, arrive)
			require.NoError(t, err)
			stood, err := b.Change(t.Context(), existing, func(s *sessions.Session) ([]sessions.Event, error) {
				return s.MarkNoShow(sessions.Caller{ID: trainer, Role: sessions.Trainer}, noon)
			})
			require.Equal(t, sessions.NotSupported, sessions.CodeOf(err), "%v", err)
			require.Equal(t, arrived, stood)
			list, err := b.List(t.Context(), sessions.SessionQuery{Status: sessions.NoShow, Limit: 10})
			require.NoError(t, err)
			require.Empty(t, list)
			list, err = b.List(t.Context(), sessions.SessionQuery{Status: sessions.PendingVerification, Limit: 10})
			require.NoError(t, err)
			require.Equal(t, []sessions.Session{arrived}, list)
			_, err = b.Change(t.Context(), existing, func(s *sessions.Session) ([]sessions.Event, error) {
				return s.Cancel(sessions.Caller{ID: trainer, Role: sessions.Admin}, "", noon)
			})
			require.NoError(t, err)
		})
	}
}

func TestRepository_odd_rows_of_another_service(t *testing.T) {
	t.Parallel()
	b := existingBundle(t, existingTables["text_ids_json_and_old_timestamps"])
	for _, home := range []any{nil, `null`, `{}`, `[]`, `"here"`, `{"latitude": 91, "longitude": 0}`, `{"latitude": {}, "longitude": 1}`} {
		b.exec(t, insertExistingRow, string(sessions.NewID()), nil, string(student), "scheduled", home)
	}
	b.exec(t, insertExistingRow, "legacy-7", "nobody", string(student), "scheduled", nil)
	list, err := b.List(t.Context(), sessions.SessionQuery{StudentID: student, Limit: 200})
	require.NoError(t, err, "one odd row takes nothing away from the others")
	require.Len(t, list, 9)
	for _, s := range list {
		if s.ID != existing {
			require.False(t, s.Home.Valid())
			require.Empty(t, s.TrainerID, "nobody")
		}
	}
}

func TestMigrate_existing_table_refused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ ddl, message string }{
		"numbered_ids": {
			`CREATE TABLE tutoring_sessions (id bigserial PRIMARY KEY, trainer_id uuid, student_id uuid, status text)`,
			"id is bigint",
		},
		"numeric_otp": {
			`CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid, status text, student_otp int)`,
			"student_otp is integer",
		},
		"short_status": {
			`CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid, status varchar(12))`,
			"status is character varying",
		},
		"enum_without_our_words": {
			`CREATE TYPE s AS ENUM ('scheduled', 'in_progress', 'completed', 'cancelled');
			 CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid, status s)`,
			"status is USER-DEFINED",
		},
		"home_in_text": {
			`CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid, status text, student_home_location text)`,
			"student_home_location is text",
		},
		"two_journeys_of_one_trainer": {
			`CREATE TABLE tutoring_sessions (id uuid PRIMARY KEY, trainer_id uuid, student_id uuid, status text, journey_started_at timestamptz);
			 INSERT INTO tutoring_sessions (id, trainer_id, status, journey_started_at)
			 SELECT gen_random_uuid(), '` + string(trainer) + `', 'scheduled', now() FROM generate_series(1, 2);
			 ALTER TABLE tutoring_sessions ADD COLUMN journey_ended_at timestamptz`,
			string(trainer) + " (SQLSTATE P0001). End all but the latest",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := postgrestest.New(t)
			sql := connect(t, url)
			_, err := sql.Exec(t.Context(), test.ddl)
			require.NoError(t, err)
			require.ErrorContains(t, postgres.Migrate(t.Context(), url, nil), test.message)
			require.Zero(t, value[int](t, sql, `SELECT count(*) FROM pg_tables WHERE tablename IN ('outbox', 'doorstep_migrations')`))
		})
	}
}
