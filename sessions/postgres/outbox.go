package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

// insertEvent writes an event, and its deliveries to consumers $5. The table refuses a
// detail with a coordinate or a code. recordEvent also writes an entry of the session's
// history; it does nothing for an event that is known, and returns no row then.
const (
	insertInto = `WITH event AS (INSERT INTO outbox (event_id, session_id, type, detail) VALUES ($1, $2, $3, $4)`
	addressed  = ` RETURNING seq, event_id, session_id, type, detail, created_at),
		deliveries AS (INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail, created_at)
			SELECT consumer, seq, event_id, session_id, type, detail, created_at FROM event, unnest($5::text[]) consumer)`
	told = ` SELECT true FROM event`

	insertEvent = insertInto + addressed + told
)

var recordEvent = strings.NewReplacer("$", "@event_").Replace(insertInto+` ON CONFLICT (event_id) DO NOTHING`+addressed) +
	`, audit AS (INSERT INTO session_audit (` + auditColumns + `) SELECT ` + auditValues + ` FROM event)` + told

// eventArgs are the arguments of insertEvent, and those of recordEvent by name.
func (r *Repository) eventArgs(e sessions.Event) []any {
	return []any{string(e.ID), string(e.SessionID), string(e.Type), string(e.Detail()), r.addressed}
}

// Outbox is the outbox.Store. A row of table outbox is an event; it is also the
// event's delivery to the bus. A row of outbox_deliveries is its delivery to one
// consumer in the gateways.
//
// Gateways of the previous version work on the same rows: the same columns say what is
// claimed, done and dead, in the same tables. So each version delivers what the other
// one left, during a rolling update and after a roll-back.
//
// Every instant is by the database's clock. Each method is one statement. Safe for
// concurrent use by any number of relays in any number of gateways.
type Outbox struct{ repo *Repository }

var _ outbox.Store = (*Outbox)(nil)

// Outbox is the events of this repository and their deliveries.
func (r *Repository) Outbox() *Outbox { return &Outbox{r} }

