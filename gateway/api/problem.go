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

const keysRetry = 5 * time.Second

var (
	errNoRoute  = sessions.Refuse(sessions.RouteNotFound, "no such path")
	errNoMethod = sessions.Refuse(sessions.MethodNotAllowed, "the path is there, but not with this method")
)

// status is the one map from a code to HTTP. It is total: a test walks the
// list of codes in openapi.yaml through it.
func status(code sessions.Code) int {
	switch code {
	case sessions.InvalidRequest, sessions.NotScheduled, sessions.ImplausibleSpeed, sessions.ImplausibleJump,
		sessions.NotWithinRadius, sessions.NoFreshLocation, sessions.SuspiciousLocation, sessions.OTPWrong:
		return http.StatusBadRequest
	case sessions.Unauthenticated:
		return http.StatusUnauthorized
	case sessions.Forbidden:
		return http.StatusForbidden
	case sessions.SessionNotFound, sessions.NoActiveJourney, sessions.RouteNotFound:
		return http.StatusNotFound
	case sessions.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case sessions.RequestTimeout:
		return http.StatusRequestTimeout
	case sessions.JourneyAlreadyStarted, sessions.TrainerBusy, sessions.SessionConflict, sessions.NotPendingVerification,
		sessions.NotInProgress, sessions.NotCompleted, sessions.AlreadyReviewed:
		return http.StatusConflict
	case sessions.OTPExpired:
		return http.StatusGone
	case sessions.PayloadTooLarge:
		return http.StatusRequestEntityTooLarge
	case sessions.UnsupportedMediaType:
		return http.StatusUnsupportedMediaType
	case sessions.RateLimited, sessions.OTPLocked, sessions.TooManyWaits:
		return http.StatusTooManyRequests
	case sessions.HeadersTooLarge:
		return http.StatusRequestHeaderFieldsTooLarge
	case sessions.LiveStoreUnavailable, sessions.DatabaseUnavailable, sessions.KeysUnavailable, sessions.Overloaded:
		return http.StatusServiceUnavailable
	case sessions.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// failure is the body of every refusal: the code and what the code needs.
type failure struct {
	Success      bool          `json:"success"`
	Code         sessions.Code `json:"code"`
	Message      string        `json:"message"`
	RequestID    string        `json:"requestId"`
	RetryAfterMS *int64        `json:"retryAfterMs,omitempty"`
	DistanceM    *float64      `json:"distanceMeters,omitempty"`
	RadiusM      *float64      `json:"radiusMeters,omitempty"`
	AttemptsLeft *int          `json:"attemptsLeft,omitempty"`
	Journey      *journeyBody  `json:"journey,omitempty"`
}

// fail answers with a refusal. What has no code is a fault of ours: the caller
// is told nothing of it, the log everything (see observe).
func (a *API) fail(c *app.RequestContext, err error) {
	var e *sessions.Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, hub.ErrTooMany):
		e = &sessions.Error{Code: sessions.TooManyWaits, Message: "too many waits are open", RetryAfter: shedRetry}
	case errors.Is(err, hub.ErrFull), errors.Is(err, errInFlight):
		e = &sessions.Error{Code: sessions.Overloaded, Message: "the gateway has more to do than it can", RetryAfter: shedRetry}
	case errors.Is(err, sessions.ErrUnavailable):
		e = &sessions.Error{Code: sessions.LiveStoreUnavailable, Message: "the live store is unavailable", RetryAfter: time.Second}
	default:
		e = sessions.Fault(sessions.Internal, "internal error", err)
	}
	if why := shed(err); why != "" {
		a.deps.Metrics.Shed(why)
	}
	r := recordOf(c)
	r.code, r.err = e.Code, err
	if e.RetryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(sessions.RetryIn(e.RetryAfter)))
	}
	writeJSON(c, status(e.Code), failureBody(c, e))
}

func failureBody(c *app.RequestContext, e *sessions.Error) failure {
	body := failure{Code: e.Code, Message: e.Message, RequestID: recordOf(c).id}
	if e.RetryAfter > 0 {
		n := int64(math.Ceil(float64(e.RetryAfter) / float64(time.Millisecond)))
		body.RetryAfterMS = &n
	}
	switch e.Code {
	case sessions.NotWithinRadius:
		body.DistanceM, body.RadiusM = &e.DistanceM, &e.RadiusM
	case sessions.OTPWrong:
		body.AttemptsLeft = &e.AttemptsLeft
	case sessions.JourneyAlreadyStarted:
		if e.Journey != nil {
			j := journeyOf(*e.Journey)
			body.Journey = &j
		}
	}
	return body
}

// Refuse is ServerOptions.Refuse: what the server answers where no handler
// does.
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
		e = sessions.Refuse(sessions.RequestTimeout, "the request took too long to arrive")
	case http.StatusRequestEntityTooLarge:
		e = sessions.Refuse(sessions.PayloadTooLarge, "the body is larger than 16 KiB")
	case http.StatusRequestHeaderFieldsTooLarge:
		e = sessions.Refuse(sessions.HeadersTooLarge, "the headers are too large")
	}
	r := recordOf(c)
	r.code = e.Code
	c.Response.Header.Set(requestIDHeader, r.id)
	writeJSON(c, status(e.Code), failureBody(c, e))
}
