package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const (
	// Two devices made by one trainer at once wait for each other: else each would see
	// room for itself.
	lockTrainersDevices = `SELECT pg_advisory_xact_lock(hashtextextended('devices ' || $1, 0))`
	insertDevice        = `INSERT INTO devices (id, trainer_id, name, format, secret_hash, created_at, last_used_at)
		SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT count(*) FROM devices WHERE trainer_id = $2) < $8`
	deviceColumns   = `id::text, trainer_id::text, name, format, secret_hash, created_at, last_used_at`
	selectDevices   = `SELECT ` + deviceColumns + ` FROM devices WHERE id = ANY($1)`
	selectTrainersD = `SELECT ` + deviceColumns + ` FROM devices WHERE trainer_id = $1 ORDER BY created_at DESC, id`
	deleteDevice    = `DELETE FROM devices WHERE id = $2 AND trainer_id = $1`
	// A row that is locked is being deleted, or used by way of another gateway.
	useDevices = `UPDATE devices d SET last_used_at = u.at
		FROM (SELECT locked.id, given.at FROM unnest($1::uuid[], $2::timestamptz[]) AS given (id, at)
			JOIN devices locked ON locked.id = given.id WHERE locked.last_used_at < given.at FOR UPDATE OF locked SKIP LOCKED) u
		WHERE d.id = u.id`
	selectRunningSessions = `SELECT trainer_id::text, id::text, coalesce(journey_region, '') FROM tutoring_sessions
		WHERE journey_started_at IS NOT NULL AND journey_ended_at IS NULL AND trainer_id = ANY($1)`
)

// PutDevice implements sessions.Devices. One round trip, one transaction.
func (r *Repository) PutDevice(ctx context.Context, d sessions.Device) error {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return unavailable("store device", err)
	}
	defer done()
	batch := &pgx.Batch{}
	batch.Queue(lockTrainersDevices, string(d.TrainerID))
	stored := false
	batch.Queue(insertDevice, string(d.ID), string(d.TrainerID), d.Name, string(d.Format), d.SecretHash[:],
		millisecond(d.CreatedAt), millisecond(d.LastUsedAt), sessions.MaxDevices)
	sent := conn.SendBatch(ctx, batch)
	_, err = sent.Exec()
	if err == nil {
		tag, failed := sent.Exec()
		stored, err = tag.RowsAffected() == 1, failed
	}
	if closed := sent.Close(); err == nil {
		err = closed
	}
	switch {
	case err != nil:
		return unavailable("store device", err)
	case !stored:
		return sessions.Refuse(sessions.TooManyDevices, "you have ten devices; delete one first")
	}
	return nil
}

// Devices implements sessions.Devices. One round trip.
func (r *Repository) Devices(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Device, error) {
	list, err := rows(ctx, r, "read devices", scanDevice, selectDevices, idTexts(ids))
	if err != nil {
		return nil, err
	}
	found := make(map[sessions.ID]sessions.Device, len(list))
	for _, d := range list {
		found[d.ID] = d
	}
	return found, nil
}

// DevicesOf implements sessions.Devices. One round trip.
func (r *Repository) DevicesOf(ctx context.Context, trainerID sessions.ID) ([]sessions.Device, error) {
	return rows(ctx, r, "list devices", scanDevice, selectTrainersD, string(trainerID))
}

func scanDevice(row pgx.Row) (d sessions.Device, err error) {
	var hash []byte
	err = row.Scan(&d.ID, &d.TrainerID, &d.Name, &d.Format, &hash, &d.CreatedAt, &d.LastUsedAt)
	copy(d.SecretHash[:], hash)
	d.CreatedAt, d.LastUsedAt = millisecond(d.CreatedAt), millisecond(d.LastUsedAt)
	return d, err
}

// DeleteDevice implements sessions.Devices. One round trip.
func (r *Repository) DeleteDevice(ctx context.Context, trainerID, id sessions.ID) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	if _, err := r.pool.Exec(ctx, deleteDevice, string(trainerID), string(id)); err != nil {
		return unavailable("delete device", err)
	}
	return nil
}

// DevicesUsed implements sessions.Devices. One round trip.
func (r *Repository) DevicesUsed(ctx context.Context, used map[sessions.ID]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	ids, at := make([]string, 0, len(used)), make([]time.Time, 0, len(used))
	for id, t := range used {
		ids, at = append(ids, string(id)), append(at, millisecond(t))
	}
	if _, err := r.pool.Exec(ctx, useDevices, ids, at); err != nil {
		return unavailable("note uses of devices", err)
	}
	return nil
}

// RunningSessions implements sessions.Devices. One round trip, from an index that holds
// running journeys only.
func (r *Repository) RunningSessions(ctx context.Context, trainerIDs []sessions.ID) (map[sessions.ID]sessions.RunningSession, error) {
	running := make(map[sessions.ID]sessions.RunningSession, len(trainerIDs))
	_, err := rows(ctx, r, "find running journeys", func(row pgx.Row) (trainer sessions.ID, err error) {
		var one sessions.RunningSession
		err = row.Scan(&trainer, &one.SessionID, &one.Region)
		running[trainer] = one
		return trainer, err
	}, selectRunningSessions, idTexts(trainerIDs))
	if err != nil {
		return nil, err
	}
	return running, nil
}
