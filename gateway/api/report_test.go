package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/gateway/httpserver"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/internal/testclock"
	"doorstep/sessions"
)

// stockPhone is a device and how its app reports.
type stockPhone struct {
	format     sessions.Format
	id, secret string
}

func (h *gateway) stockPhone(t testing.TB, trainer string, format sessions.Format) stockPhone {
	t.Helper()
	made := h.phoneOf(t, trainer, format)
	return stockPhone{format, made["deviceId"].(string), made["secret"].(string)}
}

func (p stockPhone) path() string { return base + "/ingest/" + string(p.format) }

// auth gives a request the device's credentials.
func (p stockPhone) auth(r *http.Request) {
	switch p.format {
	case sessions.OwnTracks:
		r.SetBasicAuth(p.id, p.secret)
	case sessions.OsmAnd:
	default:
		r.Header.Set("Authorization", "Bearer "+p.secret)
	}
}

// place is one point as the app writes it.
func (p stockPhone) place(lat, lng float64, at time.Time) string {
	switch p.format {
	case sessions.OwnTracks:
		return fmt.Sprintf(`{"_type":"location","lat":%f,"lon":%f,"tst":%d,"acc":5,"vel":30,"tid":"p"}`, lat, lng, at.Unix())
	case sessions.OsmAnd:
		return url.Values{
			"id": {p.secret}, "lat": {fmt.Sprint(lat)}, "lon": {fmt.Sprint(lng)}, "timestamp": {fmt.Sprint(at.Unix())}, "accuracy": {"5"}, "speed": {"16.2"},
		}.Encode()
	case sessions.Transistorsoft:
		return fmt.Sprintf(`{"location":{"coords":{"latitude":%f,"longitude":%f,"accuracy":5,"speed":8.3,"heading":-1},"timestamp":%q,"uuid":%q}}`,
			lat, lng, at.UTC().Format(time.RFC3339Nano), sessions.NewID())
	default:
		return fmt.Sprintf(`{"locations":[%s]}`, overlandPoint(lat, lng, at))
	}
}

func overlandPoint(lat, lng float64, at time.Time) string {
	return fmt.Sprintf(`{"type":"Feature","geometry":{"type":"Point","coordinates":[%f,%f]},"properties":{"timestamp":%q,"horizontal_accuracy":5,"speed":8.3}}`,
		lng, lat, at.UTC().Format(time.RFC3339Nano))
}

// report sends a body as the app does.
func (h *gateway) report(t testing.TB, p stockPhone, body string, edits ...edit) answer {
	t.Helper()
	return h.do(t, http.MethodPost, "", p.path(), []byte(body), append([]edit{off, p.auth}, edits...)...)
}

func (a answer) verdict() string { return a.header.Get("Doorstep-Verdict") }

func (a answer) wantVerdict(t testing.TB, want string) answer {
	t.Helper()
	a.want(t, 200, "")
	verdict, _, _ := strings.Cut(a.verdict(), ";")
	require.Equal(t, want, verdict)
	return a
}

// begin books and starts a journey of v's trainer on h.
func (h *gateway) begin(t testing.TB, v visit) {
	t.Helper()
	h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
}

