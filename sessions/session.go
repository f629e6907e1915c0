package sessions

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"doorstep/geo"
)

// ID is a UUID in its canonical form: 36 characters, lower case, with hyphens.
// Only ParseID and NewID make one, so an ID can stand in a key, a channel name or
// a hash tag without escaping. Comparable, and usable as a map key.
type ID string

// ParseID accepts the canonical form in either case. It refuses braces,
// "urn:uuid:" and bare hex, which package uuid would accept: the same id in two
// spellings would be two keys. It refuses the nil UUID too.
func ParseID(s string) (ID, bool) {
	if len(s) != 36 {
		return "", false
	}
	u, err := uuid.Parse(s)
	if err != nil || u == uuid.Nil {
		return "", false
	}
	return ID(u.String()), true
}

// NewID makes a random (version 4) id.
func NewID() ID { return ID(uuid.NewString()) }

// Role is what a caller's token says the caller is.
type Role string

// The roles that a token can carry.
const (
	Trainer Role = "trainer"
	Student Role = "student"
	Admin   Role = "admin"
)

// LinkReader is the role of whoever reads by a share link. No token can carry it, and it
// is a party of nothing.
const LinkReader Role = "link"

// Status is the state of a session. The diagram in doc.go shows the transitions.
type Status string

// The statuses of a session.
const (
	Scheduled           Status = "scheduled"
	PendingVerification Status = "pending_verification"
	InProgress          Status = "in_progress"
	Completed           Status = "completed"
	Cancelled           Status = "cancelled"
	NoShow              Status = "no_show" // nobody opened the door
)

// Statuses lists the statuses.
func Statuses() []Status {
	return []Status{Scheduled, PendingVerification, InProgress, Completed, Cancelled, NoShow}
}

// Mode is how the trainer travels. It decides which speeds are plausible.
type Mode = geo.Mode

// The travel modes.
const (
	Car  = geo.Car
	Bike = geo.Bike
	Walk = geo.Walk
)

// EndReason is why a journey ended.
type EndReason string

// The reasons, as the events name them.
const (
	EndArrived   EndReason = "arrived"
	EndCancelled EndReason = "cancelled"
	EndTimeout   EndReason = "timeout"
)

// Session is one tutoring session and the journey to it. A zero instant means
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
	HomeMovedAt time.Time // when the home last changed, or that was noticed; zero for never
	// Region is the one whose live store has the session's journeys: that of the booking, or
	// else of the first start. Empty: not decided yet, or an installation of one region.
	Region string

	JourneyMode      Mode // of the journey; the booked one unless the start named another
	JourneyStartedAt time.Time
	JourneyEndedAt   time.Time
	JourneyEndReason EndReason
	JourneyEndedBy   ID // who stopped it; empty where nobody did
	ArrivedAt        time.Time
	StartsSince      time.Time // the start from which Starts counts, for an hour
	Starts           int

	OTP          string // four digits, only while PendingVerification
	OTPExpiresAt time.Time
	OTPAttempts  int // wrong tries against this OTP
	Codes        CodeLog

	StartedAt   time.Time // of the lesson, not of the journey
	CompletedAt time.Time

	ClosedAt    time.Time // Cancelled or NoShow since then; zero where another service says so
	ClosedBy    ID
	CloseReason string // what the caller said; may be empty
}

// JourneyActive reports whether a journey to this session is running.
func (s Session) JourneyActive() bool {
	return !s.JourneyStartedAt.IsZero() && s.JourneyEndedAt.IsZero()
}

// Journey is the session's running or last journey. Its StartedAt is zero when
// the session never had one.
func (s Session) Journey() Journey {
	return Journey{
		Ref: Ref{TrainerID: s.TrainerID, SessionID: s.ID}, Home: s.Home, Mode: s.JourneyMode,
		StartedAt: s.JourneyStartedAt, Phase: s.Phase(),
	}
}

// Phase is where the session stands for the student. Only the live store knows
// that a running journey is arriving.
func (s Session) Phase() Phase {
	switch {
	case s.JourneyActive():
		return OnTheWay
	case s.Status == PendingVerification, s.Status == InProgress:
		return Arrived
	case s.Status == Scheduled && s.JourneyStartedAt.IsZero():
		return NotStarted
	default:
		return Ended
	}
}

