package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// docs/contract.md, "Live reads and the long poll": one test a sentence.

// step moves the journey on by one fix, five seconds later.
func (h *gateway) step(t testing.TB, v visit) answer {
	t.Helper()
	h.Advance(5 * time.Second)
	return h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
}

func ifNoneMatch(tags string) edit { return header("If-None-Match", tags) }

func TestLive_ETag_rises_with_every_change(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.book(t)
		last := h.get(t, v.student, v.live("")).want(t, 200, "").version(t)
		rises := func(what string) {
			t.Helper()
			now := h.get(t, v.student, v.live("")).want(t, 200, "").version(t)
			assert.Greater(t, now, last, what)
			last = now
		}
		// The clock stands still between some of these; then the version is one more than the last.
		h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
		rises("start")
		h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
		rises("the first fix")
		h.step(t, v)
		rises("a fix")
		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		rises("stop")
		h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
		rises("a start after a stop")
		h.step(t, v)
		rises("a fix of the second journey")
		h.post(t, v.trainer, v.path("arrived"), nil).want(t, 400, sessions.SuspiciousLocation) // a restart must not allow an arrival
		for range 12 {
			h.step(t, v)
		}
		rises("a minute more of them")
		h.arrive(t, v)
		rises("arrival")
	})
}

func TestLive_ETag_stays_where_nothing_changes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		tag := h.get(t, v.student, v.live("")).want(t, 200, "").etag()
		unmoved := func(what string) {
			t.Helper()
			assert.Equal(t, tag, h.get(t, v.student, v.live("")).want(t, 200, "").etag(), what)
		}
		h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 429, sessions.RateLimited)
		unmoved("too soon")
		h.Advance(5 * time.Second)
		old := v.fix(nearLat, homeLng)
		old["recordedAt"] = h.Now().Add(-6 * time.Second)
		h.post(t, v.trainer, updatesPath, old).want(t, 200, "")
		unmoved("stale")
		vague := v.fix(nearLat, homeLng)
		vague["accuracy"] = 1000
		h.post(t, v.trainer, updatesPath, vague).want(t, 201, "")
		unmoved("vague")
		h.Advance(5 * time.Second)
		h.post(t, v.trainer, updatesPath, v.fix(homeLat+1, homeLng)).want(t, 400, sessions.ImplausibleJump)
		unmoved("implausible")
		h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 409, sessions.JourneyAlreadyStarted)
		unmoved("a start that was refused")
		h.get(t, v.trainer, v.live("")).want(t, 200, "")
		unmoved("a read")
	})
}

func TestLive_ETag_never_goes_back(t *testing.T) {
	t.Parallel()
	t.Run("when the hash has expired", func(t *testing.T) {
		t.Parallel()
		h := open(t, embedded)
		v := h.atTheDoor(t)
		before := h.get(t, v.student, v.live("")).want(t, 200, "")
		h.Advance(301 * time.Second)
		after := h.get(t, v.student, v.live("")).want(t, 200, "")
		assert.Greater(t, after.version(t), before.version(t))
		assert.Equal(t, []any{true, nil}, []any{after.data()["isActive"], after.data()["location"]}, "active, without a location")
	})
	t.Run("when the store has lost its memory", func(t *testing.T) {
		t.Parallel()
		store := valkeytest.Private(t, valkeyserver.Valkey)
		h := open(t, servers, func(o *app.Options) { o.ValkeyURL = store.URL() })
		running, ended, idle := h.atTheDoor(t), h.begun(t), h.book(t)
		h.post(t, ended.trainer, ended.path("stop-journey"), nil).want(t, 200, "")
		before := map[sessions.ID]int64{}
		for _, v := range []visit{running, ended, idle} {
			before[v.id] = h.get(t, v.student, v.live("")).want(t, 200, "").version(t)
		}
		h.Advance(time.Second)
		valkey(t, store.URL(), "FLUSHALL")
		for _, v := range []visit{running, ended, idle} {
			after := h.get(t, v.student, v.live("")).want(t, 200, "")
			assert.Greater(t, after.version(t), before[v.id])
			assert.Equal(t, after.etag(), h.get(t, v.trainer, v.live("")).want(t, 200, "").etag(), "one version for every reader")
			assert.Equal(t, v.id == running.id, after.data()["isActive"])
		}
	})
	t.Run("when the gateway has started again", func(t *testing.T) {
		t.Parallel()
		var opts app.Options
		h := open(t, servers, func(o *app.Options) { opts = *o })
		v := h.atTheDoor(t)
		before := h.get(t, v.student, v.live("")).want(t, 200, "")
		require.NoError(t, h.Stop(t.Context()))
		again := start(t, opts)
		again.Clock = h.Clock
		again.get(t, v.student, v.live(""), ifNoneMatch(before.etag())).want(t, 304, "")
		assert.Greater(t, again.step(t, v).data()["seq"], float64(before.version(t)))
	})
}

