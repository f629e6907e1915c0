package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const (
	auditColumns = `session_id, journey_started_at, kind, by_role, by_id, request_id, trainer_id, student_id, event_ids, detail`
	// The casts are for statements that have no target column to take a type from.
	auditValues = `@audit_session::uuid, @audit_journey::timestamptz, @audit_kind::text, @audit_role::text, @audit_by::uuid, @audit_request::text,
		@audit_trainer::uuid, @audit_student::uuid, @audit_events::uuid[], @audit_detail::jsonb`
	insertAudit = `INSERT INTO session_audit (` + auditColumns + `) VALUES (` + auditValues + `)`

	// insertMoments is sent by a transaction that has locked the journeys' rows of
	// journey_analytics in an earlier statement: so of two batches with moments of one
	// journey the second counts what the first has stored, and the limit $7 is exact. Transitions
	// do not count, and have no limit. They have no id, which count says and no condition: while
	// the statistics know of no moments, a condition would be looked up in the index of ids, which
	// then reads all moments that there are.
	insertMoments = `INSERT INTO session_audit (id, session_id, journey_started_at, at, kind, by_role, detail)
		SELECT m.id, m.session, m.started, m.at, m.kind, 'system', m.detail::jsonb
		FROM (SELECT id, session, started, at, kind, detail, n, row_number() OVER (PARTITION BY session ORDER BY n) AS nth
			FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[])
				WITH ORDINALITY AS u (id, session, started, at, kind, detail, n)) m
		WHERE m.nth + (SELECT count(a.id) FROM session_audit a
			WHERE a.session_id = m.session AND a.journey_started_at IS NOT DISTINCT FROM m.started) <= $7
		ORDER BY m.n ON CONFLICT (id) DO NOTHING`

	// withoutJIT is for the rest of a transaction. While a table has no statistics the planner takes
	// insertMoments for so dear that it compiles it: 64 ms for 500 moments instead of 11. Not a
	// parameter of the connection: PgBouncer refuses those that it does not know.
	withoutJIT = `SELECT set_config('jit', 'off', true)`

	lockJourney = `SELECT 1 FROM journey_analytics WHERE session_id = $1 AND started_at = $2 FOR UPDATE`

	auditRow = `SELECT seq, id::text, session_id::text, journey_started_at, at, kind, by_role, by_id::text, request_id,
		trainer_id::text, student_id::text, event_ids::text[], detail FROM session_audit`
	selectHistory     = auditRow + ` WHERE session_id = $1 AND (at, seq) > ($2, $3) ORDER BY at, seq LIMIT $4`
	selectLastParties = `SELECT trainer_id::text, student_id::text FROM session_audit
		WHERE session_id = $1 AND trainer_id IS NOT NULL ORDER BY at DESC, seq DESC LIMIT 1`
	// The newest, each found by its index.
	selectAuditOf = `WITH mine AS (SELECT seq FROM session_audit WHERE session_id = ANY($1) UNION SELECT seq FROM session_audit WHERE by_id = $2
			UNION SELECT seq FROM session_audit WHERE trainer_id = $2 UNION SELECT seq FROM session_audit WHERE student_id = $2),
			newest AS (SELECT seq FROM session_audit WHERE seq IN (SELECT seq FROM mine) ORDER BY at DESC, seq DESC LIMIT $3)
		` + auditRow + ` WHERE seq IN (SELECT seq FROM newest) ORDER BY at, seq`

	selectLatestOf = `SELECT ` + recordColumns + ` FROM journey_analytics
		WHERE session_id = $1 AND started_at IN (SELECT started_at FROM journey_analytics WHERE session_id = $1 ORDER BY started_at DESC LIMIT $2)
		ORDER BY started_at`
)

// auditArgs are the arguments of auditValues.
func auditArgs(e sessions.AuditEntry) pgx.NamedArgs {
	return pgx.NamedArgs{
		"audit_session": string(e.SessionID), "audit_journey": instant(e.JourneyStartedAt), "audit_kind": string(e.Kind),
		"audit_role": string(cmp.Or(e.By.Role, systemRole)), "audit_by": id(e.By.ID), "audit_request": word(e.By.RequestID),
		"audit_trainer": id(e.TrainerID), "audit_student": id(e.StudentID), "audit_events": idTexts(e.EventIDs), "audit_detail": string(e.Detail.JSON()),
	}
}