// A trainer with any of the apps is seen, and gets the answer that the app needs.
func TestReport(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		for format, answers := range map[sessions.Format]string{
			sessions.OwnTracks: `[]`, sessions.OsmAnd: ``, sessions.Transistorsoft: `{}`, sessions.Overland: `{"result":"ok"}`,
		} {
			v := h.book(t)
			p := h.stockPhone(t, v.trainer, format)
			h.report(t, p, p.place(farLat, homeLng, h.Now())).wantVerdict(t, "no_journey")
			h.begin(t, v)
			told := h.report(t, p, p.place(farLat, homeLng, h.Now())).wantVerdict(t, "stored")
			live := h.get(t, v.student, v.live("")).want(t, 200, "").data()["location"].(map[string]any)
			assert.InDelta(t, farLat, live["latitude"], 1e-5)
			assert.InDelta(t, homeLng, live["longitude"], 1e-5)
			assert.InDelta(t, 30, live["speed"], 0.2, "km/h, whatever the app's unit is")
			h.Advance(10 * time.Second)
			if format != sessions.OsmAnd {
				assert.NotEqual(t, answers, string(told.body), "the interval")
			}
			again := h.report(t, p, p.place(farLat-0.0005, homeLng, h.Now())).wantVerdict(t, "stored")
			assert.Equal(t, answers, string(again.body))
			h.report(t, p, p.place(farLat-0.0005, homeLng, h.Now())).wantVerdict(t, "stale")
			if format == sessions.OsmAnd { // its credential is in the report
				h.report(t, p, "").want(t, 401, api.Unauthenticated)
				continue
			}
			h.report(t, p, "").wantVerdict(t, "nothing")
		}
		assert.InDelta(t, 2, h.metric(t, "doorstep_device_points_total", `format="overland"`, `outcome="stored"`), 0)
		assert.InDelta(t, 1, h.metric(t, "doorstep_device_points_total", `format="owntracks"`, `outcome="no_journey"`), 0)
	})
}

// Every shape of a body is read, and none is refused.
func TestReport_bodies(t *testing.T) {
	t.Parallel()
	h := open(t, servers)
	v := h.book(t)
	h.begin(t, v)
	p := h.stockPhone(t, v.trainer, sessions.Overland)
	zipped := func(text string) string {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = io.WriteString(w, text)
		_ = w.Close()
		return out.String()
	}
	one := func() string { h.Advance(6 * time.Second); return p.place(farLat, homeLng, h.Now()) }
	gzipped := header("Content-Encoding", "gzip")
	h.report(t, p, zipped(one()), gzipped).wantVerdict(t, "stored")
	h.report(t, p, one(), func(r *http.Request) { r.ContentLength, r.Body = -1, io.NopCloser(r.Body) }).wantVerdict(t, "stored")

	plain := func(body string) answer {
		return h.raw(t, call{method: http.MethodPost, path: p.path()}, fmt.Sprintf("POST %s HTTP/1.0\r\nAuthorization: bearer %s\r\nContent-Length: %d\r\n\r\n%s", p.path(), p.secret, len(body), body))
	}
	plain(one()).wantVerdict(t, "stored")
	large := `{"locations":[` + strings.Repeat(overlandPoint(farLat, homeLng, h.Now().Add(-time.Hour))+",", 30_000) + strings.TrimPrefix(one(), `{"locations":[`)
	require.Greater(t, len(large), 5_000_000)
	h.report(t, p, large).wantVerdict(t, "stored")
	h.Advance(10 * time.Second)
	for body, verdict := range map[string]string{
		"{": "unreadable", "no json": "unreadable", "[]": "unreadable", `{"locations":[{}]}`: "nothing", `{"locations":[` + overlandPoint(farLat, homeLng, h.Now()): "stored", `{}`: "nothing", "\x00\xff": "unreadable",
	} {
		h.report(t, p, body).wantVerdict(t, verdict)
	}
	h.report(t, p, "no gzip", gzipped).wantVerdict(t, "unreadable")
	h.report(t, p, zipped(one())[:50], gzipped).wantVerdict(t, "unreadable")
	bomb := zipped(`{"locations":[` + strings.Repeat(" ", 33<<20) + "]}")
	require.Less(t, len(bomb), 100_000)
	h.report(t, p, bomb, gzipped).wantVerdict(t, "too_large")
	h.report(t, p, one()).wantVerdict(t, "stored")
	large = `{"location":[` + strings.Repeat(`{"coords":{"latitude":12.9,"longitude":77.6,"accuracy":5},"timestamp":"2026-01-01T00:00:00Z"},`, 20_000) + `{}]}`
	sdk := h.stockPhone(t, v.trainer, sessions.Transistorsoft)
	for _, method := range []string{http.MethodPut, http.MethodPatch} { // an app can be set to these
		h.Advance(6 * time.Second)
		h.do(t, method, "", sdk.path(), []byte(sdk.place(farLat, homeLng, h.Now())), off, sdk.auth).wantVerdict(t, "stored")
		h.do(t, method, "", sdk.path(), []byte(large), off, sdk.auth).wantVerdict(t, "before_start")
	}
	h.do(t, http.MethodPost, "", base+"/ingest/traccar", []byte("{}"), p.auth).want(t, 404, api.RouteNotFound)
	h.do(t, http.MethodPost, "", "/", []byte("{}"), p.auth).want(t, 404, api.RouteNotFound)
	assert.Zero(t, h.metric(t, "doorstep_http_requests_total", `route="`+p.path()+`"`, `status="4`))
}