// Meta is the session's parties and its region.
func (s Session) Meta() Meta {
	return Meta{TrainerID: s.TrainerID, StudentID: s.StudentID, Region: s.Region}
}

// HasParty reports whether c may see the session: its trainer, its student, or
// an admin. See Meta.HasParty.
func (s Session) HasParty(c Caller) bool { return s.Meta().HasParty(c) }

// over reports whether nothing can become of the session any more.
func (s *Session) over() bool {
	return s.Status == Completed || s.Status == Cancelled || s.Status == NoShow
}

// driver is c in the role in which it may start and end the session's journeys: its
// trainer, or an admin for the trainer.
func (s *Session) driver(c Caller) (Caller, bool) {
	if s.isTrainer(c) {
		return c.As(Trainer)
	}
	return c.As(Admin)
}

// mayDriveAny reports whether there can be a session whose driver c is.
func (c Caller) mayDriveAny() bool { return c.Has(Trainer) || c.Has(Admin) }

func (s *Session) isTrainer(c Caller) bool { return c.Has(Trainer) && c.ID == s.TrainerID }

// SameBooking reports whether two sessions have the same booking. What happened to the
// sessions since then does not count, and neither does the region: see BookedAgain.
func SameBooking(a, b Session) bool {
	return a.ID == b.ID && a.TrainerID == b.TrainerID && a.StudentID == b.StudentID &&
		a.ScheduledAt.Equal(b.ScheduledAt) && a.Home == b.Home && a.Mode == b.Mode
}

// BookedAgain reports whether a new booking repeats the stored session. Repository.Create
// compares by it. A booking without a region repeats one whose start has set it.
func BookedAgain(stored, again Session) bool {
	return SameBooking(stored, again) && (again.Region == "" || again.Region == stored.Region)
}

// Ref is a journey's place in the live store. In a cluster all of it lies in the
// trainer's slot.
type Ref struct{ TrainerID, SessionID ID }

// Journey is what the live store has to know to accept a journey's fixes. Its
// identity is Ref and StartedAt, in milliseconds.
type Journey struct {
	Ref
	Home      geo.Point
	Mode      Mode
	StartedAt time.Time
	// Restored says that the live store had this journey and lost it. Its next
	// fix is believed like a first one, but counts as a re-anchor.
	Restored bool
	// Last is what is known of the live location of a Restored journey. It counts
	// once LiveOptions.LocationTTL has passed since then: the location has expired,
	// and was not lost. A next fix that the trainer could have reached is then no
	// re-anchor, and if it is not a long way, as trusted as the track was.
	Last LastFix
	// Phase is what Live.End writes; of no account while the journey runs.
	Phase Phase
}

// Phase is where a journey stands for those who watch it. A change of phase is a new
// version. After NotStarted it only moves on, until the session's next journey.
type Phase string

// The phases, in their order.
const (
	NotStarted Phase = "not_started" // the session had no journey yet
	OnTheWay   Phase = "on_the_way"
	Arriving   Phase = "arriving" // a fix was within the fence
	Arrived    Phase = "arrived"  // until the lesson is over
	Ended      Phase = "ended"    // stopped or timed out; or the lesson is over, or the session cancelled
)

// Rank orders the phases; -1 for one that is not known.
func (p Phase) Rank() int {
	return slices.Index([]Phase{NotStarted, OnTheWay, Arriving, Arrived, Ended}, p)
}

// Meta is a session's parties, which a read has to check first, and its region (Session.Region).
type Meta struct {
	TrainerID, StudentID ID
	Region               string
}

// Parties is the Meta without the region, to compare the parties by.
func (m Meta) Parties() Meta { return Meta{TrainerID: m.TrainerID, StudentID: m.StudentID} }

func (m Meta) in(region string) bool { return Session{Region: m.Region}.In(region) }

// HasParty reports whether c may see the session: its trainer, its student, or
// an admin. The role counts too: a trainer's token with the student's id gives no
// access.
func (m Meta) HasParty(c Caller) bool {
	return c.Has(Admin) || c.ID == m.TrainerID && c.Has(Trainer) || c.ID == m.StudentID && c.Has(Student)
}
