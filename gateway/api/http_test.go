package api_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
)

// docs/http.md: what the gateway does where HTTP leaves a choice. What is below the
// routes is tested in gateway/httpserver.

// plain sends a request and reads its answer as it is, without a check against the
// document, which has no HEAD, no OPTIONS and no encoded bodies.
func (h *gateway) plain(t testing.TB, method, path string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	if req.Header.Get("Accept-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "identity")
	}
	res, err := h.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, body
}

func TestHTTP_HEAD_is_a_GET_without_a_body(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.atTheDoor(t)
	for _, path := range []string{"/healthz", "/readyz", "/openapi.yaml", v.live(""), v.path(""), base + "/students/me/sessions", "/nowhere", v.live("&wait=x")} {
		for _, token := range []string{v.student, "wrong"} {
			auth := []string{"Authorization", "Bearer " + token, "X-Request-Id", "same"}
			get, body := h.plain(t, http.MethodGet, path, auth...)
			head, none := h.plain(t, http.MethodHead, path, auth...)
			assert.Equal(t, get.StatusCode, head.StatusCode, path)
			assert.Empty(t, none, path)
			assert.Equal(t, int64(len(body)), head.ContentLength, path)
			get.Header.Del("Date")
			head.Header.Del("Date")
			assert.Equal(t, get.Header, head.Header, path)
		}
	}
	tag := h.get(t, v.student, v.live("")).etag()
	head, _ := h.plain(t, http.MethodHead, v.live("&wait=1"), "Authorization", "Bearer "+v.student, "If-None-Match", tag)
	assert.Equal(t, 304, head.StatusCode)
}

func TestHTTP_OPTIONS_lists_the_methods(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	for path, want := range map[string]string{
		"/healthz": "GET, HEAD, OPTIONS", base + "/me/push-tokens": "PUT, DELETE, OPTIONS", updatesPath: "POST, OPTIONS", livePath: "GET, HEAD, OPTIONS",
	} {
		res, body := h.plain(t, http.MethodOptions, path)
		assert.Equal(t, 204, res.StatusCode)
		assert.Equal(t, want, res.Header.Get("Allow"))
		assert.Empty(t, body)
		assert.Empty(t, res.Header.Get("Content-Length"), "RFC 9110, section 8.6")
		res, _ = h.plain(t, http.MethodPatch, path)
		assert.Equal(t, 405, res.StatusCode)
		assert.Equal(t, want, res.Header.Get("Allow"))
	}
	res, _ := h.plain(t, http.MethodOptions, "/nowhere")
	assert.Equal(t, 404, res.StatusCode)
}

func TestHTTP_nothing_is_cached(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.atTheDoor(t)
	live := h.get(t, v.student, v.live("")).want(t, 200, "")
	for _, a := range []answer{
		live, h.get(t, v.student, v.live(""), ifNoneMatch(live.etag())), h.get(t, v.student, v.path("")),
		h.get(t, v.student, base+"/students/me/sessions"), h.get(t, v.otherStudent, v.path("")), h.get(t, "", v.path("")), h.get(t, "", "/nowhere"),
		h.post(t, v.trainer, v.path("arrived"), nil),
	} {
		assert.Equal(t, []string{"no-store"}, a.header.Values("Cache-Control"), "%d %s", a.status, a.body)
	}
}

// Phones get each of these once in five seconds. The answers to updates are short of all that
// is not promised.
func TestHTTP_an_update_is_answered_in_few_headers(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	minimal := header("Prefer", "return=minimal")
	for name, c := range map[string]struct {
		body    any
		prefer  edit
		headers []string
	}{
		"201": {v.fix(farLat, homeLng), header("Prefer", ""), []string{"Content-Length", "Content-Type", "Date", "X-Request-Id"}},
		"204": {v.fix(farLat, homeLng), minimal, []string{"Date", "Etag", "Next-Update-Ms", "X-Request-Id"}},
		"400": {"{", minimal, []string{"Content-Length", "Content-Type", "Date", "X-Request-Id"}},
	} {
		h.Advance(5 * time.Second)
		a := h.post(t, v.trainer, updatesPath, c.body, c.prefer)
		assert.Equal(t, name, strconv.Itoa(a.status))
		assert.Equal(t, c.headers, slices.Sorted(maps.Keys(a.header)))
	}
}

