package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/internal/testclock"
	"doorstep/sessions"
)

// world is two regions: a gateway and a live store each, and one database.
type world struct {
	eu, us     *gateway
	euURL      string // of the live store
	usURL      string
	usSettings app.Options
}

func openWorld(t testing.TB, edits ...func(*app.Options)) *world {
	t.Helper()
	clock := testclock.At(time.Now())
	database := migrated(t, postgrestest.New(t))
	w := &world{euURL: valkeytest.Private(t, valkeyserver.Valkey).URL(), usURL: valkeytest.Private(t, valkeyserver.Valkey).URL()}
	listen := func() net.Listener {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return l
	}
	eu, us := listen(), listen()
	settings := func(region, live string, l net.Listener) app.Options {
		o := app.Options{
			Listener: l, MetricsListen: "127.0.0.1:0", JWTSecret: secret, OTPInResponse: true, Steer: true, Pages: true, PublicURL: publicURL,
			Now: clock.Now, CallerRate: -1, ValkeyTimeout: 2 * time.Second, ValkeyURL: live, DatabaseURL: database, Region: region,
			Regions:         []string{"eu=https://eu.example.com", "us=https://us.example.com"},
			RegionsInternal: []string{"eu=http://" + eu.Addr().String(), "us=http://" + us.Addr().String()},
		}
		for _, edit := range edits {
			edit(&o)
		}
		return o
	}
	w.usSettings = settings("us", w.usURL, us)
	w.eu, w.us = start(t, settings("eu", w.euURL, eu)), start(t, w.usSettings)
	w.eu.Clock, w.us.Clock = clock, clock
	w.eu.databaseURL, w.us.databaseURL = database, database
	return w
}

// bookIn books a session that belongs to a region, by way of eu.
func (w *world) bookIn(t testing.TB, region string) visit {
	t.Helper()
	v := w.eu.book(t)
	w.eu.do(t, http.MethodPatch, v.admin, v.path(""), []byte(`{"region":"`+region+`"}`)).want(t, 200, "")
	return v
}

// cutOff stops the gateway of us, and comesBack starts another at its address.
func (w *world) cutOff(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	require.NoError(t, w.us.Stop(ctx))
}

func (w *world) comesBack(t testing.TB) {
	t.Helper()
	o := w.usSettings
	o.Listen, o.Listener = o.Listener.Addr().String(), nil
	clock := w.us.Clock
	w.us = start(t, o)
	w.us.Clock = clock
}

// unix is an instant as phones write it: whole seconds.
func unix(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

var preferRedirect = header("Prefer", "respond-async, Redirect;x=1")

// noPlaceIn requires that a live store has no key of a journey, and no coordinate.
func noPlaceIn(t testing.TB, live string) {
	t.Helper()
	for key := range strings.FieldsSeq(valkey(t, live, "KEYS", "*")) {
		assert.False(t, strings.HasPrefix(key, "location:"), key)
		assert.NotContains(t, valkey(t, live, "HGETALL", key), "12.93", key)
	}
}

// bare makes a request that the document does not have.
func (h *gateway) bare(t testing.TB, method, token, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := h.client.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res
}

// A whole journey of us by way of eu: nothing of it is in the live store of eu.
func TestRegions_a_call_in_the_wrong_region_works(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	at := w.eu
	started := at.post(t, v.trainer, v.path("start-journey"), `{"travelMode":"bike"}`).want(t, 201, "")
	assert.Equal(t, "eu", started.header.Get("Doorstep-Region"), "the region that is spoken to")
	assert.Equal(t, "us", w.us.get(t, v.student, v.live("")).header.Get("Doorstep-Region"))

	first := at.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng), header("X-Request-Id", "mine")).want(t, 201, "")
	assert.Equal(t, "mine", first.header.Get("X-Request-Id"))
	assert.Equal(t, []string{"mine"}, first.header.Values("X-Request-Id"))
	w.us.Advance(5 * time.Second)
	at.post(t, v.trainer, updatesPath, map[string]any{"sessionId": v.id, "fixes": []any{map[string]any{"latitude": nearLat, "longitude": homeLng}}}).want(t, 200, "")
	at.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 429, sessions.RateLimited)
	at.post(t, v.otherTrainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 403, sessions.Forbidden)
	at.post(t, "", updatesPath, v.fix(nearLat, homeLng)).want(t, 401, "UNAUTHENTICATED")

	seen := at.get(t, v.student, v.live("")).want(t, 200, "")
	assert.InDelta(t, nearLat, seen.data()["location"].(map[string]any)["latitude"], 1e-6)
	assert.Equal(t, w.us.get(t, v.student, v.live("")).etag(), seen.etag())
	at.get(t, v.student, v.live(""), ifNoneMatch(seen.etag())).want(t, 304, "")
	head := at.bare(t, http.MethodHead, v.student, v.live(""))
	assert.Equal(t, []any{200, seen.etag()}, []any{head.StatusCode, head.Header.Get("ETag")})
	at.get(t, v.otherStudent, v.live("")).want(t, 403, sessions.Forbidden)

	for range 2 {
		at.step(t, v)
	}
	otp := at.arrive(t, v)
	at.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}).want(t, 200, "")
	at.post(t, v.trainer, v.path("complete"), nil).want(t, 200, "")

	other := w.bookIn(t, "us")
	at.post(t, other.trainer, other.path("start-journey"), nil).want(t, 201, "")
	at.post(t, other.trainer, updatesPath, other.fix(farLat, homeLng)).want(t, 201, "")
	at.post(t, other.trainer, other.path("stop-journey"), nil, header("X-Request-Id", "the-stop")).want(t, 200, "")
	history := string(at.get(t, other.admin, other.path("history")).want(t, 200, "").body)
	assert.Contains(t, history, `"requestId":"the-stop"`, "the id goes along")

	noPlaceIn(t, w.euURL)
	assert.Contains(t, valkey(t, w.usURL, "KEYS", "*"), string(v.id))
	assert.Greater(t, at.metric(t, "doorstep_forwarded_calls_total", `region="us"`, `outcome="answered"`), 8.0)
	assert.Zero(t, w.us.metric(t, "doorstep_forwarded_calls_total"), "an own journey goes nowhere")
}

