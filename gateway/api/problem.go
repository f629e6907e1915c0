package api

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/gateway/hub"
	"doorstep/sessions"
)

// The codes that only HTTP has. The others are in sessions.
const (
	Unauthenticated      sessions.Code = "UNAUTHENTICATED"
	KeysUnavailable      sessions.Code = "KEYS_UNAVAILABLE"
	RouteNotFound        sessions.Code = "ROUTE_NOT_FOUND"
	MethodNotAllowed     sessions.Code = "METHOD_NOT_ALLOWED"
	RequestTimeout       sessions.Code = "REQUEST_TIMEOUT"
	PayloadTooLarge      sessions.Code = "PAYLOAD_TOO_LARGE"
	UnsupportedMediaType sessions.Code = "UNSUPPORTED_MEDIA_TYPE"
	HeadersTooLarge      sessions.Code = "HEADERS_TOO_LARGE"
	TooManyWaits         sessions.Code = "TOO_MANY_WAITS"
	Overloaded           sessions.Code = "OVERLOADED"
)

// Codes is the closed list of codes that an answer can hold: those above and
// those of sessions.
func Codes() []sessions.Code {
	return append(sessions.Codes(), Unauthenticated, KeysUnavailable, RouteNotFound, MethodNotAllowed, RequestTimeout,
		PayloadTooLarge, UnsupportedMediaType, HeadersTooLarge, TooManyWaits, Overloaded)
}

// status is the one map from a code to HTTP. It is total: a test compares its
// cases with the two lists of codes and with openapi.yaml.
func status(code sessions.Code) int {
	switch code {
	case sessions.InvalidRequest, sessions.NotScheduled, sessions.ImplausibleSpeed, sessions.ImplausibleJump,
		sessions.NotWithinRadius, sessions.NoFreshLocation, sessions.SuspiciousLocation, sessions.OTPWrong:
		return http.StatusBadRequest
	case Unauthenticated:
		return http.StatusUnauthorized
	case sessions.Forbidden:
		return http.StatusForbidden
	case sessions.SessionNotFound, sessions.NoActiveJourney, sessions.DeviceNotFound, sessions.LinkGone, RouteNotFound:
		return http.StatusNotFound
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case RequestTimeout:
		return http.StatusRequestTimeout
	case sessions.JourneyAlreadyStarted, sessions.TrainerBusy, sessions.SessionConflict, sessions.NotPendingVerification,
		sessions.NotInProgress, sessions.NotCompleted, sessions.AlreadyReviewed, sessions.JourneyRunning, sessions.TooManyDevices, sessions.TooManyShareLinks, sessions.NotChangeable, sessions.NotCancellable, sessions.NotSupported, sessions.WrongRegion:
		return http.StatusConflict
	case sessions.OTPExpired:
		return http.StatusGone
	case PayloadTooLarge:
		return http.StatusRequestEntityTooLarge
	case UnsupportedMediaType:
		return http.StatusUnsupportedMediaType
	case sessions.RateLimited, sessions.OTPLocked, TooManyWaits:
		return http.StatusTooManyRequests
	case HeadersTooLarge:
		return http.StatusRequestHeaderFieldsTooLarge
	case sessions.LiveStoreUnavailable, sessions.DatabaseUnavailable, KeysUnavailable, Overloaded:
		return http.StatusServiceUnavailable
	case sessions.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

var (
	errNoRoute  = sessions.Refuse(RouteNotFound, "no such path")
	errNoMethod = sessions.Refuse(MethodNotAllowed, "the path exists, but not with this method")
)

// failure is the body of every refusal: the code and what the code needs.
type failure struct {
	Success      bool          `json:"success"`
	Code         sessions.Code `json:"code"`
	Message      string        `json:"message"`
	RequestID    string        `json:"requestId"`
	Field        string        `json:"field,omitempty"`
	RetryAfterMS *int64        `json:"retryAfterMs,omitempty"`
	DistanceM    *float64      `json:"distanceMeters,omitempty"`
	RadiusM      *float64      `json:"radiusMeters,omitempty"`
	AttemptsLeft *int          `json:"attemptsLeft,omitempty"`
	Stop         bool          `json:"stop,omitempty"`
	Region       string        `json:"region,omitempty"`
	Journey      *journeyBody  `json:"journey,omitempty"`
	URL          string        `json:"url,omitempty"`
}

// shedRetry is the Retry-After of a request that was refused because of load,
// where nothing better is known.
const shedRetry = time.Second

// fail answers with a refusal. An error that has no code is a fault of ours: it
// goes to the log (see observe), and the caller learns nothing of it.
func (a *API) fail(c *app.RequestContext, err error) {
	var e *sessions.Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, hub.ErrTooMany):
		e = &sessions.Error{Code: TooManyWaits, Message: "a newer wait of yours took the place of this one", RetryAfter: hub.ComeBack}
	case errors.Is(err, hub.ErrFull), errors.Is(err, errInFlight), errors.Is(err, errLargeBodies):
		e = &sessions.Error{Code: Overloaded, Message: "the gateway is overloaded", RetryAfter: shedRetry}
	case errors.Is(err, sessions.ErrUnavailable):
		e = &sessions.Error{Code: sessions.LiveStoreUnavailable, Message: "the live store is unavailable", RetryAfter: time.Second}
	default:
		e = sessions.Fault(sessions.Internal, "internal error", err)
	}
	if why := shedReason(err); why != "" {
		a.deps.Metrics.Shed(why)
	}
	if errors.Is(err, hub.ErrFull) {
		c.SetConnectionClose() // else those who cannot wait hold the connections that phones need
	}
	r := recordOf(c)
	r.code, r.err = e.Code, err
	a.writeFailure(c, e)
}

