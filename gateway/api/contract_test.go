package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/gateway/app"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// openapi.yaml lists exactly what the gateway answers. Real requests cause every
// outcome in the document, and every answer is checked against it.
func TestContract(t *testing.T) { //nolint:paralleltest // its parts are parallel, and it looks back on all of them
	seen := &coverage{}
	t.Run("group", func(t *testing.T) {
		for _, b := range []backend{embedded, servers} {
			for name, part := range map[string]func(*testing.T, *gateway){
				"start": contractStart, "update": contractUpdate, "live": contractLive, "arrived": contractArrived,
				"stop": contractStop, "book": contractBook, "read": contractRead, "verify": contractVerify, "resend": contractResend, "unlock": contractUnlock, "cancel": contractCancel, "user data": contractUserData, "history": contractHistory, "lists": contractLists, "journeys": contractJourneys, "rating": contractRating, "rebook": contractRebook, "no show": contractNoShow,
				"complete": contractComplete, "review": contractReview, "push tokens": contractPushTokens, "devices": contractDevices, "share": contractShare,
				"health": contractHealth, "anywhere": contractAnywhere,
			} {
				t.Run(name+"/"+string(b), func(t *testing.T) {
					t.Parallel()
					h := open(t, b)
					h.seen = seen
					part(t, h)
				})
			}
		}
		for name, part := range map[string]func(*testing.T, *coverage){
			"every call/without a token": everyCallWithoutToken, "every call/too large": everyCallTooLarge,
			"every call/malformed": everyCallMalformed, "every call/too slow": everyCallTooSlow,
			"every call/without keys": everyCallWithoutKeys, "every call/broken": everyCallBroken,
			"every call/overloaded": everyCallOverloaded, "every call/too many": everyCallTooMany,
			"without a database": withoutDatabase, "without a live store": withoutLiveStore, "without writes": withoutWrites, "too many waits": tooManyWaits, "every report": everyReport, "without a public address": withoutPublicURL, "share": shareOutcomes, "every call/elsewhere": everyCallElsewhere,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				part(t, seen)
			})
		}
	})
	if t.Failed() {
		return // the outcomes of the others are missing
	}
	documented := readDocument(t).outcomes(t)
	for o := range documented {
		assert.True(t, seen.seen[o], "documented, but nothing here brings it about: %s", o)
	}
	for o := range seen.seen {
		assert.True(t, documented[o], "answered, but not documented: %s", o)
	}
}

func contractStart(t *testing.T, h *gateway) {
	v := h.book(t)
	started := h.post(t, v.trainer, v.path("start-journey"), `{"travelMode":"bike"}`).want(t, 201, "").data()
	assert.Equal(t, string(v.id), started["sessionId"])
	assert.Equal(t, string(v.trainerID), started["trainerId"])
	assert.Equal(t, string(v.studentID), started["studentId"])

	again := h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 409, sessions.JourneyAlreadyStarted)
	assert.Equal(t, started, again.fields["journey"], "a retry after a lost answer gets the same journey")

	other := h.bookFor(t, v.trainerID, v.studentID)
	busy := h.post(t, v.trainer, other.path("start-journey"), nil).want(t, 409, sessions.TrainerBusy)
	assert.Equal(t, started, busy.fields["journey"], "which one to end first")

	forTrainer := h.book(t)
	h.post(t, v.admin, forTrainer.path("start-journey"), nil).want(t, 201, "")
	for range 9 {
		h.post(t, v.admin, forTrainer.path("stop-journey"), nil).want(t, 200, "")
		h.post(t, forTrainer.trainer, forTrainer.path("start-journey"), nil).want(t, 201, "")
	}
	h.post(t, v.admin, forTrainer.path("stop-journey"), nil).want(t, 200, "")
	often := h.post(t, forTrainer.trainer, forTrainer.path("start-journey"), nil).want(t, 429, sessions.RateLimited)
	assert.Equal(t, "3600", often.header.Get("Retry-After"), "ten starts in an hour")

	for _, token := range []string{v.otherTrainer, v.student, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, v.path("start-journey"), nil).want(t, 403, sessions.Forbidden)
	}
	h.post(t, v.trainer, nowhere("start-journey"), nil).want(t, 404, sessions.SessionNotFound)
	h.post(t, v.trainer, base+"/admin/sessions/nobody/start-journey", nil).want(t, 400, sessions.InvalidRequest)
	h.post(t, v.trainer, v.path("start-journey"), `{"travelMode":"boat"}`).want(t, 400, sessions.InvalidRequest)
	h.post(t, v.trainer, v.path("start-journey"), `travelMode=car`, header("Content-Type", "text/plain")).
		want(t, 415, api.UnsupportedMediaType)

	done := h.atTheDoor(t)
	h.arrive(t, done)
	h.post(t, done.trainer, done.path("start-journey"), nil).want(t, 400, sessions.NotScheduled)
}

func contractUpdate(t *testing.T, h *gateway) {
	v := h.begun(t)
	fix := v.fix(farLat, homeLng)
	fix["accuracy"], fix["speed"], fix["heading"], fix["recordedAt"], fix["mock"] = 8.5, 25.3, 360, h.Now(), false
	first := h.post(t, v.trainer, updatesPath, fix).want(t, 201, "").data()
	assert.InDelta(t, 1112, first["distanceMeters"], 2)
	assert.Equal(t, false, first["arriving"])
	assert.InDelta(t, 300, first["ttl"], 1)
	assert.InDelta(t, 5000, first["nextUpdateMs"], 0)

	again := h.post(t, v.trainer, updatesPath, fix).want(t, 200, "").data()
	assert.Equal(t, []any{true, 5000.0}, []any{again["stale"], again["nextUpdateMs"]}, "the order is asked before the rate")
	soon := h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 429, sessions.RateLimited)
	assert.Equal(t, "4", soon.header.Get("Retry-After"), "5 s less 1 s of tolerance")
	assert.InDelta(t, 4000, soon.fields["retryAfterMs"], 0)

	h.Advance(5 * time.Second)
	stale := h.post(t, v.trainer, updatesPath, fix).want(t, 200, "").data()
	assert.Equal(t, true, stale["stale"])
	assert.Equal(t, first["seq"], stale["seq"])
	vague := v.fix(farLat, homeLng)
	vague["accuracy"] = 5000
	ignored := h.post(t, v.trainer, updatesPath, vague).want(t, 201, "").data()
	assert.Equal(t, "low_accuracy", ignored["ignored"])
	assert.Nil(t, ignored["distanceMeters"])

	h.Advance(5 * time.Second)
	h.post(t, v.trainer, updatesPath, v.fix(farLat+0.0001, homeLng)).want(t, 201, "") // confirms the first fix
	h.Advance(10 * time.Second)                                                       // 333 m at 120 km/h
	h.post(t, v.trainer, updatesPath, v.fix(homeLat, homeLng)).want(t, 400, sessions.ImplausibleSpeed)
	h.Advance(5 * time.Second)
	h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng), header("Prefer", "return=minimal")).want(t, 204, "")
	h.Advance(5 * time.Second)
	h.post(t, v.trainer, updatesPath, v.fix(homeLat, homeLng)).want(t, 400, sessions.ImplausibleJump)

	for _, token := range []string{v.student, v.admin, v.trainerAsStudent} {
		h.post(t, token, updatesPath, fix).want(t, 403, sessions.Forbidden)
	}
	contractBatch(t, h)
	h.post(t, v.otherTrainer, updatesPath, fix).want(t, 403, sessions.Forbidden)
	idle := h.book(t)
	h.post(t, idle.trainer, updatesPath, idle.fix(nearLat, homeLng)).want(t, 404, sessions.NoActiveJourney)
	fix["sessionId"] = sessions.NewID()
	h.post(t, v.trainer, updatesPath, fix).want(t, 404, sessions.SessionNotFound)
	fix["latitude"] = 91
	h.post(t, v.trainer, updatesPath, fix).want(t, 400, sessions.InvalidRequest)
	h.post(t, v.trainer, updatesPath, `<fix/>`, header("Content-Type", "text/xml")).want(t, 415, api.UnsupportedMediaType)
}

