package api_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// history is a page of a session's history, and the cursor of the next one.
func (h *gateway) history(t testing.TB, v visit, query string) (entries []map[string]any, next any) {
	t.Helper()
	data := h.get(t, v.admin, v.path("history")+query).want(t, 200, "").data()
	for _, e := range data["entries"].([]any) {
		entries = append(entries, e.(map[string]any))
	}
	return entries, data["nextCursor"]
}

func kindsOf(entries []map[string]any) (kinds []string) {
	for _, e := range entries {
		kinds = append(kinds, e["kind"].(string))
	}
	return kinds
}

// entry is the one entry of a kind.
func entry(t testing.TB, entries []map[string]any, kind string) map[string]any {
	t.Helper()
	var found map[string]any
	for _, e := range entries {
		if e["kind"] == kind {
			require.Nil(t, found, "two of %s", kind)
			found = e
		}
	}
	require.NotNil(t, found, kind)
	return found
}

// played is a session whose trainer fell silent for 70 s on the way, sent a fix that
// cannot be, tried to arrive too early, and typed a wrong code.
func (h *gateway) played(t testing.TB) visit {
	t.Helper()
	v := h.book(t)
	h.post(t, v.trainer, v.path("start-journey"), `{"travelMode":"car"}`, header("X-Request-Id", "the-start")).want(t, 201, "")
	for range 2 {
		h.Advance(5 * time.Second)
		h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	}
	h.Advance(5 * time.Second)
	h.post(t, v.trainer, updatesPath, v.fix(farLat+0.1, homeLng)).want(t, 400, sessions.ImplausibleJump)
	h.Advance(5 * time.Second)
	h.post(t, v.trainer, v.path("arrived"), nil).want(t, 400, sessions.NotWithinRadius)
	h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	h.Advance(70 * time.Second)
	h.post(t, v.trainer, updatesPath, v.fix(farLat-0.004, homeLng)).want(t, 201, "")
	h.Advance(15 * time.Second)
	h.post(t, v.trainer, updatesPath, v.fix(farLat-0.006, homeLng)).want(t, 201, "")
	h.Advance(15 * time.Second)
	h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
	until(t, func() bool { entries, _ := h.history(t, v, ""); return slices.Contains(kindsOf(entries), "arriving") }, "arriving, which is noted while the journey runs")
	h.settle(t, v)
	otp := h.arrive(t, v)
	h.post(t, v.trainer, v.path("verify-otp"), wrong(otp)).want(t, 400, sessions.OTPWrong)
	h.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}).want(t, 200, "")
	h.post(t, v.trainer, v.path("complete"), nil).want(t, 200, "")
	h.post(t, v.student, v.reviewPath(), `{"rating":4,"comment":"words of a person"}`).want(t, 201, "")
	return v
}

// The embedded gateway has one clock, so the whole order is known.
func TestHistory_tells_a_journey_in_order(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.played(t)
	var entries []map[string]any
	until(t, func() bool {
		entries, _ = h.history(t, v, "")
		return slices.Contains(kindsOf(entries), "first_fix")
	}, "the moments are written when the journey has ended")
	// A minute's counts stand at its beginning, and suspicions are as the rules have them.
	kinds := slices.DeleteFunc(kindsOf(entries), func(kind string) bool { return kind == "fixes_not_stored" || kind == "suspicious" })
	assert.Equal(t, []string{
		"booked", "journey_started", "first_fix", "silence_began", "silence_ended", "arriving", "journey_ended",
		"code_issued", "code_wrong", "lesson_started", "completed", "reviewed",
	}, kinds)
}

// On the servers the clock of the live store is the test's and that of the database its
// own, so the order of moments and transitions is not that of a real system.
func TestHistory_tells_who_and_what(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b)
		v := h.played(t)
		var entries []map[string]any
		until(t, func() bool {
			entries, _ = h.history(t, v, "")
			delivered := fmt.Sprint(entry(t, entries, "journey_started")["events"])
			return slices.Contains(kindsOf(entries), "first_fix") && containsAll(delivered, []string{"to:notify", "state:delivered"})
		}, "the moments are written, and the events delivered")

		began := entry(t, entries, "journey_started")
		assert.Equal(t, map[string]any{"role": "trainer", "id": string(v.trainerID)}, began["by"])
		assert.Equal(t, "the-start", began["requestId"])
		assert.Equal(t, map[string]any{"travelMode": "car"}, began["detail"])
		assert.Equal(t, "TrainerJourneyStarted", began["events"].([]any)[0].(map[string]any)["type"])
		assert.Equal(t, "admin", entry(t, entries, "booked")["by"].(map[string]any)["role"])
		assert.Equal(t, "system", entry(t, entries, "arriving")["by"].(map[string]any)["role"])
		assert.InDelta(t, 4, entry(t, entries, "code_wrong")["detail"].(map[string]any)["attemptsLeft"], 0)
		assert.Equal(t, "arrived", entry(t, entries, "journey_ended")["detail"].(map[string]any)["reason"])
		var silences []any
		counts := map[string]float64{}
		for _, e := range entries {
			detail := e["detail"].(map[string]any)
			if e["kind"] == "silence_ended" {
				silences = append(silences, detail["seconds"])
			}
			for name, n := range mapOf(detail["counts"]) {
				counts[name] += n.(float64)
			}
		}
		assert.Equal(t, []any{70.0}, silences)
		assert.InDelta(t, 1, counts["refused_jump"], 0)
		assert.InDelta(t, 1, counts["arrival_not_within_radius"], 0)
		for _, place := range []string{"12.93", "77.62", "words of a person"} {
			assert.NotContains(t, fmt.Sprint(entries), place)
		}
		journeys := h.get(t, v.admin, v.path("history")).data()["journeys"].([]any)
		require.Len(t, journeys, 1)
		fixes := journeys[0].(map[string]any)["fixes"].(map[string]any)
		assert.Equal(t, []any{8.0, 1.0}, []any{fixes["stored"], fixes["implausible"]})
	})
}

func mapOf(v any) map[string]any { m, _ := v.(map[string]any); return m }

// A phone that falls silent for good has the beginning of its silence in the history.
func TestHistory_tells_a_silence_that_goes_on(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.begun(t)
	h.Advance(5 * time.Second)
	h.post(t, v.trainer, updatesPath, v.fix(farLat, homeLng)).want(t, 201, "")
	seen := h.Now()
	h.Advance(2 * time.Minute)
	h.post(t, v.admin, v.path("stop-journey"), nil).want(t, 200, "")
	until(t, func() bool {
		entries, _ := h.history(t, v, "")
		kinds := kindsOf(entries)
		return fmt.Sprint(kinds) == "[booked journey_started first_fix silence_began journey_ended]"
	}, "the silence, where it began: at the last fix, "+seen.String())
}
