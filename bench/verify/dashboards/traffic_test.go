package dashboards

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/gateway/app"
	"doorstep/geo"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/sessions"
)

// clock goes with the wall clock and can be advanced, so that a drive of minutes
// takes a second.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) jump(step time.Duration) { c.ahead.Add(int64(step)) }

// traffic is the callers of one gateway.
type traffic struct {
	base  string
	admin *rig.Caller
	clock *clock
}

func newTraffic(t *testing.T, a *app.App, c *clock) *traffic {
	t.Helper()
	admin, err := rig.NewCaller(sessions.Admin, nil)
	require.NoError(t, err)
	return &traffic{base: "http://" + a.Addr().String(), admin: admin, clock: c}
}

var home = geo.MustPoint(52.0907, 5.1214)

// begin books a journey, registers the student's device and starts.
func (s *traffic) begin(t *testing.T) *rig.Journey {
	t.Helper()
	j, err := rig.NewJourney(home, nil)
	require.NoError(t, err)
	is(t, 201, j.Book(t.Context(), s.base, s.admin))
	is(t, 204, j.Student.Do(t.Context(), http.MethodPut, s.base, "/me/push-tokens", map[string]any{"token": "device-" + j.ID, "platform": "android"}))
	is(t, 201, j.Start(t.Context(), s.base))
	return j
}

func is(t *testing.T, want int, a rig.Answer) {
	t.Helper()
	require.NoError(t, a.Err)
	require.Equal(t, want, a.Status, "%s %s", a.Label(), a.Data)
}

// fix reports a place that the phone took 0.8 s ago.
func (s *traffic) fix(t *testing.T, j *rig.Journey, at geo.Point, edit ...func(map[string]any)) rig.Answer {
	t.Helper()
	body := j.Fix(at, s.clock.now().Add(-800*time.Millisecond))
	body["sentAt"] = s.clock.now().UTC()
	for _, e := range edit {
		e(body)
	}
	return j.Report(t.Context(), s.base, body)
}

// drive is a whole journey with a student who waits for every fix: slow at
// first, so that an ETA of four to five minutes is shown, then faster.
func (s *traffic) drive(t *testing.T) {
	t.Helper()
	j := s.begin(t)
	etag := j.Live(t.Context(), s.base, "", 0).ETag
	for left := 3600.0; left > 0; left -= speed(left) * 10 {
		etag = s.seen(t, j, etag, geo.Offset(home, 90, left))
		s.clock.jump(10 * time.Second)
	}
	s.seen(t, j, etag, home)
	is(t, 400, j.Trainer.Do(t.Context(), http.MethodPost, s.base, "/admin/sessions/"+string(j.ID)+"/verify-otp", map[string]any{}))
	is(t, 200, j.Arrive(t.Context(), s.base))
}

// speed is 10 m/s while more than 2.4 km are left, and then 25.
func speed(leftM float64) float64 {
	if leftM > 2400 {
		return 10
	}
	return 25
}

// seen reports a fix for which a student waits, and returns the new ETag.
func (s *traffic) seen(t *testing.T, j *rig.Journey, etag string, at geo.Point) string {
	t.Helper()
	seen := make(chan rig.Answer, 1)
	go func() { seen <- j.Live(t.Context(), s.base, etag, 10) }()
	is(t, 201, s.fix(t, j, at))
	answer := <-seen
	is(t, 200, answer)
	return answer.ETag
}

// refuse makes calls of every kind that are refused.
func (s *traffic) refuse(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	j := s.begin(t)
	far := geo.Offset(home, 0, 5000)
	is(t, 400, j.Arrive(ctx, s.base)) // no fresh location
	is(t, 201, s.fix(t, j, far))
	s.clock.jump(time.Second)
	is(t, 429, s.fix(t, j, far))
	is(t, 400, j.Arrive(ctx, s.base)) // not within the radius
	s.clock.jump(10 * time.Second)
	is(t, 201, s.fix(t, j, far, func(b map[string]any) { b["mock"] = true }))
	s.clock.jump(10 * time.Second)
	is(t, 201, s.fix(t, j, far, func(b map[string]any) { b["accuracy"] = 5000 }))
	s.clock.jump(10 * time.Second)
	is(t, 200, s.fix(t, j, far, func(b map[string]any) {
		b["recordedAt"] = s.clock.now().Add(-25 * time.Second).UTC().Format(time.RFC3339) // before the last one
	}))
	s.clock.jump(10 * time.Second)
	is(t, 400, s.fix(t, j, geo.Offset(home, 0, 90_000)))
	stranger := &rig.Caller{ID: j.Trainer.ID, Token: "x.y.z"}
	is(t, 401, stranger.Do(ctx, http.MethodGet, s.base, "/students/me/sessions", nil))
	is(t, 304, j.Live(ctx, s.base, "*", 1)) // times out
	malformed(t, s.base)
	is(t, 200, j.Stop(ctx, s.base))
}

func malformed(t *testing.T, base string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	assert.Equal(t, 400, res.StatusCode)
	_ = res.Body.Close()
}

// outage stalls the live store and sends fixes until its breaker opens.
func (s *traffic) outage(t *testing.T, live *valkeyserver.Server, p *queries) {
	t.Helper()
	var journeys []*rig.Journey
	for range 30 {
		journeys = append(journeys, s.begin(t))
	}
	require.NoError(t, live.Pause())
	var unstored atomic.Int64
	var all sync.WaitGroup
	for _, j := range journeys {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for range 3 {
				if j.Update(ctx, s.base, home).Status == http.StatusAccepted {
					unstored.Add(1)
				}
			}
		})
	}
	all.Wait()
	assert.Positive(t, unstored.Load())
	p.scraped(t)
	require.NoError(t, live.Resume())
	require.Eventually(t, func() bool {
		s.clock.jump(10 * time.Second)
		return s.fix(t, journeys[0], home).Status == http.StatusCreated
	}, patience, 100*time.Millisecond, "healed")
}