func contractLive(t *testing.T, h *gateway) {
	v := h.begun(t)
	empty := h.get(t, v.student, v.live("")).want(t, 200, "")
	assert.Equal(t, true, empty.data()["isActive"])
	assert.Nil(t, empty.data()["location"])

	fix := v.fix(nearLat, homeLng)
	fix["accuracy"], fix["speed"], fix["heading"] = 8.5, 25.3, 90
	seq := h.post(t, v.trainer, updatesPath, fix).want(t, 201, "").data()["seq"]
	full := h.get(t, v.student, v.live("")).want(t, 200, "")
	assert.InDelta(t, seq, full.version(t), 0, "seq is the version that a live read shows")
	at := full.data()["location"].(map[string]any)
	assert.Equal(t, []any{nearLat, homeLng, 8.5, 25.3, 90.0}, []any{at["latitude"], at["longitude"], at["accuracy"], at["speed"], at["heading"]})
	for _, token := range []string{v.trainer, v.admin} {
		assert.Equal(t, full.data(), h.get(t, token, v.live("")).want(t, 200, "").data())
	}
	h.get(t, v.student, v.live(""), header("If-None-Match", full.etag())).want(t, 304, "")
	for _, token := range []string{v.otherStudent, v.otherTrainer, v.trainerAsStudent, v.studentAsTrainer} {
		h.get(t, token, v.live("")).want(t, 403, sessions.Forbidden)
	}
	h.get(t, v.student, livePath+"?sessionId="+string(sessions.NewID())).want(t, 404, sessions.SessionNotFound)
	h.get(t, v.student, livePath).want(t, 400, sessions.InvalidRequest)
	h.get(t, v.student, v.live("&wait=abc")).want(t, 400, sessions.InvalidRequest)

	h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
	ended := h.get(t, v.student, v.live("")).want(t, 200, "")
	assert.Equal(t, false, ended.data()["isActive"])
	assert.Nil(t, ended.data()["location"])
}

func contractArrived(t *testing.T, h *gateway) {
	v := h.begun(t)
	h.post(t, v.trainer, v.path("arrived"), nil).want(t, 400, sessions.NoFreshLocation)
	h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	outside := h.post(t, v.trainer, v.path("arrived"), nil).want(t, 400, sessions.NotWithinRadius)
	assert.InDelta(t, 1112, outside.fields["distanceMeters"], 2)
	assert.InDelta(t, 150, outside.fields["radiusMeters"], 0)
	h.Advance(61 * time.Second)
	h.post(t, v.trainer, v.path("arrived"), nil).want(t, 400, sessions.NoFreshLocation)
	inside := h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
	assert.Equal(t, true, inside.data()["arriving"])
	for _, token := range []string{v.otherTrainer, v.student, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, v.path("arrived"), nil).want(t, 403, sessions.Forbidden)
	}
	for _, c := range []struct {
		body any
		code sessions.Code
	}{
		{map[string]any{"latitude": nearLat}, sessions.InvalidRequest},
		{v.fix(91, homeLng), sessions.InvalidRequest},
		{map[string]any{"sessionId": sessions.NewID()}, sessions.InvalidRequest},
		{"[]", sessions.InvalidRequest},
	} {
		h.post(t, v.trainer, v.path("arrived"), c.body).want(t, 400, c.code)
	}
	h.post(t, v.trainer, v.path("arrived"), "<a/>", header("Content-Type", "text/xml")).want(t, 415, api.UnsupportedMediaType)
	h.Advance(10 * time.Second)
	h.post(t, v.trainer, v.path("arrived"), v.fix(farLat, homeLng)).want(t, 400, sessions.ImplausibleSpeed)
	h.Advance(10 * time.Second)
	h.post(t, v.trainer, v.path("arrived"), v.fix(homeLat+0.1, homeLng)).want(t, 400, sessions.ImplausibleJump)
	first := h.post(t, v.trainer, v.path("arrived"), map[string]any{"sessionId": v.id}).want(t, 200, "")
	assert.Equal(t, first.data(), h.post(t, v.trainer, v.path("arrived"), nil).want(t, 200, "").data(), "the same answer if repeated")
	assert.Equal(t, first.data(), h.post(t, v.trainer, v.path("arrived"), v.fix(farLat, homeLng)).want(t, 200, "").data(), "a repeat ignores its fix")

	for range 4 {
		h.Advance(10 * time.Minute)
		h.renew(t, v)
	}
	h.Advance(10 * time.Minute)
	h.post(t, v.trainer, v.path("arrived"), v.fix(nearLat, homeLng)).want(t, 429, sessions.OTPLocked)

	fresh := h.begun(t)
	h.post(t, fresh.trainer, fresh.path("arrived"), fresh.fix(farLat, homeLng)).want(t, 400, sessions.NotWithinRadius)
	h.Advance(time.Minute)
	h.post(t, fresh.admin, fresh.path("arrived"), fresh.fix(nearLat, homeLng)).want(t, 200, "") // for the trainer

	idle := h.book(t)
	h.post(t, idle.trainer, idle.path("arrived"), nil).want(t, 404, sessions.NoActiveJourney)
	h.post(t, v.trainer, nowhere("arrived"), nil).want(t, 404, sessions.SessionNotFound)
	h.post(t, v.trainer, base+"/admin/sessions/1/arrived", nil).want(t, 400, sessions.InvalidRequest)
}

func contractStop(t *testing.T, h *gateway) {
	v := h.begun(t)
	for _, token := range []string{v.otherTrainer, v.student, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, v.path("stop-journey"), nil).want(t, 403, sessions.Forbidden)
	}
	stopped := h.post(t, v.admin, v.path("stop-journey"), nil).want(t, 200, "").data()
	h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 404, sessions.NoActiveJourney)
	h.Advance(10*time.Minute - time.Second)
	assert.Equal(t, stopped, h.post(t, v.admin, v.path("stop-journey"), nil).want(t, 200, "").data(), "the same answer if repeated")
	h.Advance(2 * time.Second)
	h.post(t, v.admin, v.path("stop-journey"), nil).want(t, 404, sessions.NoActiveJourney)
	h.post(t, v.trainer, nowhere("stop-journey"), nil).want(t, 404, sessions.SessionNotFound)
	h.post(t, v.trainer, base+"/admin/sessions/1/stop-journey", nil).want(t, 400, sessions.InvalidRequest)
	h.Advance(time.Second)
	h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
	h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
}

func contractBook(t *testing.T, h *gateway) {
	v := h.book(t)
	path := base + "/admin/sessions"
	again := h.post(t, v.admin, path, v.booking()).want(t, 200, "").data()
	assert.Equal(t, "scheduled", again["status"])
	assert.Equal(t, "car", again["travelMode"])
	otherwise := v.booking()
	otherwise["travelMode"] = "walk"
	h.post(t, v.admin, path, otherwise).want(t, 409, sessions.SessionConflict)
	unnamed := v.booking()
	delete(unnamed, "sessionId")
	unnamed["scheduledAt"] = "2026-03-14T10:00:00.123456+05:30"
	made := h.post(t, v.admin, path, unnamed).want(t, 201, "").data()
	assert.NotEqual(t, string(v.id), made["sessionId"])
	assert.Equal(t, "2026-03-14T04:30:00.123Z", made["scheduledAt"])
	for _, token := range []string{v.trainer, v.student} {
		h.post(t, token, path, v.booking()).want(t, 403, sessions.Forbidden)
	}
	key := header("Idempotency-Key", "order-17")
	booked := h.post(t, v.admin, path, unnamed, key).want(t, 201, "").data()
	again = h.post(t, v.admin, path, unnamed, key).want(t, 200, "").data()
	assert.Equal(t, booked, again, "the same id, too")
	unnamed["travelMode"] = "walk"
	h.post(t, v.admin, path, unnamed, key).want(t, 409, sessions.SessionConflict)
	h.post(t, h.token(t, sessions.NewID(), sessions.Admin), path, unnamed, key).want(t, 201, "")
	for _, bad := range []string{"a b", "ö", strings.Repeat("k", 256)} {
		refused := h.post(t, v.admin, path, unnamed, header("Idempotency-Key", bad)).want(t, 400, sessions.InvalidRequest)
		assert.Equal(t, "Idempotency-Key", refused.fields["field"])
	}
	h.post(t, v.admin, path, `{}`).want(t, 400, sessions.InvalidRequest)
	h.post(t, v.admin, path, `a=b`, header("Content-Type", "application/x-www-form-urlencoded")).want(t, 415, api.UnsupportedMediaType)
}

