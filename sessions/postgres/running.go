package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const (
	selectRunning = `SELECT ` + columns + ` FROM tutoring_sessions
		WHERE journey_started_at IS NOT NULL AND journey_ended_at IS NULL AND journey_started_at <= $1
		ORDER BY journey_started_at, id LIMIT $2`
	// No row comes back for an event that is known.
	recordEvent = insertEvent + ` ON CONFLICT (event_id) DO NOTHING RETURNING true`
)

// Record implements sessions.Repository. It takes the session's lock
// before it draws its place in the outbox, as a transition does; the order of
// the events rests on that.
func (r *Repository) Record(ctx context.Context, e sessions.Event) (first bool, err error) {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return false, unavailable("record event", err)
	}
	defer done()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, unavailable("begin", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = scan(tx.QueryRow(ctx, lockSession, string(e.SessionID)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, notFound()
	case err != nil:
		return false, unavailable("lock session", err)
	}
	err = tx.QueryRow(ctx, recordEvent, string(e.ID), string(e.SessionID), string(e.Type), string(e.Detail())).Scan(&first)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, unavailable("record event", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return false, unavailable("commit event", err)
	}
	return true, nil
}

// Running implements sessions.Repository. One round trip, from an
// index that holds running journeys only, in their order.
func (r *Repository) Running(ctx context.Context, startedBy time.Time, limit int) ([]sessions.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	rows, err := r.pool.Query(ctx, selectRunning, startedBy, limit)
	if err != nil {
		return nil, unavailable("list running journeys", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sessions.Session, error) { return scan(row) })
	if err != nil {
		return nil, unavailable("list running journeys", err)
	}
	return list, nil
}
