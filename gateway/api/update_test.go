package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/sessions"
)

// A phone that prefers it is answered without a body where all that it sent is stored, and
// learns the rest from two headers. What became of any other fix is in a body.
func TestUpdate_return_minimal(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.begun(t)
		minimal := header("Prefer", "return=minimal")
		at := func(lat float64) map[string]any {
			h.Advance(5 * time.Second)
			fix := v.fix(lat, homeLng)
			fix["recordedAt"], fix["sentAt"] = h.Now(), h.Now()
			return fix
		}
		full := h.post(t, v.trainer, updatesPath, at(awayLat)).want(t, 201, "").data()
		fix := at(awayLat - 1e-5)
		got := h.post(t, v.trainer, updatesPath, fix, minimal).want(t, 204, "")
		assert.Empty(t, got.body)
		assert.Equal(t, "15000", got.header.Get("Next-Update-Ms"))
		assert.EqualValues(t, 15_000, full["nextUpdateMs"], "as with a body")
		assert.Greater(t, float64(got.version(t)), full["seq"])
		assert.Equal(t, h.get(t, v.student, v.live("")).etag(), got.etag(), "the version that the student sees")

		again := h.post(t, v.trainer, updatesPath, fix, minimal).want(t, 200, "").data()
		assert.Equal(t, true, again["stale"])
		assert.EqualValues(t, got.version(t), again["seq"])
		vague := at(awayLat)
		vague["accuracy"] = 5000
		assert.Equal(t, "low_accuracy", h.post(t, v.trainer, updatesPath, vague, minimal).want(t, 201, "").data()["ignored"])
		h.post(t, v.trainer, updatesPath, at(homeLat), minimal).want(t, 400, sessions.ImplausibleJump)
		h.post(t, v.trainer, updatesPath, v.fix(homeLat, homeLng), minimal).want(t, 429, sessions.RateLimited)

		h.Advance(20 * time.Second)
		member := func(ago time.Duration, lat float64) map[string]any {
			return map[string]any{"latitude": lat, "longitude": homeLng, "recordedAt": h.Now().Add(-ago)}
		}
		batch := map[string]any{"sessionId": v.id, "sentAt": h.Now(), "fixes": []any{member(10*time.Second, awayLat-2e-5), member(0, awayLat-3e-5)}}
		got = h.post(t, v.trainer, updatesPath, batch, minimal).want(t, 204, "")
		assert.Equal(t, h.get(t, v.student, v.live("")).etag(), got.etag())
		h.Advance(20 * time.Second)
		batch["sentAt"], batch["fixes"] = h.Now(), []any{member(0, awayLat-4e-5), "no fix"}
		assert.Equal(t, []any{1.0}, h.post(t, v.trainer, updatesPath, batch, minimal, off).want(t, 200, "").data()["malformed"])

		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		over := h.post(t, v.trainer, updatesPath, v.fix(awayLat, homeLng), minimal).want(t, 404, sessions.NoActiveJourney)
		assert.Equal(t, true, over.fields["stop"])
	})
}

func TestUpdate_Prefer_is_read_leniently(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	lat := awayLat
	for status, lines := range map[int][][]string{
		204: {
			{"return=minimal"},
			{`RETURN = "Minimal" ; x=1`},
			{"wait=10, return=minimal"},
			{"wait=10", "return=minimal"},
			{",,return=minimal,return=representation"},
			{"respond-async,\treturn\t=\tminimal"},
		},
		201: {
			{""},
			{"return"},
			{"minimal"},
			{"return=representation"},
			{"return=representation, return=minimal"},
			{"return=minimalist"},
			{"return=minimal=x"},
			{"x; return=minimal"},
			{"no-return=minimal"},
			{"=", ";", "\"", ",;=,"},
		},
	} {
		for _, prefer := range lines {
			h.Advance(5 * time.Second)
			lat -= 1e-5
			got := h.post(t, v.trainer, updatesPath, v.fix(lat, homeLng), func(r *http.Request) { r.Header["Prefer"] = prefer })
			assert.Equal(t, status, got.status, "%q", prefer)
		}
	}
}