func contractRead(t *testing.T, h *gateway) {
	v := h.atTheDoor(t)
	otp := h.arrive(t, v)
	for token, sees := range map[string]any{v.student: otp, v.admin: otp, v.trainer: nil} {
		got := h.get(t, token, v.path("")).want(t, 200, "").data()
		assert.Equal(t, "pending_verification", got["status"])
		assert.Equal(t, "arrived", got["journeyEndReason"])
		assert.Equal(t, sees, got["otp"])
	}
	for _, token := range []string{v.otherStudent, v.otherTrainer, v.trainerAsStudent, v.studentAsTrainer} {
		h.get(t, token, v.path("")).want(t, 403, sessions.Forbidden)
	}
	h.get(t, v.student, nowhere("")).want(t, 404, sessions.SessionNotFound)
	h.get(t, v.student, base+"/admin/sessions/1").want(t, 400, sessions.InvalidRequest)

	mine := h.get(t, v.student, base+"/students/me/sessions").want(t, 200, "").data()["sessions"].([]any)
	require.Len(t, mine, 1)
	assert.Equal(t, otp, mine[0].(map[string]any)["otp"])
	assert.Empty(t, h.get(t, v.trainerAsStudent, base+"/students/me/sessions").want(t, 200, "").data()["sessions"])
	for _, token := range []string{v.trainer, v.admin} {
		h.get(t, token, base+"/students/me/sessions").want(t, 403, sessions.Forbidden)
	}
}

func contractBatch(t *testing.T, h *gateway) {
	t.Helper()
	v := h.begun(t)
	h.Advance(20 * time.Second)
	member := func(ago time.Duration, lat float64) map[string]any {
		return map[string]any{"latitude": lat, "longitude": homeLng, "recordedAt": h.Now().Add(-ago)}
	}
	batch := map[string]any{"sessionId": v.id, "sentAt": h.Now(), "fixes": []any{
		member(time.Second, nearLat), member(3*time.Second, nearLat), "no fix", member(time.Hour, farLat),
		map[string]any{"latitude": 91, "longitude": 0},
		member(7*time.Second, nearLat), // without it the newest would be the first, which is a guess
	}}
	got := h.post(t, v.trainer, updatesPath, batch, off).want(t, 200, "").data()
	assert.Equal(t, string(v.id), got["sessionId"])
	assert.Equal(t, []any{2.0, 4.0}, got["malformed"])
	assert.Equal(t, map[string]any{
		"stored": 2.0, "stale": 1.0, "too_soon": 1.0, "low_accuracy": 0.0, "no_position": 0.0, "before_start": 0.0, "implausible_jump": 0.0, "implausible_speed": 0.0,
	}, got["counts"])
	assert.InDelta(t, 111, got["distanceMeters"], 1, "of the newest")
	assert.InDelta(t, 1, h.metric(t, "doorstep_updates_total", `verdict="stored_late"`), 0)
	assert.Equal(t, true, got["arriving"])
	live := h.get(t, v.student, v.live("")).want(t, 200, "").data()["location"].(map[string]any)
	assert.InDelta(t, nearLat, live["latitude"], 1e-9)

	h.Advance(5 * time.Second)
	again := h.post(t, v.trainer, updatesPath, batch, off).want(t, 200, "").data()
	assert.Equal(t, true, again["stale"], "a batch may be sent again")
	assert.Equal(t, got["seq"], again["seq"])
	assert.GreaterOrEqual(t, again["nextUpdateMs"], 1000.0)

	for _, fixes := range []any{[]any{}, []any{"x"}, "x", make([]any, 501)} {
		refused := h.post(t, v.trainer, updatesPath, map[string]any{"sessionId": v.id, "fixes": fixes}).want(t, 400, sessions.InvalidRequest)
		assert.Equal(t, "fixes", refused.fields["field"])
	}
	large := []any{}
	for range 500 { // over 16 KiB
		large = append(large, member(time.Hour, farLat))
	}
	h.post(t, v.trainer, updatesPath, map[string]any{"sessionId": v.id, "sentAt": h.Now(), "fixes": large}).want(t, 200, "")
	h.post(t, v.trainer, updatesPath, map[string]any{"sessionId": v.id, "fixes": large, "x": strings.Repeat("x", 1<<20)}).want(t, 413, api.PayloadTooLarge)
}

func contractVerify(t *testing.T, h *gateway) {
	v := h.atTheDoor(t)
	path := v.path("verify-otp")
	h.post(t, v.trainer, path, wrong("")).want(t, 409, sessions.NotPendingVerification)
	otp := h.arrive(t, v)
	for _, token := range []string{v.otherTrainer, v.student, v.admin, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, path, wrong(otp)).want(t, 403, sessions.Forbidden)
	}
	h.post(t, v.trainer, nowhere("verify-otp"), wrong(otp)).want(t, 404, sessions.SessionNotFound)
	h.post(t, v.trainer, path, map[string]string{"otp": "12345"}).want(t, 400, sessions.InvalidRequest)
	h.post(t, v.trainer, path, otp+"!", header("Content-Type", "text/plain")).want(t, 415, api.UnsupportedMediaType)
	for left := 4; left > 0; left-- {
		refused := h.post(t, v.trainer, path, wrong(otp)).want(t, 400, sessions.OTPWrong)
		assert.InDelta(t, left, refused.fields["attemptsLeft"], 0)
	}
	locked := h.post(t, v.trainer, path, wrong(otp)).want(t, 429, sessions.OTPLocked)
	assert.Equal(t, "600", locked.header.Get("Retry-After"))
	h.Advance(10 * time.Minute)
	h.post(t, v.trainer, path, map[string]string{"otp": otp}).want(t, 410, sessions.OTPExpired)
	otp = h.renew(t, v)
	begun := h.post(t, v.trainer, path, map[string]string{"otp": otp}).want(t, 200, "").data()
	assert.Equal(t, "in_progress", begun["status"])
	assert.Equal(t, begun, h.post(t, v.trainer, path, map[string]string{"otp": otp}).want(t, 200, "").data(), "the same answer if repeated")
	h.post(t, v.trainer, path, wrong(otp)).want(t, 409, sessions.NotPendingVerification)
}

func contractResend(t *testing.T, h *gateway) {
	v := h.atTheDoor(t)
	path := v.path("resend-otp")
	h.post(t, v.student, path, nil).want(t, 409, sessions.NotPendingVerification)
	h.arrive(t, v)
	expires := h.get(t, v.student, v.path("")).data()["otpExpiresAt"]
	for _, token := range []string{v.student, v.trainer, v.admin} {
		sent := h.post(t, token, path, nil).want(t, 200, "").data()
		assert.Equal(t, map[string]any{"sessionId": string(v.id), "expiresAt": expires}, sent)
		assert.Equal(t, "60", h.post(t, v.student, path, nil).want(t, 429, sessions.RateLimited).header.Get("Retry-After"))
		h.Advance(time.Minute)
	}
	for _, token := range []string{v.otherTrainer, v.otherStudent, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, path, nil).want(t, 403, sessions.Forbidden)
	}
	h.post(t, v.student, nowhere("resend-otp"), nil).want(t, 404, sessions.SessionNotFound)
	h.post(t, v.student, base+"/admin/sessions/1/resend-otp", nil).want(t, 400, sessions.InvalidRequest)
	h.lock(t, v)
	h.post(t, v.student, path, nil).want(t, 429, sessions.OTPLocked)
	h.Advance(10 * time.Minute)
	h.post(t, v.student, path, nil).want(t, 410, sessions.OTPExpired)
}