func TestLive_validator_without_wait_is_answered_at_once(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		n := h.get(t, v.student, v.live("")).want(t, 200, "").version(t)
		for tags, status := range map[string]int{
			fmt.Sprintf(`"%d"`, n):                   304,
			fmt.Sprintf(`W/"%d"`, n):                 304, // If-None-Match compares weakly
			fmt.Sprintf(`"1", W/"x" ,"%d"`, n):       304,
			fmt.Sprintf(`"a,b","%d"`, n):             304,
			`*`:                                      304,
			"\t*":                                    304,
			fmt.Sprintf(`"%d"`, n-1):                 200,
			fmt.Sprintf(`"%d"`, n+1):                 200,
			fmt.Sprintf(`%d`, n):                     304, // from here on rewritten: it counts by its number
			fmt.Sprintf(`"%d`, n):                    304,
			fmt.Sprintf(`"+%d"`, n):                  304,
			fmt.Sprintf(`"0%d"`, n):                  304,
			fmt.Sprintf(`w/"%d"`, n):                 304,
			fmt.Sprintf(`"1%d"`, n):                  200, // another number
			`"99999999999999999999999"`:              200,
			`""`:                                     200,
			`nonsense`:                               200,
			strings.Repeat(`"1",`, 1000):             200,
			strings.Repeat(",", 4000):                200,
			fmt.Sprintf(`"%d"`, n) + "\t, \"x\"":     304,
			fmt.Sprintf(`"x", W/W/"%d"`, n):          304,
			fmt.Sprintf(`"x", *, "%d"`, n-1):         200, // "*" is valid only alone
			"\"1\"\xff, " + fmt.Sprintf(`"%d"`, n):   304,
			fmt.Sprintf(`"%d"`, n) + `, "`:           304,
			`"` + strings.Repeat("1", 3000) + `", *`: 200,
		} {
			got := h.get(t, v.student, v.live(""), ifNoneMatch(tags)).want(t, status, "")
			assert.Equal(t, n, got.version(t), "the current version, in both answers")
		}
		two := h.get(t, v.student, v.live(""), func(r *http.Request) {
			r.Header["If-None-Match"] = []string{`"1"`, fmt.Sprintf(`"%d"`, n)}
		})
		two.want(t, 304, "") // two header lines are one list (RFC 9110, section 5.3)
	})
}

// A store that failed over may have lost its last moments. A reader who has seen
// them is not shown an older location, but the next one, or the end of the journey.
func TestLive_wait_does_not_go_back(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		lost := ifNoneMatch(fmt.Sprintf(`"%d"`, h.get(t, v.student, v.live("")).want(t, 200, "").version(t)+1))
		assert.Empty(t, h.get(t, v.student, v.live("&wait=1"), lost).want(t, 304, "").body)
		h.step(t, v)
		h.get(t, v.student, v.live("&wait=30"), lost).want(t, 200, "")
		ahead := ifNoneMatch(fmt.Sprintf(`"%d"`, h.get(t, v.student, v.live("")).want(t, 200, "").version(t)+1000))
		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		assert.Nil(t, h.get(t, v.student, v.live("&wait=30"), ahead).want(t, 200, "").data()["location"])
	})
}

