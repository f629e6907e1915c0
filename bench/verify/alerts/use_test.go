package alerts

import (
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/gateway/app"
	"doorstep/geo"
	"doorstep/internal/servers/valkeytest"
)

// ofUse are the faults that are in what callers send and see.
func ofUse() []fault {
	return []fault{
		{name: "phones send late", alerts: []string{"DoorstepFixToEyeSlow"}, open: phonesLate},
		{name: "more waits than allowed", alerts: []string{"DoorstepShedding", "DoorstepErrorsBurn"}, window: 5 * time.Minute, open: tooManyWaits},
		{name: "nobody ends journeys", alerts: []string{"DoorstepJourneysWithoutEnd"}, open: journeysWithoutEnd},
		{name: "fixes jump", alerts: []string{"DoorstepFixesRefused"}, open: fixesJump},
		{name: "codes guessed", alerts: []string{"DoorstepCodesLocked"}, open: codesGuessed},
	}
}

// phonesLate has a fix that its phone sent four seconds late.
func phonesLate(t *testing.T, s *stage) (cause, mend func()) {
	g := s.gateway(t, "VALKEY_URL="+valkeytest.Valkey(t), "DATABASE_URL="+database(t))
	seen := func(late time.Duration) {
		j := started(t, g.URL(), 1)[0]
		etag := j.Live(t.Context(), g.URL(), "", 0).ETag
		answer := make(chan rig.Answer, 1)
		go func() { answer <- j.Live(t.Context(), g.URL(), etag, 10) }()
		time.Sleep(late)
		fix := j.Fix(j.Street(), time.Now().Add(-late))
		fix["sentAt"] = time.Now().UTC()
		is(t, 201, j.Report(t.Context(), g.URL(), fix))
		is(t, 200, <-answer)
	}
	return func() { seen(4 * time.Second) }, func() {
		for range 3 {
			seen(0)
		}
	}
}

func tooManyWaits(t *testing.T, s *stage) (cause, mend func()) {
	g := s.gateway(t, "VALKEY_URL="+valkeytest.Valkey(t), "DATABASE_URL="+database(t), "MAX_WAITS=1")
	j := started(t, g.URL(), 1)[0]
	admin := newAdmin(t) // a student who polls like this is limited by the caller's own rate
	wait := func() rig.Answer {
		return admin.Do(t.Context(), http.MethodGet, g.URL(), "/admin/location-tracking/journey/live?wait=1&sessionId="+string(j.ID), nil, "If-None-Match", "*")
	}
	cause = func() {
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() { wait() })
		}
		all.Wait()
	}
	return cause, func() { // one more gateway, or as here a larger one
		require.NoError(t, g.Kill())
		g.again(t, "MAX_WAITS=1000")
		is(t, 304, wait())
	}
}

func journeysWithoutEnd(t *testing.T, s *stage) (cause, mend func()) {
	g := s.gateway(t, "VALKEY_URL="+valkeytest.Valkey(t), "DATABASE_URL="+database(t), "JOURNEY_TTL=2s")
	return func() { started(t, g.URL(), 8) }, func() {
		for range 50 {
			is(t, 200, started(t, g.URL(), 1)[0].Stop(t.Context(), g.URL()))
		}
	}
}

// clock goes with the wall clock and can be advanced.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) jump(step time.Duration) { c.ahead.Add(int64(step)) }

// fixesJump has phones of which every fifth fix is 90 km away, as batches.
func fixesJump(t *testing.T, s *stage) (cause, mend func()) {
	var c clock
	base := s.embedded(t, app.Options{Now: c.now})
	drive := func(jumps bool) {
		j := started(t, base, 1)[0]
		began := c.now()
		c.jump(2410 * time.Second)
		var fixes []map[string]any
		for i := range 480 {
			at := geo.Offset(home, 90, 5000-float64(i)*10)
			if jumps && i%5 == 4 {
				at = geo.Offset(home, 0, 90_000)
			}
			fix := j.Fix(at, began.Add(time.Duration(i+1)*5*time.Second))
			delete(fix, "sessionId")
			fixes = append(fixes, fix)
		}
		is(t, 200, j.Report(t.Context(), base, map[string]any{"sessionId": j.ID, "fixes": fixes}))
		is(t, 200, j.Stop(t.Context(), base))
	}
	return func() {
			for range 3 {
				drive(true)
			}
		}, func() {
			for range 12 {
				drive(false)
			}
		}
}

// codesGuessed has eight trainers who try codes until they are locked.
func codesGuessed(t *testing.T, s *stage) (cause, mend func()) {
	var c clock
	base := s.embedded(t, app.Options{Now: c.now, OTPInResponse: true})
	verify := func(j *rig.Journey, code string) rig.Answer {
		return j.Trainer.Do(t.Context(), http.MethodPost, base, "/admin/sessions/"+string(j.ID)+"/verify-otp", map[string]string{"otp": code})
	}
	guess := func(j *rig.Journey, code string) {
		for _, wrong := range []string{"0000", "1111", "2222", "3333", "4444", "5555"} {
			if wrong != code && verify(j, wrong).Status == http.StatusTooManyRequests {
				return
			}
		}
	}
	var locked []*rig.Journey
	var codes []string
	return func() {
			for range 8 {
				j, code := arrived(t, base, &c)
				guess(j, code)
				locked, codes = append(locked, j), append(codes, code)
			}
		}, func() {
			admin := newAdmin(t)
			for i, j := range locked { // whose trainer is at the door
				is(t, 429, verify(j, codes[i]))
				is(t, 200, admin.Do(t.Context(), http.MethodPost, base, "/admin/sessions/"+string(j.ID)+"/unlock-otp", nil))
				is(t, 200, verify(j, codes[i]))
			}
			for range 50 * len(locked) { // an hour's other lessons
				j, code := arrived(t, base, &c)
				is(t, 200, verify(j, code))
			}
		}
}

// arrived is a journey that has ended at the door, and its code.
func arrived(t *testing.T, base string, c *clock) (*rig.Journey, string) {
	t.Helper()
	j := started(t, base, 1)[0]
	is(t, 201, j.Report(t.Context(), base, j.Fix(j.Street(), c.now())))
	c.jump(rig.Ride)
	is(t, 201, j.Report(t.Context(), base, j.Fix(home, c.now())))
	answer := j.Arrive(t.Context(), base)
	is(t, 200, answer)
	var session struct{ OTP string }
	require.NoError(t, json.Unmarshal(answer.Data, &session))
	return j, session.OTP
}
