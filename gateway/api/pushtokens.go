package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// putPushToken registers the caller's device. It is answered without a body.
func (a *API) putPushToken(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	var body struct {
		Token    *string            `json:"token"`
		Platform *sessions.Platform `json:"platform"`
		Language *string            `json:"language"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	if body.Token == nil || body.Platform == nil {
		return invalid("token and platform are required")
	}
	language := ""
	if body.Language != nil {
		language = *body.Language
	}
	if err := a.deps.Sessions.PutPushToken(ctx, caller, *body.Token, *body.Platform, language); err != nil {
		return err
	}
	c.SetStatusCode(http.StatusNoContent)
	return nil
}

// deletePushToken forgets the caller's device. One that is not theirs is
// answered alike: nobody learns whose it is.
func (a *API) deletePushToken(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	var body struct {
		Token *string `json:"token"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	if body.Token == nil {
		return invalid("token is required")
	}
	if err := a.deps.Sessions.DeletePushToken(ctx, caller, *body.Token); err != nil {
		return err
	}
	c.SetStatusCode(http.StatusNoContent)
	return nil
}