func contractUnlock(t *testing.T, h *gateway) {
	v := h.atTheDoor(t)
	path := v.path("unlock-otp")
	h.post(t, v.admin, path, nil).want(t, 409, sessions.NotPendingVerification)
	otp := h.arrive(t, v)
	for _, token := range []string{v.trainer, v.student, v.otherTrainer} {
		h.post(t, token, path, nil).want(t, 403, sessions.Forbidden)
	}
	h.lock(t, v)
	assert.Equal(t, "locked", h.get(t, v.student, v.path("")).data()["otpState"])
	assert.Equal(t, "active", h.post(t, v.admin, path, nil).want(t, 200, "").data()["otpState"])
	refused := h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 400, sessions.OTPWrong)
	assert.InDelta(t, 4, refused.fields["attemptsLeft"], 0)
	h.post(t, v.admin, nowhere("unlock-otp"), nil).want(t, 404, sessions.SessionNotFound)
	h.post(t, v.admin, base+"/admin/sessions/1/unlock-otp", nil).want(t, 400, sessions.InvalidRequest)
	h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}).want(t, 200, "")
}

func contractCancel(t *testing.T, h *gateway) {
	v := h.begun(t)
	path := v.path("cancel")
	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
	for _, token := range []string{v.trainer, v.otherStudent, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, path, nil).want(t, 403, sessions.Forbidden)
	}
	for _, bad := range []string{`{"reason":7}`, `{"reason":"\u0000"}`, `{"reason":"` + strings.Repeat("ö", 201) + `"}`} {
		assert.Equal(t, "reason", h.post(t, v.student, path, bad).want(t, 400, sessions.InvalidRequest).fields["field"])
	}
	h.post(t, v.student, path, `reason=ill`, header("Content-Type", "text/plain")).want(t, 415, api.UnsupportedMediaType)
	closed := h.post(t, v.student, path, `{"reason":"ill"}`).want(t, 200, "").data()
	assert.Equal(t, []any{"cancelled", "ill"}, []any{closed["status"], closed["reason"]})
	h.Advance(time.Minute)
	assert.Equal(t, closed, h.post(t, v.student, path, nil).want(t, 200, "").data(), "the same answer if repeated")
	h.post(t, v.admin, path, nil).want(t, 409, sessions.NotCancellable)
	live := h.get(t, v.student, v.live("")).want(t, 200, "").data()
	assert.Equal(t, []any{"ended", nil, false}, []any{live["phase"], live["location"], live["isActive"]}, "its journey ended with it")
	seen := h.get(t, v.student, v.path("")).want(t, 200, "").data()
	assert.Equal(t, []any{"cancelled", closed["closedAt"], "ill"}, []any{seen["status"], seen["closedAt"], seen["closeReason"]})
	h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 400, sessions.NotScheduled)

	atDoor := h.atTheDoor(t)
	h.arrive(t, atDoor)
	h.post(t, atDoor.student, atDoor.path("cancel"), nil).want(t, 409, sessions.NotCancellable)
	h.post(t, atDoor.admin, atDoor.path("cancel"), `{"reason":null}`).want(t, 200, "")
	h.post(t, v.admin, nowhere("cancel"), nil).want(t, 404, sessions.SessionNotFound)
	h.post(t, v.admin, base+"/admin/sessions/1/cancel", nil).want(t, 400, sessions.InvalidRequest)
}

func contractNoShow(t *testing.T, h *gateway) {
	v := h.atTheDoor(t)
	path := v.path("no-show")
	h.post(t, v.trainer, path, nil).want(t, 409, sessions.NotPendingVerification)
	h.arrive(t, v)
	for _, token := range []string{v.student, v.otherTrainer, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, path, nil).want(t, 403, sessions.Forbidden)
	}
	closed := h.post(t, v.trainer, path, nil).want(t, 200, "").data()
	assert.Equal(t, "no_show", closed["status"])
	assert.Equal(t, closed, h.post(t, v.trainer, path, nil).want(t, 200, "").data(), "the same answer if repeated")
	assert.NotContains(t, h.get(t, v.student, v.path("")).want(t, 200, "").data(), "otpState")
	h.post(t, v.trainer, nowhere("no-show"), nil).want(t, 404, sessions.SessionNotFound)
	h.post(t, v.trainer, base+"/admin/sessions/1/no-show", nil).want(t, 400, sessions.InvalidRequest)
	notSupported(t, h)
}

func contractRebook(t *testing.T, h *gateway) {
	v := h.begun(t)
	patch := func(token, path string, body any) answer {
		text, err := jsonOf(body)
		require.NoError(t, err)
		return h.do(t, http.MethodPatch, token, path, text)
	}
	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
	moved := patch(v.admin, v.path(""), map[string]any{
		"studentHome": map[string]any{"latitude": farLat, "longitude": homeLng}, "scheduledAt": "2026-03-14T10:00:00.123456+05:30", "travelMode": "bike",
		"trainerId": nil,
	}).want(t, 200, "").data()
	assert.Equal(t, []any{map[string]any{"latitude": farLat, "longitude": homeLng}, "2026-03-14T04:30:00.123Z", "bike"},
		[]any{moved["studentHome"], moved["scheduledAt"], moved["travelMode"]})
	live := h.get(t, v.student, v.live("")).want(t, 200, "")
	assert.InDelta(t, 1001, live.data()["distanceMeters"], 2, "the fence has moved")

	wait := h.wait(t, v.student, v, "&wait=30", header("If-None-Match", live.etag()))
	patch(v.admin, v.path(""), map[string]any{"studentId": sessions.NewID()}).want(t, 200, "")
	wait.want(t, 403, sessions.Forbidden)
	h.get(t, v.student, v.live("")).want(t, 403, sessions.Forbidden)

	other := sessions.NewID()
	ended := patch(v.admin, v.path(""), map[string]any{"trainerId": other}).want(t, 200, "").data()
	assert.Equal(t, []any{string(other), "cancelled", "scheduled"}, []any{ended["trainerId"], ended["journeyEndReason"], ended["status"]})
	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 403, sessions.Forbidden)
	h.post(t, h.token(t, other, sessions.Trainer), v.path("start-journey"), nil).want(t, 201, "")

	for field, bad := range map[string]any{
		"trainerId": "x", "studentId": other, "scheduledAt": "tomorrow", "travelMode": "boat",
		"studentHome.latitude": nil,
	} {
		body := map[string]any{field: bad}
		if strings.HasPrefix(field, "studentHome") {
			body = map[string]any{"studentHome": map[string]any{"longitude": 1}}
		}
		assert.Equal(t, field, patch(v.admin, v.path(""), body).want(t, 400, sessions.InvalidRequest).fields["field"])
	}
	for _, token := range []string{v.trainer, v.student, v.otherStudent} {
		patch(token, v.path(""), map[string]any{}).want(t, 403, sessions.Forbidden)
	}
	h.do(t, http.MethodPatch, v.admin, v.path(""), []byte(`a=b`), header("Content-Type", "text/plain")).want(t, 415, api.UnsupportedMediaType)
	patch(v.admin, nowhere(""), map[string]any{}).want(t, 404, sessions.SessionNotFound)
	patch(v.admin, base+"/admin/sessions/1", map[string]any{}).want(t, 400, sessions.InvalidRequest)
	done := h.atTheDoor(t)
	h.arrive(t, done)
	patch(v.admin, done.path(""), map[string]any{}).want(t, 409, sessions.NotChangeable)
}

