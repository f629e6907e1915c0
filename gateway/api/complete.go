package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type completedBody struct {
	SessionID   sessions.ID     `json:"sessionId"`
	Status      sessions.Status `json:"status"`
	CompletedAt *string         `json:"completedAt"`
}

// complete ends the lesson.
func (a *API) complete(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.Complete(ctx, caller, id)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Session completed", completedBody{id, session.Status, timestamp(session.CompletedAt)})
}
