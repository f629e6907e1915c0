package postgres

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

const insertEvent = `INSERT INTO outbox (event_id, session_id, type, detail) VALUES ($1, $2, $3, $4)`

// queueEvent adds the event to a transition's batch. Its detail goes on the
// bus as it stands in the row; the table refuses one with a place or a code.
func queueEvent(batch *pgx.Batch, e sessions.Event) {
	batch.Queue(insertEvent, string(e.ID), string(e.SessionID), string(e.Type), string(e.Detail()))
}

// Queue is an outbox.Store: the outbox itself, or one consumer's inbox. Every
// instant in it is by the database's clock. Each method is one statement.
// Safe for concurrent use by any number of relays in any number of gateways.
type Queue struct {
	repo     *Repository
	consumer string

	claim, published, retry, release, bury, lag, sweep string
}

var (
	_ outbox.Store = (*Queue)(nil)
	_ outbox.Inbox = (*Queue)(nil)
)

// Outbox is the events on their way to the bus.
func (r *Repository) Outbox() *Queue { return newQueue(r, "outbox", "true", "") }

var consumerName = regexp.MustCompile(`^[a-z_]{1,32}$`)

// Inbox is the events on their way to one consumer in this house. It panics
// when the name is not of the letters a to z and _: names are constants, and
// stand in the statements.
func (r *Repository) Inbox(consumer string) *Queue {
	if !consumerName.MatchString(consumer) {
		panic("postgres: consumer name " + strconv.Quote(consumer))
	}
	return newQueue(r, "outbox_deliveries", "consumer = '"+consumer+"'", consumer)
}

// The statements, for either table. {waiting} is what both partial indexes
// hold.
//
// In claim, the oldest of a session is asked for with min() and not with NOT
// EXISTS: a planner with old statistics makes a hash join of the latter, which
// reads all 100,000 rows of a backlog, and this can only be an index probe a
// row. It stops at limit rows. SKIP LOCKED passes over the rows of a claim
// that is being made; one that was made since this statement began is found
// out when the row is locked, because READ COMMITTED then looks at it again.
// A millisecond is added because timestamptz(3) rounds up as well as down: an
// event must be due for the nudge that follows its commit.
const (
	claimSQL = `
		UPDATE {table} c SET locked_until = now() + $1 * interval '1 ms'
		FROM (SELECT o.seq FROM {table} o
			WHERE {mine} AND o.published_at IS NULL AND o.dead_at IS NULL
				AND o.next_attempt_at <= now() + interval '1 ms'
				AND (o.locked_until IS NULL OR o.locked_until <= now())
				AND o.seq = (SELECT min(older.seq) FROM {table} older
					WHERE {mine} AND older.session_id = o.session_id AND older.published_at IS NULL AND older.dead_at IS NULL)
			ORDER BY o.seq LIMIT {limit} FOR UPDATE SKIP LOCKED) due
		WHERE {mine} AND c.seq = due.seq
		RETURNING c.seq, c.attempts + 1, c.type, c.detail`

	// A row whose claim had run out may meanwhile have been buried by another
	// relay. It is on the bus all the same.
	publishedSQL = `UPDATE {table} SET published_at = now(), locked_until = NULL, dead_at = NULL, last_error = NULL
		WHERE {mine} AND seq = ANY($1) AND published_at IS NULL`

	retrySQL = `UPDATE {table} SET attempts = attempts + 1, locked_until = NULL, last_error = $3,
			next_attempt_at = now() + $2 * interval '1 ms'
		WHERE {mine} AND seq = $1 AND {waiting}`

	releaseSQL = `UPDATE {table} SET locked_until = NULL, next_attempt_at = now() + $2 * interval '1 ms'
		WHERE {mine} AND seq = ANY($1) AND {waiting}`

	burySQL = `UPDATE {table} SET attempts = attempts + 1, locked_until = NULL, last_error = $2, dead_at = now()
		WHERE {mine} AND seq = $1 AND {waiting}`

	lagSQL = `SELECT (SELECT count(*) FROM {table} WHERE {mine} AND {waiting}),
		(SELECT created_at FROM {table} WHERE {mine} AND {waiting} ORDER BY seq LIMIT 1),
		(SELECT count(*) FROM {table} WHERE {mine} AND dead_at IS NOT NULL)`

	sweepSQL = `DELETE FROM {table} WHERE {mine} AND seq = ANY(ARRAY(
		SELECT seq FROM {table} WHERE {mine} AND published_at < now() - $1 * interval '1 ms'
		ORDER BY published_at LIMIT $2 FOR UPDATE SKIP LOCKED))`

	waitingSQL = `published_at IS NULL AND dead_at IS NULL`
)

