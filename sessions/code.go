package sessions

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"
)

// The rules of the code (OTP). It must stand the guesses of somebody who holds the
// trainer's token, so a code and a session have a bounded number of tries, and a
// session a bounded number of codes.
const (
	otpLifetime = 10 * time.Minute
	// otpTries wrong answers lock the code for its lifetime. Five guesses at four
	// digits succeed once in 2,000.
	otpTries = 5
	// sessionTries wrong answers, whatever the code, lock the session's codes until an
	// admin counts anew: once in 667.
	sessionTries = 15
	// otpIssues bounds the codes of a session, and otpEvery their rate.
	otpIssues = 5
	otpEvery  = time.Minute
	// otpResends bounds how often a session's codes are pushed again.
	otpResends = 5
	// repeatWithin is how long a call that may be repeated gives the same answer.
	repeatWithin = 10 * time.Minute
)

// CodeLog is what is known of a session's codes beside the present one.
type CodeLog struct {
	Issued   int // how many were made
	Wrong    int // wrong tries against all of them
	Resent   int // how often one was pushed again
	ResentAt time.Time
	// Proof is an HMAC of the code that began the lesson, so that a repeat with the
	// right code can be told from a guess. It goes when the lesson is over.
	Proof string
}

// CodeState is how far a code can be used.
type CodeState string

// The states of the code of a session that is PendingVerification.
const (
	CodeActive  CodeState = "active"
	CodeLocked  CodeState = "locked"  // too many wrong tries, or codes
	CodeExpired CodeState = "expired" // arriving again makes a new one
)

// CodeState is the state of the session's code; empty where none is asked for. It
// goes by OTPExpiresAt, so it can be told of a session whose OTP was taken out.
func (s Session) CodeState(now time.Time) CodeState {
	switch {
	case s.Status != PendingVerification:
		return ""
	case s.Codes.Wrong >= sessionTries:
		return CodeLocked
	case now.Before(s.OTPExpiresAt):
		if s.OTPAttempts >= otpTries {
			return CodeLocked
		}
		return CodeActive
	case s.Codes.Issued >= otpIssues:
		return CodeLocked
	default:
		return CodeExpired
	}
}

// Verify checks the OTP and, when it is right, starts the lesson. It counts a
// wrong try, so the caller must store the session whatever the error. The right OTP
// again, within ten minutes, changes nothing. Errors: NotPendingVerification,
// OTPExpired, OTPLocked, OTPWrong.
func (s *Session) Verify(otp string, now time.Time) error {
	switch {
	case s.repeatsVerify(otp, now):
		return nil
	case s.Status != PendingVerification:
		return s.notPending()
	case !s.hasOTP(now):
		return errOTPExpired
	case s.CodeState(now) == CodeLocked:
		return s.locked(now)
	case !otpEqual(otp, s.OTP):
		s.OTPAttempts++
		s.Codes.Wrong++
		if s.CodeState(now) == CodeLocked {
			err := s.locked(now)
			err.cause = ErrCodeLocks
			return err
		}
		return &Error{Code: OTPWrong, Message: "the code is wrong", AttemptsLeft: min(otpTries-s.OTPAttempts, sessionTries-s.Codes.Wrong)}
	}
	s.Status, s.StartedAt = InProgress, ms(now)
	s.OTP, s.OTPExpiresAt, s.OTPAttempts, s.Codes.Proof = "", time.Time{}, 0, s.proof(otp)
	return nil
}

func (s *Session) repeatsVerify(otp string, now time.Time) bool {
	return s.Status == InProgress && s.Codes.Proof != "" && now.Sub(s.StartedAt) < repeatWithin && otpEqual(s.proof(otp), s.Codes.Proof)
}

