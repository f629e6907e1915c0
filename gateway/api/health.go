package api

import (
	"context"
	_ "embed"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"
)

//go:embed openapi.yaml
var openAPIDocument []byte

// healthz says that the process lives. It checks nothing else: otherwise an
// outage of a store would restart every gateway.
func (a *API) healthz(_ context.Context, c *app.RequestContext) {
	writeJSON(c, http.StatusOK, success{Success: true, Message: "alive", Data: struct{}{}})
}

// readyz says whether this process should get traffic: not while it drains, and
// not before it can verify a token. A store that is away does not matter: every
// gateway has the same store, and much can be answered without it.
func (a *API) readyz(_ context.Context, c *app.RequestContext) {
	ready, parts := a.deps.Ready()
	if !ready {
		writeJSON(c, http.StatusServiceUnavailable, success{Message: "not ready", Data: parts})
		return
	}
	writeJSON(c, http.StatusOK, success{Success: true, Message: "ready", Data: parts})
}

// openAPI answers with the OpenAPI document.
func (a *API) openAPI(_ context.Context, c *app.RequestContext) {
	c.Data(http.StatusOK, "application/yaml", openAPIDocument)
}
