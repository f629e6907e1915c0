package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type resentBody struct {
	SessionID sessions.ID `json:"sessionId"`
	ExpiresAt *string     `json:"expiresAt"`
}

// resendOTP pushes the OTP that lives to the student again.
func (a *API) resendOTP(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.ResendOTP(ctx, caller, id)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Code is sent again", resentBody{id, timestamp(session.OTPExpiresAt)})
}

type unlockedBody struct {
	SessionID    sessions.ID        `json:"sessionId"`
	OTPState     sessions.CodeState `json:"otpState"`
	OTPExpiresAt *string            `json:"otpExpiresAt"`
}

// unlockOTP counts the tries of the session's OTP anew.
func (a *API) unlockOTP(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.UnlockOTP(ctx, caller, id)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Tries are counted anew",
		unlockedBody{id, session.CodeState(a.deps.Now()), timestamp(session.OTPExpiresAt)})
}