// A queue costs the live store one call, whatever is in it.
func TestReport_one_call(t *testing.T) {
	t.Parallel()
	h := open(t, servers)
	v := h.begun(t)
	h.Advance(10 * time.Minute)
	p := h.stockPhone(t, v.trainer, sessions.Overland)
	calls := func() float64 { return h.metric(t, "doorstep_live_store_calls_total", `verb="update"`) }
	for _, n := range []int{1, 2, 60, 400} {
		h.Advance(5 * time.Minute)
		points := make([]string, n)
		for i := range points {
			points[i] = overlandPoint(farLat, homeLng, h.Now().Add(-time.Duration(5*i)*time.Second))
		}
		before := calls()
		h.report(t, p, `{"locations":[`+strings.Join(points, ",")+`]}`).wantVerdict(t, "stored")
		assert.InDelta(t, 1, calls()-before, 0, n)
	}
}

// A queue of 24 hours: the pin is at the present after the first request that holds it,
// whatever the order, and never goes back.
func TestReport_queue(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.book(t)
		h.Advance(24 * time.Hour)
		h.begin(t, v)
		h.Advance(10 * time.Second)
		p := h.stockPhone(t, v.trainer, sessions.Overland)
		present := h.Now()
		requests := make([]string, 0, 24)
		for i := range 24 {
			var points []string
			for j := range 720 { // an hour at one in 5 s
				points = append(points, overlandPoint(homeLat+0.2, homeLng, present.Add(time.Duration(i-24)*time.Hour+time.Duration(5*j)*time.Second)))
			}
			requests = append(requests, `{"locations":[`+strings.Join(points, ",")+`],"current":`+overlandPoint(farLat, homeLng, present)+`}`)
		}
		version := int64(0)
		for i, body := range requests {
			sent := h.report(t, p, body)
			sent.wantVerdict(t, map[bool]string{true: "stored", false: "stale"}[i == 0])
			live := h.get(t, v.student, v.live("")).want(t, 200, "")
			assert.InDelta(t, farLat, live.data()["location"].(map[string]any)["latitude"], 1e-5)
			assert.GreaterOrEqual(t, live.version(t), version)
			version = live.version(t)
		}
		for _, order := range []bool{true, false} { // newest last, newest first
			points := make([]string, 0, 17_280)
			h.Advance(time.Minute)
			for i := range 17_280 {
				ago := 17_279 - i
				if !order {
					ago = i
				}
				points = append(points, overlandPoint(farLat+0.0001*min(1, float64(ago)), homeLng, h.Now().Add(-time.Duration(5*ago)*time.Second)))
			}
			h.report(t, p, `{"locations":[`+strings.Join(points, ",")+`]}`).wantVerdict(t, "stored")
			live := h.get(t, v.student, v.live("")).want(t, 200, "").data()["location"].(map[string]any)
			assert.InDelta(t, farLat, live["latitude"], 1e-5, "the present")
		}
	})
}

