package api_test

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/sessions"
)

const sharedPath = base + "/share/live"

func (v visit) links() string { return base + "/students/sessions/" + string(v.id) + "/share-links" }

// share makes a share link as the student, and returns its token and its id.
func (h *gateway) share(t testing.TB, v visit) (token, id string) {
	t.Helper()
	made := h.post(t, v.student, v.links(), nil).want(t, 201, "").data()
	_, token, found := strings.Cut(made["url"].(string), "/t#")
	require.True(t, found)
	return token, made["linkId"].(string)
}

func (h *gateway) watch(t testing.TB, token string, edits ...edit) answer {
	t.Helper()
	return h.get(t, token, sharedPath, edits...)
}

// gone requires that a token shows nothing.
func (h *gateway) gone(t testing.TB, token string) {
	t.Helper()
	h.watch(t, token).want(t, 404, sessions.LinkGone)
}

func contractShare(t *testing.T, h *gateway) {
	v := h.begun(t)
	made := h.post(t, v.student, v.links(), nil).want(t, 201, "").data()
	public, token, _ := strings.Cut(made["url"].(string), "/t#")
	if h.databaseURL != "" {
		assert.Equal(t, publicURL, public)
	} else {
		assert.Equal(t, h.url, public, "embedded, the address of the listener serves")
	}
	assert.GreaterOrEqual(t, len(token), 26, "128 bits in letters and digits")
	h.post(t, v.admin, v.links(), `{"rotate":false}`).want(t, 201, "")
	list := h.get(t, v.student, v.links()).want(t, 200, "")
	assert.Len(t, list.data()["links"], 2)
	assert.NotContains(t, string(list.body), token)
	kept := h.get(t, v.admin, base+"/admin/users/"+string(v.studentID)+"/data").want(t, 200, "").data()
	assert.Len(t, kept["shareLinks"], 2)

	empty := h.watch(t, token).want(t, 200, "")
	assert.Equal(t, []any{true, "on_the_way", nil}, []any{empty.data()["isActive"], empty.data()["phase"], empty.data()["location"]})
	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
	full, student := h.watch(t, token).want(t, 200, ""), h.get(t, v.student, v.live("")).want(t, 200, "")
	assert.Equal(t, student.etag(), full.etag())
	want := student.data()
	maps.DeleteFunc(want, func(name string, _ any) bool { return name == "sessionId" || name == "trainerId" })
	want["home"] = map[string]any{"latitude": homeLat, "longitude": homeLng}
	assert.Equal(t, want, full.data(), "as call 3, without ids and with the home")
	same := h.watch(t, token, ifNoneMatch(full.etag())).want(t, 304, "")
	for _, a := range []answer{full, same} {
		assert.Equal(t, []string{"no-store", "no-referrer"}, []string{a.header.Get("Cache-Control"), a.header.Get("Referrer-Policy")})
	}
	h.get(t, token, sharedPath+"?wait=abc").want(t, 400, sessions.InvalidRequest)

	for _, stranger := range []string{v.trainer, v.otherStudent, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, stranger, v.links(), nil).want(t, 403, sessions.Forbidden)
		h.get(t, stranger, v.links()).want(t, 403, sessions.Forbidden)
		h.do(t, http.MethodDelete, stranger, v.links()+"/"+made["linkId"].(string), nil).want(t, 403, sessions.Forbidden)
	}
	nobody := visit{id: sessions.NewID()}
	h.post(t, v.student, nobody.links(), nil).want(t, 404, sessions.SessionNotFound)
	h.get(t, v.student, nobody.links()).want(t, 404, sessions.SessionNotFound)
	h.do(t, http.MethodDelete, v.student, nobody.links()+"/"+string(v.id), nil).want(t, 404, sessions.SessionNotFound)
	odd := visit{id: "x"}
	h.post(t, v.student, odd.links(), nil).want(t, 400, sessions.InvalidRequest)
	h.get(t, v.student, odd.links()).want(t, 400, sessions.InvalidRequest)
	h.do(t, http.MethodDelete, v.student, v.links()+"/x", nil).want(t, 400, sessions.InvalidRequest)
	refused := h.post(t, v.student, v.links(), `{"rotate":"yes"}`).want(t, 400, sessions.InvalidRequest)
	assert.Equal(t, "rotate", refused.fields["field"])
	h.post(t, v.student, v.links(), `rotate=1`, header("Content-Type", "application/x-www-form-urlencoded")).want(t, 415, api.UnsupportedMediaType)

	for range 3 {
		h.share(t, v)
	}
	h.post(t, v.student, v.links(), nil).want(t, 409, sessions.TooManyShareLinks)
	for range 2 {
		h.do(t, http.MethodDelete, v.student, v.links()+"/"+made["linkId"].(string), nil).want(t, 204, "")
		h.gone(t, token)
	}
	last, _ := h.share(t, v)
	h.post(t, v.student, v.links(), `{"rotate":true}`).want(t, 201, "")
	h.gone(t, last)
	assert.Len(t, h.get(t, v.student, v.links()).want(t, 200, "").data()["links"], 1)

	h.post(t, v.admin, v.path("cancel"), nil).want(t, 200, "")
	h.post(t, v.student, v.links(), nil).want(t, 400, sessions.NotScheduled)
	assert.Empty(t, h.get(t, v.student, v.links()).want(t, 200, "").data()["links"])
}

