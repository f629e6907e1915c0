package api_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/sessions"
)

// logged opens a gateway whose log can be read.
func logged(t *testing.T, level slog.Level, b backend) (*gateway, *lockedBuffer) {
	t.Helper()
	log := new(lockedBuffer)
	h := open(t, b, func(o *app.Options) {
		o.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: level}))
	})
	return h, log
}

// lines are the log lines of one request.
func lines(t *testing.T, log *lockedBuffer, requestID string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		if fields["request_id"] == requestID {
			found = append(found, fields)
		}
	}
	return found
}

// line waits for the one log line of a request. It is written after the answer, so
// the answer may arrive first.
func line(t *testing.T, log *lockedBuffer, requestID string) map[string]any {
	t.Helper()
	until(t, func() bool { return len(lines(t, log, requestID)) > 0 }, "a line of "+requestID)
	found := lines(t, log, requestID)
	require.Len(t, found, 1)
	return found[0]
}

func TestLog_one_line_a_request(t *testing.T) {
	t.Parallel()
	h, log := logged(t, slog.LevelDebug, embedded)
	v := h.begun(t)
	h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng), header("X-Request-Id", "stored")).want(t, 201, "")
	h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng), header("X-Request-Id", "too-soon")).want(t, 429, sessions.RateLimited)
	h.get(t, "no token", v.live(""), header("X-Request-Id", "stranger"), header("X-Amzn-Trace-Id", "Self=1-6-a; Root=1-67891233-abcdef012345678912345678;Sampled=1")).want(t, 401, api.Unauthenticated)
	h.get(t, "", "/no/such/path", header("X-Request-Id", "nowhere")).want(t, 404, api.RouteNotFound)

	got := line(t, log, "stored")
	assert.IsType(t, 0.0, got["took_ms"])
	assert.Positive(t, got["bytes"])
	for _, name := range []string{"time", "took_ms", "bytes"} {
		delete(got, name)
	}
	assert.Equal(t, map[string]any{
		"level": "DEBUG", "msg": "request", "request_id": "stored", "route": updatesPath, "method": "POST",
		"status": 201.0, "code": "", "role": "trainer", "session_id": string(v.id),
	}, got)

	got = line(t, log, "too-soon")
	assert.Equal(t, []any{"DEBUG", 429.0, "RATE_LIMITED", "trainer"}, []any{got["level"], got["status"], got["code"], got["role"]})
	h.get(t, "no token", v.live(""), header("X-Request-Id", "forged"), header("X-Amzn-Trace-Id", `Root=1" msg="x;Root=`)).want(t, 401, api.Unauthenticated)
	assert.NotContains(t, line(t, log, "forged"), "amzn_trace_id")
	got = line(t, log, "stranger")
	assert.Equal(t, "1-67891233-abcdef012345678912345678", got["amzn_trace_id"])
	assert.Equal(t, []any{"DEBUG", 401.0, "UNAUTHENTICATED", ""}, []any{got["level"], got["status"], got["code"], got["role"]})
	h.get(t, v.student, v.live(""), header("X-Request-Id", "read")).want(t, 200, "")
	h.get(t, v.student, v.path(""), header("X-Request-Id", "session")).want(t, 200, "")
	for _, id := range []string{"read", "session"} {
		assert.Equal(t, string(v.id), line(t, log, id)["session_id"])
	}
	got = line(t, log, "nowhere")
	assert.NotContains(t, got, "session_id")
	assert.Equal(t, []any{"DEBUG", 404.0, "none"}, []any{got["level"], got["status"], got["route"]})
}

func TestLog_a_fault_is_a_warning_and_a_refusal_is_not(t *testing.T) {
	t.Parallel()
	log := new(lockedBuffer)
	h := open(t, embedded, func(o *app.Options) {
		o.Log = slog.New(slog.NewJSONHandler(log, nil))
		o.DatabaseURL, o.PublicURL = "postgres://"+unusedAddress(t)+"/none", publicURL
	})
	token := h.token(t, sessions.NewID(), sessions.Admin)
	path := base + "/admin/sessions/" + string(sessions.NewID())
	h.get(t, "no token", path, header("X-Request-Id", "refused")).want(t, 401, api.Unauthenticated)
	h.get(t, token, path, header("X-Request-Id", "failed")).want(t, 503, sessions.DatabaseUnavailable)

	got := line(t, log, "failed")
	assert.Equal(t, []any{"WARN", "request failed", "DATABASE_UNAVAILABLE"}, []any{got["level"], got["msg"], got["code"]})
	assert.NotEmpty(t, got["error"])
	assert.Empty(t, lines(t, log, "refused"), "at the default level")
}

// A parked poll is answered as a read is: the same headers, its own request id and
// origin, one line in the log when it is answered, and one body for all who waited.
func TestLive_wait_is_answered_and_logged_as_a_read(t *testing.T) {
	t.Parallel()
	log := new(lockedBuffer)
	const page = "https://app.example.com"
	h := open(t, embedded, func(o *app.Options) {
		o.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.CORSOrigins = []string{page}
	})
	v := h.begun(t)
	readers := map[string]struct{ token, origin string }{
		"student": {v.student, page}, "trainer": {v.trainer, "https://elsewhere.example.com"}, "admin": {v.admin, ""},
	}
	edits := func(who, id string) []edit {
		list := []edit{header("X-Request-Id", id)}
		if origin := readers[who].origin; origin != "" {
			list = append(list, header("Origin", origin))
		}
		return list
	}
	waits := map[string]waiting{}
	for who, r := range readers {
		waits[who] = h.wait(t, r.token, v, "&wait=30", edits(who, who)...)
		assert.Empty(t, lines(t, log, who), "not before the answer")
	}
	h.step(t, v)
	var body []byte
	for who, r := range readers {
		woken := waits[who].want(t, 200, "")
		read := h.get(t, r.token, v.live(""), edits(who, "read-"+who)...).want(t, 200, "")
		assert.Equal(t, []string{who}, woken.header["X-Request-Id"])
		assert.Equal(t, who == "student", woken.header.Get("Access-Control-Allow-Origin") == page)
		for _, a := range []answer{woken, read} {
			a.header.Del("Date")
			a.header.Del("X-Request-Id")
		}
		assert.Equal(t, read.header, woken.header)
		if body == nil {
			body = woken.body
		}
		assert.Equal(t, body, woken.body)
		got := line(t, log, who)
		assert.Equal(t, []any{livePath + "?wait", "GET", 200.0, "", who, float64(len(body))},
			[]any{got["route"], got["method"], got["status"], got["code"], got["role"], got["bytes"]})
	}
	assert.InDelta(t, 3, h.metric(t, "doorstep_http_requests_total", `route="`+livePath+`?wait"`, `status="200"`), 0)
}
