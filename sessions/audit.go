package sessions

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
)

// AuditKind is what an entry of a session's history tells.
type AuditKind string

// The kinds. Up to AuditLinkEnded they are stored with what they tell, in its
// transaction; those of a change of the session are derived from it (AuditOf). The rest
// are moments of a journey, which the gateways have noticed.
const (
	AuditBooked        AuditKind = "booked"
	AuditRebooked      AuditKind = "rebooked"
	AuditStarted       AuditKind = "journey_started"
	AuditEnded         AuditKind = "journey_ended"
	AuditArriving      AuditKind = "arriving"
	AuditSuspicious    AuditKind = "suspicious" // an event of that name was raised
	AuditCodeIssued    AuditKind = "code_issued"
	AuditCodeResent    AuditKind = "code_resent"
	AuditCodeWrong     AuditKind = "code_wrong"
	AuditCodesUnlocked AuditKind = "codes_unlocked"
	AuditLesson        AuditKind = "lesson_started"
	AuditCompleted     AuditKind = "completed"
	AuditCancelled     AuditKind = "cancelled"
	AuditNoShow        AuditKind = "no_show"
	AuditChanged       AuditKind = "changed" // a change that has no kind of its own
	AuditReviewed      AuditKind = "reviewed"
	AuditLinkMade      AuditKind = "share_link_made"
	AuditLinkEnded     AuditKind = "share_link_ended" // by a call; links that end with their journey have no entry

	AuditFirstFix      AuditKind = "first_fix"
	AuditSilenceBegan  AuditKind = "silence_began" // at the last fix before it
	AuditSilenceEnded  AuditKind = "silence_ended"
	AuditNotStored     AuditKind = "fixes_not_stored"   // in one minute, in one gateway
	AuditFoundDatabase AuditKind = "database_disagreed" // another service has changed the row; see Corrections
)

// AuditKinds lists the kinds.
func AuditKinds() []AuditKind {
	return []AuditKind{
		AuditBooked, AuditRebooked, AuditStarted, AuditEnded, AuditArriving, AuditSuspicious, AuditCodeIssued, AuditCodeResent,
		AuditCodeWrong, AuditCodesUnlocked, AuditLesson, AuditCompleted, AuditCancelled, AuditNoShow, AuditChanged, AuditReviewed,
		AuditLinkMade, AuditLinkEnded, AuditFirstFix, AuditSilenceBegan, AuditSilenceEnded, AuditNotStored, AuditFoundDatabase,
	}
}

// AuditEntry is one entry of a session's history. It is never changed, but for the ids
// of a user who is erased, and has no coordinate, no code and no text of a person.
type AuditEntry struct {
	// Seq orders the entries of one At: the repository's own number.
	Seq int64
	// ID is a moment's, by which its repeats are dropped; empty for a transition.
	ID        ID
	SessionID ID
	// JourneyStartedAt is, with SessionID, the journey's identity: the running or last
	// one. Zero before the first.
	JourneyStartedAt time.Time
	// At is the repository's clock for a transition, the live store's for a fix, and
	// the beginning of the minute for AuditNotStored.
	At   time.Time
	Kind AuditKind
	By   Actor
	// TrainerID and StudentID are who the parties became: of AuditBooked and
	// AuditRebooked.
	TrainerID ID
	StudentID ID
	EventIDs  []ID // of the events that it has raised
	Detail    AuditDetail
}

// Place is where the entry is in its history.
func (e AuditEntry) Place() HistoryPlace { return HistoryPlace{e.At, e.Seq} }

// AuditDetail is what an entry tells beside its kind. As JSON it is under 1000 bytes,
// and every field is of a closed list, a number or an instant.
type AuditDetail struct {
	TravelMode   Mode           `json:"travelMode,omitempty"`   // AuditStarted
	Reason       EndReason      `json:"reason,omitempty"`       // AuditEnded
	Found        string         `json:"found,omitempty"`        // what a Reconciler has found: one of Corrections
	Changed      []string       `json:"changed,omitempty"`      // AuditRebooked: fields of call 15
	ExpiresAt    string         `json:"expiresAt,omitempty"`    // AuditCodeIssued
	AttemptsLeft *int           `json:"attemptsLeft,omitempty"` // AuditCodeWrong: of this code and session
	Verdict      string         `json:"verdict,omitempty"`      // AuditSuspicious
	Seconds      int64          `json:"seconds,omitempty"`      // AuditSilenceEnded: how long it was
	Counts       map[string]int `json:"counts,omitempty"`       // AuditNotStored: by verdict
	Rating       int            `json:"rating,omitempty"`       // AuditReviewed
	Ended        int            `json:"ended,omitempty"`        // AuditLinkMade: how many other links ended for it
}