// A wrong secret is the only 401, and tells nothing. Guesses are limited by device and by
// address; a phone that is known is not locked out.
func TestReport_credentials(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.book(t)
	p := h.stockPhone(t, v.trainer, sessions.OwnTracks)
	other := h.stockPhone(t, v.trainer, sessions.OwnTracks)
	send := func(auth func(*http.Request)) answer {
		return h.do(t, http.MethodPost, "", p.path(), []byte(p.place(farLat, homeLng, h.Now())), off, auth, header("X-Request-Id", "same"))
	}
	secret := func(word string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("whoever", word) }
	}
	send(secret(p.secret)).wantVerdict(t, "no_journey")
	key, _ := sessions.ParseDeviceKey(p.secret)
	guess := sessions.DeviceKey{ID: key.ID, Secret: strings.Repeat("A", 26)}.String()
	want := send(secret(guess)).want(t, 401, api.Unauthenticated)
	assert.Contains(t, want.header.Get("WWW-Authenticate"), "Basic")
	for _, word := range []string{sessions.NewDeviceKey().String(), "", p.id, p.secret[:len(p.secret)-1], p.secret + "A", "."} {
		assert.Equal(t, string(want.body), string(send(secret(word)).want(t, 401, api.Unauthenticated).body), word)
	}
	send(func(*http.Request) {}).want(t, 401, api.Unauthenticated)
	send(header("Authorization", "Digest x")).want(t, 401, api.Unauthenticated)
	send(header("Authorization", "Bearer "+v.trainer)).want(t, 401, api.Unauthenticated)
	h.post(t, p.secret, updatesPath, v.fix(farLat, homeLng)).want(t, 401, api.Unauthenticated)

	for n := 0; ; n++ {
		require.Less(t, n, 20, "guesses of one device")
		if a := send(secret(guess)); a.status == 503 {
			assert.NotEmpty(t, a.header.Get("Retry-After"))
			break
		}
	}
	send(secret(p.secret)).wantVerdict(t, "no_journey")
	for n := 0; ; n++ {
		require.Less(t, n, 60, "guesses from one address")
		if send(secret(sessions.NewDeviceKey().String())).status == 503 {
			break
		}
	}
	send(secret(other.secret)).want(t, 503, api.Overloaded)
	send(secret(p.secret)).wantVerdict(t, "no_journey")
	h.Advance(time.Minute)
	send(secret(other.secret)).wantVerdict(t, "no_journey")
	assert.Greater(t, h.metric(t, "doorstep_unauthenticated_total", `reason="device"`), 50.)
}

// An app that refreshes its token after a 401 gets the one that it has, or 401 again.
func TestReport_refresh(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.book(t)
	p := h.stockPhone(t, v.trainer, sessions.Transistorsoft)
	refresh := func(form string) answer {
		return h.do(t, http.MethodPost, "", p.path()+"/refresh", []byte(form), off, header("Content-Type", "application/x-www-form-urlencoded"))
	}
	got := refresh(url.Values{"refresh_token": {p.secret}}.Encode()).want(t, 200, "")
	assert.Equal(t, map[string]any{"access_token": p.secret, "refresh_token": p.secret, "token_type": "Bearer"}, got.fields)
	for _, form := range []string{"", "refresh_token=", "refresh_token=x", "%%%", strings.Repeat("x", 5000) + "&refresh_token=" + p.secret} {
		refresh(form).want(t, 401, api.Unauthenticated)
	}
	h.do(t, http.MethodDelete, v.trainer, devicesPath+"/"+p.id, nil).want(t, 204, "")
	refresh("refresh_token="+p.secret).want(t, 401, api.Unauthenticated)
}

