package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type arrivedBody struct {
	SessionID    sessions.ID `json:"sessionId"`
	OTP          string      `json:"otp,omitempty"`
	OTPExpiresAt *string     `json:"otpExpiresAt"`
	ArrivedAt    *string     `json:"arrivedAt"`
}

// arrived ends the journey at the student's home and answers with the OTP.
// Repeated while the OTP lives, it gives the same answer. The body may be empty or
// the fix that the phone has just taken.
func (a *API) arrived(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	fix, err := decodeArrival(c, id, a.deps.Now())
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.Arrive(ctx, caller, id, fix)
	if _, is := otherRegion(err); !is {
		a.deps.Metrics.Arrived(arrivalOutcome(err))
	}
	if err != nil {
		return err
	}
	body := arrivedBody{SessionID: id, OTPExpiresAt: timestamp(session.OTPExpiresAt), ArrivedAt: timestamp(session.ArrivedAt)}
	if !a.deps.HideOTP && session.CodeState(a.deps.Now()) == sessions.CodeActive {
		body.OTP = session.OTP
	}
	return succeed(c, http.StatusOK, "Trainer has arrived", body)
}

// decodeArrival reads the fix of an arrival; nil where there is none. An object
// without coordinates is none: some clients send {} where they have nothing to say.
func decodeArrival(c *app.RequestContext, id sessions.ID, now time.Time) (*sessions.Fix, error) {
	if isBlank(c.Request.Body()) {
		return nil, nil //nolint:nilnil // no fix is no error
	}
	var body struct {
		SessionID *string `json:"sessionId"`
		fixBody
	}
	if err := decode(c, &body); err != nil {
		return nil, err
	}
	if body.SessionID != nil {
		other, err := parseID("sessionId", *body.SessionID)
		if err != nil {
			return nil, err
		}
		if other != id {
			return nil, invalid("sessionId", "sessionId must be the one in the path")
		}
	}
	if !body.Latitude.said && !body.Longitude.said {
		return nil, nil //nolint:nilnil // as above
	}
	fix, err := body.fix(phoneInstant(string(body.SentAt), now), now)
	if err != nil {
		return nil, err
	}
	return &fix, nil
}