// A link waits for the session's next journey, shows that one, and no other.
func TestShare_of_the_next_journey(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.begun(t)
		h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		token, _ := h.share(t, v)
		before := h.watch(t, token).want(t, 200, "")
		assert.Equal(t, []any{false, "not_started", nil}, []any{before.data()["isActive"], before.data()["phase"], before.data()["location"]})
		w := h.waitShared(t, token, ifNoneMatch(before.etag()))
		h.Advance(time.Second)
		h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
		assert.Equal(t, "on_the_way", w.want(t, 200, "").data()["phase"])
		h.step(t, v)
		assert.NotNil(t, h.watch(t, token).want(t, 200, "").data()["location"])
		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		h.gone(t, token)
		h.Advance(time.Second)
		h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
		h.gone(t, token)

		late := h.book(t)
		unused, _ := h.share(t, late)
		h.Advance(sessions.ShareLinkWaits - time.Minute)
		h.watch(t, unused).want(t, 200, "")
		h.Advance(time.Minute)
		h.gone(t, unused)
	})
}

// A home that moves during a wait is shown with the distances to it, not with those of before.
func TestShare_home_moves_during_a_wait(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.begun(t)
		token, _ := h.share(t, v)
		h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
		w := h.waitShared(t, token, ifNoneMatch(h.watch(t, token).want(t, 200, "").etag()))
		moved := fmt.Sprintf(`{"latitude":%v,"longitude":%v}`, nearLat, homeLng)
		h.do(t, http.MethodPatch, v.admin, base+"/admin/sessions/"+string(v.id), []byte(`{"studentHome":`+moved+`}`), header("Content-Type", "application/json")).want(t, 200, "")
		seen := w.want(t, 200, "").data()
		assert.Equal(t, map[string]any{"latitude": nearLat, "longitude": homeLng}, seen["home"])
		assert.Zero(t, seen["distanceMeters"])
	})
}

// waitShared sends a long poll by a share link, and returns once the gateway counts it.
func (h *gateway) waitShared(t testing.TB, token string, edits ...edit) waiting {
	t.Helper()
	before := h.metric(t, "doorstep_waits_open")
	w := h.sendTo(t, token, sharedPath+"?wait=30", edits...)
	until(t, func() bool { return h.metric(t, "doorstep_waits_open") > before }, "the poll waits")
	return w
}