// Revocation is felt at once where it was said, and within 30 s on every other gateway; a
// trainer who is erased has no devices.
func TestReport_revoked(t *testing.T) {
	t.Parallel()
	first := open(t, servers)
	second := open(t, servers, func(o *app.Options) { o.DatabaseURL, o.Now = first.databaseURL, first.Now })
	v := first.book(t)
	p, left := first.stockPhone(t, v.trainer, sessions.Overland), first.stockPhone(t, v.trainer, sessions.Overland)
	for _, h := range []*gateway{first, second} {
		for _, phone := range []stockPhone{p, left} {
			h.report(t, phone, phone.place(farLat, homeLng, first.Now())).wantVerdict(t, "no_journey")
		}
	}
	first.do(t, http.MethodDelete, v.trainer, devicesPath+"/"+p.id, nil).want(t, 204, "")
	first.report(t, p, p.place(farLat, homeLng, first.Now())).want(t, 401, api.Unauthenticated)
	first.Advance(30 * time.Second)
	second.report(t, p, p.place(farLat, homeLng, first.Now())).want(t, 401, api.Unauthenticated)
	second.report(t, left, left.place(farLat, homeLng, first.Now())).wantVerdict(t, "no_journey")

	first.do(t, http.MethodDelete, v.admin, base+"/admin/users/"+string(v.trainerID)+"/data", nil)
	first.Advance(30 * time.Second)
	for _, h := range []*gateway{first, second} {
		h.report(t, left, left.place(farLat, homeLng, first.Now())).want(t, 401, api.Unauthenticated)
	}
}

// An admin starts and ends the journeys; the phone is found on the gateway of the start at
// once, on another within seconds.
func TestReport_of_a_journey_that_starts_elsewhere(t *testing.T) {
	t.Parallel()
	first := open(t, servers)
	second := open(t, servers, func(o *app.Options) {
		o.DatabaseURL, o.ValkeyURL, o.Now = first.databaseURL, valkeytest.Valkey(t), first.Now
	})
	v := first.book(t)
	p := first.stockPhone(t, v.trainer, sessions.OwnTracks)
	at := func(h *gateway) string {
		return h.report(t, p, p.place(farLat, homeLng, first.Now())).want(t, 200, "").verdict()
	}
	assert.Equal(t, "no_journey", at(first))
	assert.Equal(t, "no_journey", at(second))
	first.post(t, v.admin, v.path("start-journey"), nil).want(t, 201, "")
	first.Advance(time.Second)
	assert.Equal(t, "stored", at(first))
	first.Advance(10 * time.Second)
	assert.Equal(t, "stored", at(second))
	first.post(t, v.admin, v.path("stop-journey"), nil).want(t, 200, "")
	assert.Equal(t, "no_journey", at(first))
	assert.Equal(t, "no_journey", at(second))
}

// Two phones of one trainer: the newest fix counts, whichever it is from.
func TestReport_two_phones(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.book(t)
	h.begin(t, v)
	a, b := h.stockPhone(t, v.trainer, sessions.OwnTracks), h.stockPhone(t, v.trainer, sessions.Overland)
	h.Advance(10 * time.Second)
	h.report(t, a, a.place(farLat, homeLng, h.Now())).wantVerdict(t, "stored")
	h.report(t, b, b.place(farLat, homeLng, h.Now().Add(-8*time.Second))).wantVerdict(t, "stale")
	h.Advance(6 * time.Second)
	h.report(t, b, b.place(farLat-0.0003, homeLng, h.Now())).wantVerdict(t, "stored")
	h.Advance(6 * time.Second)
	h.report(t, a, a.place(homeLat+1, homeLng, h.Now())).want(t, 200, "") // the phone at home, far away
	live := h.get(t, v.student, v.live("")).want(t, 200, "").data()["location"].(map[string]any)
	assert.InDelta(t, farLat-0.0003, live["latitude"], 1e-5, "the pin does not jump to a phone that is far away")
}

// A device that floods is answered as ever; what is too much is counted and dropped.
func TestReport_flood(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.CallerRate, o.CallerBurst = 1, 10 })
	v := h.book(t)
	h.begin(t, v)
	p, other := h.stockPhone(t, v.trainer, sessions.Overland), h.stockPhone(t, v.trainer, sessions.Overland)
	dropped := 0
	for range 50 {
		a := h.report(t, p, p.place(farLat, homeLng, h.Now())).want(t, 200, "")
		assert.Contains(t, string(a.body), `"result":"ok"`)
		if a.verdict() == "flooded" {
			dropped++
		}
	}
	assert.Equal(t, 40, dropped)
	assert.InDelta(t, 40, h.metric(t, "doorstep_device_points_total", `outcome="flooded"`), 0)
	h.report(t, other, p.place(farLat, homeLng, h.Now())).wantVerdict(t, "stale")
	h.Advance(time.Minute)
	h.report(t, p, p.place(farLat, homeLng, h.Now())).wantVerdict(t, "stored")
}