func TestLive_wait_is_over_when_the_version_differs(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		for name, change := range map[string]func(v visit){
			"update":  func(v visit) { h.step(t, v) },
			"arrival": func(v visit) { h.arrive(t, v) },
			"stop":    func(v visit) { h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "") },
		} {
			v := h.atTheDoor(t)
			now := h.get(t, v.student, v.live("")).want(t, 200, "")
			for validator, edits := range map[string][]edit{
				"none": nil, "the version": {ifNoneMatch(now.etag())}, "any": {ifNoneMatch("*")},
			} {
				w := h.wait(t, v.student, v, "&wait=30", edits...)
				if validator == "none" {
					defer w.cancel()
				}
			}
			w := h.wait(t, v.trainer, v, "&wait=30", ifNoneMatch(now.etag()))
			change(v)
			after := w.want(t, 200, "")
			assert.Greater(t, after.version(t), now.version(t), name)
			assert.Equal(t, name == "update", after.data()["isActive"], name)
			assert.Equal(t, name == "update", after.data()["location"] != nil, name)
			until(t, func() bool { return h.metric(t, "doorstep_waits_open") == 0 }, name+" wakes all, with and without a validator")
		}
		idle := h.book(t)
		w := h.wait(t, idle.student, idle, "&wait=30")
		h.post(t, idle.trainer, idle.path("start-journey"), nil).want(t, 201, "")
		assert.Equal(t, true, w.want(t, 200, "").data()["isActive"], "start")
	})
}

func TestLive_wait_with_another_version_is_no_wait(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		old := h.get(t, v.student, v.live("")).want(t, 200, "")
		h.step(t, v)
		now := h.get(t, v.student, v.live("&wait=30"), ifNoneMatch(old.etag())).want(t, 200, "")
		assert.Greater(t, now.version(t), old.version(t))
		h.get(t, v.student, v.live("&wait=30"), ifNoneMatch("nonsense")).want(t, 200, "") // a validator that is not one of our versions
		h.get(t, v.student, v.live("&wait=0"), ifNoneMatch(now.etag())).want(t, 304, "")
		h.get(t, v.student, v.live("&wait=0")).want(t, 200, "")
	})
}

func TestLive_wait_ends_as_304_when_its_time_is_up(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		tag := h.get(t, v.student, v.live("")).want(t, 200, "").etag()
		var all sync.WaitGroup
		for _, edits := range [][]edit{nil, {ifNoneMatch(tag)}, {ifNoneMatch("*")}} {
			all.Go(func() {
				began := time.Now()
				got := h.get(t, v.student, v.live("&wait=1"), edits...)
				assert.Equal(t, 304, got.status)
				assert.Equal(t, tag, got.etag())
				assert.GreaterOrEqual(t, time.Since(began), time.Second)
			})
		}
		all.Wait()
	})
}

// A tag that was rewritten on the way counts by its number: a poll that is
// answered at once would become a busy loop.
func TestLive_wait_with_a_tag_that_was_rewritten(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.atTheDoor(t)
	tag := h.get(t, v.student, v.live("")).want(t, 200, "").etag()
	n := strings.Trim(strings.TrimPrefix(tag, "W/"), `"`)
	require.Equal(t, `W/"`+n+`"`, tag)
	var all sync.WaitGroup
	for _, rewritten := range []string{
		`"N-gzip"`, `W/"N-gzip"`, `"N-br"`, `"N"-gzip`, `"N--gzip"`, `"N;gzip"`, `"N;br"`, `"N.gz"`, `"N/zstd"`, `"N:0"`, `"gzip-N"`,
		`"N"`, `w/"N"`, `W/ "N"`, `W/W/"N"`, `N`, `W/N`, `'N'`, `\"N\"`, `%22N%22`, `W/%22N%22`, `&quot;N&quot;`, `"N`, `N"`, `"N-df-ssl"`, `"N-1"`,
		`"x", "N-gzip"`, `"1" ,, "N"`, `"a,N"`, `"N-gzip-gzip"`, `"gzip", W/"N;br", "y"`,
	} {
		sent := strings.ReplaceAll(rewritten, "N", n)
		all.Go(func() {
			h.get(t, v.student, v.live(""), ifNoneMatch(sent)).want(t, 304, "")
			began := time.Now()
			assert.Equal(t, 304, h.get(t, v.admin, v.live("&wait=1"), ifNoneMatch(sent)).status, sent)
			assert.GreaterOrEqual(t, time.Since(began), time.Second, sent)
		})
	}
	all.Wait()
	h.step(t, v)
	h.get(t, v.student, v.live("&wait=30"), ifNoneMatch(`"`+n+`-gzip"`)).want(t, 200, "") // an older version is no reason to wait
}

