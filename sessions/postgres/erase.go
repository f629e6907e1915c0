package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"doorstep/sessions"
)

const (
	selectOfUser = `SELECT ` + columns + ` FROM tutoring_sessions WHERE trainer_id = $1 OR student_id = $1
		ORDER BY ` + scheduled + `, id`
	lockOfUser = selectOfUser + ` FOR UPDATE`
	// The operator may have deleted the sessions' rows, so the user's id counts, too.
	selectReviewsOf = `SELECT session_id::text, trainer_id::text, student_id::text, stars, comment, reviewed_at FROM session_reviews
		WHERE trainer_id = $1 OR student_id = $1`
	selectJourneysOf = `SELECT ` + recordColumns + ` FROM journey_analytics
		WHERE trainer_id = $1 OR student_id = $1 OR session_id = ANY($2) ORDER BY started_at, session_id`
	// about are the events of the user's sessions, and of those that are deleted or somebody else's. The
	// ids are looked up in a hash: as = ANY, a plan for all arguments compares each row with each of them.
	about = `(session_id IN (SELECT unnest(@ids::uuid[])) OR strpos(detail::text, @user) > 0)`
	// withAlias is an event's detail without the user's id, and without what a person wrote.
	withAlias = `replace((CASE type WHEN 'SessionCancelled' THEN detail - 'reason' ELSE detail END)::text, @user, @alias)::jsonb`
	// Of both tables of events: what is neither delivered nor given up.
	countWaiting = `SELECT (SELECT count(*) FROM outbox WHERE ` + about + ` AND ` + waiting + `)
		+ (SELECT count(*) FROM outbox_deliveries WHERE ` + about + ` AND ` + waiting + `)`
	// beginErasure gives a statement more time than the pool does, for this transaction only, which
	// also holds behind a pooler. The wait for a locked row is bounded as in every call.
	beginErasure = `BEGIN; SET LOCAL statement_timeout = '25s'`
)

// eraseTimeout bounds EraseUser from when it has a connection. What takes longer than a call may
// fails at each repeat, and reading all of three tables does: 2,000,000 events and 1,000,000 sessions
// took 6 s on two busy cores. It is no longer because a process that stops waits for it, and is killed
// 40 s after the signal, and because proxies may end a request after little more than 30 s.
const eraseTimeout = 30 * time.Second

// eraseNow deletes, and eraseIDs replaces the user's id by the alias: also in sessions of others, which
// a former trainer or an admin has ended.
var (
	eraseNow = []string{
		`UPDATE tutoring_sessions SET student_home_location = NULL WHERE student_id = @user`,
		`UPDATE tutoring_sessions SET trainer_start_location = NULL WHERE trainer_id = @user`,
		`UPDATE session_reviews SET comment = '' WHERE trainer_id = @user OR student_id = @user`,
		`DELETE FROM push_tokens WHERE user_id = @user`,
		`DELETE FROM devices WHERE trainer_id = @user`,
		`DELETE FROM share_links WHERE trainer_id = @user OR student_id = @user`,
		`DELETE FROM booking_keys WHERE caller_id = @user`,
	}
	eraseIDs = []string{
		`UPDATE tutoring_sessions SET trainer_id = @alias WHERE trainer_id = @user`,
		`UPDATE tutoring_sessions SET student_id = @alias WHERE student_id = @user`,
		`UPDATE tutoring_sessions SET journey_ended_by = @alias WHERE journey_ended_by = @user`,
		`UPDATE tutoring_sessions SET closed_by = @alias WHERE closed_by = @user`,
		`UPDATE session_reviews SET trainer_id = @alias WHERE trainer_id = @user`,
		`UPDATE session_reviews SET student_id = @alias WHERE student_id = @user`,
		`UPDATE trainer_ratings SET trainer_id = @alias WHERE trainer_id = @user`,
		`UPDATE journey_analytics SET trainer_id = @alias WHERE trainer_id = @user`,
		`UPDATE session_audit SET by_id = @alias WHERE by_id = @user`,
		`UPDATE session_audit SET trainer_id = @alias WHERE trainer_id = @user`,
		`UPDATE session_audit SET student_id = @alias WHERE student_id = @user`,
		`UPDATE journey_analytics SET student_id = @alias WHERE student_id = @user`,
		`UPDATE outbox SET detail = ` + withAlias + ` WHERE ` + about,
		`UPDATE outbox_deliveries SET detail = ` + withAlias + ` WHERE ` + about,
	}
)

