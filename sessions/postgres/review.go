package postgres

import (
	"context"
	"errors"
	"maps"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const (
	// It returns no row when the session has a review.
	insertReview = `WITH review AS (INSERT INTO session_reviews (session_id, trainer_id, student_id, stars, comment, reviewed_at)
			VALUES (@session_id, @trainer_id, @student_id, @stars, @comment, @reviewed_at) ON CONFLICT (session_id) DO NOTHING RETURNING 1),
		audit AS (INSERT INTO session_audit (` + auditColumns + `) SELECT ` + auditValues + ` FROM review)
		SELECT true FROM review`
	moveRating = `INSERT INTO trainer_ratings AS r (trainer_id, stars_sum, reviews) VALUES ($1, $2, 1)
		ON CONFLICT (trainer_id) DO UPDATE SET stars_sum = r.stars_sum + excluded.stars_sum, reviews = r.reviews + 1
		RETURNING stars_sum, reviews`
	selectReview = `SELECT session_id::text, trainer_id::text, student_id::text, stars, comment, reviewed_at
		FROM session_reviews WHERE session_id = $1`
	selectRating = `SELECT stars_sum, reviews FROM trainer_ratings WHERE trainer_id = $1`
)

// Review implements sessions.Repository. Five round trips: the session's row is locked in
// all of them, the trainer's rating in the last two. After a commit whose answer is lost
// the next try gets AlreadyReviewed.
func (r *Repository) Review(
	ctx context.Context, id sessions.ID, f func(sessions.Session) (sessions.Review, error),
) (sessions.Rating, error) {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return sessions.Rating{}, unavailable("review session", err)
	}
	defer done()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return sessions.Rating{}, unavailable("begin", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	session, err := scan(tx.QueryRow(ctx, lockSession, string(id)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Rating{}, notFound()
	case err != nil:
		return sessions.Rating{}, unavailable("lock session", err)
	}
	review, err := f(session)
	if err != nil {
		return sessions.Rating{}, err
	}
	rating, err := storeReview(ctx, tx, session, review)
	if err != nil {
		return sessions.Rating{}, err
	}
	if err := tx.Commit(ctx); err != nil {
		return sessions.Rating{}, unavailable("commit review", err)
	}
	return rating, nil
}

func storeReview(ctx context.Context, tx pgx.Tx, s sessions.Session, v sessions.Review) (rating sessions.Rating, err error) {
	var stored bool
	args := auditArgs(sessions.AuditReview(s, v, sessions.ActorOf(ctx)))
	maps.Copy(args, pgx.NamedArgs{
		"session_id": string(v.SessionID), "trainer_id": string(v.TrainerID), "student_id": string(v.StudentID),
		"stars": v.Stars, "comment": v.Comment, "reviewed_at": millisecond(v.At),
	})
	err = tx.QueryRow(ctx, insertReview, args).Scan(&stored)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return rating, sessions.Refuse(sessions.AlreadyReviewed, "the session has been reviewed already")
	case err != nil:
		return rating, unavailable("store review", err)
	}
	if err := tx.QueryRow(ctx, moveRating, string(v.TrainerID), v.Stars).Scan(&rating.Sum, &rating.Count); err != nil {
		return rating, unavailable("move rating", err)
	}
	return rating, nil
}

// ReviewOf implements sessions.Repository. One round trip.
func (r *Repository) ReviewOf(ctx context.Context, id sessions.ID) (v sessions.Review, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	v, err = scanReview(r.pool.QueryRow(ctx, selectReview, string(id)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.Review{}, false, nil
	case err != nil:
		return sessions.Review{}, false, unavailable("read review", err)
	}
	return v, true, nil
}

func scanReview(row pgx.Row) (v sessions.Review, err error) {
	err = row.Scan(&v.SessionID, &v.TrainerID, &v.StudentID, &v.Stars, &v.Comment, &v.At)
	v.At = millisecond(v.At)
	return v, err
}

// Rating implements sessions.Repository. One round trip.
func (r *Repository) Rating(ctx context.Context, trainerID sessions.ID) (rating sessions.Rating, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	err = r.pool.QueryRow(ctx, selectRating, string(trainerID)).Scan(&rating.Sum, &rating.Count)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return sessions.Rating{}, unavailable("read rating", err)
	}
	return rating, nil
}
