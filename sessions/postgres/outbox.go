package postgres

import (
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

// schemaVersion is that of the details below. A field may be added to it; one
// that changes its meaning or goes is a new version.
const schemaVersion = 1

const insertEvent = `INSERT INTO outbox (event_id, session_id, type, detail) VALUES ($1, $2, $3, $4)`

// detail is what goes on the bus, in the words of CONTRACT.md section 4. It
// has no place and no code, and the table refuses one that has. StartTime is
// in the end's detail, too: with the session it is the journey's identity, by
// which a late message is kept from touching a newer journey.
type detail struct {
	EventID       sessions.ID        `json:"eventId"`
	SchemaVersion int                `json:"schemaVersion"`
	TrainerID     sessions.ID        `json:"trainerId"`
	StudentID     sessions.ID        `json:"studentId"`
	SessionID     sessions.ID        `json:"sessionId"`
	StartTime     string             `json:"startTime"`
	EndTime       string             `json:"endTime,omitempty"`
	Reason        sessions.EndReason `json:"reason,omitempty"`
}

func detailOf(e sessions.Event) detail {
	d := detail{
		EventID: e.ID, SchemaVersion: schemaVersion,
		TrainerID: e.TrainerID, StudentID: e.StudentID, SessionID: e.SessionID,
		StartTime: wireTime(e.JourneyStartedAt), Reason: e.Reason,
	}
	if e.Type == sessions.JourneyEnded {
		d.EndTime = wireTime(e.At)
	}
	return d
}

// wireTime is RFC 3339 in UTC with exactly three decimals, as the API has it.
func wireTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func queueEvent(batch *pgx.Batch, e sessions.Event) {
	b, err := json.Marshal(detailOf(e))
	if err != nil {
		panic("postgres: strings and an int always marshal: " + err.Error())
	}
	batch.Queue(insertEvent, string(e.ID), string(e.SessionID), string(e.Type), string(b))
}
