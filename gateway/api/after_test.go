package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api"
	"doorstep/sessions"
)

const pushTokensPath = base + "/me/push-tokens"

func (v visit) reviewPath() string { return base + "/students/sessions/" + string(v.id) + "/review" }

// inLesson is a visit whose lesson has begun.
func (h *gateway) inLesson(t testing.TB) visit {
	t.Helper()
	v := h.atTheDoor(t)
	h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": h.arrive(t, v)}).want(t, 200, "")
	return v
}

func contractComplete(t *testing.T, h *gateway) {
	v := h.inLesson(t)
	for _, token := range []string{v.otherTrainer, v.student, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, v.path("complete"), nil).want(t, 403, sessions.Forbidden)
	}
	h.Advance(time.Hour)
	token := h.token(t, v.trainerID, sessions.Trainer)
	done := h.post(t, token, v.path("complete"), nil).want(t, 200, "").data()
	assert.Equal(t, "completed", done["status"])
	h.Advance(time.Minute)
	assert.Equal(t, done, h.post(t, v.admin, v.path("complete"), nil).want(t, 200, "").data(), "the same answer if repeated")
	assert.Equal(t, done["completedAt"], h.get(t, token, v.path("")).want(t, 200, "").data()["completedAt"])

	h.post(t, token, h.book(t).path("complete"), nil).want(t, 403, sessions.Forbidden)
	h.post(t, token, nowhere("complete"), nil).want(t, 404, sessions.SessionNotFound)
	h.post(t, token, base+"/admin/sessions/1/complete", nil).want(t, 400, sessions.InvalidRequest)
	other := h.inLesson(t)
	h.post(t, other.admin, other.path("complete"), nil).want(t, 200, "")
	begun := h.begun(t)
	h.post(t, begun.trainer, begun.path("complete"), nil).want(t, 409, sessions.NotInProgress)
}

func contractReview(t *testing.T, h *gateway) {
	v := h.inLesson(t)
	good := map[string]any{"rating": 4, "comment": strings.Repeat("ö", 2000)}
	h.post(t, v.student, v.reviewPath(), good).want(t, 409, sessions.NotCompleted)
	h.post(t, v.trainer, v.path("complete"), nil).want(t, 200, "")
	for _, token := range []string{v.otherStudent, v.trainer, v.admin, v.trainerAsStudent, v.studentAsTrainer} {
		h.post(t, token, v.reviewPath(), good).want(t, 403, sessions.Forbidden)
	}
	for _, bad := range []string{
		`{}`, `{"rating":0}`, `{"rating":6}`, `{"rating":4.5}`, `{"rating":"4"}`, `{"rating":null}`, `{"rating":1e99}`,
		`{"rating":4,"comment":"` + strings.Repeat("ö", 2001) + `"}`, `{"rating":4,"comment":"\u0000"}`, `{"rating":4,"comment":7}`,
	} {
		h.post(t, v.student, v.reviewPath(), bad).want(t, 400, sessions.InvalidRequest)
	}
	h.post(t, v.student, v.reviewPath(), `rating=4`, header("Content-Type", "text/plain")).want(t, 415, api.UnsupportedMediaType)
	h.post(t, v.student, base+"/students/sessions/1/review", good).want(t, 400, sessions.InvalidRequest)
	h.post(t, v.student, visit{id: sessions.NewID()}.reviewPath(), good).want(t, 404, sessions.SessionNotFound)

	first := h.post(t, v.student, v.reviewPath(), good).want(t, 201, "").data()
	assert.Equal(t, map[string]any{"average": 4.0, "count": 1.0}, first["trainerRating"])
	assert.Equal(t, good["comment"], first["comment"])
	h.Advance(time.Minute)
	assert.Equal(t, first, h.post(t, v.student, v.reviewPath(), good).want(t, 200, "").data(), "the same answer if repeated")
	h.post(t, v.student, v.reviewPath(), `{"rating":1}`).want(t, 409, sessions.AlreadyReviewed)
	h.post(t, v.student, v.reviewPath(), `{"rating":4}`).want(t, 409, sessions.AlreadyReviewed)

	again := h.bookFor(t, v.trainerID, v.studentID)
	h.post(t, again.trainer, again.path("start-journey"), nil).want(t, 201, "")
	h.post(t, again.trainer, updatesPath, again.fix(nearLat, homeLng)).want(t, 201, "")
	h.settle(t, again)
	h.post(t, again.trainer, again.path("verify-otp"), map[string]string{"otp": h.arrive(t, again)}).want(t, 200, "")
	h.post(t, again.trainer, again.path("complete"), nil).want(t, 200, "")
	second := h.post(t, again.student, again.reviewPath(), `{"rating":1,"comment":null}`).want(t, 201, "").data()
	assert.Equal(t, map[string]any{"average": 2.5, "count": 2.0}, second["trainerRating"], "the rating has moved")
}