// The parts of the statements. {o} is the row's alias.
//
// waiting is what the partial indexes hold. known leaves out the events that only a
// newer binary can read (sessions.ErrNewerEvent): never claimed, they cost a look at
// their index entry, and their session waits for them. A detail without a version is
// malformed, not newer; it is claimed to be buried.
//
// The oldest row of a session is asked for with min() and not with NOT EXISTS: a planner
// with old statistics makes a hash join of the latter, which reads all 100,000 rows of a
// backlog, and this can only be an index probe a row. Of a delivery it is the first index
// entry from the session's on, the row itself at the latest: for a min() the planner may
// take the consumer's other index and walk over all that waits.
//
// The server keeps a plan for all arguments only where that looks no dearer than one for
// these arguments, and makes one for each call otherwise: for a claim in 1.1 ms, where the claim
// takes 0.3. Only of these arguments it would know how many elements an array has. So {asks} says
// that in the statement, and claimedRows hides the array in a SELECT of its own, as claimBus does a seq.
//
// What claimed says of ask.after is seq > after in other words, which the planner takes for true of nearly
// all rows. Of seq > after it takes a third, and where it has no statistics it then reads and sorts all that
// waits. The rows that are passed over cost 0.3 µs each, while the destination is away.
//
// In due a millisecond is added because timestamptz(3) rounds up as well as down: an event must be due for
// the nudge that follows its commit.
//
// SKIP LOCKED passes over the rows of a claim that is being made. A claim that was made
// since this statement began is noticed when the row is locked, because READ COMMITTED
// then looks at the row again. The limit stands in the statement, or the planner would
// guess at it (a tenth of the table) and sort.
const (
	waiting = `published_at IS NULL AND dead_at IS NULL`
	due     = `{o}.published_at IS NULL AND {o}.dead_at IS NULL AND {o}.next_attempt_at <= now() + interval '1 ms'
			AND ({o}.locked_until IS NULL OR {o}.locked_until <= now()) AND {known}`

	dueEvents = `(SELECT o.seq FROM outbox o
		WHERE {due}{after}
			AND o.seq = (SELECT min(older.seq) FROM outbox older
				WHERE older.session_id = o.session_id AND older.published_at IS NULL AND older.dead_at IS NULL)
		ORDER BY o.seq LIMIT {limit} FOR UPDATE SKIP LOCKED) due`

	// claimed are the deliveries for consumers $1, with leases of $2 ms, of events that
	// were recorded $3 ms ago or before, after seqs $4.
	claimed = `UPDATE outbox_deliveries c SET locked_until = now() + due.lease * interval '1 ms'
		FROM (SELECT consumer, lease, older, after FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) asked (consumer, lease, older, after) LIMIT {asks}) ask, LATERAL (SELECT o.consumer, o.seq, ask.lease FROM outbox_deliveries o
			WHERE o.consumer = ask.consumer AND greatest(o.seq, ask.after) <> ask.after AND {due} AND (ask.older = 0 OR o.created_at <= now() - ask.older * interval '1 ms')
				AND o.seq = (SELECT older.seq FROM outbox_deliveries older
					WHERE (older.consumer, older.session_id, older.seq) >= (o.consumer, o.session_id, 0)
						AND older.published_at IS NULL AND older.dead_at IS NULL
					ORDER BY older.consumer, older.session_id, older.seq LIMIT 1)
			ORDER BY o.seq LIMIT {limit} FOR UPDATE SKIP LOCKED) due
		WHERE c.consumer = due.consumer AND c.seq = due.seq
		RETURNING c.consumer, c.seq, c.attempts + 1 AS attempts, c.type, c.detail`

	// claimBus also claims events for the bus, with a lease of $5 ms, after seq $6.
	claimBus = `WITH events AS (
			UPDATE outbox c SET locked_until = now() + $5 * interval '1 ms' FROM {dueEvents} WHERE c.seq = due.seq
			RETURNING 'bus' AS consumer, c.seq, c.attempts + 1 AS attempts, c.type, c.detail),
		claimed AS ({claimed})
		SELECT consumer, seq, attempts, type, detail FROM events UNION ALL SELECT consumer, seq, attempts, type, detail FROM claimed ORDER BY 1, 2`

	// claimFanOut also makes deliveries to consumers $5 of due events. They are
	// claimed by the next statement: no part of this one sees them. An event without a
	// detail in the answer stands for one that was fanned out.
	claimFanOut = `WITH events AS (
			UPDATE outbox c SET published_at = now(), locked_until = NULL, last_error = NULL FROM {dueEvents} WHERE c.seq = due.seq
			RETURNING c.seq, c.event_id, c.session_id, c.type, c.detail, c.created_at),
		added AS (
			INSERT INTO outbox_deliveries (consumer, seq, event_id, session_id, type, detail, created_at)
			SELECT consumer, seq, event_id, session_id, type, detail, created_at FROM events, unnest($5::text[]) consumer
			ON CONFLICT (consumer, seq) DO NOTHING),
		claimed AS ({claimed})
		SELECT 'bus', seq, 0, type, NULL FROM events UNION ALL SELECT consumer, seq, attempts, type, detail FROM claimed ORDER BY 1, 2`

	// A row whose claim had run out may have been buried by another relay since. It was
	// delivered all the same.
	doneSQL = `UPDATE {table} SET published_at = now(), locked_until = NULL, dead_at = NULL, last_error = NULL
		WHERE {to} AND {rows} AND published_at IS NULL`

	retrySQL = `UPDATE {table} SET attempts = attempts + 1, locked_until = NULL, last_error = $3,
			next_attempt_at = now() + $2 * interval '1 ms'
		WHERE {to} AND seq = $1 AND ` + waiting

	releaseSQL = `UPDATE {table} SET locked_until = NULL, next_attempt_at = now() + $2 * interval '1 ms'
		WHERE {to} AND {rows} AND ` + waiting

	burySQL = `UPDATE {table} SET attempts = attempts + 1, locked_until = NULL, last_error = $2, dead_at = now()
		WHERE {to} AND seq = $1 AND ` + waiting

	// The count is read from the partial index; the ages from the oldest 1,000 rows,
	// because known reads the row itself. Events that wait for a newer binary are among
	// those once the events before them are done.
	backlog = `SELECT 'bus', (SELECT count(*) FROM outbox WHERE ` + waiting + `), {ages}, (SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL)
			FROM (SELECT created_at, {known} AS known FROM outbox o WHERE ` + waiting + ` ORDER BY seq LIMIT 1000) oldest
		UNION ALL
		SELECT name, (SELECT count(*) FROM outbox_deliveries WHERE consumer = name AND ` + waiting + `), d.*,
				(SELECT count(*) FROM outbox_deliveries WHERE consumer = name AND dead_at IS NOT NULL)
			FROM unnest($1::text[]) name, LATERAL (SELECT {ages} FROM (
				SELECT created_at, {known} AS known FROM outbox_deliveries o WHERE consumer = name AND ` + waiting + ` ORDER BY seq LIMIT 1000) oldest) d`

	ages = `min(created_at) FILTER (WHERE known), min(created_at) FILTER (WHERE NOT known)`
)