// JSON is the detail as it is stored.
func (d AuditDetail) JSON() []byte {
	b, err := json.Marshal(d)
	if err != nil {
		panic("sessions: strings and ints always marshal: " + err.Error())
	}
	return b
}

// Actor is who made a change: a caller of the API, or the gateways themselves, with an
// empty Role.
type Actor struct {
	Role      Role
	ID        ID
	RequestID string // empty where there was no request
	// Found is why a Reconciler made it: one of Corrections.
	Found string

	also Roles // further roles of the caller, until AuditOf has chosen
}

// of is the actor in the one role in which it acts on the session: its trainer, or an
// admin, or its student.
func (a Actor) of(s Session) Actor {
	c := Caller{ID: a.ID, Role: a.Role, Also: a.also}
	if a.also == 0 {
		return a
	}
	a.Role, a.also = Student, 0
	if driver, ok := s.driver(c); ok {
		a.Role = driver.Role
	}
	return a
}

type actorKey struct{}

// ActorOf is who acts in this context; the zero value is the gateways themselves.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// WithRequestID notes the request in whose name the service is called, for the entries
// of its changes. What is over 64 bytes is cut off: a transition must not fail for it.
func WithRequestID(ctx context.Context, id string) context.Context {
	a := ActorOf(ctx)
	a.RequestID = id[:min(len(id), 64)]
	return context.WithValue(ctx, actorKey{}, a)
}

// actingFor names the caller that the service acts for; the zero Caller is none.
func actingFor(ctx context.Context, c Caller) context.Context {
	a := ActorOf(ctx)
	a.Role, a.ID, a.also = c.Role, c.ID, c.Also
	return context.WithValue(ctx, actorKey{}, a)
}

// finding names what a Reconciler has found, and acts upon.
func finding(ctx context.Context, found string) context.Context {
	return context.WithValue(ctx, actorKey{}, Actor{Found: found})
}

// AuditOf derives the entries of a change from what it changed, so that no transition
// can forget its own. before is the zero Session for a booking. Each event is in one
// entry. A pure function; the repository adds At.
func AuditOf(before, after Session, events []Event, by Actor) []AuditEntry {
	by = by.of(after)
	var list []AuditEntry
	add := func(kind AuditKind, detail AuditDetail) {
		list = append(list, AuditEntry{
			SessionID: after.ID, JourneyStartedAt: ms(after.JourneyStartedAt), Kind: kind, By: by, Detail: detail,
		})
	}
	switch changed := bookingChanges(before, after); {
	case before.ID == "":
		add(AuditBooked, AuditDetail{})
		list[0].TrainerID, list[0].StudentID = after.TrainerID, after.StudentID
	case len(changed) > 0:
		add(AuditRebooked, AuditDetail{Changed: changed})
		list[0].TrainerID, list[0].StudentID = after.TrainerID, after.StudentID
	}
	if before.ID != "" {
		auditJourney(before, after, by, add)
		auditCodes(before, after, add)
		auditStatus(before, after, add)
	}
	if len(list) == 0 && by.Found != correctedHome { // noteFound has noted that one
		add(AuditChanged, AuditDetail{})
	}
	for _, e := range events {
		of := auditOf[e.Type]
		i := slices.IndexFunc(list, func(entry AuditEntry) bool { return slices.Contains(of, entry.Kind) })
		i = max(i, 0)
		list[i].EventIDs = append(list[i].EventIDs, e.ID)
	}
	return list
}

// auditOf are the kinds of the entries that an event belongs to.
var auditOf = map[EventType][]AuditKind{
	JourneyStarted: {AuditStarted}, JourneyEnded: {AuditEnded}, CodeIssued: {AuditCodeIssued, AuditCodeResent},
	SessionStarted: {AuditLesson}, SessionCompleted: {AuditCompleted}, SessionCancelled: {AuditCancelled, AuditNoShow},
	JourneyArriving: {AuditArriving}, LocationSuspicious: {AuditSuspicious},
}

// bookingChanges names the fields of a booking that differ.
func bookingChanges(before, after Session) (fields []string) {
	for _, f := range []struct {
		name    string
		changed bool
	}{
		{"scheduledAt", !ms(before.ScheduledAt).Equal(ms(after.ScheduledAt))},
		{"studentHome", before.Home != after.Home},
		{"travelMode", before.Mode != after.Mode},
		{"trainerId", before.TrainerID != after.TrainerID},
		{"studentId", before.StudentID != after.StudentID},
		{"region", before.Region != after.Region && after.JourneyStartedAt.IsZero()}, // else the start has set it
	} {
		if f.changed {
			fields = append(fields, f.name)
		}
	}
	return fields
}

