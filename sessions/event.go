package sessions

import "time"

// EventType is an event's detail-type on the bus.
type EventType string

// The events that transitions raise.
const (
	JourneyStarted EventType = "TrainerJourneyStarted"
	JourneyEnded   EventType = "TrainerJourneyEnded"
)

// Event is what happened to a session, written in the transaction that made it
// happen. ID is what consumers drop repeats by. No coordinate and no OTP is
// ever in one.
type Event struct {
	ID        ID
	Type      EventType
	SessionID ID
	TrainerID ID
	StudentID ID
	At        time.Time
	Reason    EndReason // JourneyEnded only
	// JourneyStartedAt is the identity of the journey it tells of.
	JourneyStartedAt time.Time
}
