package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type closedBody struct {
	SessionID sessions.ID     `json:"sessionId"`
	Status    sessions.Status `json:"status"`
	ClosedAt  *string         `json:"closedAt"`
	Reason    string          `json:"reason,omitempty"`
}

func closedOf(s sessions.Session) closedBody {
	return closedBody{s.ID, s.Status, timestamp(s.ClosedAt), s.CloseReason}
}

// cancel cancels a session. The body may be empty.
func (a *API) cancel(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body struct {
		Reason *string `json:"reason"`
	}
	if !isBlank(c.Request.Body()) {
		if err := decode(c, &body); err != nil {
			return err
		}
	}
	reason := ""
	if body.Reason != nil {
		reason = *body.Reason
	}
	session, err := a.deps.Sessions.Cancel(ctx, caller, id, reason)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Session cancelled", closedOf(session))
}

// noShow notes that nobody opened the door.
func (a *API) noShow(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.MarkNoShow(ctx, caller, id)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Nobody was there", closedOf(session))
}
