package postgres

import (
	"context"
	"strconv"
	"strings"
	"time"

	"doorstep/sessions"
)

// retentionLock is the advisory lock of the one statement that deletes: the letters
// "doorstep" read as a number, and 2.
const retentionLock = stepLock + 2

const (
	// A row that is locked, or that another transaction changes meanwhile, is left to the
	// next sweep.
	deleteOld = `WITH RECURSIVE turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($2) AS mine){more},
		gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY({old})) RETURNING 1)
		SELECT (SELECT mine FROM turn), (SELECT count(*) FROM gone)`

	// old are the places of the rows, found by an index on {since}.
	old = `SELECT ctid FROM {table} WHERE (SELECT mine FROM turn) AND {since} < now() - $1 * interval '1 ms'
			ORDER BY {since} LIMIT {limit} FOR UPDATE SKIP LOCKED`

	// consumers are found by a probe of the primary key each, so that also those are swept
	// that no gateway knows any more.
	consumersOfDeliveries = `,
		consumers AS (
			SELECT min(consumer) AS name FROM outbox_deliveries
			UNION ALL
			SELECT (SELECT min(consumer) FROM outbox_deliveries WHERE consumer > name) FROM consumers WHERE name IS NOT NULL)`
	oldDeliveries = `SELECT o.place FROM consumers, LATERAL (
			SELECT ctid AS place FROM outbox_deliveries
			WHERE (SELECT mine FROM turn) AND consumer = name AND published_at < now() - $1 * interval '1 ms'
			ORDER BY published_at LIMIT {limit} FOR UPDATE SKIP LOCKED) o LIMIT {limit}`
)

// since is the instant since when a row has been of its kind. Each has an index.
var since = map[sessions.Kept]string{
	sessions.DoneEvents:       "published_at",
	sessions.DeadEvents:       "dead_at",
	sessions.DeadDeliveries:   "dead_at",
	sessions.HandledEvents:    "done_at",
	sessions.JourneyRecords:   "started_at",
	sessions.AuditEntries:     "at",
	sessions.UnusedPushTokens: "greatest(registered_at, last_used_at)",
	sessions.UnusedDevices:    "last_used_at",
	sessions.OldShareLinks:    "created_at",
}

func deleteStatement(kind sessions.Kept, limit int) string {
	more, find := "", old
	if kind == sessions.DoneDeliveries {
		more, find = consumersOfDeliveries, oldDeliveries
	}
	sql := strings.NewReplacer("{more}", more, "{old}", find).Replace(deleteOld)
	return strings.NewReplacer("{table}", kind.Table(), "{since}", since[kind], "{limit}", strconv.Itoa(limit)).Replace(sql)
}

// DeleteOld implements sessions.OldRows. One statement.
func (r *Repository) DeleteOld(ctx context.Context, kind sessions.Kept, age time.Duration, limit int) (n int, mine bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	err = r.pool.QueryRow(ctx, deleteStatement(kind, limit), age.Milliseconds(), int64(retentionLock)).Scan(&mine, &n)
	if err != nil {
		return 0, false, unavailable("delete old rows of "+kind.Table(), err)
	}
	return n, mine, nil
}
