package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// What comes after a journey fails as all else does: by its code, and with the
// transaction undone.
func TestRepository_after_the_journey_without_a_database(t *testing.T) {
	t.Parallel()
	repo, err := postgres.New(postgres.Options{URL: "postgres://nobody@127.0.0.1:1/none?connect_timeout=1"})
	require.NoError(t, err)
	t.Cleanup(repo.Close)
	ctx := context.WithoutCancel(t.Context())
	s := booking()
	for name, call := range map[string]func() error{
		"Record":  func() error { _, err := repo.Record(ctx, sessions.Event{SessionID: s.ID}); return err },
		"Running": func() error { _, err := repo.Running(ctx, noon, sessions.JourneyKey{}, 1); return err },
		"Review":  func() error { _, err := repo.Review(ctx, s.ID, nil); return err },
		"CreateOnce": func() error {
			_, _, err := repo.CreateOnce(ctx, sessions.BookingKey{CallerID: s.ID, Key: "k", At: noon}, s)
			return err
		},
		"List":             func() error { _, err := repo.List(ctx, sessions.SessionQuery{Limit: 1}); return err },
		"RunningPage":      func() error { _, err := repo.RunningPage(ctx, "", sessions.Cursor{}, 1); return err },
		"UserData":         func() error { _, err := repo.UserData(ctx, s.TrainerID); return err },
		"EraseUser":        func() error { _, err := repo.EraseUser(ctx, sessions.Erasure{UserID: s.ID, Alias: s.ID}); return err },
		"RunningOf":        func() error { _, _, err := repo.RunningOf(ctx, s.TrainerID); return err },
		"ReviewOf":         func() error { _, _, err := repo.ReviewOf(ctx, s.ID); return err },
		"Rating":           func() error { _, err := repo.Rating(ctx, s.TrainerID); return err },
		"PutPushToken":     func() error { return repo.PutPushToken(ctx, sessions.PushToken{Token: "a", UserID: s.ID}) },
		"DeletePushToken":  func() error { return repo.DeletePushToken(ctx, s.ID, "a") },
		"DropLiveActivity": func() error { return repo.DropLiveActivity(ctx, s.ID, "a", "b") },
		"PushTokensOf":     func() error { _, err := repo.PushTokensOf(ctx, s.ID); return err },
		"RecordJourney": func() error {
			_, _, err := repo.RecordJourney(ctx, sessions.Event{Type: sessions.JourneyEnded, SessionID: s.ID})
			return err
		},
		"AddCounts":     func() error { return repo.AddCounts(ctx, []sessions.JourneyCounts{{Ref: s.Journey().Ref}}) },
		"JourneyRecord": func() error { _, _, err := repo.JourneyRecord(ctx, sessions.JourneyKey{SessionID: s.ID}); return err },
		"LastSeen":      func() error { _, err := repo.LastSeen(ctx, nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireUnavailable(t, call())
		})
	}
}

// The rating moves in the review's transaction, or not at all.
func TestRepository_Review_is_whole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.booked(t)
	b.exec(t, `ALTER TABLE trainer_ratings ADD CONSTRAINT broken CHECK (reviews < 0)`)
	review := func(sessions.Session) (sessions.Review, error) {
		return sessions.Review{SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID, Stars: 5, At: noon}, nil
	}
	_, err := b.Review(t.Context(), s.ID, review)
	requireUnavailable(t, err)
	require.Zero(t, value[int](t, b.sql, `SELECT count(*) FROM session_reviews`))
	b.exec(t, `ALTER TABLE trainer_ratings DROP CONSTRAINT broken`)
	rating, err := b.Review(t.Context(), s.ID, review)
	require.NoError(t, err)
	require.Equal(t, sessions.Rating{Sum: 5, Count: 1}, rating)
}

// A list of all sessions reads one page from its index, wherever the page is.
func TestRepository_List_uses_its_index(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO tutoring_sessions (id, trainer_id, student_id, status, scheduled_at)
		SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'scheduled', now() - n * interval '1 min' FROM generate_series(1, 20000) n`)
	b.exec(t, `ANALYZE tutoring_sessions`)
	plan := value[string](t, b.sql, `EXPLAIN (FORMAT JSON) SELECT id FROM tutoring_sessions
		WHERE (coalesce(scheduled_at, '0001-01-01 00:00:00+00'), id) < (now() - interval '7 d', '11111111-1111-4111-8111-111111111111')
		ORDER BY coalesce(scheduled_at, '0001-01-01 00:00:00+00') DESC, id DESC LIMIT 200`)
	require.Contains(t, plan, "tutoring_sessions_by_time")
	require.Contains(t, plan, "Index Cond")
	require.NotContains(t, plan, "Sort")
	// Few have the status that an office asks for, and they are anywhere.
	plan = value[string](t, b.sql, `EXPLAIN (FORMAT JSON) SELECT id FROM tutoring_sessions WHERE status = 'in_progress'
		ORDER BY coalesce(scheduled_at, '0001-01-01 00:00:00+00') DESC, id DESC LIMIT 200`)
	require.Contains(t, plan, "tutoring_sessions_by_status")
	require.NotContains(t, plan, "Sort")
}

// A person's request reads no table of a row a session from end to end.
func TestRepository_EraseUser_uses_indexes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO session_reviews SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 5, '', now() FROM generate_series(1, 20000)`)
	b.exec(t, `INSERT INTO journey_analytics (session_id, started_at, trainer_id, student_id)
		SELECT gen_random_uuid(), now(), gen_random_uuid(), gen_random_uuid() FROM generate_series(1, 20000)`)
	b.exec(t, `ANALYZE session_reviews`)
	b.exec(t, `ANALYZE journey_analytics`)
	for _, table := range []string{"session_reviews", "journey_analytics"} {
		plan := value[string](t, b.sql, `EXPLAIN (FORMAT JSON) SELECT session_id FROM `+table+`
			WHERE trainer_id = '11111111-1111-4111-8111-111111111111' OR student_id = '11111111-1111-4111-8111-111111111111'`)
		require.NotContains(t, plan, "Seq Scan", table)
	}
}

// The look for overdue journeys reads running ones only, in their order.
func TestRepository_Running_uses_its_index(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO tutoring_sessions (id, trainer_id, student_id, status, journey_started_at, journey_ended_at)
		SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'scheduled', now(),
			CASE WHEN n % 100 > 0 THEN now() + interval '1 s' END FROM generate_series(1, 20000) n`)
	b.exec(t, `ANALYZE tutoring_sessions`)
	plan := value[string](t, b.sql, `EXPLAIN (FORMAT JSON) SELECT id FROM tutoring_sessions
		WHERE journey_started_at IS NOT NULL AND journey_ended_at IS NULL AND journey_started_at <= now() - interval '1 h'
		ORDER BY journey_started_at, id LIMIT 200`)
	require.Contains(t, plan, "tutoring_sessions_running_since")
}