// A reader that leaves in the middle of a wait is no fault of the gateway.
func TestShare_reader_leaves(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	h := open(t, embedded, func(o *app.Options) { o.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
	v := h.begun(t)
	token, _ := h.share(t, v)
	h.waitShared(t, token).cancel()
	until(t, func() bool { return h.metric(t, "doorstep_http_requests_total", `route="`+sharedPath+`?wait"`) == 1 }, "the wait is over")
	assert.Zero(t, h.metric(t, "doorstep_http_refusals_total"))
	assert.NotContains(t, log.String(), "request failed")
}

// Every end of a journey, of the session or of the link ends the link on each gateway. Who
// waits there gets the last phase, where that is theirs to know, and never a place.
func TestShare_ends(t *testing.T) {
	t.Parallel()
	post := func(verb string) func(t *testing.T, h *gateway, v visit, link string) {
		return func(t *testing.T, h *gateway, v visit, _ string) {
			h.post(t, v.admin, v.path(verb), nil).want(t, 200, "")
		}
	}
	change := func(field string) func(t *testing.T, h *gateway, v visit, link string) {
		return func(t *testing.T, h *gateway, v visit, _ string) {
			patch(t, h, v, map[string]any{field: sessions.NewID()}).want(t, 200, "")
		}
	}
	sql := func(set string) func(t *testing.T, h *gateway, v visit, link string) {
		return func(t *testing.T, h *gateway, v visit, _ string) {
			database(t, h, `UPDATE tutoring_sessions SET `+set+` WHERE id = $1`, string(v.id))
		}
	}
	o := openOffices(t)
	for name, end := range map[string]struct {
		do    func(t *testing.T, h *gateway, v visit, link string)
		phase []any // what may be told; nil: that the link is gone
	}{
		"arrival":           {post("arrived"), []any{"arrived"}},
		"stop":              {post("stop-journey"), []any{"ended"}},
		"cancel":            {post("cancel"), []any{"ended"}},
		"trainer by a call": {change("trainerId"), []any{"ended", nil}},
		"student by a call": {change("studentId"), []any{nil}},
		"end by SQL":        {sql("journey_ended_at = journey_started_at + interval '1 s'"), []any{"ended"}},
		"cancelled by SQL":  {sql("status = 'cancelled'"), []any{"ended"}},
		"trainer by SQL":    {sql("trainer_id = gen_random_uuid()"), []any{"ended", nil}},
		"student by SQL":    {sql("student_id = gen_random_uuid()"), []any{nil}},
		"deleted by SQL": {func(t *testing.T, h *gateway, v visit, _ string) {
			database(t, h, `DELETE FROM tutoring_sessions WHERE id = $1`, string(v.id))
		}, []any{"ended", nil}},
		"timed out": {func(_ *testing.T, h *gateway, _ visit, _ string) { h.Advance(time.Hour) }, []any{"ended"}},
		"revoked": {func(t *testing.T, h *gateway, v visit, link string) {
			h.do(t, http.MethodDelete, v.student, v.links()+"/"+link, nil).want(t, 204, "")
		}, []any{nil}},
		"rotated": {func(t *testing.T, h *gateway, v visit, _ string) {
			h.post(t, v.student, v.links(), `{"rotate":true}`).want(t, 201, "")
		}, []any{nil}},
	} {
		v := o.one.atTheDoor(t)
		token, link := o.one.share(t, v)
		shown := o.two.watch(t, token).want(t, 200, "")
		require.NotNil(t, shown.data()["location"], name)
		waits := []waiting{o.one.waitShared(t, token, ifNoneMatch(shown.etag())), o.two.waitShared(t, token, ifNoneMatch(shown.etag()))}
		if name == "arrival" {
			o.one.Advance(10 * time.Second)
		}
		end.do(t, o.one, v, link)
		for _, w := range waits {
			last := w.any(t)
			require.Contains(t, []int{200, 404}, last.status, "%s: %s", name, last.body)
			data := last.data()
			if strings.HasPrefix(name, "student") && data["phase"] == "arriving" {
				continue // it was woken by the change, within a second of it
			}
			require.Contains(t, end.phase, data["phase"], "%s: %s", name, last.body)
			require.Nil(t, data["location"], name)
		}
		for _, h := range []*gateway{o.one, o.two} {
			h.gone(t, token)
		}
	}
}

// A reader who was between two polls at the arrival is told of it for some seconds, on each
// gateway, and of nothing else. To all others the link is gone.
func TestShare_between_two_polls(t *testing.T) {
	t.Parallel()
	o := openOffices(t)
	poll := func(h *gateway, token string, edits ...edit) answer {
		return h.get(t, token, sharedPath+"?wait=1", edits...)
	}
	type arrival struct {
		visit
		token, link, otp string
		seen             edit
	}
	arrive := func() (a arrival) {
		a.visit = o.one.atTheDoor(t)
		a.token, a.link = o.one.share(t, a.visit)
		a.seen = ifNoneMatch(o.two.watch(t, a.token).want(t, 200, "").etag())
		a.otp = o.one.arrive(t, a.visit)
		return a
	}
	a := arrive()
	for _, h := range []*gateway{o.one, o.two} {
		last := poll(h, a.token, a.seen).want(t, 200, "")
		assert.Equal(t, []any{"arrived", nil, nil, ""}, []any{last.data()["phase"], last.data()["location"], last.data()["home"], last.etag()})
		poll(h, a.token).want(t, 404, sessions.LinkGone)
		h.watch(t, a.token, a.seen).want(t, 404, sessions.LinkGone)
		poll(h, a.token+"x", a.seen).want(t, 404, sessions.LinkGone)
	}
	assert.Empty(t, o.one.get(t, a.student, a.links()).want(t, 200, "").data()["links"])

	a = arrive()
	o.one.do(t, http.MethodDelete, a.student, a.links()+"/"+a.link, nil).want(t, 204, "")
	poll(o.two, a.token, a.seen).want(t, 404, sessions.LinkGone)

	a = arrive()
	o.one.post(t, a.trainer, a.path("verify-otp"), map[string]string{"otp": a.otp}).want(t, 200, "")
	poll(o.two, a.token, a.seen).want(t, 404, sessions.LinkGone)

	a = arrive()
	o.one.Advance(10 * time.Second)
	poll(o.one, a.token, a.seen).want(t, 404, sessions.LinkGone)
}

// database runs a statement, as other services of the operator may.
func database(t testing.TB, h *gateway, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// An erasure, before the journey.
func TestShare_ends_with_an_erasure(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.book(t)
		token, _ := h.share(t, v)
		w := h.waitShared(t, token, ifNoneMatch(h.watch(t, token).want(t, 200, "").etag()))
		erased := h.do(t, http.MethodDelete, v.admin, base+"/admin/users/"+string(v.studentID)+"/data", nil)
		require.Contains(t, []int{202, 204}, erased.status)
		require.Nil(t, w.any(t).data()["location"])
		h.gone(t, token)
	})
}

// Ten people who share at once get five links.
func TestShare_five_at_most(t *testing.T) {
	t.Parallel()
	o := openOffices(t)
	v := o.one.begun(t)
	var each sync.WaitGroup
	statuses := make([]int, 2*sessions.MaxShareLinks)
	for i := range statuses {
		each.Go(func() { statuses[i] = []*gateway{o.one, o.two}[i%2].post(t, v.student, v.links(), nil).status })
	}
	each.Wait()
	slices.Sort(statuses)
	assert.Equal(t, []int{201, 201, 201, 201, 201, 409, 409, 409, 409, 409}, statuses)
}

// What was never a link, and what is one no more, get the same bytes.
func TestShare_refusals_are_the_same(t *testing.T) {
	t.Parallel()
	h := open(t, servers)
	v := h.begun(t)
	revoked, id := h.share(t, v)
	h.do(t, http.MethodDelete, v.student, v.links()+"/"+id, nil).want(t, 204, "")
	live, _ := h.share(t, v)
	old := h.begun(t)
	over, _ := h.share(t, old)
	h.post(t, old.trainer, old.path("stop-journey"), nil).want(t, 200, "")
	key := h.phoneOf(t, v.trainer, sessions.OsmAnd)["secret"].(string)
	same := func(token string, edits ...edit) string {
		a := h.watch(t, token, append(edits, header("X-Request-Id", "same"))...).want(t, 404, sessions.LinkGone)
		a.header.Del("Date")
		text, err := jsonOf(a.header)
		require.NoError(t, err)
		return string(text) + string(a.body)
	}
	want := same(strings.Repeat("A", len(live)))
	for _, token := range []string{
		revoked, over, "", " ", "x", live + "x", live[1:], strings.ToLower(live), strings.Repeat("y", 8000), "\xff", "' OR true", key, v.student, v.admin,
		string(v.id), "null",
	} {
		assert.Equal(t, want, same(token), "%.40q", token)
	}
	assert.Equal(t, want, same("", header("Authorization", "Basic "+live)))
	h.watch(t, live).want(t, 200, "")
	h.get(t, "", sharedPath+"?token="+live).want(t, 404, sessions.LinkGone)
}

// A link's token opens nothing but its call.
func TestShare_token_opens_nothing_else(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	token, _ := h.share(t, v)
	for _, c := range calls(t, v.id) {
		if !c.open && !c.link {
			h.do(t, c.method, token, c.path, c.body).want(t, 401, api.Unauthenticated)
		}
	}
	for _, format := range sessions.Formats() {
		h.report(t, stockPhone{format: format, secret: token}, "{}").want(t, 401, api.Unauthenticated)
	}
}

// Guesses are limited by address, and no known link is locked out by them.
func TestShare_guesses(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.TrustedProxies = []string{"127.0.0.1"} })
	from := func(at string) edit { return header("X-Forwarded-For", at) }
	v := h.begun(t)
	known, _ := h.share(t, v)
	fresh, _ := h.share(t, v)
	h.watch(t, known, from("192.0.2.1")).want(t, 200, "")
	for range 60 {
		h.watch(t, "guess", from("192.0.2.1")).want(t, 404, sessions.LinkGone)
	}
	for _, token := range []string{"guess", fresh} {
		assert.Equal(t, "1", h.watch(t, token, from("192.0.2.1")).want(t, 429, sessions.RateLimited).header.Get("Retry-After"))
	}
	h.watch(t, known, from("192.0.2.1")).want(t, 200, "")
	h.watch(t, fresh, from("192.0.2.2")).want(t, 200, "")
	h.watch(t, "guess", from("192.0.2.2")).want(t, 404, sessions.LinkGone)
	assert.InDelta(t, 61, h.metric(t, "doorstep_unauthenticated_total", `reason="link"`), 0)
}

// The calls are there only with the pages.
func TestShare_without_pages(t *testing.T) {
	t.Parallel()
	h := open(t, embedded, func(o *app.Options) { o.Pages = false })
	v := h.begun(t)
	for _, path := range []string{sharedPath, v.links()} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+path, nil)
		require.NoError(t, err)
		res, err := h.client.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, http.StatusNotFound, res.StatusCode)
	}
}

// shareOutcomes brings about the answers that need a gateway of their own.
func shareOutcomes(t *testing.T, seen *coverage) {
	h := open(t, embedded)
	h.seen = seen
	v := h.begun(t)
	token, _ := h.share(t, v)
	oldest := h.waitShared(t, token)
	for range 100 {
		h.sendTo(t, token, sharedPath+"?wait=30")
	}
	assert.Equal(t, "5", oldest.want(t, 429, api.TooManyWaits).header.Get("Retry-After"))
	for range 60 {
		h.gone(t, "guess")
	}
	h.watch(t, "guess").want(t, 429, sessions.RateLimited)
}