// What a phone app reports goes on, wherever the device's secret stands.
func TestRegions_a_stock_app_in_the_wrong_region(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	own, traccar := w.eu.phoneOf(t, v.trainer, sessions.OwnTracks), w.eu.phoneOf(t, v.trainer, sessions.OsmAnd)
	w.us.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	report := `{"_type":"location","lat":12.9452,"lon":77.6245,"tst":` + unix(w.us.Now()) + `}`
	basic := func(r *http.Request) { r.SetBasicAuth("x", own["secret"].(string)) }
	got := w.eu.post(t, "", base+"/ingest/owntracks", report, basic, off).want(t, 200, "")
	assert.Equal(t, "stored", got.header.Get("Doorstep-Verdict"))

	w.us.Advance(6 * time.Second)
	form := "id=" + traccar["secret"].(string) + "&lat=12.9451&lon=77.6245&timestamp=" + unix(w.us.Now())
	got = w.eu.post(t, "", base+"/ingest/osmand", form, header("Content-Type", "application/x-www-form-urlencoded"), preferRedirect, off).want(t, 200, "")
	assert.Equal(t, "stored", got.header.Get("Doorstep-Verdict"), "the device's id is in the body, which was read to find it")
	noPlaceIn(t, w.euURL)

	w.cutOff(t)
	w.eu.post(t, "", base+"/ingest/owntracks", report, basic, off).want(t, 503, sessions.LiveStoreUnavailable)
}

// Any number of waits has one poll there, and each is let in here.
func TestRegions_waits_have_one_poll(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	w.us.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	w.us.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	tag := w.eu.get(t, v.student, v.live("")).want(t, 200, "").etag()
	link, _ := w.us.share(t, v)

	wait := func(token, path string) waiting { return w.eu.sendTo(t, token, path, ifNoneMatch(tag)) }
	waits := []waiting{
		wait(link, sharedPath+"?wait=30"), wait(v.student, v.live("&wait=30")), wait(v.student, v.live("&wait=30")),
		wait(v.trainer, v.live("&wait=30")), wait(v.admin, v.live("&wait=30")), wait(link, sharedPath+"?wait=30"),
	}
	w.eu.get(t, v.otherStudent, v.live("&wait=30")).want(t, 403, sessions.Forbidden)
	until(t, func() bool { return w.eu.metric(t, "doorstep_waits_open") == 6 }, "six wait in eu")
	until(t, func() bool { return w.us.metric(t, "doorstep_waits_open") == 1 }, "one waits in us")
	w.us.step(t, v)
	version := w.us.get(t, v.student, v.live("")).etag()
	for i, one := range waits {
		a := one.want(t, 200, "")
		assert.Equal(t, version, a.etag(), "wait %d", i)
		assert.InDelta(t, nearLat, a.data()["location"].(map[string]any)["latitude"], 1e-6)
		_, hasHome := a.data()["home"]
		assert.Equal(t, i == 0 || i == 5, hasHome)
		assert.Empty(t, a.header.Get("Doorstep-Journey-Started"), "between gateways only")
	}

	tag = version
	last, byLink := wait(v.student, v.live("&wait=30")), wait(link, sharedPath+"?wait=30")
	until(t, func() bool { return w.eu.metric(t, "doorstep_waits_open") == 2 }, "two wait again")
	w.eu.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
	assert.Equal(t, "ended", last.want(t, 200, "").data()["phase"])
	assert.Equal(t, "ended", byLink.want(t, 200, "").data()["phase"])
	w.eu.gone(t, link)
	noPlaceIn(t, w.euURL)
}