func contractLists(t *testing.T, h *gateway) {
	v := h.book(t)
	for range 4 {
		h.bookFor(t, v.trainerID, v.studentID)
	}
	h.post(t, v.student, v.path("cancel"), nil).want(t, 200, "")
	all := base + "/admin/sessions?trainerId=" + string(v.trainerID)
	for _, c := range []struct{ token, path string }{
		{v.student, base + "/students/me/sessions?"}, {v.trainer, base + "/trainers/me/sessions?"}, {v.admin, all + "&"},
	} {
		seen, cursor := map[any]bool{}, ""
		for _, want := range []int{2, 2, 1} {
			page := h.get(t, c.token, c.path+"limit=2"+cursor).want(t, 200, "").data()
			list := page["sessions"].([]any)
			require.Len(t, list, want)
			for _, s := range list {
				s := s.(map[string]any)
				seen[s["sessionId"]] = true
				hidden := c.token == v.trainer && s["status"] == "cancelled"
				assert.Equal(t, hidden, s["studentHome"] == nil, "the trainer's home of a session that is over")
			}
			next, more := page["nextCursor"].(string)
			require.Equal(t, want == 2, more)
			cursor = "&cursor=" + next
		}
		assert.Len(t, seen, 5)
		for query, field := range map[string]string{"limit=0": "limit", "limit=201": "limit", "limit=x": "limit", "cursor=x": "cursor", "cursor=Lng": "cursor"} {
			assert.Equal(t, field, h.get(t, c.token, c.path+query).want(t, 400, sessions.InvalidRequest).fields["field"])
		}
	}
	count := func(query string) int {
		return len(h.get(t, v.admin, all+query).want(t, 200, "").data()["sessions"].([]any))
	}
	assert.Equal(t, []int{1, 4, 5, 0}, []int{
		count("&status=cancelled"), count("&status=scheduled&studentId=" + string(v.studentID)), count(""), count("&from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z"),
	})
	for query, field := range map[string]string{"&status=lost": "status", "&studentId=1": "studentId", "&from=today": "from", "&to=1999-01-01T00:00:00Z": "to"} {
		assert.Equal(t, field, h.get(t, v.admin, all+query).want(t, 400, sessions.InvalidRequest).fields["field"])
	}
	for _, token := range []string{v.trainer, v.student} {
		h.get(t, token, all).want(t, 403, sessions.Forbidden)
	}
	for _, token := range []string{v.student, v.admin} {
		h.get(t, token, base+"/trainers/me/sessions").want(t, 403, sessions.Forbidden)
	}
}

func contractJourneys(t *testing.T, h *gateway) {
	path := base + "/admin/journeys"
	v := h.begun(t)
	h.Advance(time.Second)
	second := h.atTheDoor(t)
	first := h.get(t, v.admin, path+"?limit=1").want(t, 200, "").data()
	assert.Equal(t, string(v.id), first["journeys"].([]any)[0].(map[string]any)["sessionId"], "the longest running first")
	page := h.get(t, v.admin, path+"?cursor="+first["nextCursor"].(string)).want(t, 200, "").data()
	require.Len(t, page["journeys"], 1)
	assert.Nil(t, page["nextCursor"])
	assert.Equal(t, []any{}, page["journeys"].([]any)[0].(map[string]any)["flags"])
	h.Advance(7 * time.Second)
	one := h.get(t, v.admin, path+"?trainerId="+string(second.trainerID)).want(t, 200, "").data()["journeys"].([]any)
	require.Len(t, one, 1)
	at := one[0].(map[string]any)
	assert.Equal(t, []any{string(second.id), "arriving", "car"}, []any{at["sessionId"], at["phase"], at["travelMode"]})
	assert.InDelta(t, 111, at["distanceMeters"], 2)
	assert.InDelta(t, nearLat, at["location"].(map[string]any)["latitude"], 0.001)
	assert.InDelta(t, 7, at["silentSeconds"], 0)
	silent := h.get(t, v.admin, path+"?trainerId="+string(v.trainerID)).want(t, 200, "").data()["journeys"].([]any)[0].(map[string]any)
	assert.Nil(t, silent["location"])
	assert.GreaterOrEqual(t, silent["silentSeconds"], 8.0, "since the start")
	faked := second.fix(nearLat, homeLng)
	faked["mock"] = true
	h.post(t, second.trainer, updatesPath, faked).want(t, 201, "")
	flagged := h.get(t, v.admin, path+"?trainerId="+string(second.trainerID)).want(t, 200, "").data()["journeys"].([]any)[0].(map[string]any)
	assert.Equal(t, []any{"mock"}, flagged["flags"])
	for _, token := range []string{v.trainer, v.student} {
		h.get(t, token, path).want(t, 403, sessions.Forbidden)
	}
	for query, field := range map[string]string{"?trainerId=1": "trainerId", "?limit=0": "limit", "?cursor=x": "cursor"} {
		assert.Equal(t, field, h.get(t, v.admin, path+query).want(t, 400, sessions.InvalidRequest).fields["field"])
	}
}

func contractRating(t *testing.T, h *gateway) {
	v := h.inLesson(t)
	path := base + "/trainers/" + string(v.trainerID) + "/rating"
	assert.Equal(t, map[string]any{"average": nil, "count": 0.0}, h.get(t, v.otherStudent, path).want(t, 200, "").data())
	h.post(t, v.trainer, v.path("complete"), nil).want(t, 200, "")
	h.post(t, v.student, v.reviewPath(), `{"rating":4}`).want(t, 201, "")
	for _, token := range []string{v.otherStudent, v.trainer, v.admin} {
		assert.Equal(t, map[string]any{"average": 4.0, "count": 1.0}, h.get(t, token, path).want(t, 200, "").data())
	}
	h.get(t, v.student, base+"/trainers/1/rating").want(t, 400, sessions.InvalidRequest)
}

func contractHistory(t *testing.T, h *gateway) {
	v := h.begun(t)
	h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
	entries, next := h.history(t, v, "?limit=2")
	assert.Equal(t, []string{"booked", "journey_started"}, kindsOf(entries))
	entries, none := h.history(t, v, "?limit=2&cursor="+next.(string))
	assert.Equal(t, "journey_ended", kindsOf(entries)[0])
	assert.Nil(t, none)
	for _, token := range []string{v.trainer, v.student} {
		h.get(t, token, v.path("history")).want(t, 403, sessions.Forbidden)
	}
	h.get(t, v.admin, nowhere("history")).want(t, 404, sessions.SessionNotFound)
	for _, query := range []string{"?limit=0", "?limit=201", "?cursor=x", "?cursor=" + next.(string) + "x"} {
		h.get(t, v.admin, v.path("history")+query).want(t, 400, sessions.InvalidRequest)
	}
}