func newQueue(r *Repository, table, mine, consumer string) *Queue {
	of := strings.NewReplacer("{table}", table, "{waiting}", waitingSQL, "{mine}", mine)
	claim := claimSQL
	if consumer != "" { // three aliases, each with the condition of its own
		claim = strings.NewReplacer("WHERE {mine} AND o.", "WHERE o."+mine+" AND o.",
			"WHERE {mine} AND older.", "WHERE older."+mine+" AND older.", "WHERE {mine} AND c.", "WHERE c."+mine+" AND c.").Replace(claim)
	}
	return &Queue{
		repo: r, consumer: consumer, claim: of.Replace(claim), published: of.Replace(publishedSQL), retry: of.Replace(retrySQL),
		release: of.Replace(releaseSQL), bury: of.Replace(burySQL), lag: of.Replace(lagSQL), sweep: of.Replace(sweepSQL),
	}
}

// Claim keeps the contract of outbox.Store. The limit stands in the statement,
// or the planner would guess at it (a tenth of the table) and sort.
func (q *Queue) Claim(ctx context.Context, limit int, lease time.Duration) ([]outbox.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, q.repo.callTimeout)
	defer cancel()
	rows, err := q.repo.pool.Query(ctx, strings.Replace(q.claim, "{limit}", strconv.Itoa(limit), 1), lease.Milliseconds())
	if err != nil {
		return nil, unavailable("claim events", err)
	}
	// A row that cannot be read (written by hand, or by a newer binary) still
	// needs its seq, so that its publisher refuses it and it is buried: left
	// alone it would hold up the claim, and its session, for ever.
	claimed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (claimed outbox.Row, err error) {
		var (
			eventType string
			detail    []byte
		)
		if err := row.Scan(&claimed.Seq, &claimed.Attempts, &eventType, &detail); err != nil {
			return outbox.Row{}, err
		}
		claimed.Event, claimed.Unreadable = sessions.ParseEvent(sessions.EventType(eventType), detail)
		return claimed, nil
	})
	if err != nil {
		return nil, unavailable("claim events", err)
	}
	slices.SortFunc(claimed, func(a, b outbox.Row) int { return cmp.Compare(a.Seq, b.Seq) }) // RETURNING has no order
	return claimed, nil
}

// Published keeps the contract of outbox.Store.
func (q *Queue) Published(ctx context.Context, seqs []int64) error {
	return q.exec(ctx, "mark events published", q.published, seqs)
}

// Retry keeps the contract of outbox.Store.
func (q *Queue) Retry(ctx context.Context, seq int64, wait time.Duration, reason string) error {
	return q.exec(ctx, "put event off", q.retry, seq, wait.Milliseconds(), reason)
}

// Release keeps the contract of outbox.Store.
func (q *Queue) Release(ctx context.Context, seqs []int64, wait time.Duration) error {
	return q.exec(ctx, "give events back", q.release, seqs, wait.Milliseconds())
}

// Bury keeps the contract of outbox.Store.
func (q *Queue) Bury(ctx context.Context, seq int64, reason string) error {
	return q.exec(ctx, "bury event", q.bury, seq, reason)
}

// Lag keeps the contract of outbox.Store. It counts in the partial indexes:
// some 10 ms at 100,000 rows that wait.
func (q *Queue) Lag(ctx context.Context) (waiting int, oldest time.Time, dead int, err error) {
	ctx, cancel := context.WithTimeout(ctx, q.repo.callTimeout)
	defer cancel()
	var since *time.Time
	if err := q.repo.pool.QueryRow(ctx, q.lag).Scan(&waiting, &since, &dead); err != nil {
		return 0, time.Time{}, 0, unavailable("measure outbox", err)
	}
	return waiting, utc(since), dead, nil
}

// Sweep keeps the contract of outbox.Store.
func (q *Queue) Sweep(ctx context.Context, age time.Duration, limit int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, q.repo.callTimeout)
	defer cancel()
	tag, err := q.repo.pool.Exec(ctx, q.sweep, age.Milliseconds(), limit)
	if err != nil {
		return 0, unavailable("sweep outbox", err)
	}
	return int(tag.RowsAffected()), nil
}

const addDeliveries = `INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail)
	SELECT $1, * FROM unnest($2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::jsonb[])
	ON CONFLICT (consumer, seq) DO NOTHING`

// Add keeps the contract of outbox.Inbox; on the outbox itself it is a bug of
// the caller's.
func (q *Queue) Add(ctx context.Context, rows []outbox.Row) error {
	if q.consumer == "" {
		return errors.New("postgres: Add is for inboxes")
	}
	n := len(rows)
	seqs, ids, of, types, details := make([]int64, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, row := range rows {
		seqs[i], ids[i], of[i] = row.Seq, string(row.Event.ID), string(row.Event.SessionID)
		types[i], details[i] = string(row.Event.Type), string(row.Event.Detail())
	}
	return q.exec(ctx, "fan events out", addDeliveries, q.consumer, seqs, ids, of, types, details)
}

func (q *Queue) exec(ctx context.Context, operation, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, q.repo.callTimeout)
	defer cancel()
	if _, err := q.repo.pool.Exec(ctx, sql, args...); err != nil {
		return unavailable(operation, err)
	}
	return nil
}
