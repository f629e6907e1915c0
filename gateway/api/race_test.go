package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// hurried uses the real clock and almost no rate limit, for calls that race.
func hurried(o *app.Options) {
	o.Now, o.RateInterval, o.RateTolerance, o.MaxWaitsPerCaller = nil, time.Millisecond, time.Hour, 100
}

// atOnce runs all functions at the same moment and returns their answers.
func atOnce(fs ...func() answer) []answer {
	answers := make([]answer, len(fs))
	var ready, done sync.WaitGroup
	gun := make(chan struct{})
	for i, f := range fs {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-gun
			answers[i] = f()
		})
	}
	ready.Wait()
	close(gun)
	done.Wait()
	return answers
}

// count counts answers by status and code.
func count(answers []answer) map[string]int {
	n := map[string]int{}
	for _, a := range answers {
		n[strings.TrimSpace(fmt.Sprint(a.status, " ", a.code()))]++
	}
	return n
}

func TestRace_starts(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, hurried)
		for range 15 {
			v := h.book(t)
			starting := func() answer { return h.post(t, v.trainer, v.path("start-journey"), nil) }
			answers := atOnce(starting, starting, starting, starting)
			require.Equal(t, map[string]int{"201": 1, "409 JOURNEY_ALREADY_STARTED": 3}, count(answers))
			var journey any
			for _, a := range answers {
				if a.status == 201 {
					journey = a.data()
				}
			}
			for _, a := range answers {
				if a.status == 409 {
					assert.Equal(t, journey, a.fields["journey"], "the one that is running")
				}
			}
		}
	})
}

func TestRace_two_sessions_of_one_trainer(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, hurried)
		for range 15 {
			one := h.book(t)
			two := h.bookFor(t, one.trainerID, one.studentID)
			answers := atOnce(
				func() answer { return h.post(t, one.trainer, one.path("start-journey"), nil) },
				func() answer { return h.post(t, two.trainer, two.path("start-journey"), nil) })
			require.Equal(t, map[string]int{"201": 1, "409 TRAINER_BUSY": 1}, count(answers))
		}
	})
}

func TestRace_two_trainers_on_one_session(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, hurried)
		v := h.book(t)
		require.Equal(t, map[string]int{"201": 1, "403 FORBIDDEN": 1}, count(atOnce(
			func() answer { return h.post(t, v.trainer, v.path("start-journey"), nil) },
			func() answer { return h.post(t, v.otherTrainer, v.path("start-journey"), nil) })))
		require.Equal(t, map[string]int{"201": 1, "403 FORBIDDEN": 1}, count(atOnce(
			func() answer { return h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)) },
			func() answer { return h.post(t, v.otherTrainer, updatesPath, v.fix(homeLat, homeLng)) })))
		live := h.get(t, v.student, v.live("")).want(t, 200, "").data()["location"].(map[string]any)
		assert.InDelta(t, nearLat, live["latitude"], 0, "the trainer's journey")
		h.settle(t, v)
		require.Equal(t, map[string]int{"200": 1, "403 FORBIDDEN": 1}, count(atOnce(
			func() answer { return h.post(t, v.trainer, v.path("arrived"), nil) },
			func() answer { return h.post(t, v.otherTrainer, v.path("arrived"), nil) })))
	})
}

func TestRace_bookings(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, hurried)
		admin := h.token(t, sessions.NewID(), sessions.Admin)
		for range 10 {
			v := visit{id: sessions.NewID(), trainerID: sessions.NewID(), studentID: sessions.NewID()}
			booking := func() answer { return h.post(t, admin, base+"/admin/sessions", v.booking()) }
			require.Equal(t, map[string]int{"201": 1, "200": 3}, count(atOnce(booking, booking, booking, booking)))
		}
	})
}