func contractUserData(t *testing.T, h *gateway) {
	v := h.inLesson(t)
	path := func(id sessions.ID) string { return base + "/admin/users/" + string(id) + "/data" }
	erase := func(token string, id sessions.ID) answer { return h.do(t, http.MethodDelete, token, path(id), nil) }
	h.post(t, v.trainer, v.path("complete"), nil).want(t, 200, "")
	h.post(t, v.student, v.reviewPath(), `{"rating":4,"comment":"good"}`).want(t, 201, "")
	future := h.bookFor(t, v.trainerID, v.studentID)
	// An activity of the session that is over would go with its last push.
	h.do(t, http.MethodPut, v.student, pushTokensPath, []byte(`{"token":"of-the-student","platform":"ios","liveActivity":{"sessionId":"`+string(future.id)+`","token":"0aF1"}}`)).want(t, 204, "")
	kept := h.get(t, v.admin, path(v.studentID)).want(t, 200, "").data()
	assert.Equal(t, []int{2, 1, 1}, []int{len(kept["sessions"].([]any)), len(kept["reviews"].([]any)), len(kept["devices"].([]any))})
	assert.Equal(t, map[string]any{"sessionId": string(future.id), "token": "0aF1"}, kept["devices"].([]any)[0].(map[string]any)["liveActivity"])
	assert.Contains(t, fmt.Sprint(kept["history"]), string(v.studentID))
	assert.Equal(t, map[string]any{"average": 4.0, "count": 1.0}, h.get(t, v.admin, path(v.trainerID)).want(t, 200, "").data()["rating"])
	for _, token := range []string{v.trainer, v.student} {
		h.get(t, token, path(v.studentID)).want(t, 403, sessions.Forbidden)
		erase(token, v.studentID).want(t, 403, sessions.Forbidden)
	}
	h.get(t, v.admin, path("1")).want(t, 400, sessions.InvalidRequest)
	erase(v.admin, "1").want(t, 400, sessions.InvalidRequest)

	running := h.begun(t)
	refused := erase(v.admin, running.studentID).want(t, 409, sessions.JourneyRunning)
	assert.Equal(t, string(running.id), refused.fields["journey"].(map[string]any)["sessionId"])
	if h.databaseURL != "" {
		first := erase(v.admin, v.studentID).want(t, 202, "").data()
		assert.GreaterOrEqual(t, first["pendingEvents"], 1.0, "the cancellation")
	}
	until(t, func() bool { return erase(v.admin, v.studentID).status == 204 }, "the events are delivered")
	assert.Empty(t, h.get(t, v.admin, path(v.studentID)).want(t, 200, "").data()["sessions"])
	assert.Equal(t, "cancelled", h.get(t, v.trainer, future.path("")).want(t, 200, "").data()["status"])
	h.get(t, v.student, v.path("")).want(t, 403, sessions.Forbidden)
	seen := h.get(t, v.admin, v.path("")).want(t, 200, "").data()
	assert.Nil(t, seen["studentHome"])
	assert.NotEqual(t, string(v.studentID), seen["studentId"])
	entries, _ := h.history(t, v, "")
	assert.NotContains(t, fmt.Sprint(entries), string(v.studentID))
	foreignKey(t, h)
}

// foreignKey is a user whom the operator's own table does not let go.
func foreignKey(t *testing.T, h *gateway) {
	t.Helper()
	if h.databaseURL == "" {
		return
	}
	v := h.book(t)
	h.post(t, v.student, v.path("cancel"), nil).want(t, 200, "")
	h.constrain(t, `id <> '`+string(v.id)+`' OR student_id = '`+string(v.studentID)+`'`)
	until(t, func() bool {
		a := h.do(t, http.MethodDelete, v.admin, base+"/admin/users/"+string(v.studentID)+"/data", nil)
		return a.code() == string(sessions.NotSupported)
	}, "refused once its events are delivered")
}

// constrain gives the table a CHECK of the operator's own.
func (h *gateway) constrain(t *testing.T, check string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), `ALTER TABLE tutoring_sessions ADD CONSTRAINT theirs CHECK (`+check+`) NOT VALID`)
	require.NoError(t, err)
}

// notSupported is a session in a table that has no status no_show.
func notSupported(t *testing.T, h *gateway) {
	t.Helper()
	if h.databaseURL == "" {
		return
	}
	h.constrain(t, `status <> 'no_show'`)
	v := h.atTheDoor(t)
	h.arrive(t, v)
	h.post(t, v.admin, v.path("no-show"), nil).want(t, 409, sessions.NotSupported)
}

// lock makes the trainer, who has arrived, guess until the OTP is locked.
func (h *gateway) lock(t testing.TB, v visit) {
	t.Helper()
	otp, _ := h.get(t, v.student, v.path("")).want(t, 200, "").data()["otp"].(string)
	for range 4 {
		h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 400, sessions.OTPWrong)
	}
	h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 429, sessions.OTPLocked)
}

func contractHealth(t *testing.T, h *gateway) {
	h.get(t, "", "/healthz").want(t, 200, "")
	assert.Equal(t, "serving", h.get(t, "", "/readyz").want(t, 200, "").data()["lifecycle"])
	h.get(t, "", "/openapi.yaml").want(t, 200, "")
}

func contractAnywhere(t *testing.T, h *gateway) {
	h.get(t, "", "/nothing").want(t, 404, api.RouteNotFound)
	h.get(t, "", "/metrics").want(t, 404, api.RouteNotFound)
	h.get(t, "", "/debug/pprof/").want(t, 404, api.RouteNotFound)
	h.do(t, http.MethodDelete, "", "/healthz", nil).want(t, 405, api.MethodNotAllowed)
	h.get(t, "", updatesPath).want(t, 405, api.MethodNotAllowed)
}

func nowhere(verb string) string { return visit{id: sessions.NewID()}.path(verb) }

// call is one operation of the document with a valid request.
type call struct {
	op           *openapi3.Operation
	method, path string
	body         []byte
	open         bool // needs no token
	link         bool // needs a share link's
}

// calls lists the document's operations; id is the session they name.
func calls(t testing.TB, id sessions.ID) []call {
	t.Helper()
	var all []call
	for path, item := range readDocument(t).Paths.Map() {
		for method, op := range item.Operations() {
			if op.Extensions["x-stock-app"] != nil {
				continue // reportCalls
			}
			c := call{op: op, method: method, path: strings.NewReplacer("{sessionId}", string(id), "{trainerId}", string(id), "{userId}", string(id), "{deviceId}", string(id), "{linkId}", string(id)).Replace(path)}
			if op.OperationID == "readLive" {
				c.path += "?sessionId=" + string(id)
			}
			if op.RequestBody != nil {
				text, err := openAPIExample(op.RequestBody.Value, id)
				require.NoError(t, err)
				c.body = text
			}
			c.open = op.Security != nil && len(*op.Security) == 0
			c.link = op.OperationID == "readShared"
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b call) int { return strings.Compare(a.op.OperationID, b.op.OperationID) })
	require.NotEmpty(t, all)
	return all
}

func openAPIExample(body *openapi3.RequestBody, id sessions.ID) ([]byte, error) {
	example := maps.Clone(body.Content.Get("application/json").Example.(map[string]any))
	if _, ok := example["sessionId"]; ok {
		example["sessionId"] = id
	}
	return jsonOf(example)
}

func everyCallWithoutToken(t *testing.T, seen *coverage) {
	h := open(t, embedded)
	h.seen = seen
	for _, c := range calls(t, sessions.NewID()) {
		if c.open || c.link {
			continue
		}
		h.do(t, c.method, "", c.path, c.body).want(t, 401, api.Unauthenticated)
	}
}

func everyCallTooLarge(t *testing.T, seen *coverage) {
	h := open(t, embedded)
	h.seen = seen
	admin := h.token(t, sessions.NewID(), sessions.Admin)
	for _, c := range calls(t, sessions.NewID()) {
		h.do(t, c.method, admin, c.path, bytes.Repeat([]byte(" "), 16<<10+1)).want(t, 413, api.PayloadTooLarge)
		h.do(t, c.method, admin, c.path, c.body, header("X-Flood", strings.Repeat("x", 16<<10))).want(t, 431, api.HeadersTooLarge)
	}
}

func everyCallMalformed(t *testing.T, seen *coverage) {
	h := open(t, embedded)
	h.seen = seen
	for _, c := range calls(t, sessions.NewID()) {
		h.raw(t, c, c.method+" "+c.path+" HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").want(t, 400, sessions.InvalidRequest)
	}
}

func everyCallTooSlow(t *testing.T, seen *coverage) {
	h := open(t, embedded, func(o *app.Options) { o.ReadTimeout = 200 * time.Millisecond })
	h.seen = seen
	for _, c := range calls(t, sessions.NewID()) {
		t.Run(c.op.OperationID, func(t *testing.T) {
			t.Parallel()
			h.raw(t, c, c.method+" "+c.path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{").want(t, 408, api.RequestTimeout)
		})
	}
}

// raw sends text as it is and reads the answer as an answer to c.
func (h *gateway) raw(t *testing.T, c call, text string) answer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), c.method, h.url+c.path, nil)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	a, err := read(t, h.seen, req, nil, res)
	require.NoError(t, err)
	return a
}