// systemRole is by_role of what the gateways did themselves.
const systemRole sessions.Role = "system"

// idTexts is nil, which is NULL, for no ids.
func idTexts(ids []sessions.ID) []string {
	var texts []string
	for _, one := range ids {
		texts = append(texts, string(one))
	}
	return texts
}

// momentColumns are the arguments of insertMoments.
type momentColumns struct {
	ids, session, kind, detail []string
	started                    []*time.Time
	at                         []time.Time
}

func (c *momentColumns) add(key sessions.JourneyKey, list []sessions.Moment) {
	for _, m := range list {
		c.ids, c.session = append(c.ids, string(sessions.MomentID(key, m))), append(c.session, string(key.SessionID))
		c.started, c.at = append(c.started, instant(key.StartedAt)), append(c.at, millisecond(m.At))
		c.kind, c.detail = append(c.kind, string(m.Kind)), append(c.detail, string(m.Detail.JSON()))
	}
}

func (c *momentColumns) args() []any {
	return []any{c.ids, c.session, c.started, c.at, c.kind, c.detail, sessions.MomentsKept}
}

// History implements sessions.Audit. One round trip.
func (r *Repository) History(ctx context.Context, id sessions.ID, after sessions.HistoryPlace, limit int) ([]sessions.AuditEntry, error) {
	return rows(ctx, r, "read history", scanAudit, selectHistory, string(id), millisecond(after.At), after.Seq, limit)
}

// LastParties implements sessions.Audit. One round trip.
func (r *Repository) LastParties(ctx context.Context, id sessions.ID) (sessions.Meta, error) {
	list, err := rows(ctx, r, "read a session's last parties", scanParties, selectLastParties, string(id))
	if err != nil || len(list) == 0 {
		return sessions.Meta{}, err
	}
	return list[0], nil
}

func scanParties(row pgx.Row) (sessions.Meta, error) {
	var trainer, student *string
	err := row.Scan(&trainer, &student)
	return sessions.Meta{TrainerID: parseID(trainer), StudentID: parseID(student)}, err
}

// JourneysOf implements sessions.Audit. One round trip.
func (r *Repository) JourneysOf(ctx context.Context, id sessions.ID, limit int) ([]sessions.JourneyRecord, error) {
	return rows(ctx, r, "read a session's journeys", scanRecord, selectLatestOf, string(id), limit)
}

// Note implements sessions.Audit. The session's row is locked so that its journey stays
// what it is, and the journey's row of journey_analytics, where there is one, for the
// limit of insertMoments: where there is none the journey has hardly any moments yet.
func (r *Repository) Note(ctx context.Context, id sessions.ID, list []sessions.Moment) error {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return unavailable("note moments", err)
	}
	defer done()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return unavailable("begin", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	s, err := scan(tx.QueryRow(ctx, lockSession, string(id)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return unavailable("lock session", err)
	}
	if _, err := tx.Exec(ctx, lockJourney, string(id), instant(s.JourneyStartedAt)); err != nil {
		return unavailable("lock journey", err)
	}
	var columns momentColumns
	columns.add(sessions.JourneyKey{SessionID: id, StartedAt: s.JourneyStartedAt}, list)
	if _, err := tx.Exec(ctx, insertMoments, columns.args()...); err != nil {
		return unavailable("note moments", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return unavailable("commit", err)
	}
	return nil
}

func scanAudit(row pgx.Row) (e sessions.AuditEntry, err error) {
	var (
		id, session, kind, role, by, request, trainer, student *string
		started                                                *time.Time
		events                                                 []string
		detail                                                 []byte
	)
	err = row.Scan(&e.Seq, &id, &session, &started, &e.At, &kind, &role, &by, &request, &trainer, &student, &events, &detail)
	if err != nil {
		return e, err
	}
	e.ID, e.SessionID, e.JourneyStartedAt, e.At = parseID(id), parseID(session), utc(started), millisecond(e.At)
	e.Kind, e.TrainerID, e.StudentID = sessions.AuditKind(text(kind)), parseID(trainer), parseID(student)
	e.By = sessions.Actor{ID: parseID(by), RequestID: text(request)}
	if r := sessions.Role(text(role)); r != systemRole {
		e.By.Role = r
	}
	for _, event := range events {
		e.EventIDs = append(e.EventIDs, sessions.ID(event))
	}
	return e, json.Unmarshal(detail, &e.Detail)
}
