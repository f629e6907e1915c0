package sessions

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// EventType is an event's detail-type on the bus.
type EventType string

// The events. Transitions raise JourneyStarted and JourneyEnded; a fix that reaches
// the fence raises JourneyArriving; flagged or refused fixes and silent phones raise
// LocationSuspicious. LocationUpdated is not among them: see LocationEvent.
const (
	JourneyStarted     EventType = "TrainerJourneyStarted"
	JourneyArriving    EventType = "TrainerArriving"
	JourneyEnded       EventType = "TrainerJourneyEnded"
	LocationSuspicious EventType = "TrainerLocationSuspicious"
	CodeIssued         EventType = "SessionCodeIssued" // at every code after the first, and whenever one is sent again
	SessionStarted     EventType = "SessionStarted"    // the lesson has begun
	SessionCompleted   EventType = "SessionCompleted"
	SessionCancelled   EventType = "SessionCancelled" // or nobody opened the door
)

// EventTypes lists every type that this binary can read.
func EventTypes() []EventType {
	return []EventType{
		JourneyStarted, JourneyArriving, JourneyEnded, LocationSuspicious, CodeIssued, SessionStarted, SessionCompleted, SessionCancelled,
	}
}

// ofSession reports whether the event is about the session and not about a journey to it.
func (t EventType) ofSession() bool {
	return t == SessionStarted || t == SessionCompleted || t == SessionCancelled
}

// ErrNewerEvent is an event of a type or a schema version that this binary does
// not know. A newer binary wrote it and a newer binary can read it.
var ErrNewerEvent = errors.New("event is newer than this binary")

// EventSchema is the version of the details below. A new field keeps the version.
// A field that is removed or changes its meaning needs a new one.
const EventSchema = 1

// Event is a record that something happened to a session. It is stored in the same
// transaction as the change. Consumers recognise repeats by ID. It never holds a
// coordinate or an OTP.
type Event struct {
	ID        ID
	Type      EventType
	SessionID ID
	TrainerID ID
	StudentID ID
	At        time.Time
	// JourneyStartedAt is, with SessionID, the identity of the journey.
	JourneyStartedAt time.Time
	Reason           EndReason // JourneyEnded
	Verdict          string    // LocationSuspicious: a flag's name, or "silent"
	Count            int       // LocationSuspicious: how often so far
	ExpiresAt        time.Time // CodeIssued: of the code
	Status           Status    // SessionCancelled: Cancelled or NoShow
	Note             string    // SessionCancelled: the reason that was given; may be empty
	// By and ByID are who made the call, of the Session… events; and of a journey's
	// start or end only where it was not the trainer.
	By   Role
	ByID ID
	// Link is, of a JourneyStarted, a share link of that journey, which is stored with the
	// event. The event itself has only the link's id, and only until it is published.
	Link *ShareLink
	// TrackURL is that link's URL. It is made when the event is published, and is stored
	// nowhere.
	TrackURL string
	// Trace is the X-Ray trace of the call that raised it, as WithTrace has it. Empty: none.
	Trace string
}

// RecordedFor reports whether Repository.Record may store the event of a session as it
// is under the lock: a JourneyArriving only while its journey runs.
func (e Event) RecordedFor(s Session) bool {
	return e.Type != JourneyArriving || s.JourneyActive() && s.JourneyStartedAt.Equal(e.JourneyStartedAt)
}

// detail is an event on the wire: docs/contract.md, section 4. Every
// event has startTime: with the session it is the journey's identity, which keeps a
// late message from touching a newer journey.
type detail struct {
	EventID       ID        `json:"eventId"`
	SchemaVersion int       `json:"schemaVersion"`
	TrainerID     ID        `json:"trainerId"`
	StudentID     ID        `json:"studentId,omitempty"`
	SessionID     ID        `json:"sessionId"`
	StartTime     string    `json:"startTime,omitempty"` // absent where there was no journey
	EndTime       string    `json:"endTime,omitempty"`
	Reason        EndReason `json:"reason,omitempty"`
	Verdict       string    `json:"verdict,omitempty"`
	Count         int       `json:"count,omitempty"`
	At            string    `json:"at,omitempty"`
	ExpiresAt     string    `json:"expiresAt,omitempty"`
	Status        Status    `json:"status,omitempty"`
	By            Role      `json:"by,omitempty"`
	ByID          ID        `json:"byId,omitempty"`
	LinkID        ID        `json:"linkId,omitempty"`
	TrackURL      string    `json:"trackUrl,omitempty"`
	Trace         string    `json:"traceId,omitempty"`
}

const wireTime = "2006-01-02T15:04:05.000Z"