// After the answer to the stop no coordinate of the journey is left, and no update
// in flight can bring one back.
func TestRace_updates_and_the_end(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"stop-journey", "arrived"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b backend) {
				var store string
				h := open(t, b, hurried, func(o *app.Options) {
					if b == servers { // a database of its own, because all of it is searched
						o.ValkeyURL = valkeytest.Private(t, valkeyserver.Valkey).URL()
						store = o.ValkeyURL
					}
				})
				for i := range 40 {
					v := h.atTheDoor(t)
					require.True(t, h.knowsWhere(t, store), "the search finds a coordinate that is there")
					ctx, cancel := context.WithCancel(t.Context())
					var updaters sync.WaitGroup
					for range 3 {
						updaters.Go(func() {
							for ctx.Err() == nil {
								a := h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng))
								assert.Contains(t, []string{"201", "200", "404 NO_ACTIVE_JOURNEY", "429 RATE_LIMITED"}, oneOf(count([]answer{a})))
							}
						})
					}
					updaters.Go(func() { // readers restore what the store has lost, but must not restore this
						for ctx.Err() == nil {
							h.get(t, v.student, v.live(""))
						}
					})
					time.Sleep(time.Duration(i%5) * time.Millisecond) // the end comes at any point of an update
					h.post(t, v.trainer, v.path(end), nil).want(t, 200, "")
					found := store != "" && h.knowsWhere(t, store) // at once; in memory only once nobody writes
					cancel()
					updaters.Wait()
					require.False(t, found || h.knowsWhere(t, store), "a coordinate outlives the %s", end)
					ended := h.get(t, v.student, v.live("")).want(t, 200, "").data()
					require.Equal(t, []any{false, nil}, []any{ended["isActive"], ended["location"]})
				}
			})
		})
	}
}

func oneOf(n map[string]int) string {
	for k := range n {
		return k
	}
	return ""
}

// knowsWhere reports whether the live store holds any coordinate, as text in
// Valkey or as a number in the process.
func (h *gateway) knowsWhere(t testing.TB, store string) bool {
	t.Helper()
	if store != "" {
		all := dump(t, store, "")
		return strings.Contains(all, "12.93") || strings.Contains(all, "77.62")
	}
	memory := reflect.ValueOf(h.App).Elem().FieldByName("hub").Elem().FieldByName("source")
	require.True(t, memory.IsValid())
	// Under the store's own lock, because the clean-up may be writing.
	memory = memory.Elem().Elem()
	mu := (*sync.Mutex)(unsafe.Pointer(memory.FieldByName("mu").UnsafeAddr()))
	mu.Lock()
	defer mu.Unlock()
	return holds(memory.FieldByName("journeys"), 0)
}

// holds searches a value for a latitude of these tests, in degrees or in
// ten-millionths of a degree.
func holds(v reflect.Value, depth int) bool {
	if depth > 20 {
		return false
	}
	switch v.Kind() {
	case reflect.Float64:
		return v.Float() > 12.93 && v.Float() < 12.95
	case reflect.Int64, reflect.Int32:
		return v.Int() > 129_300_000 && v.Int() < 129_500_000
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && holds(v.Elem(), depth+1)
	case reflect.Struct:
		for _, field := range v.Fields() {
			if holds(field, depth+1) {
				return true
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if holds(it.Key(), depth+1) || holds(it.Value(), depth+1) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if holds(v.Index(i), depth+1) {
				return true
			}
		}
	}
	return false
}

func TestRace_arrival_and_stop(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, hurried)
		for range 30 {
			v := h.atTheDoor(t)
			answers := atOnce(
				func() answer { return h.post(t, v.trainer, v.path("arrived"), nil) },
				func() answer { return h.post(t, v.admin, v.path("stop-journey"), nil) })
			arrived, stopped := answers[0], answers[1]
			after := h.get(t, v.admin, v.path("")).want(t, 200, "").data()
			if arrived.status == 200 {
				stopped.want(t, 404, sessions.NoActiveJourney)
				assert.Equal(t, []any{"pending_verification", "arrived", arrived.data()["otp"]}, []any{after["status"], after["journeyEndReason"], after["otp"]})
			} else {
				stopped.want(t, 200, "")
				assert.Contains(t, []string{"400 NO_FRESH_LOCATION", "404 NO_ACTIVE_JOURNEY"}, oneOf(count([]answer{arrived})))
				assert.Equal(t, []any{"scheduled", "cancelled", nil}, []any{after["status"], after["journeyEndReason"], after["otp"]})
			}
			assert.Equal(t, false, h.get(t, v.student, v.live("")).want(t, 200, "").data()["isActive"])
		}
	})
}

func TestRace_arrivals(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, hurried)
		for range 15 {
			v := h.atTheDoor(t)
			arriving := func() answer { return h.post(t, v.trainer, v.path("arrived"), nil) }
			answers := atOnce(arriving, arriving, arriving)
			settled := arriving().want(t, 200, "").data()
			for _, a := range answers {
				assert.Equal(t, settled, a.want(t, 200, "").data(), "one code for all callers")
			}
		}
	})
}

