package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/gateway/auth"
	"doorstep/ratelimit"
	"doorstep/sessions"
)

// handler answers one call of an authenticated caller. It writes a success
// itself; an error goes to fail.
type handler func(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error

// authenticated runs h for the caller whose bearer token is valid. Every other
// request is refused.
func (a *API) authenticated(h handler) app.HandlerFunc {
	return a.failing(func(ctx context.Context, c *app.RequestContext) error { return a.admit(ctx, c, h) })
}

// failing answers with h's error, if there is one. A caller that has left gets none.
func (a *API) failing(h contextHandler) app.HandlerFunc {
	return func(ctx context.Context, c *app.RequestContext) {
		err := h(ctx, c)
		if region, is := otherRegion(err); is {
			err = a.elsewhere(ctx, c, err, region, h)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			clientGone(c)
		default:
			a.fail(c, err)
		}
	}
}

// admit runs h if there is room for one more request, the token is valid, and
// the caller has not sent too many requests. Room is checked first, because
// verifying a token is work, too.
func (a *API) admit(ctx context.Context, c *app.RequestContext, h handler) error {
	if !a.inFlight.begin() {
		return errInFlight
	}
	defer a.inFlight.end()
	caller, err := a.deps.Tokens.Verify(ctx, bearer(c))
	if err != nil {
		return a.unauthenticated(c, err)
	}
	r := recordOf(c)
	r.role = roleOf(caller)
	if err := a.checkRate(caller); err != nil {
		return err
	}
	if c.FullPath() != updatesPath && string(c.Method()) != http.MethodGet { // it may be a transition
		ctx = sessions.WithTrace(sessions.WithRequestID(ctx, r.id), r.amazon)
	}
	return h(ctx, c, caller)
}

// roleOf is what the log says of a caller's role: all of them.
func roleOf(c sessions.Caller) string {
	if c.Also == 0 {
		return string(c.Role)
	}
	var names []string
	for _, r := range c.Roles() {
		names = append(names, string(r))
	}
	return strings.Join(names, ",")
}

// statusClientGone is nginx's number for a client that closed the connection
// before the answer.
const statusClientGone = 499

// clientGone ends a request whose client has left, which cancelled the calls
// made for it. That is not a fault of the gateway, so it is not logged or
// counted as one. The client does not get the answer.
func clientGone(c *app.RequestContext) { c.Data(statusClientGone, jsonType, []byte("{}")) }

// bearer is the token in the Authorization header, for as long as the request lasts. The
// scheme may be in any case (RFC 9110, section 11.1).
func bearer(c *app.RequestContext) []byte {
	scheme, token, _ := bytes.Cut(bytes.TrimSpace(c.GetHeader("Authorization")), []byte(" ")) // Hertz leaves a tab before the value
	if !bytes.EqualFold(scheme, []byte("Bearer")) {
		return nil
	}
	return bytes.TrimSpace(token)
}

// keysRetry is the Retry-After while the signing keys cannot be fetched.
const keysRetry = 5 * time.Second

// unauthenticated turns the verifier's error into a refusal. The message says
// what is wrong with the token: only its owner can use that.
func (a *API) unauthenticated(c *app.RequestContext, err error) error {
	a.deps.Metrics.Unauthenticated(auth.Reason(err))
	if errors.Is(err, auth.ErrKeysUnavailable) {
		return &sessions.Error{Code: KeysUnavailable, Message: "tokens cannot be verified just now", RetryAfter: keysRetry}
	}
	challenge := `Bearer error="invalid_token"`
	if errors.Is(err, auth.ErrMissing) {
		challenge = "Bearer" // no token, no error: RFC 6750, section 3.1
	}
	c.Header("WWW-Authenticate", challenge)
	return sessions.Fault(Unauthenticated, strings.TrimPrefix(err.Error(), "auth: "), err)
}

var (
	errInFlight = errors.New("requests in flight")
	errRate     = errors.New("requests of one caller")
)

// inFlight counts the requests that are being worked on and bounds them. An open
// long poll that waits is not counted: the hub bounds those. Health and the
// OpenAPI document are not counted and so never refused.
type inFlight struct {
	limit int64
	now   atomic.Int64
}

// begin takes a place, or returns false if there is none.
func (f *inFlight) begin() bool {
	if f.now.Add(1) <= f.limit {
		return true
	}
	f.now.Add(-1)
	return false
}

func (f *inFlight) end() { f.now.Add(-1) }

// rest gives the place back while a request only waits. resume takes it again
// without regard to the limit: the answer to a waiter that was woken must go out.
func (f *inFlight) rest()   { f.now.Add(-1) }
func (f *inFlight) resume() { f.now.Add(1) }

// InFlight is the number of requests being worked on, open long polls not
// counted.
func (a *API) InFlight() int { return int(a.inFlight.now.Load()) }

// callerLimit is the rate of one caller's requests; nil for none.
func callerLimit(deps Deps) *ratelimit.Limit {
	if deps.CallerRate < 0 {
		return nil
	}
	perSecond := cmp.Or(deps.CallerRate, DefaultCallerRate)
	every := max(1, time.Duration(float64(time.Second)/perSecond))
	return ratelimit.New(every, cmp.Or(deps.CallerBurst, DefaultCallerBurst))
}

// checkRate refuses a caller that sends too many requests. A phone sends one in 5
// s and an app keeps up to four polls open, so this stops a client with an
// endless loop, or a stolen token. Admins are exempt: they are the operator's own
// machines, which book many sessions at once. They still count as in flight.
func (a *API) checkRate(caller sessions.Caller) error { return a.charge(caller, 1) }

// charge takes n requests from the caller's rate, or refuses.
func (a *API) charge(caller sessions.Caller, n int) error {
	if a.callers == nil || caller.Has(sessions.Admin) || n < 1 {
		return nil
	}
	wait := a.callers.TakeN(string(caller.ID), n, a.deps.Now())
	if wait == 0 {
		return nil
	}
	e := sessions.Fault(sessions.RateLimited, "too many requests", errRate)
	e.RetryAfter = wait
	return e
}