// Who waits by links alone sees the journey, too: their poll has a link's token.
func TestRegions_links_alone_wait(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	w.us.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	w.us.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	link, _ := w.us.share(t, v)
	tag := w.eu.get(t, link, sharedPath).want(t, 200, "").etag()
	for range 2 {
		out := w.eu.sendTo(t, link, sharedPath+"?wait=30", ifNoneMatch(tag))
		until(t, func() bool { return w.us.metric(t, "doorstep_waits_open") == 1 }, "its poll waits in us")
		w.us.step(t, v)
		a := out.want(t, 200, "")
		assert.NotNil(t, a.data()["location"])
		assert.NotNil(t, a.data()["home"])
		tag = a.etag()
	}
}

// Who waits for a session whose first journey then begins in another region comes to it by
// asking again.
func TestRegions_a_first_journey_begins_elsewhere(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.eu.book(t)
	tag := w.eu.get(t, v.student, v.live("")).want(t, 200, "").etag()
	w.us.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	w.us.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	var a answer
	until(t, func() bool {
		a = w.eu.get(t, v.student, v.live("&wait=1"), ifNoneMatch(tag))
		return a.status == 200
	}, "the reconciler finds out, and the next poll is forwarded")
	assert.NotNil(t, a.data()["location"])
	w.eu.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 429, sessions.RateLimited)
}

// Who waited before that, and is woken by those who have come since, is not refused for it.
func TestRegions_a_wait_from_before_the_first_journey(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.eu.book(t)
	tag := w.eu.get(t, v.student, v.live("")).want(t, 200, "").etag()
	out := w.eu.send(t, v.student, v, "&wait=30", ifNoneMatch(tag))
	until(t, func() bool { return w.eu.metric(t, "doorstep_waits_open") == 1 }, "it waits")
	w.us.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	w.eu.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "") // by which eu knows
	w.eu.get(t, v.admin, v.live("&wait=30"), ifNoneMatch(tag)).want(t, 200, "")
	a := out.within(t, 2*patience)
	assert.Contains(t, []int{200, 304}, a.status, "%s", a.body)
}

// While a region is cut off the others answer as with a live store that is away; after
// that all is as before, and the breaker lets calls through again.
func TestRegions_cut_off(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	w.eu.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	w.eu.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	tag := w.eu.get(t, v.student, v.live("")).want(t, 200, "").etag()
	link, _ := w.eu.share(t, v)
	other := w.bookIn(t, "us")
	w.cutOff(t)
	for range 7 {
		assert.Equal(t, false, w.eu.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 202, "").data()["stored"])
	}
	read := w.eu.get(t, v.student, v.live("")).want(t, 200, "")
	assert.Equal(t, []any{true, true, ""}, []any{read.data()["degraded"], read.data()["isActive"], read.etag()})
	w.eu.get(t, v.student, v.live("&wait=1"), ifNoneMatch(tag)).want(t, 304, "")
	w.eu.post(t, v.trainer, v.path("arrived"), nil).want(t, 503, sessions.LiveStoreUnavailable)
	w.eu.get(t, link, sharedPath).want(t, 503, sessions.LiveStoreUnavailable)
	w.eu.post(t, other.trainer, other.path("start-journey"), nil).want(t, 201, "")
	w.eu.post(t, other.trainer, other.path("stop-journey"), nil).want(t, 200, "")
	assert.Positive(t, w.eu.metric(t, "doorstep_forwarded_calls_total", `outcome="away"`))
	assert.Positive(t, w.eu.metric(t, "doorstep_forwarded_calls_total", `outcome="breaker_open"`))
	noPlaceIn(t, w.euURL)

	w.comesBack(t)
	w.us.Advance(10 * time.Second)
	until(t, func() bool { return w.eu.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).status != 202 }, "the region is back")
	assert.Nil(t, w.eu.get(t, v.student, v.live("")).want(t, 200, "").data()["degraded"])
	w.eu.get(t, link, sharedPath).want(t, 200, "")
}

