package api_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/sessions"
)

// Nothing that a caller sends can begin a line of the log or look like a field of
// one. The log is at its lowest level, so that refusals are logged, too.
func TestHostile_log_injection(t *testing.T) {
	t.Parallel()
	const forged = "FORGED"
	for format, handler := range map[string]func(io.Writer) slog.Handler{
		"json": func(w io.Writer) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
		"text": func(w io.Writer) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
	} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			var log lockedBuffer
			h := open(t, embedded, func(o *app.Options) { o.Log = slog.New(handler(&log)) })
			v := h.begun(t)
			for _, line := range []string{"\n" + forged, "\r" + forged, "\r\nlevel=ERROR msg=" + forged, "\x1b[2J" + forged, "\u2028" + forged, `" msg="` + forged, "\x00" + forged} {
				for _, at := range []string{"GET /" + line, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: a" + line, line + " /healthz"} {
					conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.Addr().String())
					require.NoError(t, err)
					require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
					_, err = io.WriteString(conn, at+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
					require.NoError(t, err)
					_, _ = io.Copy(io.Discard, conn) // a reset is accepted, too
					_ = conn.Close()
				}
				body, err := jsonOf(map[string]any{"sessionId": line, "latitude": 1, "longitude": 1, "x" + line: line})
				require.NoError(t, err)
				h.post(t, v.trainer, updatesPath, body).want(t, 400, sessions.InvalidRequest)
				h.post(t, v.trainer, updatesPath, "{"+line).want(t, 400, sessions.InvalidRequest)
				h.get(t, "", v.live(""), func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+strings.Map(printable, line)) }).want(t, 401, api.Unauthenticated)
				h.get(t, handmade(t, map[string]any{"alg": "HS256" + line, "kid": line}, map[string]any{"sub": line, "role": line}, []byte(secret)), v.live("")).
					want(t, 401, api.Unauthenticated)
				h.get(t, handmade(t, map[string]any{"alg": "HS256"}, map[string]any{"sub": line, "role": line, "exp": time.Now().Add(time.Hour).Unix()}, []byte(secret)), v.live("")).
					want(t, 401, api.Unauthenticated)
			}
			text := log.String()
			require.True(t, strings.Contains(text, "INVALID_REQUEST") && strings.Contains(text, "UNAUTHENTICATED"), "refusals are in it")
			for line := range strings.Lines(text) {
				if format == "json" {
					assert.True(t, json.Valid([]byte(line)), "%q", line)
				} else {
					assert.True(t, strings.HasPrefix(line, "time="), "%q", line)
				}
				assert.NotContains(t, line, forged)
				assert.NotContains(t, line, "\x1b")
			}
		})
	}
}

// printable is what Go's HTTP client accepts in a header.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '_'
	}
	return r
}
