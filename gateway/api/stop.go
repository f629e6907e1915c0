package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type stoppedBody struct {
	SessionID sessions.ID `json:"sessionId"`
	StoppedAt *string     `json:"stoppedAt"`
}

// stop ends the journey without an arrival.
func (a *API) stop(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.Stop(ctx, caller, id)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Journey stopped", stoppedBody{id, timestamp(session.JourneyEndedAt)})
}
