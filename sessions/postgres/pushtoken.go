package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const (
	// Registrations of one user wait for each other; otherwise two at once would each
	// leave ten tokens besides their own.
	lockDevices = `SELECT pg_advisory_xact_lock(hashtextextended('push_tokens ' || $1, 0))`
	putDevice   = `INSERT INTO push_tokens (token, user_id, platform, language, registered_at, live_activity_session, live_activity_token)
		VALUES ($1, $2, $3, $4, $5, nullif($6::text, '')::uuid, nullif($7::text, ''))
		ON CONFLICT (token) DO UPDATE SET user_id = excluded.user_id, platform = excluded.platform,
			language = excluded.language, registered_at = excluded.registered_at,
			live_activity_session = excluded.live_activity_session, live_activity_token = excluded.live_activity_token`
	// The token just registered stays, whatever the instants of the others. A token that
	// is locked is being registered by another user, and is then no longer this user's;
	// waiting for it could be a deadlock.
	dropOldDevices = `DELETE FROM push_tokens WHERE token IN (
		SELECT token FROM push_tokens WHERE user_id = $1
		ORDER BY (token = $2) DESC, registered_at DESC, token OFFSET 10 FOR UPDATE SKIP LOCKED)`
	dropDevice   = `DELETE FROM push_tokens WHERE token = $2 AND user_id = $1`
	useDevice    = `UPDATE push_tokens SET last_used_at = greatest(last_used_at, $3) WHERE token = $2 AND user_id = $1`
	dropActivity = `UPDATE push_tokens SET live_activity_session = NULL, live_activity_token = NULL
		WHERE token = $2 AND user_id = $1 AND live_activity_token = $3`
	selectDevicesOf = `SELECT token, user_id::text, platform, language, registered_at, greatest(registered_at, last_used_at),
		coalesce(live_activity_session::text, ''), coalesce(live_activity_token, '') FROM push_tokens
		WHERE user_id = $1 ORDER BY registered_at DESC, token COLLATE "C"`
)

// PutPushToken implements sessions.PushTokens. One round trip, one transaction.
func (r *Repository) PutPushToken(ctx context.Context, t sessions.PushToken) error {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return unavailable("store push token", err)
	}
	defer done()
	batch := &pgx.Batch{}
	batch.Queue(lockDevices, string(t.UserID))
	batch.Queue(putDevice, t.Token, string(t.UserID), string(t.Platform), t.Language, millisecond(t.RegisteredAt),
		string(t.LiveActivity.SessionID), t.LiveActivity.Token)
	batch.Queue(dropOldDevices, string(t.UserID), t.Token)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return unavailable("store push token", err)
	}
	return nil
}

// PushTokenUsed implements sessions.PushTokens. One round trip.
func (r *Repository) PushTokenUsed(ctx context.Context, userID sessions.ID, token string, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	if _, err := r.pool.Exec(ctx, useDevice, string(userID), token, millisecond(at)); err != nil {
		return unavailable("note use of push token", err)
	}
	return nil
}

// DeletePushToken implements sessions.PushTokens. One round trip.
func (r *Repository) DeletePushToken(ctx context.Context, userID sessions.ID, token string) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	if _, err := r.pool.Exec(ctx, dropDevice, string(userID), token); err != nil {
		return unavailable("delete push token", err)
	}
	return nil
}

// DropLiveActivity implements sessions.PushTokens. One round trip.
func (r *Repository) DropLiveActivity(ctx context.Context, userID sessions.ID, token, activity string) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	if _, err := r.pool.Exec(ctx, dropActivity, string(userID), token, activity); err != nil {
		return unavailable("drop live activity", err)
	}
	return nil
}

// PushTokensOf implements sessions.PushTokens. One round trip.
func (r *Repository) PushTokensOf(ctx context.Context, userID sessions.ID) ([]sessions.PushToken, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	rows, err := r.pool.Query(ctx, selectDevicesOf, string(userID))
	if err != nil {
		return nil, unavailable("list push tokens", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t sessions.PushToken, err error) {
		err = row.Scan(&t.Token, &t.UserID, &t.Platform, &t.Language, &t.RegisteredAt, &t.LastUsedAt, &t.LiveActivity.SessionID, &t.LiveActivity.Token)
		t.RegisteredAt, t.LastUsedAt = millisecond(t.RegisteredAt), millisecond(t.LastUsedAt)
		return t, err
	})
	if err != nil {
		return nil, unavailable("list push tokens", err)
	}
	return list, nil
}