// A token that needs a key of a JWKS, and a JWKS that nobody serves.
func everyCallWithoutKeys(t *testing.T, seen *coverage) {
	h := open(t, embedded, func(o *app.Options) {
		o.JWTSecret, o.JWKSURL, o.JWTUnchecked = "", "http://"+unusedAddress(t)+"/jwks", true
	})
	h.seen = seen
	token := handmade(t, map[string]any{"alg": "RS256", "kid": "1"}, map[string]any{"sub": sessions.NewID()}, []byte("x"))
	for _, c := range calls(t, sessions.NewID()) {
		if c.open || c.link {
			continue
		}
		h.do(t, c.method, token, c.path, c.body).want(t, 503, api.KeysUnavailable)
	}
	h.get(t, "", "/readyz").want(t, 503, "")
	h.get(t, "", "/healthz").want(t, 200, "")
}

func unusedAddress(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// panics stands for every part of the gateway, and panics where it is asked.
type panics struct{}

func (panics) Verify(context.Context, []byte) (sessions.Caller, error) { panic("broken") }
func (panics) Answered(string, string, int, string, time.Duration, string, string) {
}
func (panics) Updated(string)               {}
func (panics) Flagged(string)               {}
func (panics) Arrived(string)               {}
func (panics) CodeTried(string)             {}
func (panics) Unauthenticated(string)       {}
func (panics) Shed(string)                  {}
func (panics) Reported(string, string, int) {}
func (panics) ConnShed(string)              {}
func (panics) RequestRefused(int)           {}
func (panics) Panicked()                    {}

func everyCallBroken(t *testing.T, seen *coverage) {
	h := brokenGateway(t)
	h.seen = seen
	for _, c := range calls(t, sessions.NewID()) {
		if !c.open || c.op.OperationID == "readyz" {
			h.do(t, c.method, "token", c.path, c.body).want(t, 500, sessions.Internal)
		}
	}
}

// A gateway that refuses every request as overloaded is still healthy.
func everyCallOverloaded(t *testing.T, seen *coverage) {
	h := open(t, embedded, func(o *app.Options) { o.MaxInFlight = -1 })
	h.seen = seen
	n := 0.0
	for _, c := range calls(t, sessions.NewID()) {
		if c.open {
			h.do(t, c.method, "", c.path, c.body).want(t, 200, "")
			continue
		}
		refused := h.do(t, c.method, "", c.path, c.body).want(t, 503, api.Overloaded)
		assert.Equal(t, "1", refused.header.Get("Retry-After"))
		n++
	}
	assert.InDelta(t, n, h.metric(t, "doorstep_requests_shed_total", `reason="in_flight"`), 0)
}

// A caller may send one request in a thousand seconds; the second is refused.
// Admins have no limit.
func everyCallTooMany(t *testing.T, seen *coverage) {
	h := open(t, embedded, func(o *app.Options) { o.CallerRate, o.CallerBurst = 0.001, 1 })
	h.seen = seen
	n := 0.0
	for _, c := range calls(t, sessions.NewID()) {
		if c.open || c.link {
			continue
		}
		id := sessions.NewID()
		h.get(t, h.token(t, id, sessions.Trainer), nowhere("")).want(t, 404, sessions.SessionNotFound)
		refused := h.do(t, c.method, h.token(t, id, sessions.Student), c.path, c.body).want(t, 429, sessions.RateLimited)
		assert.Equal(t, "1000", refused.header.Get("Retry-After"), "the limit is per caller, in every role")
		n++
	}
	assert.InDelta(t, n, h.metric(t, "doorstep_requests_shed_total", `reason="caller_rate"`), 0)
	admin := h.token(t, sessions.NewID(), sessions.Admin)
	for range 3 {
		h.get(t, admin, nowhere("")).want(t, 404, sessions.SessionNotFound)
	}
}

func withoutDatabase(t *testing.T, seen *coverage) {
	database := postgrestest.Private(t)
	h := open(t, embedded, func(o *app.Options) { o.DatabaseURL, o.PublicURL = migrated(t, database.DSN()), publicURL })
	h.seen = seen
	v, cold := h.begun(t), h.book(t)
	h.get(t, v.student, v.live("")).want(t, 200, "")
	link, _ := h.share(t, h.book(t)) // not of cold, which would be asked about as long as somebody waits for it
	shared := h.sendTo(t, link, sharedPath+"?wait=2", ifNoneMatch(h.watch(t, link).want(t, 200, "").etag()))
	require.NoError(t, database.Stop())

	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "") // not on this path
	h.settle(t, v)
	h.get(t, v.student, v.live("")).want(t, 200, "") // its meta is cached
	h.post(t, v.trainer, v.path("arrived"), nil).want(t, 503, sessions.DatabaseUnavailable)
	h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 503, sessions.DatabaseUnavailable)
	h.get(t, cold.student, cold.live("")).want(t, 503, sessions.DatabaseUnavailable)
	h.post(t, cold.trainer, cold.path("start-journey"), nil).want(t, 503, sessions.DatabaseUnavailable)
	h.post(t, v.trainer, v.path("verify-otp"), wrong("")).want(t, 503, sessions.DatabaseUnavailable)
	h.get(t, v.student, v.path("")).want(t, 503, sessions.DatabaseUnavailable)
	h.get(t, v.student, base+"/students/me/sessions").want(t, 503, sessions.DatabaseUnavailable)
	h.get(t, v.trainer, base+"/trainers/me/sessions").want(t, 503, sessions.DatabaseUnavailable)
	for _, path := range []string{"/admin/sessions", "/admin/journeys", "/trainers/" + string(v.trainerID) + "/rating", "/admin/sessions/" + string(v.id) + "/history"} {
		h.get(t, v.admin, base+path).want(t, 503, sessions.DatabaseUnavailable)
	}
	h.post(t, v.trainer, v.path("complete"), nil).want(t, 503, sessions.DatabaseUnavailable)
	for _, verb := range []string{"resend-otp", "unlock-otp", "cancel", "no-show"} {
		h.post(t, v.admin, v.path(verb), nil).want(t, 503, sessions.DatabaseUnavailable)
	}
	h.post(t, v.student, v.reviewPath(), `{"rating":5}`).want(t, 503, sessions.DatabaseUnavailable)
	h.do(t, http.MethodPatch, v.admin, v.path(""), []byte(`{"travelMode":"walk"}`)).want(t, 503, sessions.DatabaseUnavailable)
	h.get(t, v.admin, base+"/admin/users/"+string(v.studentID)+"/data").want(t, 503, sessions.DatabaseUnavailable)
	h.do(t, http.MethodDelete, v.admin, base+"/admin/users/"+string(v.studentID)+"/data", nil).want(t, 503, sessions.DatabaseUnavailable)
	device := []byte(`{"token":"a","platform":"web"}`)
	h.do(t, http.MethodPut, v.student, pushTokensPath, device).want(t, 503, sessions.DatabaseUnavailable)
	h.do(t, http.MethodDelete, v.student, pushTokensPath, device).want(t, 503, sessions.DatabaseUnavailable)
	h.post(t, v.trainer, devicesPath, `{"format":"osmand"}`).want(t, 503, sessions.DatabaseUnavailable)
	h.get(t, v.trainer, devicesPath).want(t, 503, sessions.DatabaseUnavailable)
	h.do(t, http.MethodDelete, v.trainer, devicesPath+"/"+string(v.id), nil).want(t, 503, sessions.DatabaseUnavailable)
	h.post(t, v.student, v.links(), nil).want(t, 503, sessions.DatabaseUnavailable)
	h.get(t, v.student, v.links()).want(t, 503, sessions.DatabaseUnavailable)
	h.do(t, http.MethodDelete, v.student, v.links()+"/"+string(v.id), nil).want(t, 503, sessions.DatabaseUnavailable)
	shared.want(t, 503, sessions.DatabaseUnavailable) // no earlier answer holds for a link
	for _, token := range []string{link, "unknown"} {
		h.watch(t, token).want(t, 503, sessions.DatabaseUnavailable)
	}
	h.get(t, v.trainer, devicesPath+"/"+string(v.id)+"/setup").want(t, 503, sessions.DatabaseUnavailable)
	booking := cold.booking()
	booking["sessionId"] = sessions.NewID()
	h.post(t, v.admin, base+"/admin/sessions", booking).want(t, 503, sessions.DatabaseUnavailable)
	h.post(t, cold.trainer, updatesPath, cold.fix(nearLat, homeLng)).want(t, 202, "") // its owner cannot be checked; nothing is stored
	h.get(t, "", "/readyz").want(t, 200, "")

	require.NoError(t, database.Restart(t.Context()))
	until(t, func() bool {
		return h.get(t, v.student, v.path("")).status == 200 && h.metric(t, "doorstep_database_breaker_state", `state="closed"`) == 1
	}, "well again, a second after the breaker opened")
	assert.Equal(t, "scheduled", h.get(t, v.student, v.path("")).want(t, 200, "").data()["status"], "nothing was changed")
	h.post(t, v.trainer, v.path("arrived"), nil).want(t, 200, "")
	h.get(t, v.admin, visit{id: booking["sessionId"].(sessions.ID)}.path("")).want(t, 404, sessions.SessionNotFound)
}