// UserData implements sessions.Repository. Eight round trips.
func (r *Repository) UserData(ctx context.Context, userID sessions.ID) (data sessions.UserData, err error) {
	if data.Sessions, err = r.list(ctx, "read a user's sessions", selectOfUser, string(userID)); err != nil {
		return data, err
	}
	ids := idsOf(data.Sessions)
	if data.Reviews, err = rows(ctx, r, "read a user's reviews", scanReview, selectReviewsOf, string(userID)); err != nil {
		return data, err
	}
	if data.Journeys, err = rows(ctx, r, "read a user's journeys", scanRecord, selectJourneysOf, string(userID), ids); err != nil {
		return data, err
	}
	if data.Audit, err = rows(ctx, r, "read a user's histories", scanAudit, selectAuditOf, ids, string(userID), sessions.MaxUserAudit); err != nil {
		return data, err
	}
	if data.PushTokens, err = r.PushTokensOf(ctx, userID); err != nil {
		return data, err
	}
	if data.Devices, err = r.DevicesOf(ctx, userID); err != nil {
		return data, err
	}
	if data.ShareLinks, err = r.linksOf(ctx, ids); err != nil {
		return data, err
	}
	data.Rating, err = r.Rating(ctx, userID)
	return data, err
}

func rows[T any](ctx context.Context, r *Repository, what string, scan func(pgx.Row) (T, error), sql string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	found, err := r.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, unavailable(what, err)
	}
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (T, error) { return scan(row) })
	if err != nil {
		return nil, unavailable(what, err)
	}
	return list, nil
}

func idsOf(list []sessions.Session) []string {
	ids := make([]string, len(list))
	for i, s := range list {
		ids[i] = string(s.ID)
	}
	return ids
}

// EraseUser implements sessions.Repository, in one transaction. At most six round trips, and four
// more where the connection has not prepared the statements. It holds the rows of all of the user's
// sessions, and reads all rows of the outbox and of the sessions: nothing to call often.
func (r *Repository) EraseUser(ctx context.Context, e sessions.Erasure) (pending int, err error) {
	conn, _, done, err := r.acquire(ctx)
	if err != nil {
		return 0, unavailable("erase user", err)
	}
	defer done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eraseTimeout)
	defer cancel()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginErasure})
	if err != nil {
		return 0, unavailable("begin", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	ids, err := r.closeAll(ctx, tx, e)
	if err != nil {
		return 0, err
	}
	if pending, err = eraseAll(ctx, tx, e, ids); err != nil {
		return 0, eraseFault(err)
	}
	if err := tx.Commit(ctx); err != nil {
		return 0, unavailable("commit", err)
	}
	return pending, nil
}

// closeAll locks and closes the user's sessions, and returns their ids.
func (r *Repository) closeAll(ctx context.Context, tx pgx.Tx, e sessions.Erasure) ([]string, error) {
	found, err := tx.Query(ctx, lockOfUser, string(e.UserID))
	if err != nil {
		return nil, unavailable("lock a user's sessions", err)
	}
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (sessions.Session, error) { return scan(row) })
	if err != nil {
		return nil, unavailable("lock a user's sessions", err)
	}
	batch := &pgx.Batch{}
	for _, before := range list {
		after := before
		events, err := after.CloseForErasure(e)
		if err != nil {
			return nil, err
		}
		if after != before {
			r.queue(ctx, batch, new(sessions.Session), before, after, events)
		}
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, unavailable("close a user's sessions", err)
	}
	return idsOf(list), nil
}

func eraseAll(ctx context.Context, tx pgx.Tx, e sessions.Erasure, ids []string) (pending int, err error) {
	args := pgx.NamedArgs{"user": string(e.UserID), "alias": string(e.Alias), "ids": ids}
	now, rest := &pgx.Batch{}, &pgx.Batch{}
	for _, sql := range eraseNow {
		now.Queue(sql, args)
	}
	now.Queue(countWaiting, args).QueryRow(func(row pgx.Row) error { return row.Scan(&pending) })
	if err := tx.SendBatch(ctx, now).Close(); err != nil || pending > 0 {
		return pending, err
	}
	for _, sql := range eraseIDs {
		rest.Queue(sql, args)
	}
	return 0, tx.SendBatch(ctx, rest).Close()
}

// eraseFault is NotSupported where the operator's own table refuses another id.
func eraseFault(cause error) error {
	var pg *pgconn.PgError
	if errors.As(cause, &pg) && pg.Code[:2] == "23" { // integrity constraint violations
		return sessions.Refuse(sessions.NotSupported, "a rule of the operator's table does not let the id be replaced")
	}
	return unavailable("erase user", cause)
}