// A large number in a tag that is none of ours does not make a reader blind.
func TestLive_wait_with_a_foreign_number(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.atTheDoor(t)
	for _, foreign := range []string{`"9007199254740991"`, `"5f3-17734804204120000-x"`, `"999999999999999999999999"`} {
		h.get(t, v.student, v.live("&wait=30"), ifNoneMatch(foreign)).want(t, 200, "")
	}
}

// Wake-ups may have been lost, so a wait ends with one read of the store itself.
func TestLive_wait_ends_by_one_read_of_the_store(t *testing.T) {
	t.Parallel()
	store := valkeytest.Private(t, valkeyserver.Valkey)
	h := open(t, servers, func(o *app.Options) { o.ValkeyURL = store.URL() })
	v := h.atTheDoor(t)
	tag := h.get(t, v.student, v.live("")).want(t, 200, "").etag()
	latest := func() float64 { return h.metric(t, "doorstep_live_store_call_duration_seconds_count", `verb="latest"`) }
	until(t, func() bool { return latest() == 2 }, "it is compared with the database once")
	outwaited := func(status int) (reads float64) {
		before := latest()
		h.get(t, v.student, v.live("&wait=1"), ifNoneMatch(tag)).want(t, status, "")
		return latest() - before
	}
	assert.InDelta(t, 2, outwaited(304), 0, "no view is cached yet, so it begins with a read, too")

	w := h.wait(t, v.student, v, "&wait=30", ifNoneMatch(tag))
	h.step(t, v)
	tag = w.want(t, 200, "").etag()
	assert.InDelta(t, 1, outwaited(304), 0)
	h.Advance(time.Second)
	valkey(t, store.URL(), "FLUSHALL") // no wake-up is sent for this
	assert.InDelta(t, 2, outwaited(200), 0, "what the store had lost is read once it is restored")
}

func TestLive_wait_needs_no_journey(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.book(t)
		before := h.get(t, v.student, v.live("")).want(t, 200, "")
		assert.Equal(t, []any{false, nil, nil}, []any{before.data()["isActive"], before.data()["location"], before.data()["lastUpdate"]})
		h.get(t, v.student, v.live("&wait=1"), ifNoneMatch(before.etag())).want(t, 304, "")
	})
}

// Every waiter, on every gateway, learns of the end of the journey.
func TestLive_end_answers_every_waiter(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"stop-journey", "arrived"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			var opts app.Options
			one := open(t, servers, func(o *app.Options) { opts = *o })
			two := start(t, opts)
			two.Clock = one.Clock
			v := one.atTheDoor(t)
			var waiters []waiting
			for _, h := range []*gateway{one, two} {
				for _, token := range []string{v.student, v.trainer, v.admin} {
					waiters = append(waiters, h.wait(t, token, v, "&wait=30"))
				}
			}
			one.post(t, v.trainer, v.path(verb), nil).want(t, 200, "")
			for _, w := range waiters {
				ended := w.want(t, 200, "").data()
				assert.Equal(t, []any{false, nil}, []any{ended["isActive"], ended["location"]})
			}
		})
	}
}