// ResendOTP pushes the code that lives again. Errors: NotPendingVerification,
// OTPExpired, OTPLocked, RateLimited.
func (s *Session) ResendOTP(now time.Time) ([]Event, error) {
	switch wait := otpEvery - now.Sub(s.Codes.ResentAt); {
	case s.Status != PendingVerification:
		return nil, s.notPending()
	case !s.hasOTP(now):
		return nil, errOTPExpired
	case s.CodeState(now) == CodeLocked:
		return nil, s.locked(now)
	case s.Codes.Resent >= otpResends:
		return nil, &Error{Code: RateLimited, Message: "the code was sent too often", RetryAfter: s.OTPExpiresAt.Sub(now)}
	case wait > 0 && wait <= otpEvery:
		return nil, &Error{Code: RateLimited, Message: "the code was sent less than a minute ago", RetryAfter: wait}
	}
	s.Codes.Resent, s.Codes.ResentAt = s.Codes.Resent+1, ms(now)
	return []Event{s.codeIssued(now)}, nil
}

// UnlockOTP counts the tries, the codes and the pushes of the session anew. Error:
// NotPendingVerification.
func (s *Session) UnlockOTP() error {
	if s.Status != PendingVerification {
		return s.notPending()
	}
	s.OTPAttempts, s.Codes = 0, CodeLog{ResentAt: s.Codes.ResentAt}
	return nil
}

// renewOTP makes a code in place of one that has expired.
func (s *Session) renewOTP(now time.Time) ([]Event, error) {
	wait := s.OTPExpiresAt.Add(otpEvery - otpLifetime).Sub(now)
	switch {
	case s.CodeState(now) == CodeLocked:
		return nil, s.locked(now)
	case wait > 0 && wait <= otpEvery:
		return nil, &Error{Code: RateLimited, Message: "a code was made less than a minute ago", RetryAfter: wait}
	}
	if err := s.issueOTP(now); err != nil {
		return nil, err
	}
	return []Event{s.codeIssued(now)}, nil
}

func (s *Session) codeIssued(now time.Time) Event {
	e := s.event(CodeIssued, ms(now))
	e.ExpiresAt = s.OTPExpiresAt
	return e
}

// hasOTP checks the code and not only its time: the operator's own system may have
// left a session pending without a code, and an empty code must verify nothing.
func (s *Session) hasOTP(now time.Time) bool { return s.OTP != "" && now.Before(s.OTPExpiresAt) }

// codeGone reports whether the session needs a new code.
func (s *Session) codeGone(now time.Time) bool {
	return s.Status == PendingVerification && !s.hasOTP(now)
}

func (s *Session) notPending() error {
	return Refuse(NotPendingVerification, "the session is "+string(s.Status)+", not pending verification")
}

// locked says for how long: to the end of the code where a new one can be made then,
// else as long as a code, because only an admin can help.
func (s *Session) locked(now time.Time) *Error {
	if s.Codes.Wrong >= sessionTries || s.Codes.Issued >= otpIssues && !s.hasOTP(now) {
		return &Error{Code: OTPLocked, Message: "too many wrong codes; only an admin can unlock the session", RetryAfter: otpLifetime}
	}
	return &Error{Code: OTPLocked, Message: "too many wrong codes", RetryAfter: s.OTPExpiresAt.Sub(now)}
}

func (s *Session) issueOTP(now time.Time) error {
	otp, err := newOTP()
	if err != nil {
		return err
	}
	s.OTP, s.OTPExpiresAt, s.OTPAttempts = otp, ms(now).Add(otpLifetime), 0
	s.Codes.Issued++
	return nil
}

// proof is an HMAC of a code that is used up. Its key is no secret: it keeps the four
// digits out of a table, and whoever can read the table could read them there before.
func (s *Session) proof(otp string) string {
	mac := hmac.New(sha256.New, []byte(s.ID))
	mac.Write([]byte(otp))
	return hex.EncodeToString(mac.Sum(nil))
}

var errOTPExpired = Refuse(OTPExpired, "the code has expired; ask for a new one by arriving again")

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