// statement fills the parts in. to is the destination: outbox.Bus, or a consumer, whose
// name is then the statement's last argument.
func statement(sql, to string, last int) string {
	table, mine := "outbox", "true"
	if to != outbox.Bus {
		table, mine = "outbox_deliveries", "consumer = $"+strconv.Itoa(last)
	}
	return strings.NewReplacer("{table}", table, "{to}", mine, "{rows}", claimedRows).Replace(sql)
}

// claimedRows are those of seqs $1. They are close to one another, and the range says so to an index:
// while the statistics know of a few rows, all of the destination's would be read instead.
const claimedRows = `seq = ANY((SELECT $1::bigint[])::bigint[]) AND seq BETWEEN (SELECT min(one) FROM unnest($1::bigint[]) one) AND (SELECT max(one) FROM unnest($1::bigint[]) one)`

// known is the condition above for the types and the version of this binary.
func known() string {
	types := make([]string, 0, 3)
	for _, t := range sessions.EventTypes() {
		types = append(types, "'"+string(t)+"'")
	}
	return fmt.Sprintf("(o.type IN (%s) AND coalesce(o.detail -> 'schemaVersion', '0') <= '%d')", strings.Join(types, ", "), sessions.EventSchema)
}

// filled is a statement with all its parts, but for {limit} and {asks}.
func filled(sql string) string {
	for _, part := range [][2]string{
		{"{claimed}", claimed}, {"{dueEvents}", dueEvents}, {"{due}", due}, {"{ages}", ages}, {"{o}", "o"}, {"{known}", known()},
	} {
		sql = strings.ReplaceAll(sql, part[0], part[1])
	}
	return sql
}

var (
	claimSQL       = filled("WITH claimed AS ({claimed}) SELECT consumer, seq, attempts, type, detail FROM claimed ORDER BY 1, 2")
	claimBusSQL    = strings.Replace(filled(claimBus), "{after}", " AND o.seq > (SELECT $6::bigint)", 1)
	claimFanOutSQL = strings.Replace(filled(claimFanOut), "{after}", "", 1)
	backlogSQL     = filled(backlog)
)