func contractPushTokens(t *testing.T, h *gateway) {
	v := h.book(t)
	put := func(token string, body any) answer {
		text, err := jsonOf(body)
		require.NoError(t, err)
		return h.do(t, http.MethodPut, token, pushTokensPath, text)
	}
	device := map[string]any{"token": "device:" + string(v.id), "platform": "ios", "language": "pt-BR"}
	for _, token := range []string{v.student, v.trainer, v.admin, v.student} {
		put(token, device).want(t, 204, "")
	}
	put(v.student, map[string]any{"token": strings.Repeat("~", 1024), "platform": "web"}).want(t, 204, "")
	for _, bad := range []map[string]any{
		{},
		{"token": "a"},
		{"platform": "ios"},
		{"token": "", "platform": "ios"},
		{"token": "a b", "platform": "ios"},
		{"token": "ö", "platform": "ios"},
		{"token": strings.Repeat("a", 1025), "platform": "ios"},
		{"token": "a", "platform": "palm"},
		{"token": "a", "platform": "ios", "language": "e"},
		{"token": "a", "platform": "ios", "language": "en_GB"},
		{"token": "a", "platform": "ios", "language": strings.Repeat("a", 36)},
	} {
		put(v.student, bad).want(t, 400, sessions.InvalidRequest)
	}
	activity := func(platform string, activity any) answer {
		return put(v.student, map[string]any{"token": "a", "platform": platform, "liveActivity": activity})
	}
	activity("ios", map[string]any{"sessionId": v.id, "token": strings.Repeat("0aF1", 256)}).want(t, 204, "")
	activity("android", nil).want(t, 204, "")
	for _, bad := range []struct {
		field, platform string
		activity        any
	}{
		{"liveActivity", "android", map[string]any{"sessionId": v.id, "token": "0f"}},
		{"liveActivity", "web", map[string]any{"sessionId": v.id, "token": "0f"}},
		{"liveActivity", "ios", "0f"},
		{"liveActivity.sessionId", "ios", map[string]any{}},
		{"liveActivity.sessionId", "ios", map[string]any{"sessionId": "1", "token": "0f"}},
		{"liveActivity.token", "ios", map[string]any{"sessionId": v.id}},
		{"liveActivity.token", "ios", map[string]any{"sessionId": v.id, "token": "0g"}},
		{"liveActivity.token", "ios", map[string]any{"sessionId": v.id, "token": strings.Repeat("a", 1025)}},
	} {
		assert.Equal(t, bad.field, activity(bad.platform, bad.activity).want(t, 400, sessions.InvalidRequest).fields["field"], bad)
	}
	h.do(t, http.MethodPut, v.student, pushTokensPath, []byte("token=a"), header("Content-Type", "text/plain")).
		want(t, 415, api.UnsupportedMediaType)

	forget := func(body string, edits ...edit) answer {
		return h.do(t, http.MethodDelete, v.student, pushTokensPath, []byte(body), edits...)
	}
	text, err := jsonOf(map[string]any{"token": device["token"]})
	require.NoError(t, err)
	for range 2 {
		forget(string(text)).want(t, 204, "")
	}
	forget(`{}`).want(t, 400, sessions.InvalidRequest)
	forget(`{"token":"\u0007"}`).want(t, 400, sessions.InvalidRequest)
	forget(``).want(t, 400, sessions.InvalidRequest)
	forget(`token`, header("Content-Type", "text/plain")).want(t, 415, api.UnsupportedMediaType)
}