// A wait is answered when the other region comes back.
func TestRegions_waits_outlast_a_cut(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	w.eu.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	tag := w.eu.get(t, v.student, v.live("")).want(t, 200, "").etag()
	w.cutOff(t)
	out := w.eu.send(t, v.student, v, "&wait=30", ifNoneMatch(tag))
	until(t, func() bool { return w.eu.metric(t, "doorstep_waits_open") == 1 }, "it waits")
	w.comesBack(t)
	w.us.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	a := out.within(t, 2*patience).want(t, 200, "")
	assert.NotNil(t, a.data()["location"])
}

// Who waits in one region for a booking of another one that is then moved here sees it here.
func TestRegions_a_booking_is_moved_while_it_is_waited_for(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	tag := w.eu.get(t, v.student, v.live("")).want(t, 200, "").etag()
	out := w.eu.send(t, v.student, v, "&wait=30", ifNoneMatch(tag))
	until(t, func() bool { return w.us.metric(t, "doorstep_waits_open") == 1 }, "its poll waits in us")
	w.us.Advance(time.Second) // else the versions of both live stores are of one millisecond
	w.us.do(t, http.MethodPatch, v.admin, v.path(""), []byte(`{"region":"eu"}`)).want(t, 200, "")
	assert.Equal(t, "not_started", out.want(t, 200, "").data()["phase"])
	w.us.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	assert.Equal(t, "on_the_way", w.eu.get(t, v.student, v.live("")).want(t, 200, "").data()["phase"])
}

// A booking without a journey may be moved to another region. What a gateway remembers of it
// is then forgotten, as soon as the other region does not know it.
func TestRegions_a_booking_is_moved(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	w.eu.get(t, v.student, v.live("")).want(t, 200, "") // eu remembers us
	w.us.do(t, http.MethodPatch, v.admin, v.path(""), []byte(`{"region":"eu"}`)).want(t, 200, "")
	assert.Nil(t, w.us.get(t, v.student, v.live("")).want(t, 200, "").data()["degraded"], "eu, which remembers us, looks again")
	w.eu.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	w.eu.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	assert.NotNil(t, w.us.get(t, v.student, v.live("")).want(t, 200, "").data()["location"])
	for key := range strings.FieldsSeq(valkey(t, w.usURL, "KEYS", "*")) { // a tombstone: us was asked before
		assert.NotContains(t, valkey(t, w.usURL, "HGETALL", key), "12.9", key)
	}
}

func TestRegions_loop_guard(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	got := w.eu.get(t, v.student, v.live(""), header("Doorstep-Forwarded-From", "us")).want(t, 409, sessions.WrongRegion)
	assert.Equal(t, []any{"us", "https://us.example.com"}, []any{got.fields["region"], got.fields["url"]})
	assert.Zero(t, w.eu.metric(t, "doorstep_forwarded_calls_total"))
}

// An answer that comes from no gateway of the region is none: here us leads to eu itself.
func TestRegions_a_wrong_address(t *testing.T) {
	t.Parallel()
	w := openWorld(t, func(o *app.Options) { o.RegionsInternal[1] = "us=" + strings.TrimPrefix(o.RegionsInternal[0], "eu=") })
	v := w.bookIn(t, "us")
	assert.Equal(t, true, w.eu.get(t, v.student, v.live("")).want(t, 200, "").data()["degraded"])
	assert.Positive(t, w.eu.metric(t, "doorstep_forwarded_calls_total", `outcome="away"`))
}

// A call that may have arrived is not sent again, whatever its headers say: net/http would do so.
func TestRegions_a_call_is_sent_once(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	us := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 1 {
			panic(http.ErrAbortHandler) // the kept connection ends without an answer
		}
		rw.Header().Set("Doorstep-Region", "us")
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(rw, `{"success":false,"code":"NO_ACTIVE_JOURNEY","message":"no","requestId":"r"}`)
	}))
	t.Cleanup(us.Close)
	w := openWorld(t, func(o *app.Options) { o.RegionsInternal[1] = "us=" + us.URL })
	v := w.bookIn(t, "us")
	w.eu.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 404, sessions.NoActiveJourney)
	w.eu.post(t, v.trainer, v.path("start-journey"), nil, header("Idempotency-Key", "once")).want(t, 201, "")
	assert.EqualValues(t, 2, asked.Load())
}

