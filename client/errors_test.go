package client_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
	"doorstep/gateway/api"
)

// The list of codes here is the gateway's.
func TestCodes(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	var here []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && fmt.Sprint(spec.Type) == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			here = append(here, text)
		}
		return true
	})
	var there []string
	for _, code := range api.Codes() {
		there = append(there, string(code))
	}
	assert.ElementsMatch(t, there, here)
}

func TestError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		header map[string]string
		answer string
		want   client.Error
		text   string
	}{
		"rate limited": {
			429,
			map[string]string{"Retry-After": "3"},
			`{"success":false,"code":"RATE_LIMITED","message":"too soon","requestId":"6f1c","retryAfterMs":2380}`,
			client.Error{Status: 429, Code: client.RateLimited, Message: "too soon", RequestID: "6f1c", RetryAfter: 2380 * time.Millisecond},
			"session: 429 RATE_LIMITED: too soon (request 6f1c)",
		},
		"not within radius": {
			400, nil, `{"code":"NOT_WITHIN_RADIUS","distanceMeters":400.5,"radiusMeters":150}`,
			client.Error{Status: 400, Code: client.NotWithinRadius, DistanceM: 400.5, RadiusM: 150},
			"session: 400 NOT_WITHIN_RADIUS",
		},
		"wrong code":  {400, nil, `{"code":"OTP_WRONG","attemptsLeft":4}`, client.Error{Status: 400, Code: client.OTPWrong, AttemptsLeft: 4}, "session: 400 OTP_WRONG"},
		"wrong field": {400, nil, `{"code":"INVALID_REQUEST","field":"latitude"}`, client.Error{Status: 400, Code: client.InvalidRequest, Field: "latitude"}, "session: 400 INVALID_REQUEST"},
		"already started": {
			409, nil, `{"code":"JOURNEY_ALREADY_STARTED","journey":{"sessionId":"s","startedAt":"2026-03-14T09:26:53.000Z"}}`,
			client.Error{Status: 409, Code: client.JourneyAlreadyStarted, Journey: &client.Journey{SessionID: "s", StartedAt: time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)}},
			"session: 409 JOURNEY_ALREADY_STARTED",
		},
		"a proxy": {
			502,
			map[string]string{"X-Request-Id": "p1", "Retry-After": "7"},
			"<html>bad gateway</html>",
			client.Error{Status: 502, Message: "the answer is not the API's", RequestID: "p1", RetryAfter: 7 * time.Second},
			"session: 502: the answer is not the API's (request p1)",
		},
		"a captive portal": {200, nil, "<html>sign in</html>", client.Error{Status: 200, Message: "the answer is not the API's"}, "session: 200: the answer is not the API's"},
		"an odd header":    {503, map[string]string{"Retry-After": "soon"}, "{}", client.Error{Status: 503}, "session: 503"},
		"a date long past": {503, map[string]string{"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, "{}", client.Error{Status: 503}, "session: 503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to, f := setup(t, c.status, c.answer)
			f.header = c.header
			_, err := to.Session(t.Context(), "s")
			var got *client.Error
			require.ErrorAs(t, err, &got)
			assert.Equal(t, c.want, *got)
			assert.EqualError(t, err, c.text)
			require.ErrorIs(t, err, &client.Error{Code: c.want.Code})
			assert.NotErrorIs(t, err, &client.Error{Code: client.Internal})
			assert.Equal(t, c.want.Code, client.CodeOf(err))
		})
	}
}

func TestTemporary(t *testing.T) {
	t.Parallel()
	assert.False(t, client.Temporary(nil))
	assert.True(t, client.Temporary(errors.New("no route to host")))
	for status, want := range map[int]bool{
		http.StatusOK: false, http.StatusBadRequest: false, http.StatusUnauthorized: false, http.StatusNotFound: false, http.StatusConflict: false,
		http.StatusRequestTimeout: true, http.StatusTooManyRequests: true, http.StatusInternalServerError: true, http.StatusBadGateway: true,
	} {
		assert.Equal(t, want, client.Temporary(fmt.Errorf("call: %w", &client.Error{Status: status})), status)
	}
	assert.False(t, client.Temporary(&client.Error{Status: 429, Code: client.OTPLocked}), "only another code helps")
	for _, code := range []client.Code{client.SuspiciousLocation, client.NoFreshLocation} {
		assert.False(t, client.Temporary(&client.Error{Status: 400, Code: code}))
		assert.True(t, client.Temporary(&client.Error{Status: 400, Code: code, RetryAfter: time.Second}), "the track goes on meanwhile")
	}
}
