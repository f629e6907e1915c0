package sessions

import (
	"errors"
	"fmt"
	"time"
)

// Code is the name of a refusal or a fault, as callers see it. The list is
// closed: gateway/api adds the codes that only HTTP has and maps all of them to a
// status, openapi.yaml lists them all, and a test compares the three.
type Code string

// The codes.
const (
	InvalidRequest         Code = "INVALID_REQUEST"
	Forbidden              Code = "FORBIDDEN"
	SessionNotFound        Code = "SESSION_NOT_FOUND"
	NoActiveJourney        Code = "NO_ACTIVE_JOURNEY"
	NotScheduled           Code = "NOT_SCHEDULED"
	JourneyAlreadyStarted  Code = "JOURNEY_ALREADY_STARTED"
	TrainerBusy            Code = "TRAINER_BUSY"
	SessionConflict        Code = "SESSION_CONFLICT"
	RateLimited            Code = "RATE_LIMITED"
	ImplausibleSpeed       Code = "IMPLAUSIBLE_SPEED"
	ImplausibleJump        Code = "IMPLAUSIBLE_JUMP"
	NotWithinRadius        Code = "NOT_WITHIN_RADIUS"
	NoFreshLocation        Code = "NO_FRESH_LOCATION"
	SuspiciousLocation     Code = "SUSPICIOUS_LOCATION"
	OTPWrong               Code = "OTP_WRONG"
	OTPExpired             Code = "OTP_EXPIRED"
	OTPLocked              Code = "OTP_LOCKED"
	NotPendingVerification Code = "NOT_PENDING_VERIFICATION"
	NotInProgress          Code = "NOT_IN_PROGRESS"
	NotCompleted           Code = "NOT_COMPLETED"
	AlreadyReviewed        Code = "ALREADY_REVIEWED"
	JourneyRunning         Code = "JOURNEY_RUNNING"
	DeviceNotFound         Code = "DEVICE_NOT_FOUND"
	TooManyDevices         Code = "TOO_MANY_DEVICES"
	TooManyShareLinks      Code = "TOO_MANY_SHARE_LINKS"
	LinkGone               Code = "LINK_GONE"
	NotChangeable          Code = "NOT_CHANGEABLE"
	NotCancellable         Code = "NOT_CANCELLABLE"
	NotSupported           Code = "NOT_SUPPORTED"
	WrongRegion            Code = "WRONG_REGION"
	LiveStoreUnavailable   Code = "LIVE_STORE_UNAVAILABLE"
	DatabaseUnavailable    Code = "DATABASE_UNAVAILABLE"
	Internal               Code = "INTERNAL"
)

// Codes is that list.
func Codes() []Code {
	return []Code{
		InvalidRequest, Forbidden, SessionNotFound, NoActiveJourney, NotScheduled, JourneyAlreadyStarted,
		TrainerBusy, SessionConflict, RateLimited, ImplausibleSpeed, ImplausibleJump, NotWithinRadius,
		NoFreshLocation, SuspiciousLocation, OTPWrong, OTPExpired, OTPLocked, NotPendingVerification,
		NotInProgress, NotCompleted, AlreadyReviewed, JourneyRunning, DeviceNotFound, TooManyDevices, TooManyShareLinks, LinkGone, NotChangeable, NotCancellable, NotSupported, WrongRegion, LiveStoreUnavailable, DatabaseUnavailable, Internal,
	}
}

// Error is a refusal or a fault: its code, a message that callers may see, and the
// values that some codes need. Compare by code with errors.Is and a bare
// &Error{Code: …}, or read the code with CodeOf.
type Error struct {
	Code    Code
	Message string

	Field        string        // InvalidRequest: the field that is wrong, as the message names it; may be empty
	RetryAfter   time.Duration // RateLimited, OTPLocked, …Unavailable
	DistanceM    float64       // NotWithinRadius
	RadiusM      float64       // NotWithinRadius
	AttemptsLeft int           // OTPWrong
	Stop         bool          // NoActiveJourney: the phone shall report no more
	Region       string        // WrongRegion: the one that the session belongs to
	Journey      *Session      // JourneyAlreadyStarted, TrainerBusy, JourneyRunning: the session with the running journey

	cause error
}

// ErrCodeLocks is the cause of the OTPLocked that answers the wrong try by which a code
// is locked.
var ErrCodeLocks = errors.New("this try locks the code")

// Refuse makes an Error without a cause.
func Refuse(code Code, message string) *Error { return &Error{Code: code, Message: message} }

// InvalidField makes an InvalidRequest that names the field.
func InvalidField(field, message string) *Error {
	return &Error{Code: InvalidRequest, Message: message, Field: field}
}

// Fault makes an Error with a cause, which operators see and callers do not.
func Fault(code Code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, cause: cause}
}

// Error is the text for logs, with the cause. The API shows Message only.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is compare by code.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// CodeOf is the code of err, Internal for an error that has none, and "" for
// nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Code
	default:
		return Internal
	}
}

// Unavailable reports whether err means that the live store or the database is
// away: it could not be reached, did not answer in time, or its breaker is open.
// The call may be tried again later. It is the one function that decides this.
func Unavailable(err error) bool {
	code := CodeOf(err)
	return code == LiveStoreUnavailable || code == DatabaseUnavailable || errors.Is(err, ErrUnavailable)
}
