package sessions

import (
	"time"

	"doorstep/geo"
)

// Status is where a session stands; doc.go draws the ways between them.
type Status string

// The statuses of a session.
const (
	Scheduled           Status = "scheduled"
	PendingVerification Status = "pending_verification"
	InProgress          Status = "in_progress"
	Completed           Status = "completed"
	Cancelled           Status = "cancelled"
)

// Mode is how the trainer travels; it decides which speeds are plausible.
type Mode = geo.Mode

// The travel modes.
const (
	Car  = geo.Car
	Bike = geo.Bike
	Walk = geo.Walk
)

// EndReason is why a journey ended.
type EndReason string

// The reasons of an end, as the events name them.
const (
	EndArrived   EndReason = "arrived"
	EndCancelled EndReason = "cancelled"
	EndTimeout   EndReason = "timeout"
)

// Session is one tutoring session with the journey to it. Zero instants mean
// "not yet". A value: stores hand out copies.
type Session struct {
	ID          ID
	TrainerID   ID
	StudentID   ID
	Status      Status
	ScheduledAt time.Time
	Home        geo.Point
	Mode        Mode // as booked
	CreatedAt   time.Time

	JourneyMode      Mode // as started; the booked one unless the start said otherwise
	JourneyStartedAt time.Time
	JourneyEndedAt   time.Time
	JourneyEndReason EndReason
	ArrivedAt        time.Time

	OTP          string // four digits, only while PendingVerification
	OTPExpiresAt time.Time
	OTPAttempts  int // wrong tries against this OTP

	StartedAt   time.Time // the lesson, not the journey
	CompletedAt time.Time
}

// JourneyActive reports whether a journey to this session is running.
func (s Session) JourneyActive() bool {
	return !s.JourneyStartedAt.IsZero() && s.JourneyEndedAt.IsZero()
}

// Journey is the session's present or last journey. Its StartedAt is zero when
// there never was one.
func (s Session) Journey() Journey {
	return Journey{
		Ref: Ref{TrainerID: s.TrainerID, SessionID: s.ID}, Home: s.Home, Mode: s.JourneyMode,
		StartedAt: s.JourneyStartedAt,
	}
}

// Meta is what a read of this session has to check.
func (s Session) Meta() Meta { return Meta{TrainerID: s.TrainerID, StudentID: s.StudentID} }

// HasParty reports whether c is the session's trainer or student under the
// right role, or an admin. A student's id in a trainer's token is nobody.
func (s Session) HasParty(c Caller) bool { return s.Meta().HasParty(c) }

// Ref names a journey's place in the live store: all of it lies in the
// trainer's slot.
type Ref struct{ TrainerID, SessionID ID }

// Journey is what the live store has to know to take a journey's fixes.
// StartedAt, in milliseconds, is its identity.
type Journey struct {
	Ref
	Home      geo.Point
	Mode      Mode
	StartedAt time.Time
	// Restored says that the live store had this journey and lost it: its next
	// fix is believed as a first one is, but counts as a re-anchor.
	Restored bool
}

// Meta is a session's parties: what a read must check before it reads.
type Meta struct{ TrainerID, StudentID ID }

// HasParty reports whether c may see the session: its trainer, its student,
// or an admin.
func (m Meta) HasParty(c Caller) bool {
	switch c.Role {
	case Admin:
		return true
	case Trainer:
		return c.ID == m.TrainerID
	case Student:
		return c.ID == m.StudentID
	default:
		return false
	}
}
