package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

// deadLetters is both tables' in one list.
const (
	deadLetters = `SELECT consumer, seq, type, session_id::text, attempts, created_at, dead_at, coalesce(last_error, '')
		FROM (SELECT '' AS consumer, seq, type, session_id, attempts, created_at, dead_at, last_error
				FROM outbox WHERE dead_at IS NOT NULL
			UNION ALL SELECT consumer, seq, type, session_id, attempts, created_at, dead_at, last_error
				FROM outbox_deliveries WHERE dead_at IS NOT NULL) dead
		ORDER BY seq, consumer LIMIT $1`

	// Both in one statement, so that an event is not requeued in one table only.
	requeue = `WITH bus AS (
			UPDATE outbox SET dead_at = NULL, attempts = 0, locked_until = NULL, next_attempt_at = now()
			WHERE dead_at IS NOT NULL AND ($1 OR seq = ANY($2)) RETURNING seq),
		inboxes AS (
			UPDATE outbox_deliveries SET dead_at = NULL, attempts = 0, locked_until = NULL, next_attempt_at = now()
			WHERE dead_at IS NOT NULL AND ($1 OR seq = ANY($2)) RETURNING seq)
		SELECT (SELECT count(*) FROM bus) + (SELECT count(*) FROM inboxes)`
)

// DeadLetters lists up to limit of them, lowest seq first: what was given up
// on the way to the bus and to consumers in this house.
func (r *Repository) DeadLetters(ctx context.Context, limit int) ([]outbox.DeadLetter, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	rows, err := r.pool.Query(ctx, deadLetters, limit)
	if err != nil {
		return nil, unavailable("list dead letters", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d outbox.DeadLetter, err error) {
		var eventType, session string
		var since, died time.Time
		err = row.Scan(&d.Consumer, &d.Seq, &eventType, &session, &d.Attempts, &since, &died, &d.Reason)
		d.Type, d.SessionID, d.Since, d.DeadAt = sessions.EventType(eventType), sessions.ID(session), since.UTC(), died.UTC()
		return d, err
	})
	if err != nil {
		return nil, unavailable("list dead letters", err)
	}
	return list, nil
}

// Requeue brings dead letters back to life, with their attempts counted from
// anew: those with these seqs, or all. It answers how many there were. They
// come after what has passed them; consumers tell by the event's instants.
func (r *Repository) Requeue(ctx context.Context, all bool, seqs []int64) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	var n int
	if err := r.pool.QueryRow(ctx, requeue, all, seqs).Scan(&n); err != nil {
		return 0, unavailable("requeue dead letters", err)
	}
	return n, nil
}
