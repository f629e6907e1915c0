package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// linkBody is a share link without what opens it.
type linkBody struct {
	LinkID    sessions.ID `json:"linkId"`
	CreatedAt *string     `json:"createdAt"`
	ExpiresAt *string     `json:"expiresAt"`
}

func (a *API) linkOf(l sessions.ShareLink) linkBody {
	return linkBody{l.ID, timestamp(l.CreatedAt), timestamp(a.deps.Sessions.LinkExpiry(l))}
}

// createShareLink makes a share link of a session. The body may be empty.
func (a *API) createShareLink(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body struct {
		Rotate bool `json:"rotate"`
	}
	if !isBlank(c.Request.Body()) {
		if err := decode(c, &body); err != nil {
			return err
		}
	}
	link, token, err := a.deps.Sessions.CreateShareLink(ctx, caller, id, body.Rotate)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusCreated, "Share link created; it is not shown again", struct {
		linkBody
		URL string `json:"url"`
	}{a.linkOf(link), a.publicURL() + sessions.SharePath + token})
}

// listShareLinks lists a session's share links that open, the latest first.
func (a *API) listShareLinks(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	list, err := a.deps.Sessions.ShareLinksOf(ctx, caller, id)
	if err != nil {
		return err
	}
	links := []linkBody{}
	for _, l := range list {
		links = append(links, a.linkOf(l))
	}
	return succeed(c, http.StatusOK, "Share links", map[string]any{"links": links})
}

// deleteShareLink ends a share link. One that is not the session's gets the same answer.
func (a *API) deleteShareLink(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	link, err := parseID("linkId", c.Param("linkId"))
	if err != nil {
		return err
	}
	if err := a.deps.Sessions.DeleteShareLink(ctx, caller, id, link); err != nil {
		return err
	}
	c.SetStatusCode(http.StatusNoContent)
	return nil
}
