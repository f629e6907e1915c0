package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// liveActivityBody is a device's Live Activity, in calls 11 and 20.
type liveActivityBody struct {
	SessionID string `json:"sessionId"`
	Token     string `json:"token"`
}

// activity is the zero one without a body. The service checks the token.
func (b *liveActivityBody) activity() (activity sessions.LiveActivity, err error) {
	if b == nil {
		return activity, nil
	}
	activity.Token = b.Token
	activity.SessionID, err = parseID("liveActivity.sessionId", b.SessionID)
	return activity, err
}

func liveActivityOf(a sessions.LiveActivity) *liveActivityBody {
	if a == (sessions.LiveActivity{}) {
		return nil
	}
	return &liveActivityBody{string(a.SessionID), a.Token}
}

// putPushToken registers a device of the caller for pushes. It answers 204.
func (a *API) putPushToken(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	var body struct {
		Token    *string            `json:"token"`
		Platform *sessions.Platform `json:"platform"`
		Language *string            `json:"language"`
		Activity *liveActivityBody  `json:"liveActivity"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	if body.Token == nil || body.Platform == nil {
		return invalid("token", "token and platform are required")
	}
	language := ""
	if body.Language != nil {
		language = *body.Language
	}
	activity, err := body.Activity.activity()
	if err != nil {
		return err
	}
	if err := a.deps.Sessions.PutPushToken(ctx, caller, *body.Token, *body.Platform, language, activity); err != nil {
		return err
	}
	c.SetStatusCode(http.StatusNoContent)
	return nil
}

// deletePushToken forgets a device of the caller. A token of another user gets
// the same answer, so that a caller cannot find out whose token it is.
func (a *API) deletePushToken(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	var body struct {
		Token *string `json:"token"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	if body.Token == nil {
		return invalid("token", "token is required")
	}
	if err := a.deps.Sessions.DeletePushToken(ctx, caller, *body.Token); err != nil {
		return err
	}
	c.SetStatusCode(http.StatusNoContent)
	return nil
}
