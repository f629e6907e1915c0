package api

import (
	"context"
	"errors"
	"strings"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/gateway/auth"
	"doorstep/sessions"
)

// handler answers one call of a caller who has proven who they are. It writes
// a success itself; an error goes to problem.go.
type handler func(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error

// authenticated runs h for the caller that the bearer token proves. It never
// fails open.
func (a *API) authenticated(h handler) app.HandlerFunc {
	return func(ctx context.Context, c *app.RequestContext) {
		err := a.admit(ctx, c, h)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			left(c)
		default:
			a.fail(c, err)
		}
	}
}

// admit runs h where there is room for one more request and the caller has not
// had too many. The room is asked for first: verifying a token is work, too.
func (a *API) admit(ctx context.Context, c *app.RequestContext, h handler) error {
	if !a.work.begin() {
		return errInFlight
	}
	defer a.work.end()
	caller, err := a.deps.Tokens.Verify(ctx, bearer(c))
	if err != nil {
		return a.unauthenticated(c, err)
	}
	recordOf(c).role = caller.Role
	if err := a.paced(caller); err != nil {
		return err
	}
	return h(ctx, c, caller)
}

// statusLeft is nginx's number for a caller who hung up before the answer.
const statusLeft = 499

// left ends a request whose caller has gone, and whose calls were cancelled for
// it: no fault of ours, and not to be counted and logged as one. Nobody reads
// the answer.
func left(c *app.RequestContext) { c.Data(statusLeft, jsonType, []byte("{}")) }

// bearer is the token of the Authorization header; the scheme's case does not
// matter (RFC 9110, section 11.1).
func bearer(c *app.RequestContext) string {
	scheme, token, _ := strings.Cut(string(c.GetHeader("Authorization")), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// unauthenticated tells a caller what is wrong with the token, which only its
// owner can use, and a stranger no more than that.
func (a *API) unauthenticated(c *app.RequestContext, err error) error {
	a.deps.Metrics.Unauthenticated(auth.Reason(err))
	if errors.Is(err, auth.ErrKeysUnavailable) {
		return &sessions.Error{Code: sessions.KeysUnavailable, Message: "tokens cannot be verified just now", RetryAfter: keysRetry}
	}
	challenge := `Bearer error="invalid_token"`
	if errors.Is(err, auth.ErrMissing) {
		challenge = "Bearer" // no token, no error: RFC 6750, section 3.1
	}
	c.Header("WWW-Authenticate", challenge)
	return sessions.Fault(sessions.Unauthenticated, strings.TrimPrefix(err.Error(), "auth: "), err)
}
