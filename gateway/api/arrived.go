package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type arrivedBody struct {
	SessionID sessions.ID `json:"sessionId"`
	OTP       string      `json:"otp,omitempty"`
	ArrivedAt *string     `json:"arrivedAt"`
}

// arrived ends the journey at the student's home and answers with the OTP.
// Repeated while the OTP lives, it gives the same answer.
func (a *API) arrived(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.Arrive(ctx, caller, id)
	a.deps.Metrics.Arrived(arrivalOutcome(err))
	if err != nil {
		return err
	}
	body := arrivedBody{SessionID: id, OTP: session.OTP, ArrivedAt: timestamp(session.ArrivedAt)}
	if a.deps.HideOTP {
		body.OTP = ""
	}
	return succeed(c, http.StatusOK, "Trainer has arrived", body)
}