const page = "https://app.example.com"

func TestHTTP_CORS(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.CORSOrigins = []string{"HTTPS://App.example.com:443", "http://localhost:3000"} })
	v := h.atTheDoor(t)
	preflight := []string{"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization,if-none-match"}
	for _, origin := range []string{page, "http://localhost:3000"} {
		res, body := h.plain(t, http.MethodOptions, livePath+"?sessionId=x", append(preflight, "Origin", origin)...)
		assert.Equal(t, 204, res.StatusCode)
		assert.Empty(t, body)
		assert.Equal(t, origin, res.Header.Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "GET, HEAD, OPTIONS", res.Header.Get("Access-Control-Allow-Methods"))
		for _, name := range []string{"Authorization", "If-None-Match", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-Id"} {
			assert.Contains(t, res.Header.Get("Access-Control-Allow-Headers"), name)
		}
		assert.NotEmpty(t, res.Header.Get("Access-Control-Max-Age"))
		assert.Contains(t, res.Header.Values("Vary"), "Origin")
		for path, status := range map[string]int{v.live(""): 200, "/nowhere": 404, v.live("&wait=x"): 400, "/healthz": 200} {
			res, _ := h.plain(t, http.MethodGet, path, "Origin", origin, "Authorization", "Bearer "+v.student)
			assert.Equal(t, status, res.StatusCode)
			assert.Equal(t, origin, res.Header.Get("Access-Control-Allow-Origin"), path)
			assert.Equal(t, "ETag, Next-Update-Ms, Retry-After, X-Request-Id", res.Header.Get("Access-Control-Expose-Headers"))
			assert.Equal(t, []string{"Origin"}, res.Header.Values("Vary"))
			assert.Empty(t, res.Header.Get("Access-Control-Allow-Credentials"))
		}
	}
	for _, origin := range []string{"https://evil.example.com", "http://app.example.com", page + ":8443", page + ".evil.com", "null", "", "https://APP.example.com"} {
		for _, method := range []string{http.MethodOptions, http.MethodGet} {
			res, _ := h.plain(t, method, v.live(""), append(preflight, "Origin", origin)...)
			for name := range res.Header {
				assert.NotContains(t, name, "Access-Control", origin)
			}
			assert.Contains(t, res.Header.Values("Vary"), "Origin")
		}
	}
}

func TestHTTP_CORS_is_off_by_default(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	for _, method := range []string{http.MethodOptions, http.MethodGet} {
		res, _ := h.plain(t, method, livePath, "Origin", page, "Access-Control-Request-Method", "GET")
		for name := range res.Header {
			assert.NotContains(t, name, "Access-Control")
		}
		assert.Empty(t, res.Header.Values("Vary"))
	}
}

func TestHTTP_large_answers_are_compressed_where_asked(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	for range 3 {
		h.bookFor(t, v.trainerID, v.studentID)
	}
	list := base + "/students/me/sessions"
	auth := []string{"Authorization", "Bearer " + v.student}
	for _, path := range []string{list, "/openapi.yaml"} {
		plain, want := h.plain(t, http.MethodGet, path, auth...)
		require.Greater(t, len(want), 1024)
		assert.Equal(t, "Accept-Encoding", plain.Header.Get("Vary"))
		for accept, coding := range map[string]string{
			"gzip": "gzip", "br": "br", "gzip, deflate, br, zstd": "br", "GZIP": "gzip", "x-gzip": "gzip", "gzip;q=0.5, br;q=0.1": "gzip", "br;q=0, gzip": "gzip",
			"deflate": "", "zstd": "", "*": "", "identity": "", "gzip;q=0": "", "identity, gzip;q=0.5": "", "gzip;q=x": "", "gzip; q=0.001": "gzip", ",, ,": "",
		} {
			res, body := h.plain(t, http.MethodGet, path, append(auth, "Accept-Encoding", accept)...)
			assert.Equal(t, coding, res.Header.Get("Content-Encoding"), accept)
			assert.Equal(t, "Accept-Encoding", res.Header.Get("Vary"))
			assert.Equal(t, string(want), string(decoded(t, coding, body)), accept)
			if coding != "" {
				assert.Less(t, len(body), len(want))
			}
		}
	}
	for _, path := range []string{v.live(""), "/healthz", v.path("")} { // small ones
		res, _ := h.plain(t, http.MethodGet, path, append(auth, "Accept-Encoding", "gzip, br")...)
		assert.Empty(t, res.Header.Get("Content-Encoding"))
		assert.Empty(t, res.Header.Values("Vary"))
	}
}

