package sessions

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"math/big"
	"time"
)

// The transitions. Each takes the session as it is under the repository's lock,
// changes it, and returns the events about the change; or it refuses and changes
// nothing. The caller checks ownership (service.go, journey.go); the status is
// checked here. The time is a parameter, so that a test can replay any history.

// Start begins a journey. An empty mode means the booked one. Errors:
// JourneyAlreadyStarted, NotScheduled.
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
	s.JourneyMode = cmp.Or(mode, s.Mode)
	s.JourneyStartedAt = after(now, s.JourneyEndedAt)
	s.JourneyEndedAt, s.JourneyEndReason = time.Time{}, ""
	return []Event{s.event(JourneyStarted, s.JourneyStartedAt)}, nil
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
// could never start. Error: NoActiveJourney.
func (s *Session) Arrive(now time.Time) ([]Event, error) {
	if s.Status == PendingVerification {
		if s.hasOTP(now) {
			return nil, nil
		}
		return nil, s.issueOTP(now)
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

// Verify checks the OTP and, when it is right, starts the lesson. It counts a
// wrong try, so the caller must store the session whatever the error. Errors:
// NotPendingVerification, OTPExpired, OTPLocked, OTPWrong.
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

// Complete ends the lesson. Error: NotInProgress.
func (s *Session) Complete(now time.Time) error {
	if s.Status != InProgress {
		return Refuse(NotInProgress, "the session is "+string(s.Status)+", not in progress")
	}
	s.Status, s.CompletedAt = Completed, after(now, s.StartedAt)
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

// hasOTP checks the code and not only its time: the operator's own system may have
// left a session pending without a code, and an empty code must verify nothing.
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

const (
	otpLifetime = 10 * time.Minute
	// otpTries wrong answers lock the code for its lifetime. Five guesses at four
	// digits succeed once in 2,000.
	otpTries = 5
)

// newOTP draws four digits, uniformly, from the system's cryptographic source.
func newOTP() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(10_000))
	if err != nil {
		return "", fmt.Errorf("draw otp: %w", err)
	}
	return fmt.Sprintf("%04d", n), nil
}

// otpEqual compares in a time that does not depend on where the two differ.
func otpEqual(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