func withoutLiveStore(t *testing.T, seen *coverage) {
	store := valkeytest.Private(t, valkeyserver.Valkey)
	h := open(t, servers, func(o *app.Options) { o.ValkeyURL = store.URL(); o.ValkeyTimeout = 250 * time.Millisecond })
	h.seen = seen
	v, idle := h.atTheDoor(t), h.book(t)
	before := h.get(t, v.student, v.live("")).want(t, 200, "")
	link, _ := h.share(t, v)
	shared := h.sendTo(t, link, sharedPath+"?wait=2", ifNoneMatch(h.watch(t, link).want(t, 200, "").etag()))
	require.NoError(t, store.Kill())

	for _, token := range []string{link, "unknown"} {
		h.watch(t, token).want(t, 503, sessions.LiveStoreUnavailable)
	}
	shared.want(t, 503, sessions.LiveStoreUnavailable)
	unstored := h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 202, "").data()
	assert.Equal(t, false, unstored["stored"])
	degraded := h.get(t, v.student, v.live(""), header("If-None-Match", before.etag())).want(t, 200, "")
	assert.Equal(t, []any{true, true, nil}, []any{degraded.data()["degraded"], degraded.data()["isActive"], degraded.data()["location"]})
	assert.Empty(t, degraded.etag(), "no version to compare with")
	assert.Empty(t, h.get(t, v.student, v.live("&wait=1"), header("If-None-Match", before.etag())).want(t, 304, "").etag())
	refused := h.post(t, v.trainer, v.path("arrived"), nil).want(t, 503, sessions.LiveStoreUnavailable)
	assert.NotEmpty(t, refused.header.Get("Retry-After"))
	listed := h.get(t, v.admin, base+"/admin/journeys").want(t, 200, "").data()["journeys"].([]any)
	assert.Equal(t, true, listed[0].(map[string]any)["degraded"])
	h.post(t, idle.trainer, idle.path("start-journey"), nil).want(t, 201, "")
	h.post(t, idle.trainer, idle.path("stop-journey"), nil).want(t, 200, "")
	for _, token := range []string{v.otherStudent, v.otherTrainer} { // ownership never fails open
		h.get(t, token, v.live("")).want(t, 403, sessions.Forbidden)
	}

	h.Advance(time.Second)
	require.NoError(t, store.Restart(t.Context())) // with no data
	until(t, func() bool {
		return h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).status == 201
	}, "healed by the next update")
	after := h.get(t, v.student, v.live("")).want(t, 200, "")
	assert.Greater(t, after.version(t), before.version(t))
	anew := h.post(t, v.trainer, v.path("arrived"), nil).want(t, 400, sessions.SuspiciousLocation) // the track began anew
	assert.Equal(t, "60", anew.header.Get("Retry-After"))
	h.Advance(time.Minute)
	h.settle(t, v)
	h.post(t, v.trainer, v.path("arrived"), nil).want(t, 200, "")
}

// What cannot be ended must not be shown: a live store that takes no writes is away.
func withoutWrites(t *testing.T, seen *coverage) {
	store := valkeytest.Private(t, valkeyserver.Valkey)
	h := open(t, servers, func(o *app.Options) { o.ValkeyURL = store.URL() })
	h.seen = seen
	v, stopped := h.atTheDoor(t), h.atTheDoor(t)
	valkey(t, store.URL(), "CONFIG", "SET", "min-replicas-to-write", "1")
	h.post(t, stopped.trainer, stopped.path("stop-journey"), nil).want(t, 200, "")
	over := h.get(t, stopped.student, stopped.live("")).want(t, 200, "").data()
	assert.Equal(t, []any{true, false, nil, "ended"}, []any{over["degraded"], over["isActive"], over["location"], over["phase"]}, "at once")
	until(t, func() bool { return h.get(t, v.student, v.live("")).want(t, 200, "").data()["degraded"] == true }, "and for every journey")
	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 202, "")
	h.post(t, v.trainer, v.path("arrived"), nil).want(t, 503, sessions.LiveStoreUnavailable)

	valkey(t, store.URL(), "CONFIG", "SET", "min-replicas-to-write", "0")
	until(t, func() bool { return h.get(t, v.student, v.live("")).data()["degraded"] == nil }, "well again")
	assert.NotNil(t, h.get(t, v.student, v.live("")).data()["location"])
	until(t, func() bool {
		over := h.get(t, stopped.student, stopped.live("")).data()
		return over["degraded"] == nil && over["location"] == nil && over["phase"] == "ended"
	}, "ended there, too")
}

func tooManyWaits(t *testing.T, seen *coverage) {
	h := open(t, embedded, func(o *app.Options) { o.MaxWaitsPerCaller = 1 })
	h.seen = seen
	v := h.begun(t)
	w := h.wait(t, v.student, v, "&wait=30")
	newest := h.send(t, v.student, v, "&wait=30")
	assert.Equal(t, "5", w.want(t, 429, api.TooManyWaits).header.Get("Retry-After"))
	h.get(t, v.student, v.live("")).want(t, 200, "") // a read without wait is not counted
	h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
	newest.want(t, 200, "")
}

// waiting is an open long poll.
type waiting struct {
	answered chan answer
	cancel   context.CancelFunc
}

// wait sends a long poll and returns once the gateway counts it.
func (h *gateway) wait(t testing.TB, token string, v visit, query string, edits ...edit) waiting {
	t.Helper()
	before := h.metric(t, "doorstep_waits_open")
	w := h.sendTo(t, token, v.live(query), edits...)
	until(t, func() bool { return h.metric(t, "doorstep_waits_open") > before }, "the poll waits")
	return w
}

// send sends a long poll.
func (h *gateway) send(t testing.TB, token string, v visit, query string, edits ...edit) waiting {
	t.Helper()
	return h.sendTo(t, token, v.live(query), edits...)
}

func (h *gateway) sendTo(t testing.TB, token, path string, edits ...edit) waiting {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := waiting{answered: make(chan answer, 1), cancel: cancel}
	t.Cleanup(cancel)
	go func() {
		a, err := h.try(ctx, t, http.MethodGet, token, path, nil, edits...) //nolint:testifylint // a failure here only fails to send, and the receiver fails
		if err == nil {
			w.answered <- a
		}
		close(w.answered)
	}()
	return w
}

func (w waiting) want(t testing.TB, status int, code sessions.Code) answer {
	t.Helper()
	return w.any(t).want(t, status, code)
}

// any is the answer of a poll, whatever it is.
func (w waiting) any(t testing.TB) answer {
	t.Helper()
	return w.within(t, patience)
}

func (w waiting) within(t testing.TB, d time.Duration) answer {
	t.Helper()
	select {
	case a, ok := <-w.answered:
		require.True(t, ok, "the poll ended without an answer")
		return a
	case <-time.After(d):
		require.FailNow(t, "the poll was not answered", fmt.Sprint(d))
		return answer{}
	}
}
