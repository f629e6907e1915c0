package api

import (
	"context"
	"errors"
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
	if _, is := otherRegion(err); !is {
		a.deps.Metrics.CodeTried(codeOutcome(err))
	}
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Session started", verifiedBody{id, session.Status, timestamp(session.StartedAt)})
}

// CodeOutcomes lists how a try of a code can end: it was right or wrong, it was the
// wrong one that "locks" the code, the code was locked or had expired, or the try
// was refused for another reason.
func CodeOutcomes() []string {
	return []string{"right", "wrong", "locks", "locked", "expired", "refused"}
}

func codeOutcome(err error) string {
	switch code := sessions.CodeOf(err); {
	case err == nil:
		return "right"
	case code == sessions.OTPWrong:
		return "wrong"
	case errors.Is(err, sessions.ErrCodeLocks):
		return "locks"
	case code == sessions.OTPLocked:
		return "locked"
	case code == sessions.OTPExpired:
		return "expired"
	default:
		return "refused"
	}
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