// A session may belong to a region that the operator has taken away. Then nobody is sent there.
func TestRegions_a_region_that_is_gone(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	v := w.bookIn(t, "us")
	database(t, w.eu, `UPDATE tutoring_sessions SET journey_region = 'mars' WHERE id = $1`, string(v.id))
	w.eu.post(t, v.trainer, v.path("start-journey"), nil, preferRedirect).want(t, 201, "")
	assert.Equal(t, false, w.eu.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng), preferRedirect).want(t, 202, "").data()["stored"])
	assert.Equal(t, true, w.eu.get(t, v.student, v.live(""), preferRedirect).want(t, 200, "").data()["degraded"])
	w.eu.post(t, v.trainer, v.path("stop-journey"), nil, preferRedirect).want(t, 200, "")
}

// Where the regions have names and no URLs, another one is answered for as one that is away: a wait
// ends by its time.
func TestRegions_without_URLs(t *testing.T) {
	t.Parallel()
	w := openWorld(t, func(o *app.Options) { o.Regions, o.RegionsInternal = nil, nil })
	v := w.eu.book(t)
	w.us.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	assert.Equal(t, true, w.eu.get(t, v.student, v.live(""), preferRedirect).want(t, 200, "").data()["degraded"])
	w.eu.get(t, v.student, v.live("&wait=1"), ifNoneMatch(`W/"1773480420412"`)).want(t, 304, "")
	assert.InDelta(t, 1, w.eu.metric(t, "doorstep_wait_duration_seconds_count", `outcome="timed_out"`), 0)
	assert.Equal(t, false, w.eu.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 202, "").data()["stored"])
}

func TestRegions_one_region_says_nothing(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.book(t)
	assert.Empty(t, h.get(t, v.student, v.live(""), preferRedirect, header("Doorstep-Forwarded-From", "us")).want(t, 200, "").header.Get("Doorstep-Region"))
}

// The pages of one region may call the others.
func TestRegions_pages(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	page := w.eu.bare(t, http.MethodGet, "", "/t")
	assert.Contains(t, page.Header.Get("Content-Security-Policy"), "https://us.example.com")
	got := w.eu.get(t, "", livePath, header("Origin", "https://us.example.com"))
	assert.Equal(t, "https://us.example.com", got.header.Get("Access-Control-Allow-Origin"))
}

// everyCallElsewhere asks for the right URL with every call that belongs to a region.
func everyCallElsewhere(t *testing.T, seen *coverage) {
	w := openWorld(t)
	v := w.bookIn(t, "us")
	w.us.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	link, _ := w.us.share(t, v)
	w.eu.seen = seen
	for _, call := range []struct{ method, token, path, body string }{
		{"POST", v.trainer, v.path("start-journey"), ""},
		{"POST", v.trainer, v.path("stop-journey"), ""},
		{"POST", v.trainer, v.path("arrived"), ""},
		{"POST", v.trainer, v.path("complete"), ""},
		{"POST", v.admin, v.path("cancel"), ""},
		{"POST", v.admin, v.path("no-show"), ""},
		{"PATCH", v.admin, v.path(""), `{"travelMode":"walk"}`},
		{"GET", v.student, v.live(""), ""},
		{"GET", v.student, v.live("&wait=5"), ""},
		{"GET", link, sharedPath, ""},
		{"GET", link, sharedPath + "?wait=5", ""},
		{"POST", v.trainer, updatesPath, `{"sessionId":"` + string(v.id) + `","latitude":12.9,"longitude":77.6}`},
	} {
		got := w.eu.do(t, call.method, call.token, call.path, []byte(call.body), preferRedirect)
		require.Equal(t, []any{409, "WRONG_REGION"}, []any{got.status, got.code()}, "%s %s: %s", call.method, call.path, got.body)
		assert.Equal(t, []any{"us", "https://us.example.com"}, []any{got.fields["region"], got.fields["url"]})
	}
	w.eu.get(t, v.otherStudent, v.live(""), preferRedirect).want(t, 403, sessions.Forbidden)
	w.us.get(t, v.student, v.live(""), preferRedirect).want(t, 200, "")
}