// An app empties its queue as fast as it can, the oldest point first: whatever the rate,
// the present is not dropped.
func TestReport_flood_of_a_queue(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.CallerRate, o.CallerBurst = 1, 10 })
	v := h.book(t)
	h.begin(t, v)
	h.Advance(30 * time.Minute)
	p := h.stockPhone(t, v.trainer, sessions.Overland)
	dropped := 0
	for i := 400; i > 0; i-- { // one in 5 s, the last one now
		a := h.report(t, p, p.place(farLat+0.0004*float64(i), homeLng, h.Now().Add(-time.Duration(5*(i-1))*time.Second))).want(t, 200, "")
		if a.verdict() == "flooded" {
			dropped++
		}
	}
	assert.Greater(t, dropped, 300)
	live := h.get(t, v.student, v.live("")).want(t, 200, "").data()["location"].(map[string]any)
	assert.InDelta(t, farLat+0.0004, live["latitude"], 1e-5, "the present")
}

// reportCalls are the calls of call 22 in the document.
func reportCalls(t testing.TB) []call {
	t.Helper()
	var all []call
	for path, item := range readDocument(t).Paths.Map() {
		for method, op := range item.Operations() {
			if op.Extensions["x-stock-app"] != nil {
				all = append(all, call{op: op, method: method, path: path})
			}
		}
	}
	require.Len(t, all, 8)
	return all
}

func (c call) stockPhone(t testing.TB, h *gateway, trainer string) stockPhone {
	t.Helper()
	return h.stockPhone(t, trainer, sessions.Format(strings.Split(c.path, "/")[4]))
}

// reportAs is one report by this call: a GET has all in the query.
func (h *gateway) reportAs(t testing.TB, c call, p stockPhone) answer {
	t.Helper()
	if c.method == http.MethodGet {
		return h.get(t, "", c.path+"?"+p.place(farLat, homeLng, h.Now()), off)
	}
	body := p.place(farLat, homeLng, h.Now())
	if c.refreshes() {
		body = "grant_type=refresh_token&refresh_token=" + p.secret
	}
	return h.do(t, c.method, "", c.path, []byte(body), off, p.auth)
}

// refreshes reports whether the call asks for a token, and so not for the live store.
func (c call) refreshes() bool { return strings.HasSuffix(c.path, "/refresh") }

