package api

import (
	"context"
	_ "embed"
	"net/http"
	"sync"

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
	c.SetStatusCode(http.StatusOK)
	c.Response.Header.SetContentType("application/yaml")
	if coding := acceptedCoding(c); coding != "" {
		c.Response.Header.SetContentEncoding(coding)
		c.Response.SetBodyRaw(openAPIEncoded[coding]())
		return
	}
	c.Response.SetBodyRaw(openAPIDocument)
}

// openAPIEncoded is the document in each coding, encoded once: anybody may ask for
// it, without a token, as often as they like.
var openAPIEncoded = map[string]func() []byte{
	"gzip": sync.OnceValue(func() []byte { return encode("gzip", openAPIDocument) }),
	"br":   sync.OnceValue(func() []byte { return encode("br", openAPIDocument) }),
}
