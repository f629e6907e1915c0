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

// OnceOptions are the settings of Once. Zero means default.
type OnceOptions struct {
	// Lease is how long a call may take before another one takes the event
	// over. 1 min.
	Lease time.Duration
	// Window is how long an event is remembered. 5 days: a day longer than the
	// queues keep a message (deploy/aws).
	Window time.Duration
}

// Once is the outbox.Once of any number of processes on one database: two
// short statements around do.
type Once struct {
	repo *Repository
	opts OnceOptions
}

var _ outbox.Once = (*Once)(nil)

// NewOnce makes one on r's pool.
func NewOnce(r *Repository, opts OnceOptions) *Once {
	opts.Lease = cmp.Or(opts.Lease, time.Minute)
	opts.Window = cmp.Or(opts.Window, 5*24*time.Hour)
	return &Once{r, opts}
}

const (
	// No row comes back when the event is done or in hand.
	beginConsuming = `INSERT INTO consumed_events AS c (consumer, event_id, locked_until)
		VALUES ($1, $2, clock_timestamp() + $3 * interval '1 ms')
		ON CONFLICT (consumer, event_id) DO UPDATE SET locked_until = excluded.locked_until
			WHERE c.done_at IS NULL AND c.locked_until <= clock_timestamp()
		RETURNING c.locked_until`
	isConsumed   = `SELECT done_at IS NOT NULL FROM consumed_events WHERE consumer = $1 AND event_id = $2`
	endConsuming = `UPDATE consumed_events SET done_at = now() WHERE consumer = $1 AND event_id = $2`
	// Only its own lease: after that ran out the event may be another call's.
	dropConsuming = `DELETE FROM consumed_events
		WHERE consumer = $1 AND event_id = $2 AND done_at IS NULL AND locked_until = $3`
	sweepConsumed = `DELETE FROM consumed_events WHERE (consumer, event_id) IN (
		SELECT consumer, event_id FROM consumed_events WHERE done_at < now() - $1 * interval '1 ms'
		ORDER BY done_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// Once keeps the contract of outbox.Once. When the mark cannot be written after
// do has succeeded, the answer is nil all the same: an error would only bring
// the repeat sooner.
func (o *Once) Once(ctx context.Context, consumer string, event sessions.ID, do func(context.Context) error) error {
	until, err := o.begin(ctx, consumer, event)
	if err != nil || until.IsZero() {
		return err
	}
	err = outbox.ErrInProgress // what a panic in do leaves behind
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.repo.callTimeout)
		defer cancel()
		if err == nil {
			_, _ = o.repo.pool.Exec(ctx, endConsuming, consumer, string(event))
		} else { // the next attempt need not wait for the lease
			_, _ = o.repo.pool.Exec(ctx, dropConsuming, consumer, string(event), until)
		}
	}()
	err = do(ctx)
	return err
}

// begin takes the event in hand until an instant, which is zero when the event
// is done already.
func (o *Once) begin(ctx context.Context, consumer string, event sessions.ID) (until time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.repo.callTimeout)
	defer cancel()
	err = o.repo.pool.QueryRow(ctx, beginConsuming, consumer, string(event), o.opts.Lease.Milliseconds()).Scan(&until)
	if err == nil {
		return until, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, outbox.Down(unavailable("take event in hand", err))
	}
	var done bool
	err = o.repo.pool.QueryRow(ctx, isConsumed, consumer, string(event)).Scan(&done)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // let go of in between
		return time.Time{}, outbox.ErrInProgress
	case err != nil:
		return time.Time{}, outbox.Down(unavailable("look event up", err))
	case !done:
		return time.Time{}, outbox.ErrInProgress
	}
	return time.Time{}, nil
}

// Sweep forgets up to limit events that were done with before the window.
func (o *Once) Sweep(ctx context.Context, limit int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, o.repo.callTimeout)
	defer cancel()
	tag, err := o.repo.pool.Exec(ctx, sweepConsumed, o.opts.Window.Milliseconds(), limit)
	if err != nil {
		return 0, unavailable("sweep consumed events", err)
	}
	return int(tag.RowsAffected()), nil
}
