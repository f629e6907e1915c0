package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const (
	// It returns no row for a key that is in use. A second request with the same key
	// waits here for the first to commit.
	useKey = `INSERT INTO booking_keys AS k (caller_id, key, body_hash, session_id, used_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (caller_id, key) DO UPDATE SET body_hash = excluded.body_hash, session_id = excluded.session_id, used_at = excluded.used_at
		WHERE k.used_at <= $6 RETURNING true`
	selectKey = `SELECT body_hash, session_id::text FROM booking_keys WHERE caller_id = $1 AND key = $2`
	// A few at each new key, so that the table needs no sweep.
	dropOldKeys = `DELETE FROM booking_keys WHERE (caller_id, key) IN (
		SELECT caller_id, key FROM booking_keys WHERE used_at <= $1 ORDER BY used_at LIMIT 20 FOR UPDATE SKIP LOCKED)`
)

// CreateOnce implements sessions.Repository, in one transaction.
func (r *Repository) CreateOnce(ctx context.Context, key sessions.BookingKey, s sessions.Session) (sessions.Session, bool, error) {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return sessions.Session{}, false, unavailable("create session", err)
	}
	defer done()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return sessions.Session{}, false, unavailable("begin", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	var fresh bool
	old := millisecond(key.At.Add(-sessions.KeysFor))
	err = tx.QueryRow(ctx, useKey, string(key.CallerID), key.Key, key.BodyHash, string(s.ID), millisecond(key.At), old).Scan(&fresh)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return usedBefore(ctx, tx, key)
	case err != nil:
		return sessions.Session{}, false, unavailable("use key", err)
	}
	stored, created, err := insert(ctx, tx, s)
	if err != nil {
		return sessions.Session{}, false, err
	}
	if _, err := tx.Exec(ctx, dropOldKeys, old); err != nil {
		return sessions.Session{}, false, unavailable("drop old keys", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return sessions.Session{}, false, unavailable("commit", err)
	}
	return stored, created, nil
}

func usedBefore(ctx context.Context, tx pgx.Tx, key sessions.BookingKey) (sessions.Session, bool, error) {
	var hash, id string
	if err := tx.QueryRow(ctx, selectKey, string(key.CallerID), key.Key).Scan(&hash, &id); err != nil {
		return sessions.Session{}, false, unavailable("read key", err)
	}
	session, err := scan(tx.QueryRow(ctx, selectSession, id))
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && hash != key.BodyHash:
		return sessions.Session{}, false, sessions.Refuse(sessions.SessionConflict, "the key was used for another booking")
	case err != nil:
		return sessions.Session{}, false, unavailable("read booked session", err)
	}
	return session, false, nil
}
