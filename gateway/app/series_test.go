package app_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/sessions"
)

// Every series is there from the first scrape, and whatever callers send makes
// none: but for an answer's method and status, which are from lists of HTTP's.
func TestApp_series_are_bounded(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*app.Options){"embedded": func(*app.Options) {}, "servers": onServers(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := started(t, settings(edit))
			require.Eventually(t, func() bool { status, _ := get(t, a.Addr(), "/readyz"); return status == 200 }, patience, 5*time.Millisecond)
			before := seriesOf(t, a)
			p := play(t, a)
			require.Eventually(t, func() bool { return len(a.Pushes()) >= 1 }, patience, 5*time.Millisecond)
			for i := range 300 {
				hostile(t, a, p, i)
			}
			after := seriesOf(t, a)
			for series := range before {
				assert.Contains(t, after, series, "a series does not go")
			}
			for series := range after {
				if !before[series] {
					assert.Regexp(t, `^doorstep_http_(requests_total|request_duration_seconds_(bucket|sum|count))\{`+
						`(le="[^"]+",)?method="(GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH|other)",`+
						`(le="[^"]+",)?route="(none|(/api/v1)?/[A-Za-z/:.?-]*)"(,status="[1-5]\d\d")?(,le="[^"]+")?\}$`, series)
				}
			}
			assert.Greater(t, len(before), 500, "the closed lists are there")
			assert.Less(t, len(after), 1900, "series of one process")
		})
	}
}

// hostile asks for something that differs in everything a caller can choose.
func hostile(t *testing.T, a *app.App, p played, i int) {
	t.Helper()
	odd := fmt.Sprintf("x%dy%%2F\"%d", i, i*i)
	methods := []string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "BREW", fmt.Sprintf("M%d", i)}
	paths := []string{
		"/" + fmt.Sprintf("nowhere-%d", i), "/api/v1/admin/sessions/" + string(sessions.NewID()), "/api/v1/admin/sessions/" + fmt.Sprint(i) + "/arrived",
		"/api/v1/admin/location-tracking/journey/live?wait=1&sessionId=" + fmt.Sprint(i), "/api/v1/admin/location-tracking/journey/updates",
		"/api/v1/admin/location-tracking/journey/live?sessionId=" + string(p.id), "/readyz", "/metrics",
	}
	roles := []sessions.Role{sessions.Trainer, sessions.Student, sessions.Admin, sessions.Role(fmt.Sprint("role", i))}
	token, err := a.Token(sessions.Caller{ID: p.trainer, Role: roles[i%4]}, time.Hour)
	if err != nil || i%5 == 0 {
		token = odd
	}
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nX-Request-Id: %s\r\nAuthorization: Bearer %s\r\n",
		methods[i%len(methods)], paths[i%len(paths)], "a", odd, token)
	body := fmt.Sprintf(`{"sessionId":%q,"latitude":%d,"longitude":1,"mock":true,"k%d":1}`, p.id, i%200, i)
	if i%7 == 0 {
		head += fmt.Sprintf("Content-Length: 1\r\nX-%d\r\n", i) // malformed
	}
	send(t, a.Addr(), fmt.Sprintf("%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body))
}

func send(t *testing.T, addr net.Addr, raw string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, addr.Network(), addr.String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = conn.Write([]byte(raw))
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_ = res.Body.Close()
}

// seriesOf is every series of ours by its whole name, but for the two that are
// there whenever the live store's server says so.
func seriesOf(t *testing.T, a *app.App) map[string]bool {
	t.Helper()
	status, page := get(t, a.MetricsAddr(), "/metrics")
	require.Equal(t, 200, status)
	series := map[string]bool{}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "doorstep_") && !strings.HasPrefix(line, "doorstep_live_store_script") {
			name, _, _ := strings.Cut(line, "} ")
			if strings.Contains(name, "{") {
				name += "}"
			} else {
				name, _, _ = strings.Cut(name, " ")
			}
			series[name] = true
		}
	}
	return series
}