func auditJourney(before, after Session, by Actor, add func(AuditKind, AuditDetail)) {
	if !before.JourneyStartedAt.Equal(after.JourneyStartedAt) && !after.JourneyStartedAt.IsZero() {
		add(AuditStarted, AuditDetail{TravelMode: after.JourneyMode})
	}
	// Another service may have written the end without a reason.
	if before.JourneyEndReason == "" && after.JourneyEndReason != "" {
		add(AuditEnded, AuditDetail{Reason: after.JourneyEndReason, Found: by.Found})
	}
}

func auditCodes(before, after Session, add func(AuditKind, AuditDetail)) {
	was, is := before.Codes, after.Codes
	switch {
	case is.Issued > was.Issued:
		add(AuditCodeIssued, AuditDetail{ExpiresAt: after.OTPExpiresAt.UTC().Format(wireTime)})
	case is.Wrong > was.Wrong:
		add(AuditCodeWrong, AuditDetail{AttemptsLeft: new(max(0, min(otpTries-after.OTPAttempts, sessionTries-is.Wrong)))})
	case is.Resent > was.Resent:
		add(AuditCodeResent, AuditDetail{})
	case is.Issued < was.Issued || is.Wrong < was.Wrong || is.Resent < was.Resent:
		add(AuditCodesUnlocked, AuditDetail{})
	}
}

func auditStatus(before, after Session, add func(AuditKind, AuditDetail)) {
	if before.Status == after.Status {
		return
	}
	switch after.Status {
	case InProgress:
		add(AuditLesson, AuditDetail{})
	case Completed:
		add(AuditCompleted, AuditDetail{})
	case Cancelled:
		add(AuditCancelled, AuditDetail{})
	case NoShow:
		add(AuditNoShow, AuditDetail{})
	case Scheduled, PendingVerification: // PendingVerification has the end of the journey and the code
	}
}

// AuditEvent is the entry of an event that changes no session, as Repository.Record
// stores it.
func AuditEvent(e Event, by Actor) AuditEntry {
	entry := AuditEntry{
		SessionID: e.SessionID, JourneyStartedAt: ms(e.JourneyStartedAt), Kind: AuditChanged, By: by, EventIDs: []ID{e.ID},
		Detail: AuditDetail{Verdict: e.Verdict},
	}
	if of := auditOf[e.Type]; len(of) > 0 {
		entry.Kind = of[0]
	}
	return entry
}

// AuditReview is the entry of a review.
func AuditReview(s Session, v Review, by Actor) AuditEntry {
	return AuditEntry{
		SessionID: s.ID, JourneyStartedAt: ms(s.JourneyStartedAt), Kind: AuditReviewed, By: by, Detail: AuditDetail{Rating: v.Stars},
	}
}

// AuditLink is the entry of a share link that was made, for which others ended, or of one
// that was ended.
func AuditLink(s Session, kind AuditKind, ended int, by Actor) AuditEntry {
	return AuditEntry{
		SessionID: s.ID, JourneyStartedAt: ms(s.JourneyStartedAt), Kind: kind, By: by.of(s), Detail: AuditDetail{Ended: ended},
	}
}

// AsBooked returns changed with the booking of old: what Repository.Change stores.
func AsBooked(changed, old Session) Session {
	changed.ID, changed.TrainerID, changed.StudentID = old.ID, old.TrainerID, old.StudentID
	changed.ScheduledAt, changed.Home, changed.Mode, changed.CreatedAt = old.ScheduledAt, old.Home, old.Mode, old.CreatedAt
	changed.HomeMovedAt = old.HomeMovedAt
	return changed
}

// MomentsKept is how many moments of one journey are kept, of all gateways. With the
// transitions that the rules of a session allow in one journey (a start, an end, an
// arrival, at most 19 suspicions, 5 codes, 5 pushes of them, 15 wrong tries, the lesson,
// its end and a review: 49) that makes at most 200 entries. Transitions are never
// refused: only an admin who changes a booking or unlocks codes again and again gets
// more, and who makes and ends share links again and again. A silence is at least 20 s
// and has two moments, and each gateway has one of AuditNotStored a minute, so in an hour
// only a phone that stops and starts all the time comes up to the limit. The later ones
// are then left out.
const MomentsKept = 150

// Moment is an entry of what a gateway has noticed of a running journey.
type Moment struct {
	ID     ID // drops repeats; empty for AuditFirstFix, which a journey has once
	Kind   AuditKind
	At     time.Time
	Detail AuditDetail
}

// momentSpace is the namespace of MomentID. It was drawn once, at random.
var momentSpace = uuid.MustParse("c7a4f0de-90d5-4f0e-8f0b-6a2b62a4a3f1")

// MomentID is the id under which a moment of a journey is stored.
func MomentID(key JourneyKey, m Moment) ID {
	if m.ID != "" {
		return m.ID
	}
	return journeyEventID(momentSpace, JourneyKey{key.SessionID, ms(key.StartedAt)}, string(m.Kind))
}
