package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/app"
)

func TestPages(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	res, body := h.plain(t, http.MethodGet, "/t")
	assert.Equal(t, 200, res.StatusCode)
	assert.Contains(t, string(body), `<meta name="doorstep" content="{&#34;radiusMeters&#34;:150`)
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
		"X-Frame-Options": "DENY",
	} {
		assert.Equal(t, want, res.Header.Get(name), name)
	}
	assert.Contains(t, res.Header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'")
	for _, path := range []string{"/t/", "/t.html", "/assets/", "/assets/none.js", "/assets/..%2fweb.go", "/"} {
		res, _ := h.plain(t, http.MethodGet, path)
		assert.Equal(t, 404, res.StatusCode, path)
		assert.Equal(t, "no-store", res.Header.Get("Cache-Control"), path)
	}
	res, _ = h.plain(t, http.MethodPost, "/t")
	assert.Equal(t, 405, res.StatusCode)
	assert.Equal(t, "GET, HEAD, OPTIONS", res.Header.Get("Allow"))
}

func TestPages_off(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.Pages = false })
	for _, path := range []string{"/t", "/ops", "/drive", "/sw.js", "/assets/page.css"} {
		res, _ := h.plain(t, http.MethodGet, path)
		assert.Equal(t, 404, res.StatusCode, path)
	}
}