func (a *API) writeFailure(c *app.RequestContext, e *sessions.Error) {
	if e.RetryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(sessions.RetryIn(e.RetryAfter)))
	}
	writeJSON(c, status(e.Code), a.failureBody(c, e))
}

func (a *API) failureBody(c *app.RequestContext, e *sessions.Error) failure {
	body := failure{Code: e.Code, Message: e.Message, RequestID: recordOf(c).id, Field: e.Field, Stop: e.Stop, Region: e.Region}
	if e.RetryAfter > 0 {
		n := int64(math.Ceil(float64(e.RetryAfter) / float64(time.Millisecond)))
		body.RetryAfterMS = &n
	}
	switch e.Code {
	case sessions.NotWithinRadius:
		body.DistanceM, body.RadiusM = &e.DistanceM, &e.RadiusM
	case sessions.OTPWrong:
		body.AttemptsLeft = &e.AttemptsLeft
	case sessions.JourneyAlreadyStarted, sessions.TrainerBusy, sessions.JourneyRunning:
		if e.Journey != nil {
			j := journeyOf(*e.Journey)
			body.Journey = &j
		}
	case sessions.WrongRegion:
		if a.deps.Regions != nil {
			body.URL = a.deps.Regions.URL(e.Region)
		}
	}
	return body
}

// Refuse writes the answers that no handler gives. It is httpserver's
// Options.Refuse.
func (a *API) Refuse(c *app.RequestContext, httpStatus int) {
	e := sessions.Refuse(sessions.Internal, "internal error")
	switch httpStatus {
	case http.StatusBadRequest:
		e = sessions.Refuse(sessions.InvalidRequest, "the request is malformed")
	case http.StatusNotFound:
		e = errNoRoute
	case http.StatusMethodNotAllowed:
		e = errNoMethod
	case http.StatusRequestTimeout:
		e = sessions.Refuse(RequestTimeout, "the request took too long to arrive")
	case http.StatusRequestEntityTooLarge:
		e = sessions.Refuse(PayloadTooLarge, "the body is larger than 1 MiB")
	case http.StatusServiceUnavailable:
		e = &sessions.Error{Code: Overloaded, Message: "too many large requests are under way", RetryAfter: shedRetry}
	case http.StatusTooManyRequests:
		e = &sessions.Error{Code: sessions.RateLimited, Message: "too many requests are open from your address", RetryAfter: shedRetry}
	case http.StatusRequestHeaderFieldsTooLarge:
		e = sessions.Refuse(HeadersTooLarge, "the headers are too large")
	}
	r := recordOf(c)
	r.code = e.Code
	a.begin(c, r)
	a.writeFailure(c, e)
}
