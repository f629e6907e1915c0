package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type verifiedBody struct {
	SessionID sessions.ID     `json:"sessionId"`
	Status    sessions.Status `json:"status"`
	StartedAt *string         `json:"startedAt"`
}

// verifyOTP checks the OTP that the student shows to the trainer, and starts the
// lesson.
func (a *API) verifyOTP(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body struct {
		OTP *string `json:"otp"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	if body.OTP == nil || !fourDigits(*body.OTP) {
		return invalid("otp", "otp must be a string of four digits")
	}
	session, err := a.deps.Sessions.Verify(ctx, caller, id, *body.OTP)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Session started", verifiedBody{id, session.Status, timestamp(session.StartedAt)})
}

func fourDigits(s string) bool {
	if len(s) != 4 {
		return false
	}
	for _, r := range []byte(s) {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}
