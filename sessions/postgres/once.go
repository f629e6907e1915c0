package postgres

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

// Once is the outbox.Once of any number of processes on one database: two short
// statements around do.
type Once struct {
	repo  *Repository
	lease time.Duration
}

var _ outbox.Once = (*Once)(nil)

// NewOnce makes a Once on r's pool. lease is how long a call may take before another
// one takes the event over; zero is a minute.
func NewOnce(r *Repository, lease time.Duration) *Once {
	return &Once{r, cmp.Or(lease, time.Minute)}
}

const (
	// It returns no row when the event is done or is being handled.
	beginConsuming = `INSERT INTO consumed_events AS c (consumer, event_id, locked_until)
		VALUES ($1, $2, clock_timestamp() + $3 * interval '1 ms')
		ON CONFLICT (consumer, event_id) DO UPDATE SET locked_until = excluded.locked_until
			WHERE c.done_at IS NULL AND c.locked_until <= clock_timestamp()
		RETURNING c.locked_until`
	isConsumed   = `SELECT done_at IS NOT NULL FROM consumed_events WHERE consumer = $1 AND event_id = $2`
	endConsuming = `UPDATE consumed_events SET done_at = now() WHERE consumer = $1 AND event_id = $2`
	// Only its own lease: once that has run out another call may have the event.
	dropConsuming = `DELETE FROM consumed_events
		WHERE consumer = $1 AND event_id = $2 AND done_at IS NULL AND locked_until = $3`
)

// Once implements outbox.Once. When the mark cannot be written after do has
// succeeded, the error is nil all the same: an error would only bring the repeat
// sooner.
func (o *Once) Once(ctx context.Context, consumer string, event sessions.ID, do func(context.Context) error) error {
	until, err := o.begin(ctx, consumer, event)
	if err != nil || until.IsZero() {
		return err
	}
	err = outbox.ErrInProgress // what a panic in do leaves: the event may be tried again
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.repo.callTimeout)
		defer cancel()
		if err == nil {
			_, _ = o.repo.pool.Exec(ctx, endConsuming, consumer, string(event))
		} else { // so the next attempt need not wait for the lease
			_, _ = o.repo.pool.Exec(ctx, dropConsuming, consumer, string(event), until)
		}
	}()
	err = do(ctx)
	return err
}

// begin takes the event for a lease and returns its end, zero when the event is done
// already.
func (o *Once) begin(ctx context.Context, consumer string, event sessions.ID) (until time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.repo.callTimeout)
	defer cancel()
	err = o.repo.pool.QueryRow(ctx, beginConsuming, consumer, string(event), o.lease.Milliseconds()).Scan(&until)
	if err == nil {
		return until, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, unavailable("begin event", err)
	}
	var done bool
	err = o.repo.pool.QueryRow(ctx, isConsumed, consumer, string(event)).Scan(&done)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // given back in between
		return time.Time{}, outbox.ErrInProgress
	case err != nil:
		return time.Time{}, unavailable("look up event", err)
	case !done:
		return time.Time{}, outbox.ErrInProgress
	}
	return time.Time{}, nil
}