// Detail is the event's detail as JSON.
func (e Event) Detail() []byte {
	d := detail{
		EventID: e.ID, SchemaVersion: EventSchema, TrainerID: e.TrainerID, StudentID: e.StudentID,
		SessionID: e.SessionID, Reason: e.Reason, Verdict: e.Verdict, Count: e.Count,
		Status: e.Status, By: e.By, ByID: e.ByID, Trace: e.Trace, TrackURL: e.TrackURL,
	}
	if e.Link != nil {
		d.LinkID = e.Link.ID
	}
	if !e.JourneyStartedAt.IsZero() || !e.Type.ofSession() {
		d.StartTime = e.JourneyStartedAt.UTC().Format(wireTime)
	}
	switch e.Type {
	case JourneyEnded:
		d.EndTime = e.At.UTC().Format(wireTime)
	case JourneyArriving, LocationSuspicious:
		d.At = e.At.UTC().Format(wireTime)
	case CodeIssued:
		d.At, d.ExpiresAt = e.At.UTC().Format(wireTime), e.ExpiresAt.UTC().Format(wireTime)
	case SessionStarted, SessionCompleted, SessionCancelled:
		d.At = e.At.UTC().Format(wireTime)
		d.Reason += EndReason(e.Note)
	}
	b, err := json.Marshal(d)
	if err != nil {
		panic("sessions: strings and ints always marshal: " + err.Error())
	}
	return b
}

// ParseEvent reads a detail back. The error says what is wrong with it, never
// what is in it: it goes to logs and dead letters. Errors: ErrNewerEvent, wrapped;
// any other is a detail that no binary can read.
func ParseEvent(t EventType, text []byte) (Event, error) {
	if err := checkNewer(t, text); err != nil {
		return Event{}, err
	}
	var d detail
	if json.Unmarshal(text, &d) != nil { // whose error tells the value of a number
		return Event{}, errors.New("event detail is not the JSON expected")
	}
	if d.SchemaVersion != EventSchema {
		return Event{}, fmt.Errorf("event schema version %d is not known", d.SchemaVersion)
	}
	e := Event{Type: t, TrackURL: d.TrackURL, Reason: d.Reason, Verdict: d.Verdict, Count: d.Count, Status: d.Status, By: d.By}
	if t.ofSession() {
		e.Reason, e.Note = "", string(d.Reason)
	}
	for _, id := range []struct {
		field string
		text  ID
		into  *ID
	}{{"eventId", d.EventID, &e.ID}, {"sessionId", d.SessionID, &e.SessionID}, {"trainerId", d.TrainerID, &e.TrainerID}} {
		parsed, ok := ParseID(string(id.text))
		if !ok {
			return Event{}, fmt.Errorf("event %s is not a UUID", id.field)
		}
		*id.into = parsed
	}
	e.StudentID, _ = ParseID(string(d.StudentID))
	e.ByID, _ = ParseID(string(d.ByID))
	if xray.MatchString(d.Trace) {
		e.Trace = d.Trace
	}
	if id, ok := ParseID(string(d.LinkID)); ok {
		e.Link = &ShareLink{ID: id}
	}
	if err := e.parseTimes(d); err != nil {
		return Event{}, err
	}
	return e, nil
}

// checkNewer comes before the rest of the detail is read: a newer version may
// have changed any other field.
func checkNewer(t EventType, text []byte) error {
	var d struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	switch {
	case json.Unmarshal(text, &d) != nil:
		return nil //nolint:nilerr // ParseEvent refuses it
	case d.SchemaVersion > EventSchema:
		return fmt.Errorf("%w: schema version %d is not known", ErrNewerEvent, d.SchemaVersion)
	case !slices.Contains(EventTypes(), t):
		return fmt.Errorf("%w: its type is not known", ErrNewerEvent)
	}
	return nil
}

func (e *Event) parseTimes(d detail) error {
	var err error
	if e.JourneyStartedAt, err = time.Parse(wireTime, d.StartTime); err != nil && (d.StartTime != "" || !e.Type.ofSession()) {
		return errors.New("event startTime is not an instant")
	}
	text := d.StartTime
	switch e.Type {
	case JourneyStarted:
	case JourneyEnded:
		text = d.EndTime
		if e.Reason != EndArrived && e.Reason != EndCancelled && e.Reason != EndTimeout {
			return errors.New("event reason is not known")
		}
	case JourneyArriving, LocationSuspicious, SessionStarted, SessionCompleted, SessionCancelled:
		text = d.At
	case CodeIssued:
		text = d.At
		if e.ExpiresAt, err = time.Parse(wireTime, d.ExpiresAt); err != nil {
			return errors.New("event expiresAt is not an instant")
		}
	}
	if e.At, err = time.Parse(wireTime, text); err != nil {
		return errors.New("event time is not an instant")
	}
	return nil
}
