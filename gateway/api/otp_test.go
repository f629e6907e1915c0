package api_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/sessions"
)

func TestOTP_tries(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		otp := h.arrive(t, v)
		right := map[string]string{"otp": otp}
		for left := 4.0; left >= 1; left-- {
			refused := h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 400, sessions.OTPWrong)
			assert.InDelta(t, left, refused.fields["attemptsLeft"], 0)
		}
		assert.Equal(t, otp, h.arrive(t, v), "arriving again gives the same code and no new tries")
		locked := h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 429, sessions.OTPLocked)
		assert.Equal(t, "600", locked.header.Get("Retry-After"))
		h.Advance(59500 * time.Millisecond)
		locked = h.post(t, v.trainer, v.path("verify-otp"), right).want(t, 429, sessions.OTPLocked)
		assert.Equal(t, "541", locked.header.Get("Retry-After"), "rounded up")
		assert.InDelta(t, 540_500, locked.fields["retryAfterMs"], 0)
		assert.Equal(t, "pending_verification", h.get(t, v.student, v.path("")).want(t, 200, "").data()["status"])
	})
}

func TestOTP_expiry(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		otp := h.arrive(t, v)
		arrivedAt := h.get(t, v.trainer, v.path("")).want(t, 200, "").data()["arrivedAt"]
		h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 400, sessions.OTPWrong)
		h.Advance(10*time.Minute - time.Millisecond)
		h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 400, sessions.OTPWrong)
		h.Advance(time.Millisecond)
		h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}).want(t, 410, sessions.OTPExpired)

		seen := h.get(t, v.student, v.path("")).want(t, 200, "").data()
		assert.Equal(t, []any{"expired", nil}, []any{seen["otpState"], seen["otp"]}, "it is not shown as if it were good")
		h.post(t, v.trainer, v.path("arrived"), nil).want(t, 400, sessions.NoFreshLocation)

		again := h.post(t, v.trainer, v.path("arrived"), v.fix(nearLat, homeLng)).want(t, 200, "").data()
		assert.Equal(t, h.get(t, v.student, v.path("")).data()["otpExpiresAt"], again["otpExpiresAt"])
		assert.Equal(t, arrivedAt, again["arrivedAt"], "a new code, not a new arrival")
		renewed := again["otp"].(string)
		refused := h.post(t, v.trainer, v.path("verify-otp"), wrong(renewed)).want(t, 400, sessions.OTPWrong)
		assert.InDelta(t, 4, refused.fields["attemptsLeft"], 0, "a new code has its own tries")
		if otp != renewed { // by chance the two codes are equal once in 10,000 runs
			h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}).want(t, 400, sessions.OTPWrong)
		}
		h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": renewed}).want(t, 200, "")
	})
}

func TestOTP_is_the_students(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, func(o *app.Options) { o.OTPInResponse = false })
		v := h.atTheDoor(t)
		arrived := h.post(t, v.trainer, v.path("arrived"), nil).want(t, 200, "").data()
		assert.NotContains(t, arrived, "otp", "hidden")
		seen := h.get(t, v.student, v.path("")).want(t, 200, "").data()
		otp, _ := seen["otp"].(string)
		assert.Regexp(t, `^[0-9]{4}$`, otp)
		assert.NotNil(t, seen["otpExpiresAt"])
		for _, a := range []answer{
			h.get(t, v.trainer, v.path("")).want(t, 200, ""),
			h.post(t, v.trainer, v.path("arrived"), nil).want(t, 200, ""),
			h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 400, sessions.NotScheduled),
			h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 400, sessions.OTPWrong),
			h.get(t, v.trainer, v.live("")).want(t, 200, ""),
		} {
			assert.NotContains(t, string(a.body), `"`+otp+`"`, "the trainer never sees it")
			assert.NotContains(t, string(a.body), `"otp":`)
		}
		h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}).want(t, 200, "")
		assert.NotContains(t, h.get(t, v.student, v.path("")).want(t, 200, "").data(), "otp", "used up")
	})
}