// The length of what is compressed says something about a secret in it, to whoever writes text
// beside it (BREACH).
func TestHTTP_answers_with_secrets_are_not_compressed(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.atTheDoor(t)
	for range 3 {
		h.bookFor(t, v.trainerID, v.studentID)
	}
	otp := h.arrive(t, v)
	compressed := header("Accept-Encoding", "gzip")
	for _, path := range []string{base + "/students/me/sessions", base + "/admin/users/" + string(v.studentID) + "/data"} {
		token := v.student
		if strings.HasPrefix(path, base+"/admin") {
			token = v.admin
		}
		a := h.get(t, token, path, compressed).want(t, 200, "")
		assert.Greater(t, len(a.body), 1024)
		assert.Equal(t, []string{"", "Accept-Encoding"}, []string{a.header.Get("Content-Encoding"), a.header.Get("Vary")}, path)
		assert.Contains(t, string(a.body), otp)
	}
	device := h.post(t, v.trainer, devicesPath, map[string]any{"format": "owntracks"}, compressed).want(t, 201, "")
	assert.Greater(t, len(device.body), 1024)
	assert.Empty(t, device.header.Get("Content-Encoding"))
	others, _ := h.plain(t, http.MethodGet, base+"/trainers/me/sessions", "Authorization", "Bearer "+v.trainer, "Accept-Encoding", "gzip")
	assert.Equal(t, "gzip", others.Header.Get("Content-Encoding"), "a trainer does not see the code")
}

func decoded(t *testing.T, coding string, body []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	switch coding {
	case "gzip":
		var err error
		r, err = gzip.NewReader(r)
		require.NoError(t, err)
	case "br":
		r = brotli.NewReader(r)
	}
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	return text
}

// Behind a trusted proxy a client is what the proxy says, and the limit by address
// counts its open requests.
func TestHTTP_limit_by_address_behind_a_proxy(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.MaxConnsPerIP, o.TrustedProxies = 1, []string{"127.0.0.0/8"} })
	v := h.begun(t)
	w := h.wait(t, v.student, v, "&wait=30", header("X-Forwarded-For", "6.6.6.6, 192.0.2.1"))
	same, body := h.plain(t, http.MethodGet, "/healthz", "X-Forwarded-For", "192.0.2.1")
	assert.Equal(t, 429, same.StatusCode)
	assert.Equal(t, "1", same.Header.Get("Retry-After"))
	assert.Contains(t, string(body), `"code":"RATE_LIMITED"`)
	other, _ := h.plain(t, http.MethodGet, "/healthz", "X-Forwarded-For", "6.6.6.6")
	assert.Equal(t, 200, other.StatusCode)
	w.cancel()
	until(t, func() bool {
		again, _ := h.plain(t, http.MethodGet, "/healthz", "X-Forwarded-For", "192.0.2.1")
		return again.StatusCode == http.StatusOK
	}, "the place is free again")
}

func TestHTTP_conditions_and_ranges_that_are_not_evaluated(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.atTheDoor(t)
	for _, headers := range [][]string{
		{"Range", "bytes=0-9"},
		{"If-Match", `"x"`},
		{"If-Modified-Since", "Sun, 06 Nov 2094 08:49:37 GMT"},
		{"If-Range", `"x"`},
		{"Accept", "text/html"},
		{"Accept-Charset", "utf-16"},
		{"Accept-Language", "de"},
		{"Max-Forwards", "0"},
	} {
		res, body := h.plain(t, http.MethodGet, v.live(""), append(headers, "Authorization", "Bearer "+v.student)...)
		assert.Equal(t, 200, res.StatusCode, headers)
		assert.True(t, strings.HasSuffix(string(body), "}}"), headers)
		assert.Empty(t, res.Header.Get("Accept-Ranges"))
	}
}