func TestLive_waiter_whose_client_has_gone_is_dropped(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, func(o *app.Options) { o.MaxWaitsPerCaller = 2 })
		v := h.atTheDoor(t)
		for range 3 { // more than the limit, if a place were not freed
			one, two := h.wait(t, v.student, v, "&wait=30"), h.wait(t, v.student, v, "&wait=30")
			one.cancel()
			two.cancel()
			until(t, func() bool { return h.metric(t, "doorstep_waits_open") == 0 }, "the waits are dropped")
		}
		until(t, func() bool { return h.metric(t, "doorstep_wait_duration_seconds_count", `outcome="left"`) == 6 }, "as left")
		assert.Zero(t, h.metric(t, "doorstep_http_refusals_total"), "a client that leaves is not a refusal")
	})
}

func TestLive_drain_answers_every_waiter(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		var waiters []waiting
		for range 5 {
			v := h.atTheDoor(t)
			waiters = append(waiters, h.wait(t, v.student, v, "&wait=30"), h.wait(t, v.trainer, v, "&wait=30"))
		}
		began := time.Now()
		require.NoError(t, h.Stop(t.Context()))
		for _, w := range waiters {
			w.want(t, 304, "")
		}
		assert.Less(t, time.Since(began), patience)
		_, err := h.try(t.Context(), t, http.MethodGet, "", "/healthz", nil)
		assert.Error(t, err, "nobody listens any more")
	})
}

func TestLive_waits_are_limited(t *testing.T) {
	t.Parallel()
	t.Run("by caller", func(t *testing.T) {
		t.Parallel()
		h := open(t, embedded)
		v, other := h.begun(t), h.begun(t)
		waiters := []waiting{}
		for range 4 {
			waiters = append(waiters, h.wait(t, v.student, v, "&wait=30"))
		}
		newest := h.send(t, v.student, v, "&wait=30")
		displaced := waiters[0].want(t, 429, api.TooManyWaits)
		assert.Equal(t, "5", displaced.header.Get("Retry-After"))
		assert.InDelta(t, 5000, displaced.fields["retryAfterMs"], 0)
		h.wait(t, other.student, other, "&wait=30") // another caller may wait
		h.wait(t, v.trainer, v, "&wait=30")
		assert.InDelta(t, 1, h.metric(t, "doorstep_http_refusals_total", `code="TOO_MANY_WAITS"`), 0)
		assert.InDelta(t, 1, h.metric(t, "doorstep_requests_shed_total", `reason="caller_waits"`), 0)
		h.Advance(5 * time.Second)
		h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
		for _, w := range append(waiters[1:], newest) {
			w.want(t, 200, "")
		}
	})
	t.Run("by caller, who has lost its network ten times", func(t *testing.T) {
		t.Parallel()
		h := open(t, embedded)
		v := h.begun(t)
		for i := range 10 {
			waited := h.metric(t, "doorstep_wait_duration_seconds_count", `outcome="displaced"`)
			newest := h.send(t, v.student, v, "&wait=30")
			if i >= 4 {
				until(t, func() bool {
					return h.metric(t, "doorstep_wait_duration_seconds_count", `outcome="displaced"`) > waited
				}, "the oldest makes room")
			} else {
				until(t, func() bool { return h.metric(t, "doorstep_waits_open") == float64(i+1) }, "the poll waits")
			}
			if i == 9 {
				h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
				newest.want(t, 200, "")
			}
		}
	})
	t.Run("an admin has 100", func(t *testing.T) {
		t.Parallel()
		h := open(t, embedded)
		v := h.begun(t)
		for range 5 {
			h.wait(t, v.admin, v, "&wait=30")
		}
	})
	t.Run("altogether", func(t *testing.T) {
		t.Parallel()
		h := open(t, embedded, func(o *app.Options) { o.MaxWaits = 2 })
		v := h.begun(t)
		h.wait(t, v.student, v, "&wait=30")
		h.wait(t, v.trainer, v, "&wait=30")
		full := h.get(t, v.admin, v.live("&wait=30")).want(t, 503, api.Overloaded) // the process is full, not the caller
		assert.Equal(t, "1", full.header.Get("Retry-After"))
		assert.True(t, full.closes, "phones need the connection")
		assert.InDelta(t, 1, h.metric(t, "doorstep_requests_shed_total", `reason="waits"`), 0)
		h.get(t, v.admin, v.live("")).want(t, 200, "") // a read without wait is answered
	})
}

