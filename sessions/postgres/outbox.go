package postgres

import (
	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const insertEvent = `INSERT INTO outbox (event_id, session_id, type, detail) VALUES ($1, $2, $3, $4)`

// queueEvent adds the event to a transition's batch. Its detail goes on the
// bus as it stands in the row; the table refuses one with a place or a code.
func queueEvent(batch *pgx.Batch, e sessions.Event) {
	batch.Queue(insertEvent, string(e.ID), string(e.SessionID), string(e.Type), string(e.Detail()))
}