// everyReport brings about every answer of call 22.
func everyReport(t *testing.T, seen *coverage) {
	h, slow := open(t, embedded), open(t, embedded, func(o *app.Options) { o.ReadTimeout = 200 * time.Millisecond })
	full := open(t, embedded, func(o *app.Options) { o.MaxInFlight = -1 })
	database := postgrestest.Private(t)
	away := open(t, embedded, func(o *app.Options) { o.DatabaseURL, o.PublicURL = migrated(t, database.DSN()), publicURL })
	live := valkeytest.Private(t, valkeyserver.Valkey)
	lost := open(t, embedded, func(o *app.Options) {
		o.ValkeyURL, o.DatabaseURL, o.PublicURL = live.URL(), migrated(t, postgrestest.New(t)), publicURL
	})
	broken := brokenGateway(t)
	for _, g := range []*gateway{h, slow, full, away, lost, broken} {
		g.seen = seen
	}
	v, vAway, vLost := h.begun(t), away.begun(t), lost.begun(t)
	phones := map[string][2]stockPhone{}
	for _, c := range reportCalls(t) {
		p := c.stockPhone(t, h, v.trainer)
		h.reportAs(t, c, p).want(t, 200, "")
		wrong := p
		wrong.secret = sessions.NewDeviceKey().String()
		h.reportAs(t, c, wrong).want(t, 401, api.Unauthenticated)
		h.raw(t, c, strings.ToUpper(c.method)+" "+c.path+" HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").want(t, 400, sessions.InvalidRequest)
		h.do(t, c.method, "", c.path, nil, off, header("X-Flood", strings.Repeat("x", 16<<10))).want(t, 431, api.HeadersTooLarge)
		slow.raw(t, c, strings.ToUpper(c.method)+" "+c.path+" HTTP/1.1\r\nHost: a\r\n").want(t, 408, api.RequestTimeout)
		full.reportAs(t, c, p).want(t, 503, api.Overloaded)
		broken.reportAs(t, c, p).want(t, 500, sessions.Internal)
		phones[c.op.OperationID] = [2]stockPhone{c.stockPhone(t, away, vAway.trainer), c.stockPhone(t, lost, vLost.trainer)}
		lost.reportAs(t, c, phones[c.op.OperationID][1]).want(t, 200, "")
	}
	require.NoError(t, database.Stop())
	require.NoError(t, live.Stop())
	for _, c := range reportCalls(t) {
		away.reportAs(t, c, phones[c.op.OperationID][0]).want(t, 503, sessions.DatabaseUnavailable)
		if !c.refreshes() {
			until(t, func() bool { return lost.reportAs(t, c, phones[c.op.OperationID][1]).status == 503 }, "the live store is away")
			lost.reportAs(t, c, phones[c.op.OperationID][1]).want(t, 503, sessions.LiveStoreUnavailable)
		}
		p := stockPhone{format: phones[c.op.OperationID][0].format, secret: sessions.NewDeviceKey().String()}
		until(t, func() bool { return h.reportAs(t, c, p).status == 503 }, "too many guesses")
		h.reportAs(t, c, p).want(t, 503, api.Overloaded)
	}
}

// brokenGateway panics in every call.
func brokenGateway(t *testing.T) *gateway {
	t.Helper()
	handlers := api.New(api.Deps{Sharing: true, Tokens: panics{}, Metrics: panics{}, Ready: func() (bool, map[string]string) { panic("broken") }})
	s, err := httpserver.New(httpserver.Options{Addr: "127.0.0.1:0", Refuse: handlers.Refuse, Events: panics{}}, handlers.Register)
	require.NoError(t, err)
	require.NoError(t, s.Listen(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	t.Cleanup(func() { s.Close(); <-done })
	return &gateway{Clock: testclock.At(time.Now()), url: "http://" + s.Addr().String(), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// Eight large bodies are read at once; the ninth is told to come again.
func TestReport_crowded(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	p := h.stockPhone(t, h.token(t, sessions.NewID(), sessions.Trainer), sessions.Overland)
	large := `{"locations":[` + strings.Repeat(" ", 200_000)
	statuses := make(chan int, httpserverMaxStreams+1)
	rest := make(chan struct{})
	for range cap(statuses) {
		r, w := io.Pipe()
		go func() {
			_, _ = io.WriteString(w, large) // one is refused before its end
			<-rest
			_, _ = io.WriteString(w, "]}")
			_ = w.Close()
		}()
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+p.path(), r)
			p.auth(req)
			res, err := http.DefaultTransport.RoundTrip(req)
			if !assert.NoError(t, err) {
				statuses <- 0
				return
			}
			_ = res.Body.Close()
			statuses <- res.StatusCode
		}()
	}
	require.Equal(t, 503, <-statuses, "the one that came last")
	h.report(t, p, large+"]}").want(t, 503, api.Overloaded)
	h.report(t, p, p.place(farLat, homeLng, h.Now())).wantVerdict(t, "no_journey")
	assert.Positive(t, h.metric(t, "doorstep_requests_shed_total", `reason="large_bodies"`))
	close(rest)
	for range httpserverMaxStreams {
		assert.Equal(t, 200, <-statuses)
	}
}

const httpserverMaxStreams = 8
