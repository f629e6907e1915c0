package api_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
)

// sent skips what Go's client refuses to send. Any other error is the gateway's: it answers
// all that it is sent.
func sent(t *testing.T, err error) {
	t.Helper()
	for _, refusal := range []string{"net/http: invalid header field value", "net/http: can't write control character"} {
		if err != nil && strings.Contains(err.Error(), refusal) {
			t.Skip(err)
		}
	}
	require.NoError(t, err)
}

// Any body is stored, stale, or refused with a code.
func FuzzUpdate(f *testing.F) {
	h := open(f, embedded, func(o *app.Options) { o.JourneyTTL = 100_000 * time.Hour }) // five seconds a try
	v := h.begun(f)
	f.Add([]byte(with(v, "mock", "false")), "application/json")
	for field, raw := range map[string]string{
		"latitude": `1e999`, "longitude": `-180`, "accuracy": `0.1`, "speed": `null`, "heading": `360`, "recordedAt": `"2026-03-14T09:27:00Z"`, "sessionId": `""`, "x": `[[{}]]`,
	} {
		f.Add([]byte(with(v, field, raw)), "text/plain")
	}
	for _, body := range notAnObject {
		f.Add([]byte(body), "")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		h.Advance(5 * time.Second)
		a, err := h.try(t.Context(), t, http.MethodPost, v.trainer, updatesPath, body, off, func(r *http.Request) { r.Header["Content-Type"] = []string{contentType} })
		sent(t, err)
		assert.Contains(t, []int{200, 201, 400, 403, 404, 413, 415, 429, 431}, a.status, "%s", a.body)
		assert.Zero(t, h.metric(t, "doorstep_panics_total"))
		if a.status == 413 {
			assert.Greater(t, len(body), 16<<10)
		}
		if a.status < 300 { // an accepted fix is in range
			live := h.get(t, v.student, v.live("")).want(t, 200, "")
			assert.True(t, bytes.ContainsRune(bytes.TrimSpace(body)[:1], '{'))
			assert.NotEmpty(t, live.etag())
		}
	})
}

// Any query is answered or refused with a code, and does not wait where no wait is
// allowed.
func FuzzLive(f *testing.F) {
	h := open(f, embedded, func(o *app.Options) { o.MaxWaits = -1 }) // every wait is refused
	v := h.atTheDoor(f)
	id := "sessionId=" + string(v.id)
	f.Add(id, `"1"`)
	for _, wait := range []string{"abc", "-1", "999", "", "1e3", "0", "30", "%31", "1&wait=2", "99999999999999999999"} {
		f.Add(id+"&wait="+wait, "*")
	}
	f.Add("sessionId="+strings.ToUpper(string(v.id)), `W/"1", "2"`)
	f.Add("sessionId=%zz&%", "\x80")
	f.Add("sessionId[]=1;sessionId=2", `"`)
	f.Fuzz(func(t *testing.T, query, tags string) {
		again := time.Now()
		a, err := h.try(t.Context(), t, http.MethodGet, v.student, livePath, nil, off, ifNoneMatch(tags), func(r *http.Request) { r.URL.RawQuery = query })
		sent(t, err)
		assert.True(t, slices.Contains([]int{200, 304, 400, 404, 429, 431, 503}, a.status), "%d %s", a.status, a.body)
		assert.Less(t, time.Since(again), patience)
		assert.Zero(t, h.metric(t, "doorstep_panics_total"))
	})
}

// Any request target reads exactly what it names, or nothing: a path has one
// spelling.
func FuzzPath(f *testing.F) {
	h := open(f, embedded)
	v := h.atTheDoor(f)
	at := v.path("")
	paths := []string{"/healthz", "/readyz", "/openapi.yaml", livePath, base + "/students/me/sessions", at, base + "/admin/sessions/" + strings.ToUpper(string(v.id))}
	for _, path := range paths {
		f.Add(path)
	}
	for _, target := range []string{
		v.live(""), at + "/", at + "%00", at + "//", at + "?x", at + "#x", at + ";x", "//healthz", "/./healthz", "/%68ealthz", "/x/../healthz", "/..%2fmetrics",
		base + "/admin/sessions/../sessions/" + string(v.id), base + "/admin/sessions/%2e%2e", "http://elsewhere/healthz", "http://#00000000/healthz", "*", "/\xff", "/healthz\\", "/debug/pprof/",
		strings.Replace(at, "sessions", "SESSIONS", 1), strings.Replace(at, "-", "%2d", 1),
	} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if target == "" || strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			t.Skip("it would be another request")
		}
		status, code := h.requestLine(t, v.student, "GET", target)
		if status != 200 {
			assert.Contains(t, []int{400, 403, 404, 405, 413, 429, 431}, status, "%q", target)
			assert.NotEmpty(t, code, "%q", target)
			return
		}
		path := target
		// The absolute form, RFC 9112 3.2.2. Hertz ends the authority at the next
		// slash, whatever is before it.
		if _, rest, ok := strings.Cut(path, "://"); ok && !strings.HasPrefix(path, "/") {
			if i := strings.IndexByte(rest, '/'); i >= 0 {
				path = rest[i:]
			}
		}
		path, _, _ = strings.Cut(path, "#")
		path, _, _ = strings.Cut(path, "?")
		assert.True(t, slices.ContainsFunc(paths, func(p string) bool {
			return p == path || strings.EqualFold(p, path) && strings.HasPrefix(path, base+"/admin/sessions/") // an id has two cases
		}), "%q was read", target)
		assert.Zero(t, h.metric(t, "doorstep_panics_total"))
	})
}
