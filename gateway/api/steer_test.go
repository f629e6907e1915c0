package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/app"
	"doorstep/sessions"
)

// awayLat is 5 km from home, where nobody is in a hurry.
const awayLat = homeLat + 0.045

// The own API's phones are told when the next fix is due: soon while somebody waits for
// it and near the door, later else, and to stop when there is no journey. A phone that
// sends more often is not refused.
func TestUpdate_steer(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		for _, on := range []bool{true, false} {
			h := open(t, b, func(o *app.Options) { o.Steer = on })
			v := h.begun(t)
			lat := awayLat
			next := func(speed any, want int) {
				t.Helper()
				if !on {
					want = 5000
				}
				h.Advance(5 * time.Second)
				lat -= 1e-5
				fix := v.fix(lat, homeLng)
				fix["speed"] = speed
				assert.EqualValues(t, want, h.post(t, v.trainer, updatesPath, fix).want(t, 201, "").data()["nextUpdateMs"])
			}
			next(36, 15_000)
			next(0, 25_000)
			next(nil, 15_000)
			h.wait(t, v.student, v, "&wait=30")
			next(36, 5000)
			next(0, 5000)      // the next long poll may be on its way
			if b == embedded { // the live store's subscription lingers by another clock
				h.Advance(10 * time.Second)
				next(0, 25_000)
			}
			lat = homeLat + 0.015
			h.Advance(5 * time.Minute)
			next(0, 5000)
			h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
			over := h.post(t, v.trainer, updatesPath, v.fix(lat, homeLng)).want(t, 404, sessions.NoActiveJourney)
			assert.Equal(t, on, over.fields["stop"] == true)
			assert.NotContains(t, h.post(t, v.trainer, v.path("arrived"), nil).want(t, 404, sessions.NoActiveJourney).fields, "stop")
		}
	})
}

// The app is told an interval where it changes, and nothing where it does not.
func TestReport_steer(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		h := open(t, embedded, func(o *app.Options) { o.Steer, o.SteerStop = on, false })
		v := h.book(t)
		p := h.stockPhone(t, v.trainer, sessions.OwnTracks)
		at := awayLat
		want := func(seconds int) {
			t.Helper()
			h.Advance(6 * time.Second)
			at -= 1e-5
			got := string(h.report(t, p, p.place(at, homeLng, h.Now())).want(t, 200, "").body)
			if !on || seconds == 0 {
				assert.Equal(t, "[]", got)
				return
			}
			assert.Contains(t, got, fmt.Sprintf(`"moveModeLocatorInterval":%d`, seconds))
		}
		want(300)
		want(0)
		h.begin(t, v)
		want(15)
		want(0)
		h.wait(t, v.student, v, "&wait=30")
		want(5)
		h.wait(t, v.student, v, "&wait=30")
		want(0)
		want(0) // longer, but not yet
		again := string(h.report(t, p, p.place(at, homeLng, h.Now())).wantVerdict(t, "stale").body)
		assert.Equal(t, "[]", again, "it says nothing of the way")
		h.Advance(time.Minute)
		want(15)
		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		want(300)
		want(0)
		h.Advance(5 * time.Minute)
		want(300)
	}
}

// A queue is no reason to lengthen, and the first answer of a journey says something.
func TestReport_steer_after_a_queue(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	h.Advance(time.Minute)
	p := h.stockPhone(t, v.trainer, sessions.Overland)
	report := func(ago time.Duration) string {
		return string(h.report(t, p, p.place(awayLat, homeLng+ago.Seconds()*1e-4, h.Now().Add(-ago))).wantVerdict(t,
			map[bool]string{true: "stored_late", false: "stored"}[ago > 5*time.Second]).body)
	}
	assert.Contains(t, report(40*time.Second), `"send_interval":"5s"`)
	assert.NotContains(t, report(30*time.Second), "send_interval")
	h.Advance(time.Minute)
	assert.Contains(t, report(0), `"send_interval":"15s"`)
}

// Each format that has a word for it is told to stop, where that is set.
func TestReport_steer_stop(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.SteerStop = true })
	for format, stop := range map[sessions.Format]string{
		sessions.OwnTracks: `"monitoring":0`, sessions.OsmAnd: ``, sessions.Transistorsoft: `["stop"]`, sessions.Overland: `"tracking_mode":"off"`,
	} {
		v := h.book(t)
		p := h.stockPhone(t, v.trainer, format)
		report := func() string {
			h.Advance(6 * time.Second)
			return string(h.report(t, p, p.place(awayLat, homeLng, h.Now())).want(t, 200, "").body)
		}
		assert.Contains(t, report(), stop)
		if stop != "" {
			assert.NotContains(t, report(), stop, "once")
		}
		h.begin(t, v)
		assert.NotContains(t, report(), `"stop"`)
		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		assert.Contains(t, report(), stop)
	}
}

// What is steered by distance is told anew when the phone moves much faster or slower.
func TestReport_steer_by_distance(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	p := h.stockPhone(t, v.trainer, sessions.Transistorsoft)
	at := homeLng
	report := func(mps int) string {
		h.Advance(6 * time.Second)
		at += 1e-4
		body := strings.Replace(p.place(homeLat+0.015, at, h.Now()), `"speed":8.3`, fmt.Sprintf(`"speed":%d`, mps), 1)
		return string(h.report(t, p, body).wantVerdict(t, "stored").body)
	}
	assert.Contains(t, report(8), `"distanceFilter":40`)
	assert.Equal(t, `{}`, report(10))
	assert.Equal(t, `{}`, report(6))
	assert.Contains(t, report(16), `"distanceFilter":80`)
	assert.Equal(t, `{}`, report(20))
	assert.Contains(t, report(4), `"distanceFilter":20`)
}

// Two gateways do not know what the other has told the phone. One that sees that the
// phone sends less often than it was told says it again.
func TestReport_steer_by_two_gateways(t *testing.T) {
	t.Parallel()
	first := open(t, servers)
	second := open(t, servers, func(o *app.Options) { o.DatabaseURL, o.Now = first.databaseURL, first.Now })
	v := first.book(t)
	first.begin(t, v)
	p := first.stockPhone(t, v.trainer, sessions.OwnTracks)
	at := awayLat
	told := func(h *gateway, after time.Duration) string {
		first.Advance(after)
		at -= 1e-5
		return string(h.report(t, p, p.place(at, homeLng, first.Now())).wantVerdict(t, "stored").body)
	}
	const five = `"moveModeLocatorInterval":5`
	first.wait(t, v.student, v, "&wait=30")
	assert.Contains(t, told(first, 15*time.Second), five)
	assert.Contains(t, told(second, 15*time.Second), five)
	assert.Equal(t, "[]", told(first, 5*time.Second))
	assert.Contains(t, told(first, 15*time.Second), five, "it does not do as it was told")
	assert.Equal(t, "[]", told(first, 8*time.Second))
}