// Claim implements outbox.Store.
func (q *Outbox) Claim(ctx context.Context, look outbox.Look) (outbox.Claimed, error) {
	ctx, cancel := context.WithTimeout(ctx, q.repo.callTimeout)
	defer cancel()
	sql, args := claimStatement(look)
	rows, err := q.repo.pool.Query(ctx, sql, args...)
	if err != nil {
		return outbox.Claimed{}, unavailable("claim events", err)
	}
	all, err := pgx.CollectRows(rows, scanClaimed)
	if err != nil {
		return outbox.Claimed{}, unavailable("claim events", err)
	}
	var out outbox.Claimed
	for _, row := range all {
		if row.Attempts == 0 {
			out.FannedOut++
			continue
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

func claimStatement(look outbox.Look) (sql string, args []any) {
	var (
		consumers            []string
		leases, older, after []int64
		more                 []any
	)
	sql = claimSQL
	for _, ask := range look.Asks {
		if ask.To == outbox.Bus {
			sql, more = claimBusSQL, []any{ask.Lease.Milliseconds(), ask.After}
			continue
		}
		consumers, leases = append(consumers, ask.To), append(leases, ask.Lease.Milliseconds())
		older, after = append(older, ask.Older.Milliseconds()), append(after, ask.After)
	}
	if len(look.FanOut) > 0 {
		sql, more = claimFanOutSQL, []any{look.FanOut}
	}
	sql = strings.NewReplacer("{limit}", strconv.Itoa(look.Limit), "{asks}", strconv.Itoa(len(consumers))).Replace(sql)
	return sql, append([]any{consumers, leases, older, after}, more...)
}

// scanClaimed reads a row. One whose detail cannot be read still needs its seq, so that
// the relay buries it: otherwise it would hold up its session for ever.
func scanClaimed(row pgx.CollectableRow) (claimed outbox.Row, err error) {
	var (
		eventType string
		detail    []byte
	)
	if err := row.Scan(&claimed.To, &claimed.Seq, &claimed.Attempts, &eventType, &detail); err != nil {
		return outbox.Row{}, err
	}
	if claimed.Attempts > 0 {
		claimed.Event, claimed.Unreadable = sessions.ParseEvent(sessions.EventType(eventType), detail)
	}
	return claimed, nil
}

// Done implements outbox.Store.
func (q *Outbox) Done(ctx context.Context, to string, seqs []int64) error {
	return q.exec(ctx, "mark events done", doneSQL, to, seqs)
}

// Retry implements outbox.Store.
func (q *Outbox) Retry(ctx context.Context, to string, seq int64, wait time.Duration, reason string) error {
	return q.exec(ctx, "put event off", retrySQL, to, seq, wait.Milliseconds(), reason)
}

// Release implements outbox.Store.
func (q *Outbox) Release(ctx context.Context, to string, seqs []int64, wait time.Duration) error {
	return q.exec(ctx, "give events back", releaseSQL, to, seqs, wait.Milliseconds())
}

// Bury implements outbox.Store.
func (q *Outbox) Bury(ctx context.Context, to string, seq int64, reason string) error {
	return q.exec(ctx, "bury event", burySQL, to, seq, reason)
}

func (q *Outbox) exec(ctx context.Context, operation, sql, to string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, q.repo.callTimeout)
	defer cancel()
	if to != outbox.Bus {
		args = append(args, to)
	}
	if _, err := q.repo.pool.Exec(ctx, statement(sql, to, len(args)), args...); err != nil {
		return unavailable(operation, err)
	}
	return nil
}

// Backlog implements outbox.Store.
func (q *Outbox) Backlog(ctx context.Context, consumers []string) ([]outbox.Backlog, error) {
	ctx, cancel := context.WithTimeout(ctx, q.repo.callTimeout)
	defer cancel()
	rows, err := q.repo.pool.Query(ctx, backlogSQL, consumers)
	if err != nil {
		return nil, unavailable("measure outbox", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b outbox.Backlog, err error) {
		var oldest, newer *time.Time
		err = row.Scan(&b.To, &b.Waiting, &oldest, &newer, &b.Dead)
		b.Oldest, b.NewerSince = utc(oldest), utc(newer)
		return b, err
	})
	if err != nil {
		return nil, unavailable("measure outbox", err)
	}
	return list, nil
}

// outcomesSQL finds the events by their ids, and their deliveries by consumer and seq: a probe
// of an index for each. The consumers are found like those of deleteOld.
const outcomesSQL = `WITH RECURSIVE asked AS MATERIALIZED (SELECT seq, event_id, type, attempts, published_at, dead_at FROM outbox WHERE event_id = ANY($1)),
	consumers AS (
		SELECT min(consumer) AS name FROM outbox_deliveries
		UNION ALL
		SELECT (SELECT min(consumer) FROM outbox_deliveries WHERE consumer > name) FROM consumers WHERE name IS NOT NULL)
	SELECT event_id::text, type, 'bus', attempts, published_at, dead_at FROM asked
	UNION ALL
	SELECT d.event_id::text, d.type, d.consumer, d.attempts, d.published_at, d.dead_at
	FROM consumers JOIN asked ON name IS NOT NULL JOIN outbox_deliveries d ON d.consumer = name AND d.seq = asked.seq`

// Outcomes implements outbox.Store. One round trip.
func (q *Outbox) Outcomes(ctx context.Context, events []sessions.ID) ([]sessions.EventOutcome, error) {
	return rows(ctx, q.repo, "read outcomes", func(row pgx.Row) (o sessions.EventOutcome, err error) {
		var done, dead *time.Time
		err = row.Scan(&o.EventID, &o.Type, &o.To, &o.Attempts, &done, &dead)
		switch o.State = sessions.OutcomeWaiting; {
		case done != nil:
			o.State, o.At = sessions.OutcomeDone, utc(done)
		case dead != nil:
			o.State, o.At = sessions.OutcomeDead, utc(dead)
		}
		return o, err
	}, outcomesSQL, idTexts(events))
}

const (
	deadLetters = `SELECT consumer, seq, type, session_id::text, attempts, created_at, dead_at, coalesce(last_error, '')
		FROM (SELECT 'bus' AS consumer, seq, type, session_id, attempts, created_at, dead_at, last_error
				FROM outbox WHERE dead_at IS NOT NULL
			UNION ALL SELECT consumer, seq, type, session_id, attempts, created_at, dead_at, last_error
				FROM outbox_deliveries WHERE dead_at IS NOT NULL) dead
		ORDER BY seq, consumer LIMIT $1`

	// requeue takes the first rows after the last of the batch before, consumer $4 and seq $3, in
	// the order of the table's index on its dead rows: so no batch reads more than it requeues. It
	// compares the whole key, or a planner without statistics sorts all dead rows of a consumer each time.
	// A row that is locked is being deleted, delivered or requeued by another, and is passed over.
	requeue = `WITH batch AS MATERIALIZED (
			SELECT ctid AS place, {consumer} AS consumer, seq FROM {table}
			WHERE dead_at IS NOT NULL AND {after} AND ($1 OR seq = ANY($2)) ORDER BY {key} LIMIT {limit} FOR UPDATE SKIP LOCKED),
		again AS (
			UPDATE {table} SET dead_at = NULL, attempts = 0, locked_until = NULL, next_attempt_at = now()
			WHERE ctid = ANY(ARRAY(SELECT place FROM batch)) RETURNING 1)
		SELECT (SELECT count(*) FROM again), consumer, seq FROM batch ORDER BY consumer DESC, seq DESC LIMIT 1`

	// A batch took 140 ms at most, with fsync, of the 2 s that a statement may; 800,000 rows took 22 s.
	requeueLimit = 2000
)

// requeueSQL is the statement for each of the two tables.
var requeueSQL = [2]string{
	strings.NewReplacer("{table}", "outbox", "{consumer}", "$4::text", "{key}", "seq", "{after}", "seq > $3",
		"{limit}", strconv.Itoa(requeueLimit)).Replace(requeue),
	strings.NewReplacer("{table}", "outbox_deliveries", "{consumer}", "consumer", "{key}", "consumer, seq", "{after}", "(consumer, seq) > ($4, $3)",
		"{limit}", strconv.Itoa(requeueLimit)).Replace(requeue),
}

// DeadLetters lists up to limit dead letters of all destinations, lowest seq first.
func (r *Repository) DeadLetters(ctx context.Context, limit int) ([]outbox.DeadLetter, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	rows, err := r.pool.Query(ctx, deadLetters, limit)
	if err != nil {
		return nil, unavailable("list dead letters", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d outbox.DeadLetter, err error) {
		var eventType, session string
		err = row.Scan(&d.To, &d.Seq, &eventType, &session, &d.Attempts, &d.Since, &d.DeadAt, &d.Reason)
		d.Type, d.SessionID, d.Since, d.DeadAt = sessions.EventType(eventType), sessions.ID(session), d.Since.UTC(), d.DeadAt.UTC()
		return d, err
	})
	if err != nil {
		return nil, unavailable("list dead letters", err)
	}
	return list, nil
}

// Requeue makes dead letters due again, with no attempts counted: those with these
// seqs, or all. It returns how many there were. They come after the events that have
// passed them; consumers tell old from new by the event's instants.
//
// It is a transaction for each batch, or a great many would take longer than a statement
// may; after each progress, which may be nil, is called with the number so far. After an error
// the batches before it stay requeued. It looks at no row twice: a relay may give up an event
// again at once, and Requeue would have no end.
func (r *Repository) Requeue(ctx context.Context, all bool, seqs []int64, progress func(n int)) (n int, err error) {
	for _, sql := range requeueSQL {
		for last := new(deadRow); last != nil; {
			var batch int
			if batch, last, err = r.requeueAfter(ctx, sql, all, seqs, *last); err != nil {
				return n, err
			}
			if n += batch; batch > 0 && progress != nil {
				progress(n)
			}
		}
	}
	return n, nil
}

// deadRow is a row's place among the dead ones of its table.
type deadRow struct {
	consumer string // empty in outbox
	seq      int64
}

// requeueAfter requeues the batch after a row, and returns the batch's last row; nil where
// no dead row is left.
func (r *Repository) requeueAfter(ctx context.Context, sql string, all bool, seqs []int64, row deadRow) (n int, last *deadRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	last = &deadRow{}
	err = r.pool.QueryRow(ctx, sql, all, seqs, row.seq, row.consumer).Scan(&n, &last.consumer, &last.seq)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil, nil
	case err != nil:
		return 0, nil, unavailable("requeue dead letters", err)
	}
	return n, last, nil
}
