package sessions

import (
	"cmp"
	"time"
)

// The transitions. Each takes the session as it stands under the repository's
// lock, changes it, and says which events tell of it; or refuses and changes
// nothing. Ownership is the caller's to check (service.go), status is checked
// here. Instants are given, never taken, so that a test can replay any history.

// Start begins a journey. A zero mode means the booked one.
func (s *Session) Start(mode Mode, now time.Time) ([]Event, error) {
	switch {
	case s.JourneyActive():
		running := *s
		return nil, &Error{Code: JourneyAlreadyStarted, Message: "the journey has already started", Journey: &running}
	case s.Status != Scheduled:
		return nil, Refuse(NotScheduled, "the session is "+string(s.Status)+", not scheduled")
	}
	if !s.Home.Valid() { // a row of the house's own
		return nil, Refuse(NotScheduled, "the session has no home to travel to")
	}
	s.JourneyMode = cmp.Or(mode, s.Mode)
	s.JourneyStartedAt = after(now, s.JourneyEndedAt)
	s.JourneyEndedAt, s.JourneyEndReason = time.Time{}, ""
	return []Event{s.event(JourneyStarted, s.JourneyStartedAt)}, nil
}

// Stop ends a running journey that did not arrive: EndCancelled or EndTimeout.
func (s *Session) Stop(reason EndReason, now time.Time) ([]Event, error) {
	if !s.JourneyActive() {
		return nil, Refuse(NoActiveJourney, "no journey to this session is running")
	}
	return s.end(reason, now), nil
}

// Arrive ends a running journey at the door and makes the OTP. Called again
// while the session waits for that OTP it changes nothing, so that a retry
// after a lost answer gets the same one; once the OTP has expired a new one is
// made, or the lesson could never start.
func (s *Session) Arrive(now time.Time) ([]Event, error) {
	if s.Status == PendingVerification {
		if s.hasOTP(now) {
			return nil, nil
		}
		return nil, s.issueOTP(now)
	}
	if !s.JourneyActive() || s.Status != Scheduled { // the house may have cancelled it meanwhile
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

// Verify checks the OTP and, when it is right, starts the lesson. A wrong try
// is counted: the caller must store the session whatever the error.
func (s *Session) Verify(otp string, now time.Time) error {
	switch {
	case s.Status != PendingVerification:
		return Refuse(NotPendingVerification, "the session is "+string(s.Status)+", not pending verification")
	case !s.hasOTP(now):
		return Refuse(OTPExpired, "the code has expired; ask for a new one by arriving again")
	case s.OTPAttempts >= otpTries:
		return s.locked(now)
	case !otpEqual(otp, s.OTP):
		s.OTPAttempts++
		if s.OTPAttempts >= otpTries {
			return s.locked(now)
		}
		return &Error{Code: OTPWrong, Message: "the code is wrong", AttemptsLeft: otpTries - s.OTPAttempts}
	}
	s.Status, s.StartedAt = InProgress, ms(now)
	s.OTP, s.OTPExpiresAt, s.OTPAttempts = "", time.Time{}, 0
	return nil
}

// Complete ends the lesson.
func (s *Session) Complete(now time.Time) error {
	if s.Status != InProgress {
		return Refuse(NotInProgress, "the session is "+string(s.Status)+", not in progress")
	}
	s.Status, s.CompletedAt = Completed, after(now, s.StartedAt)
	return nil
}

// TimeOut ends a journey that has had its hour, ttl, as of that hour: when the
// house was down then, the record says the same as if it had not been. On any
// other session it does nothing, so any number of gateways may try.
func (s *Session) TimeOut(ttl time.Duration, now time.Time) []Event {
	hour := s.JourneyStartedAt.Add(ttl)
	if !s.JourneyActive() || now.Before(hour) {
		return nil
	}
	return s.end(EndTimeout, hour)
}

// hasOTP asks for the code besides its time: the house may have left a session
// waiting without one, and the empty code must open nothing.
func (s *Session) hasOTP(now time.Time) bool { return s.OTP != "" && now.Before(s.OTPExpiresAt) }

func (s *Session) locked(now time.Time) error {
	return &Error{Code: OTPLocked, Message: "too many wrong codes", RetryAfter: s.OTPExpiresAt.Sub(now)}
}

func (s *Session) issueOTP(now time.Time) error {
	otp, err := newOTP()
	if err != nil {
		return err
	}
	s.OTP, s.OTPExpiresAt, s.OTPAttempts = otp, ms(now).Add(otpLifetime), 0
	return nil
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

// after is now to the millisecond, or the first millisecond after earlier when
// the clock has not reached it: starts and ends of one session only rise, even
// when a gateway's clock is behind the one that wrote the last.
func after(now, earlier time.Time) time.Time {
	now = ms(now)
	if !earlier.IsZero() && !now.After(earlier) {
		return earlier.Add(time.Millisecond)
	}
	return now
}

func ms(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
