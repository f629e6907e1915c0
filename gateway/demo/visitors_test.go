package demo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// visiting is a visitors with two people, and what it was told of pixels.
func visiting(t *testing.T) (v *visitors, painted *[]time.Time) {
	t.Helper()
	v, listener, err := newVisitors(t.Context(), "http://gateway")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	painted = new([]time.Time)
	v.people = []person{{"A", sessions.Caller{ID: "a", Role: sessions.Student}}, {"<B>", sessions.Caller{ID: "b", Role: sessions.Admin}}}
	v.token = func(c sessions.Caller) (string, error) { return "token of " + string(c.ID), nil }
	v.painted = func(at time.Time) { *painted = append(*painted, at) }
	return v, painted
}

func (v *visitors) ask(ctx context.Context, method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	v.server.Handler.ServeHTTP(w, r)
	return w
}

func TestVisitors_sign_in(t *testing.T) {
	t.Parallel()
	v, _ := visiting(t)
	digest := sha256.Sum256([]byte("verifier"))
	asked := url.Values{
		"redirect_uri": {"http://gateway/t"}, "code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(digest[:])}, "state": {"a&b"},
	}
	page := v.ask(t.Context(), http.MethodGet, "/authorize?"+asked.Encode(), "").Body.String()
	assert.Contains(t, page, "&lt;B&gt;")
	codes := regexp.MustCompile(`href="http://gateway/t\?code=(\w+)&amp;state=a%26b"`).FindAllStringSubmatch(page, -1)
	require.Len(t, codes, 2)
	exchange := func(code, verifier, redirect string) (int, string) {
		w := v.ask(t.Context(), http.MethodPost, "/token", url.Values{"code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirect}}.Encode())
		body, err := io.ReadAll(w.Body)
		require.NoError(t, err)
		return w.Code, string(body)
	}
	status, body := exchange(codes[1][1], "verifier", "http://gateway/t")
	assert.Equal(t, 200, status)
	assert.Contains(t, body, `"access_token":"token of b"`)
	for _, wrong := range [][3]string{
		{codes[1][1], "verifier", "http://gateway/t"}, // a second time
		{codes[0][1], "guess", "http://gateway/t"},    // without proof
		{codes[0][1], "verifier", "http://gateway/t"}, // the guess has spent it
		{"none", "verifier", "http://gateway/t"},
	} {
		status, body := exchange(wrong[0], wrong[1], wrong[2])
		assert.Equal(t, 400, status, wrong)
		assert.NotContains(t, body, "token of", wrong)
	}
	asked.Set("redirect_uri", "http://gateway.evil/t")
	assert.Equal(t, 400, v.ask(t.Context(), http.MethodGet, "/authorize?"+asked.Encode(), "").Code, "to nobody else")
}

func TestVisitors_painted(t *testing.T) {
	t.Parallel()
	v, painted := visiting(t)
	for _, body := range []string{"", "2026-03-14T09:27:00.412Z", "what"} {
		assert.Equal(t, 204, v.ask(t.Context(), http.MethodPost, "/painted", body).Code)
	}
	<-v.opened
	assert.Equal(t, []time.Time{time.Date(2026, 3, 14, 9, 27, 0, 412e6, time.UTC)}, *painted)
}