// A new code is for somebody who is at the door now.
func TestOTP_renewed_at_the_door(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		h.arrive(t, v)
		h.Advance(10 * time.Minute)
		with := func(edit func(map[string]any)) map[string]any {
			fix := v.fix(nearLat, homeLng)
			edit(fix)
			return fix
		}
		for name, c := range map[string]struct {
			fix  map[string]any
			code sessions.Code
		}{
			"far":     {v.fix(farLat, homeLng), sessions.NotWithinRadius},
			"mock":    {with(func(f map[string]any) { f["mock"] = true }), sessions.SuspiciousLocation},
			"vague":   {with(func(f map[string]any) { f["accuracy"] = 201 }), sessions.NoFreshLocation},
			"nowhere": {v.fix(0, 0), sessions.NoFreshLocation},
			"old":     {with(func(f map[string]any) { f["recordedAt"] = h.Now().Add(-time.Minute) }), sessions.NoFreshLocation},
			"old by a wrong clock": {with(func(f map[string]any) {
				f["recordedAt"], f["sentAt"] = h.Now().Add(time.Hour-time.Minute), h.Now().Add(time.Hour)
			}), sessions.NoFreshLocation},
			"of a clock that is ahead": {with(func(f map[string]any) { f["recordedAt"] = h.Now().Add(3 * time.Second) }), sessions.NoFreshLocation},
		} {
			refused := h.post(t, v.trainer, v.path("arrived"), c.fix).want(t, 400, c.code)
			assert.Equal(t, "expired", h.get(t, v.student, v.path("")).data()["otpState"], name)
			if c.code == sessions.NotWithinRadius {
				assert.InDelta(t, 1112, refused.fields["distanceMeters"], 2)
			}
		}
		h.post(t, v.trainer, v.path("arrived"), with(func(f map[string]any) {
			f["recordedAt"], f["sentAt"] = h.Now().Add(time.Hour-59*time.Second), h.Now().Add(time.Hour)
		})).want(t, 200, "")
		live := h.get(t, v.student, v.live("")).want(t, 200, "").data()
		assert.Nil(t, live["location"], "the fix is not stored")
		for range 3 {
			h.Advance(10 * time.Minute)
			h.post(t, v.trainer, v.path("arrived"), v.fix(nearLat, homeLng)).want(t, 200, "")
		}
		h.Advance(10 * time.Minute)
		h.post(t, v.trainer, v.path("arrived"), v.fix(nearLat, homeLng)).want(t, 429, sessions.OTPLocked)
		assert.Equal(t, "locked", h.get(t, v.trainer, v.path("")).want(t, 200, "").data()["otpState"])
	})
}

// However often the code is renewed, a session has fifteen tries.
func TestOTP_tries_of_a_session(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.atTheDoor(t)
		otp, tries := h.arrive(t, v), 0
		for range 3 {
			for range 4 {
				h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 400, sessions.OTPWrong)
				tries++
			}
			h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 429, sessions.OTPLocked)
			tries++
			assert.NotContains(t, h.post(t, v.trainer, v.path("arrived"), nil).want(t, 200, "").data(), "otp", "a locked code is not shown")
			h.Advance(10 * time.Minute)
			again := h.post(t, v.trainer, v.path("arrived"), v.fix(nearLat, homeLng))
			if tries == 15 {
				again.want(t, 429, sessions.OTPLocked)
				continue
			}
			otp = again.want(t, 200, "").data()["otp"].(string)
		}
		assert.InDelta(t, 12, h.metric(t, "doorstep_code_tries_total", `outcome="wrong"`), 0)
		assert.InDelta(t, 3, h.metric(t, "doorstep_code_tries_total", `outcome="locks"`), 0)
	})
}

// The log holds no coordinate, no token and no OTP.
func TestLog_tells_no_place_and_no_token(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	h := open(t, servers, func(o *app.Options) {
		o.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	v := h.atTheDoor(t)
	h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)) // too soon
	h.post(t, v.trainer, updatesPath, `{"latitude":12.93,"longitude":77.62,`).want(t, 400, sessions.InvalidRequest)
	h.get(t, v.trainer+"x", v.live("")).want(t, 401, api.Unauthenticated)
	h.do(t, http.MethodDelete, v.trainer, "/x?latitude=12.93", nil).want(t, 404, api.RouteNotFound)
	h.Advance(time.Hour)
	h.post(t, v.trainer, v.path("arrived"), nil)
	h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
	text := []byte(log.String())
	assert.NotEmpty(t, text)
	for _, secret := range []string{"12.93", "77.62", v.trainer[:60], v.student[len(v.student)-20:]} {
		assert.False(t, bytes.Contains(text, []byte(secret)), "%q", secret)
	}
}
