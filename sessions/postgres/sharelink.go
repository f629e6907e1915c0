package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const (
	deleteOtherLinks = `DELETE FROM share_links WHERE session_id = @session_id AND (@rotate
		OR journey_started_at IS DISTINCT FROM @journey_started_at OR trainer_id IS DISTINCT FROM @trainer_id OR student_id IS DISTINCT FROM @student_id)`
	insertLink = `INSERT INTO share_links (id, token_hash, session_id, trainer_id, student_id, journey_started_at, created_at)
		SELECT @id, @token_hash, @session_id, @trainer_id, @student_id, @journey_started_at, @created_at
		WHERE (SELECT count(*) FROM share_links WHERE session_id = @session_id) < @room`
	linkColumns   = `id::text, token_hash, session_id::text, trainer_id::text, student_id::text, journey_started_at, created_at`
	selectLinks   = `SELECT ` + linkColumns + ` FROM share_links WHERE token_hash = ANY($1)`
	selectLinksOf = `SELECT ` + linkColumns + ` FROM share_links WHERE session_id = ANY($1) ORDER BY created_at DESC, id`
	deleteLink    = `WITH ended AS (DELETE FROM share_links WHERE id = @id AND session_id = @audit_session RETURNING 1)
		INSERT INTO session_audit (` + auditColumns + `) SELECT ` + auditValues + ` FROM ended`
	endLinks        = `DELETE FROM share_links WHERE session_id = $1`
	endEarlierLinks = `DELETE FROM share_links WHERE session_id = $1 AND journey_started_at IS NOT NULL`
	beginLinks      = `UPDATE share_links SET journey_started_at = $2 WHERE session_id = $1`
)

// PutShareLink implements sessions.ShareLinks. The lock of the session's row keeps two
// calls from seeing the same room.
func (r *Repository) PutShareLink(
	ctx context.Context, sessionID sessions.ID, rotate bool, f func(sessions.Session) (sessions.ShareLink, error),
) error {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return unavailable("store share link", err)
	}
	defer done()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return unavailable("begin", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	session, err := scan(tx.QueryRow(ctx, lockSession, string(sessionID)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return notFound()
	case err != nil:
		return unavailable("lock session", err)
	}
	link, err := f(session)
	if err != nil {
		return err
	}
	args := linkArgs(link, sessions.MaxShareLinks)
	args["rotate"] = rotate
	deleted, err := tx.Exec(ctx, deleteOtherLinks, args)
	if err != nil {
		return unavailable("delete share links", err)
	}
	stored, err := tx.Exec(ctx, insertLink, args)
	switch {
	case err != nil:
		return unavailable("store share link", err)
	case stored.RowsAffected() == 0:
		return sessions.Refuse(sessions.TooManyShareLinks, "the session has five share links; delete one, or rotate")
	}
	entry := sessions.AuditLink(session, sessions.AuditLinkMade, int(deleted.RowsAffected()), sessions.ActorOf(ctx))
	if _, err := tx.Exec(ctx, insertAudit, auditArgs(entry)); err != nil {
		return unavailable("store the share link's entry", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return unavailable("commit share link", err)
	}
	return nil
}

func linkArgs(l sessions.ShareLink, room int) pgx.NamedArgs {
	return pgx.NamedArgs{
		"id": string(l.ID), "token_hash": l.TokenHash[:], "session_id": string(l.SessionID),
		"trainer_id": word(l.Parties.TrainerID), "student_id": word(l.Parties.StudentID),
		"journey_started_at": instant(l.JourneyStartedAt), "created_at": millisecond(l.CreatedAt), "room": room,
	}
}

// changeLinks adds to a batch what a change of a session does to its share links.
func changeLinks(batch *pgx.Batch, before, after sessions.Session, events []sessions.Event) {
	id := string(before.ID)
	switch sessions.LinksAfter(before, after) {
	case sessions.LinksStay:
	case sessions.LinksBegin:
		batch.Queue(endEarlierLinks, id)
		batch.Queue(beginLinks, id, instant(after.JourneyStartedAt))
	case sessions.LinksEnd:
		batch.Queue(endLinks, id)
	}
	for _, e := range events {
		if e.Link != nil {
			batch.Queue(insertLink, linkArgs(*e.Link, sessions.MaxShareLinks+1)) // beside those of people
		}
	}
}

// ShareLinks implements sessions.ShareLinks. One round trip.
func (r *Repository) ShareLinks(ctx context.Context, hashes []sessions.LinkHash) (map[sessions.LinkHash]sessions.ShareLink, error) {
	keys := make([][]byte, len(hashes))
	for i, hash := range hashes {
		keys[i] = hash[:]
	}
	list, err := rows(ctx, r, "read share links", scanLink, selectLinks, keys)
	found := make(map[sessions.LinkHash]sessions.ShareLink, len(list))
	for _, l := range list {
		found[l.TokenHash] = l
	}
	return found, err
}

// ShareLinksOf implements sessions.ShareLinks. One round trip.
func (r *Repository) ShareLinksOf(ctx context.Context, sessionID sessions.ID) ([]sessions.ShareLink, error) {
	return r.linksOf(ctx, []string{string(sessionID)})
}

func (r *Repository) linksOf(ctx context.Context, ids []string) ([]sessions.ShareLink, error) {
	return rows(ctx, r, "list share links", scanLink, selectLinksOf, ids)
}

func scanLink(row pgx.Row) (l sessions.ShareLink, err error) {
	var (
		hash             []byte
		trainer, student *string
		started          *time.Time
	)
	err = row.Scan(&l.ID, &hash, &l.SessionID, &trainer, &student, &started, &l.CreatedAt)
	copy(l.TokenHash[:], hash)
	l.Parties = sessions.Meta{TrainerID: parseID(trainer), StudentID: parseID(student)}
	l.JourneyStartedAt, l.CreatedAt = utc(started), millisecond(l.CreatedAt)
	return l, err
}

// DeleteShareLink implements sessions.ShareLinks. One round trip.
func (r *Repository) DeleteShareLink(ctx context.Context, s sessions.Session, id sessions.ID) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	args := auditArgs(sessions.AuditLink(s, sessions.AuditLinkEnded, 0, sessions.ActorOf(ctx)))
	args["id"] = string(id)
	if _, err := r.pool.Exec(ctx, deleteLink, args); err != nil {
		return unavailable("delete share link", err)
	}
	return nil
}
