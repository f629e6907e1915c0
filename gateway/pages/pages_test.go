package pages_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/pages"
	"doorstep/web"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

const head = "<head><!--config--></head>"

var plain = fstest.MapFS{
	"plain/t.html": file(head), "plain/t.js": file("js"), "dist/.gitkeep": file(""),
}

func header(p *pages.Pages, name string) string {
	for _, h := range p.Headers() {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

func TestNew(t *testing.T) {
	t.Parallel()
	t.Run("not built", func(t *testing.T) {
		t.Parallel()
		p, err := pages.New(plain, pages.Options{RadiusM: 150, MapStyle: `https://maps.example/s?a="b"&c=<d>`})
		require.NoError(t, err)
		page, ok := p.File(pages.Student)
		require.True(t, ok)
		assert.Equal(t, `<head><meta name="doorstep" content="{&#34;radiusMeters&#34;:150,&#34;mapStyle&#34;:&#34;https://maps.example/s?a=\&#34;b\&#34;\u0026c=\u003cd\u003e&#34;}"></head>`, string(page.Body))
		assert.False(t, page.Immutable)
		script, ok := p.File("/assets/t.js")
		require.True(t, ok)
		assert.Equal(t, "text/javascript; charset=utf-8", script.Type)
		assert.False(t, script.Immutable, "its name has no hash")
		_, ok = p.File(pages.Ops)
		assert.False(t, ok)
		assert.False(t, p.Built())
	})
	t.Run("built", func(t *testing.T) {
		t.Parallel()
		p, err := pages.New(fstest.MapFS{
			"plain/t.html": file("plain"), "dist/t.html": file(head), "dist/ops.html": file(head), "dist/sw.js": file("sw"), "dist/.gitkeep": file(""),
			"dist/assets/t-1.js": file("js"), "dist/assets/t-1.js.br": file("brotli"), "dist/assets/t-1.js.gz": file("gzip"), "dist/assets/t-1.css": file("css"),
		}, pages.Options{})
		require.NoError(t, err)
		assert.True(t, p.Built())
		script, _ := p.File("/assets/t-1.js")
		assert.Equal(t, map[string][]byte{"br": []byte("brotli"), "gzip": []byte("gzip")}, script.Encoded)
		assert.True(t, script.Immutable)
		style, _ := p.File("/assets/t-1.css")
		assert.Empty(t, style.Encoded)
		worker, _ := p.File("/sw.js")
		assert.False(t, worker.Immutable)
		for _, none := range []string{"/drive", "/t.html", "/assets/t-1.js.br", "/.gitkeep", "/", ""} {
			_, ok := p.File(none)
			assert.False(t, ok, none)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		_, err := pages.New(fstest.MapFS{"plain/a.js": file("")}, pages.Options{})
		require.ErrorContains(t, err, "t.html")
	})
	t.Run("what is in the program", func(t *testing.T) {
		t.Parallel()
		p, err := pages.New(web.Files, pages.Options{})
		require.NoError(t, err)
		page, _ := p.File(pages.Student)
		assert.NotContains(t, string(page.Body), "<!--config-->")
	})
}

func TestPages_headers(t *testing.T) {
	t.Parallel()
	shut, err := pages.New(plain, pages.Options{})
	require.NoError(t, err)
	policy := header(shut, "Content-Security-Policy")
	assert.Contains(t, policy, "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self';")
	assert.Contains(t, policy, "; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	assert.Equal(t, "DENY", header(shut, "X-Frame-Options"))
	open, err := pages.New(plain, pages.Options{
		MapStyle: "https://maps.example/a/style.json?key=k", Issuer: "https://id.example/realm", Connect: []string{"https://tiles.example", "https://id.example"},
		FrameAncestors: []string{"https://app.example"},
	})
	require.NoError(t, err)
	policy = header(open, "Content-Security-Policy")
	assert.Contains(t, policy, "connect-src 'self' https://id.example https://maps.example https://tiles.example;", "each once, and no path")
	assert.Contains(t, policy, "frame-ancestors https://app.example")
	assert.Empty(t, header(open, "X-Frame-Options"))
	assert.False(t, strings.Contains(policy, "unsafe") || strings.Contains(policy, "*"))
}