// A student who polls with the version of the last answer sees the last of any
// number of updates, whenever they come. A change that was missed between the read
// and the wait would cost 30 s here and fail.
func TestLive_no_change_is_missed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.begun(t)
		seen := make(chan int64)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			defer close(seen)
			tag := `"0"`
			for ctx.Err() == nil {
				a, err := h.try(ctx, t, http.MethodGet, v.student, v.live("&wait=30"), nil, ifNoneMatch(tag)) //nolint:testifylint // a failure here only fails to send, and the receiver fails
				if err != nil || a.status != 200 {
					return
				}
				tag = a.etag()
				n, _ := strconv.ParseInt(strings.Trim(strings.TrimPrefix(tag, "W/"), `"`), 10, 64)
				select {
				case seen <- n:
				case <-ctx.Done():
				}
			}
		}()
		for range 150 {
			seq := int64(h.step(t, v).data()["seq"].(float64))
			for {
				n, ok := <-seen
				require.True(t, ok, "the poll ended")
				if n >= seq {
					break
				}
			}
		}
	})
}

// A wait that spans an outage is woken by the first change after it.
func TestLive_wait_outlives_an_outage_of_the_store(t *testing.T) {
	t.Parallel()
	store := valkeytest.Private(t, valkeyserver.Valkey)
	h := open(t, servers, func(o *app.Options) { o.ValkeyURL = store.URL() })
	v := h.atTheDoor(t)
	tag := h.get(t, v.student, v.live("")).want(t, 200, "").etag()
	w := h.wait(t, v.student, v, "&wait=30", ifNoneMatch(tag))
	require.NoError(t, store.Kill())
	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 202, "")
	h.Advance(time.Minute)
	require.NoError(t, store.Restart(t.Context()))
	until(t, func() bool {
		h.Advance(5 * time.Second)
		return h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).status == 201
	}, "updates are stored again")
	assert.NotEqual(t, tag, w.want(t, 200, "").etag())
}

// A 304 has no body: after its head the next answer follows on the connection.
func TestLive_304_leaves_the_connection_usable(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.atTheDoor(t)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	request := "GET " + v.live("") + " HTTP/1.1\r\nHost: x\r\nAuthorization: bearer " + v.student + "\r\nIf-None-Match: *\r\n"
	_, err = io.WriteString(conn, request+"\r\n"+request+"Connection: close\r\n\r\n")
	require.NoError(t, err)
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(string(text), "HTTP/1.1 304 Not Modified\r\n"))
	assert.Equal(t, 2, strings.Count(string(text), "\r\n\r\n"), "%s", text)
	assert.True(t, strings.HasSuffix(string(text), "\r\n\r\n"), "%s", text)
}

// A waiting request gives back its read buffer, but not the bytes of the next
// request, nor a body of its own.
func TestLive_wait_keeps_what_is_sent_behind_it(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"no_body": "", "body": "never read"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, embedded)
			v := h.atTheDoor(t)
			seen := h.get(t, v.student, v.live("")).etag()
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.Addr().String())
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			request := func(wait, extra string) string {
				return "GET " + v.live(wait) + " HTTP/1.1\r\nHost: x\r\nAuthorization: bearer " + v.student +
					"\r\nIf-None-Match: " + seen + "\r\nX-Request-Id: " + extra + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
			}
			_, err = io.WriteString(conn, request("&wait=1", "first")+"\r\n"+body+request("&wait=1", "second")+"\r\n"+body+
				request("", "third")+"Connection: close\r\n\r\n"+body)
			require.NoError(t, err)
			text, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Equal(t, 3, strings.Count(string(text), "HTTP/1.1 304 Not Modified\r\n"), "%s", text)
			for _, id := range []string{"first", "second", "third"} {
				_, rest, ok := strings.Cut(string(text), "X-Request-Id: "+id+"\r\n")
				require.True(t, ok, "%s in order in %s", id, text)
				text = []byte(rest)
			}
		})
	}
}
