package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Code names why a call was refused. The gateway's list is closed; a newer
// gateway may have codes that are not listed here.
type Code string

// The codes of gateway/api/openapi.yaml.
const (
	InvalidRequest         Code = "INVALID_REQUEST"
	Unauthenticated        Code = "UNAUTHENTICATED"
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
	DeviceNotFound         Code = "DEVICE_NOT_FOUND"
	TooManyDevices         Code = "TOO_MANY_DEVICES"
	TooManyShareLinks      Code = "TOO_MANY_SHARE_LINKS"
	LinkGone               Code = "LINK_GONE"
	JourneyRunning         Code = "JOURNEY_RUNNING"
	NotChangeable          Code = "NOT_CHANGEABLE"
	NotCancellable         Code = "NOT_CANCELLABLE"
	NotSupported           Code = "NOT_SUPPORTED"
	WrongRegion            Code = "WRONG_REGION"
	LiveStoreUnavailable   Code = "LIVE_STORE_UNAVAILABLE"
	DatabaseUnavailable    Code = "DATABASE_UNAVAILABLE"
	KeysUnavailable        Code = "KEYS_UNAVAILABLE"
	Overloaded             Code = "OVERLOADED"
	TooManyWaits           Code = "TOO_MANY_WAITS"
	RouteNotFound          Code = "ROUTE_NOT_FOUND"
	MethodNotAllowed       Code = "METHOD_NOT_ALLOWED"
	RequestTimeout         Code = "REQUEST_TIMEOUT"
	PayloadTooLarge        Code = "PAYLOAD_TOO_LARGE"
	UnsupportedMediaType   Code = "UNSUPPORTED_MEDIA_TYPE"
	HeadersTooLarge        Code = "HEADERS_TOO_LARGE"
	Internal               Code = "INTERNAL"
)

const headerRequestID = "X-Request-Id"

// Error is an answer that refuses a call. Compare by code with errors.Is and a
// bare &Error{Code: …}, or read the code with CodeOf.
type Error struct {
	Status     int           // the HTTP status
	Code       Code          // empty: the answer is not a gateway's, such as a proxy's 502
	Message    string        // for people; it may change
	RequestID  string        // to quote to the operator; empty where the answer had none
	RetryAfter time.Duration // when to come back; 0: the gateway did not say

	Field        string   // InvalidRequest: the field that is wrong; empty where the gateway does not name it
	DistanceM    float64  // NotWithinRadius: from the last location to the home, metres
	RadiusM      float64  // NotWithinRadius: what it may be at most, metres
	AttemptsLeft int      // OTPWrong: tries that are left
	URL          string   // WrongRegion: where that region is called
	Journey      *Journey // JourneyAlreadyStarted, TrainerBusy: the one that runs; else nil
}

// Error has the status, the code, the message and the request's id. It never
// has a token, a code of four digits or a position.
func (e *Error) Error() string {
	text := strconv.Itoa(e.Status)
	if e.Code != "" {
		text += " " + string(e.Code)
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Is makes errors.Is compare by code.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// CodeOf is the code of the Error in err; empty where there is none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// Temporary reports whether the same call may succeed later: there was no
// answer, or it was 408, 429 or 5xx, or an arrival needs more of a track. All calls
// of the API but Verify may be repeated after a lost answer; see there. The end of
// the caller's own context is not temporary, but it cannot be told from the error:
// check ctx.Err first.
func Temporary(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return err != nil
	}
	switch e.Code {
	case OTPLocked:
		return false // 429: only another code helps
	case SuspiciousLocation, NoFreshLocation:
		return e.RetryAfter > 0
	default:
		return e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError
	}
}

// errorOf reads a failure. What is not the gateway's JSON gives an Error
// without a code.
func errorOf(res *http.Response, text []byte) *Error {
	var body struct {
		Code         Code     `json:"code"`
		Message      string   `json:"message"`
		RequestID    string   `json:"requestId"`
		RetryAfterMS int64    `json:"retryAfterMs"`
		Field        string   `json:"field"`
		DistanceM    float64  `json:"distanceMeters"`
		RadiusM      float64  `json:"radiusMeters"`
		AttemptsLeft int      `json:"attemptsLeft"`
		URL          string   `json:"url"`
		Journey      *Journey `json:"journey"`
	}
	e := &Error{Status: res.StatusCode, RequestID: res.Header.Get(headerRequestID), RetryAfter: retryAfter(res.Header)}
	if json.Unmarshal(text, &body) != nil {
		e.Message = notTheAPI
		return e
	}
	e.Code, e.Message, e.Field, e.URL, e.Journey = body.Code, body.Message, body.Field, body.URL, body.Journey
	e.DistanceM, e.RadiusM, e.AttemptsLeft = body.DistanceM, body.RadiusM, body.AttemptsLeft
	if body.RequestID != "" {
		e.RequestID = body.RequestID
	}
	if body.RetryAfterMS > 0 { // the same as the header, which is rounded up to seconds
		e.RetryAfter = time.Duration(body.RetryAfterMS) * time.Millisecond
	}
	return e
}

// retryAfter reads the header: whole seconds, or a date (RFC 9110, section
// 10.2.3), which only proxies send.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// notTheAPI is the message of an answer that is not in the form of the API, so
// something else (a proxy, for example) seems to have answered.
const notTheAPI = "the answer is not the API's"

func unreadable(res *http.Response) *Error {
	return &Error{Status: res.StatusCode, Message: notTheAPI, RequestID: res.Header.Get(headerRequestID)}
}

// describe puts the name of the call before the text of its error.
func describe(call string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", call, err)
}
