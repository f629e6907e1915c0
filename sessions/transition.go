package sessions

import (
	"cmp"
	"time"
)

// The transitions. Each takes the session as it is under the repository's lock,
// changes it, and returns the events about the change; or it refuses and changes
// nothing. The caller checks ownership (service.go, journey.go); the status is
// checked here. Those of the code are in code.go. The time is a parameter, so that a test can replay any history.

// maxStarts bounds the starts of one session in startsFor: each is a push and a track.
const (
	maxStarts = 10
	startsFor = time.Hour
)

// Start begins a journey. An empty mode means the booked one. Errors:
// JourneyAlreadyStarted, NotScheduled, RateLimited.
func (s *Session) Start(mode Mode, now time.Time) ([]Event, error) {
	switch {
	case s.JourneyActive():
		running := *s
		return nil, &Error{Code: JourneyAlreadyStarted, Message: "the journey has already started", Journey: &running}
	case s.Status != Scheduled:
		return nil, Refuse(NotScheduled, "the session is "+string(s.Status)+", not scheduled")
	}
	if !s.Home.Valid() { // a row that the operator's own system wrote
		return nil, Refuse(NotScheduled, "the session has no home to travel to")
	}
	if err := s.countStart(ms(now)); err != nil {
		return nil, err
	}
	events := s.completeEnd(now)
	s.JourneyMode = cmp.Or(mode, s.Mode)
	s.JourneyStartedAt = after(now, s.JourneyEndedAt)
	s.JourneyEndedAt, s.JourneyEndReason, s.JourneyEndedBy = time.Time{}, "", ""
	return append(events, s.event(JourneyStarted, s.JourneyStartedAt)), nil
}

// completeWithin is how long ago an end may be that has no event. Older ones are rows from
// before this table was Doorstep's, too.
const completeWithin = 2 * time.Hour

// endedElsewhere reports whether another service has written the end of the journey,
// which is then without a reason and without an event.
func (s *Session) endedElsewhere(now time.Time) bool {
	return !s.JourneyStartedAt.IsZero() && !s.JourneyEndedAt.IsZero() && s.JourneyEndReason == "" && now.Sub(s.JourneyEndedAt) < completeWithin
}

// completeEnd gives an end that another service has written its reason and its event. On
// any other session it does nothing, so any number of gateways may try.
func (s *Session) completeEnd(now time.Time) []Event {
	if !s.endedElsewhere(now) {
		return nil
	}
	return s.end(EndCancelled, s.JourneyEndedAt)
}

func (s *Session) countStart(now time.Time) error {
	age := now.Sub(s.StartsSince)
	switch {
	case age >= startsFor:
		s.StartsSince, s.Starts = now, 0
	case s.Starts >= maxStarts:
		return &Error{Code: RateLimited, Message: "the journey was started too often", RetryAfter: min(startsFor, startsFor-age)}
	}
	s.Starts++
	return nil
}

// Stop ends a running journey that did not arrive. Error: NoActiveJourney.
func (s *Session) Stop(reason EndReason, now time.Time) ([]Event, error) {
	if !s.JourneyActive() {
		return nil, Refuse(NoActiveJourney, "no journey to this session is running")
	}
	return s.end(reason, now), nil
}

// Arrive ends a running journey at the door and makes the OTP. A repeated call
// while that OTP is valid changes nothing, so a retry after a lost answer gets the
// same OTP. Once it has expired a repeated call makes a new one, or the lesson
// could never start. Errors: NoActiveJourney; RateLimited and OTPLocked for a new
// OTP.
func (s *Session) Arrive(now time.Time) ([]Event, error) {
	if s.Status == PendingVerification {
		if s.hasOTP(now) {
			return nil, nil
		}
		return s.renewOTP(now)
	}
	if !s.JourneyActive() || s.Status != Scheduled { // the operator may have cancelled it meanwhile
		return nil, Refuse(NoActiveJourney, "no journey to this session is running")
	}
	if err := s.issueOTP(now); err != nil {
		return nil, err
	}
	s.Status = PendingVerification
	events := s.end(EndArrived, now)
	s.ArrivedAt = s.JourneyEndedAt
	return events, nil
}

// StopRepeated reports whether a stop by this user repeats the one that ended the last
// journey: within ten minutes, and nothing has happened since.
func (s Session) StopRepeated(by ID, now time.Time) bool {
	return s.Status == Scheduled && !s.JourneyActive() && s.JourneyEndReason == EndCancelled && s.JourneyEndedBy == by && by != "" &&
		now.Sub(s.JourneyEndedAt) < repeatWithin
}

// Complete ends the lesson. On a completed session it does nothing. Error:
// NotInProgress.
func (s *Session) Complete(now time.Time) error {
	if s.Status == Completed {
		return nil
	}
	if s.Status != InProgress {
		return Refuse(NotInProgress, "the session is "+string(s.Status)+", not in progress")
	}
	s.Status, s.CompletedAt, s.Codes.Proof = Completed, after(now, s.StartedAt), ""
	return nil
}

// TimeOut ends a journey that has lasted for ttl or longer. Its recorded end is
// the start plus ttl, even when no gateway was running then. On any other session
// it does nothing, so any number of gateways may try.
func (s *Session) TimeOut(ttl time.Duration, now time.Time) []Event {
	limit := s.JourneyStartedAt.Add(ttl)
	if !s.JourneyActive() || now.Before(limit) {
		return nil
	}
	return s.end(EndTimeout, limit)
}

func (s *Session) end(reason EndReason, now time.Time) []Event {
	s.JourneyEndedAt, s.JourneyEndReason = after(now, s.JourneyStartedAt), reason
	e := s.event(JourneyEnded, s.JourneyEndedAt)
	e.Reason = reason
	return []Event{e}
}

func (s *Session) event(t EventType, at time.Time) Event {
	return Event{
		ID: NewID(), Type: t, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
		At: at, JourneyStartedAt: s.JourneyStartedAt,
	}
}

// after is now in milliseconds, or one millisecond after earlier where now is not
// later than that. So the starts and ends of one session only rise, even when this
// gateway's clock is behind the one that wrote the last.
func after(now, earlier time.Time) time.Time {
	now = ms(now)
	if !earlier.IsZero() && !now.After(earlier) {
		return earlier.Add(time.Millisecond)
	}
	return now
}

func ms(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