func TestRace_verifications(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, hurried)
		for range 10 {
			v := h.atTheDoor(t)
			otp := h.arrive(t, v)
			right := func() answer { return h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}) }
			require.Equal(t, map[string]int{"200": 4}, count(atOnce(right, right, right, right)), "repeats of one verification")
		}
		v := h.atTheDoor(t)
		otp := h.arrive(t, v)
		var tries []func() answer
		for range 12 {
			tries = append(tries, func() answer { return h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)) })
		}
		answers := atOnce(tries...)
		require.Equal(t, map[string]int{"400 OTP_WRONG": 4, "429 OTP_LOCKED": 8}, count(answers), "concurrent tries get no extra tries")
		left := map[any]int{}
		for _, a := range answers {
			if a.status == 400 {
				left[a.fields["attemptsLeft"]]++
			}
		}
		assert.Equal(t, map[any]int{1.0: 1, 2.0: 1, 3.0: 1, 4.0: 1}, left)
		h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}).want(t, 429, sessions.OTPLocked)
	})
}

func TestJourney_starts_again_after_a_stop(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.begun(t)
		var last any = ""
		for range 3 {
			h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
			h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
			h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 404, sessions.NoActiveJourney)
			started := h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "").data()["startedAt"]
			assert.Greater(t, started, last, "another journey, even within a millisecond")
			last = started
			assert.Nil(t, h.get(t, v.student, v.live("")).want(t, 200, "").data()["location"], "no location of the journey before")
		}
	})
}

func TestJourney_past_its_hour(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		// The store's keys expire by its own clock, so the longest journey is short here.
		h := open(t, b, hurried, func(o *app.Options) { o.JourneyTTL = 700 * time.Millisecond })
		v := h.begun(t)
		h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
		until(t, func() bool {
			return h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).status == 404
		}, "the hour is over")
		over := h.get(t, v.student, v.live("")).want(t, 200, "").data()
		assert.Equal(t, []any{false, nil}, []any{over["isActive"], over["location"]})
		h.post(t, v.trainer, v.path("arrived"), nil).want(t, 400, sessions.NoFreshLocation)
		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
		assert.Equal(t, true, h.get(t, v.student, v.live("")).want(t, 200, "").data()["isActive"])
	})
}

// A client that leaves in the middle of a call causes no 5xx in the metrics, opens
// no breaker and leaves nothing behind.
func TestClient_that_leaves_in_the_middle_is_no_fault(t *testing.T) {
	t.Parallel()
	store := valkeytest.Private(t, valkeyserver.Valkey)
	h := open(t, servers, hurried, func(o *app.Options) { o.ValkeyURL, o.ValkeyTimeout = store.URL(), patience })
	v := h.atTheDoor(t)
	h.get(t, v.student, v.live("")).want(t, 200, "")
	answered := func() float64 { return h.metric(t, "doorstep_http_request_duration_seconds_count") }
	before := answered()
	require.NoError(t, store.Pause())
	var leaving sync.WaitGroup
	calls := []func(ctx context.Context) error{
		func(ctx context.Context) error {
			body, _ := jsonOf(v.fix(nearLat, homeLng))
			_, err := h.try(ctx, t, http.MethodPost, v.trainer, updatesPath, body)
			return err
		},
		func(ctx context.Context) error {
			_, err := h.try(ctx, t, http.MethodGet, v.student, v.live(""), nil)
			return err
		},
		func(ctx context.Context) error {
			_, err := h.try(ctx, t, http.MethodGet, v.student, v.live("&wait=30"), nil)
			return err
		},
		func(ctx context.Context) error {
			_, err := h.try(ctx, t, http.MethodPost, v.trainer, v.path("arrived"), nil)
			return err
		},
	}
	for _, call := range calls {
		leaving.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			assert.Error(t, call(ctx))
		})
	}
	leaving.Wait()
	until(t, func() bool { return answered() == before+float64(len(calls)) }, "the handlers notice, the store still stalled")
	require.NoError(t, store.Resume())
	for _, code := range []sessions.Code{sessions.Internal, sessions.LiveStoreUnavailable, sessions.DatabaseUnavailable} {
		assert.Zero(t, h.metric(t, "doorstep_http_refusals_total", fmt.Sprintf("code=%q", code)), code)
	}
	assert.Zero(t, h.metric(t, "doorstep_http_requests_total", `status="500"`))
	assert.Zero(t, h.metric(t, "doorstep_http_requests_total", `status="503"`))
	h.post(t, v.trainer, v.path("arrived"), nil).want(t, 200, "")
}
