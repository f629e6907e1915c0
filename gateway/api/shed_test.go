package api_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/app"
	"doorstep/sessions"
)

// A flood of requests with one token is refused, and no other caller is.
func TestShed_caller_rate(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.CallerRate, o.CallerBurst = 2, 10 })
	v, other := h.begun(t), h.begun(t)
	for range 10 {
		h.get(t, v.student, v.live("")).want(t, 200, "")
	}
	refused := h.get(t, v.student, v.live("")).want(t, 429, sessions.RateLimited)
	assert.Equal(t, "1", refused.header.Get("Retry-After"), "in whole seconds")
	assert.InDelta(t, 500, refused.fields["retryAfterMs"], 0, "in milliseconds")
	h.get(t, v.trainer, v.live("")).want(t, 200, "")
	h.post(t, other.trainer, updatesPath, other.fix(farLat, homeLng)).want(t, 201, "")
	h.Advance(500 * time.Millisecond)
	h.get(t, v.student, v.live("")).want(t, 200, "")
	h.get(t, v.student, v.live("")).want(t, 429, sessions.RateLimited)
	assert.InDelta(t, 2, h.metric(t, "doorstep_requests_shed_total", `reason="caller_rate"`), 0)
	for range 50 {
		h.get(t, v.admin, v.live("")).want(t, 200, "") // admins have no limit
	}
}

// Look-ups are limited for each caller, and the updates of a running journey do not
// look up.
func TestShed_lookups(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.begun(t)
		for range 10 {
			h.get(t, v.student, livePath+"?sessionId="+string(sessions.NewID())).want(t, 404, sessions.SessionNotFound)
			fix := v.fix(farLat, homeLng)
			fix["sessionId"] = sessions.NewID()
			h.post(t, v.trainer, updatesPath, fix).want(t, 404, sessions.SessionNotFound)
		}
		made := h.get(t, v.student, livePath+"?sessionId="+string(sessions.NewID())).want(t, 429, sessions.RateLimited)
		assert.Equal(t, "1", made.header.Get("Retry-After"))
		h.post(t, v.trainer, updatesPath, visit{id: sessions.NewID()}.fix(farLat, homeLng)).want(t, 429, sessions.RateLimited)
		assert.InDelta(t, 2, h.metric(t, "doorstep_requests_shed_total", `reason="caller_lookups"`), 0)

		h.get(t, v.student, v.live("")).want(t, 200, "")
		h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
		h.get(t, v.otherStudent, livePath+"?sessionId="+string(sessions.NewID())).want(t, 404, sessions.SessionNotFound)
	})
}

// A waiting poll does not count as in flight, and is answered even if no place is
// free.
func TestShed_in_flight_leaves_waits_out(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.MaxInFlight = 1 })
	v := h.begun(t)
	waiters := []waiting{h.wait(t, v.student, v, "&wait=30"), h.wait(t, v.trainer, v, "&wait=30"), h.wait(t, v.admin, v, "&wait=30")}
	assert.Zero(t, h.metric(t, "doorstep_requests_in_flight"))
	assert.Positive(t, h.metric(t, "doorstep_connections_open"))
	h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "") // the one place is free
	for _, w := range waiters {
		w.want(t, 200, "")
	}
	until(t, func() bool { return h.metric(t, "doorstep_requests_in_flight") == 0 }, "every place is given back")
}

// Every place in flight is given back, also when other requests are refused.
func TestShed_in_flight_is_bounded_and_freed(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.MaxInFlight = 2 })
	v := h.begun(t)
	statuses := make(chan int, 20*20)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 20 {
				a, err := h.try(t.Context(), t, http.MethodGet, v.student, v.live(""), nil)
				assert.NoError(t, err)
				statuses <- a.status
			}
		})
	}
	all.Wait()
	close(statuses)
	shed := 0.0
	for s := range statuses {
		assert.Contains(t, []int{200, 503}, s)
		if s == 503 {
			shed++
		}
	}
	assert.InDelta(t, shed, h.metric(t, "doorstep_requests_shed_total", `reason="in_flight"`), 0)
	h.get(t, v.student, v.live("")).want(t, 200, "")
	assert.Zero(t, h.metric(t, "doorstep_requests_in_flight"))
}
