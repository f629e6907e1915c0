package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/gateway/pages"
)

// pageRoutes are the paths of the web pages; none where they are off. They are no
// part of the API, so openapi.yaml does not name them.
func (a *API) pageRoutes() []route {
	if a.deps.Pages == nil {
		return nil
	}
	var list []route
	for _, path := range []string{pages.Student, pages.Drive, pages.Ops, "/sw.js", "/assets/:file"} {
		list = append(list, route{http.MethodGet, path, a.page})
	}
	return list
}

// page answers with one file of the pages.
func (a *API) page(_ context.Context, c *app.RequestContext) {
	file, ok := a.deps.Pages.File(string(c.Request.URI().PathOriginal()))
	if !ok {
		a.fail(c, errNoRoute)
		return
	}
	for _, h := range a.deps.Pages.Headers() {
		c.Response.Header.Set(h[0], h[1])
	}
	c.Response.Header.Set("Cache-Control", "no-cache")
	if file.Immutable {
		c.Response.Header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	c.SetStatusCode(http.StatusOK)
	c.Response.Header.SetContentType(file.Type)
	if encoded := file.Encoded[acceptedCoding(c)]; encoded != nil {
		c.Response.Header.SetContentEncoding(acceptedCoding(c))
		c.Response.SetBodyRaw(encoded)
		return
	}
	c.Response.SetBodyRaw(file.Body)
}
