package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

var rateTests = map[string]func(*testing.T, journey){
	"timeline": timeline,
	"a_punctual_phone_on_a_jittery_network": func(t *testing.T, j journey) {
		j.begun(t)
		began := j.Clock.Now()
		for i, late := range []int64{0, 1000, 0, 999, 1, 500, 0, 0, 1000, 1000, 0, 3, 700, 0} {
			j.Clock.Advance(began.Add(ms(int64(i)*5000 + late)).Sub(j.Clock.Now()))
			j.stored(t, 100)
		}
	},
	"each_journey_its_own": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.sameTrainer().begun(t).stored(t, 100)
	},
	"a_new_journey_starts_afresh": func(t *testing.T, j journey) {
		j.startedAgo(time.Second).begun(t).stored(t, 100)
		j.begun(t).stored(t, 100)
	},
}

// timeline is a GCRA of one fix in 5,000 ms with 1,000 ms of tolerance. In the
// comments, tat is the time when the next fix is due.
func timeline(t *testing.T, j journey) {
	const stored, tooSoon, stale = sessions.VerdictStored, sessions.VerdictTooSoon, sessions.VerdictStale
	j.begun(t)
	began := j.Clock.Now()
	for i, step := range []struct {
		atMS    int64
		verdict sessions.Verdict
		retryMS int64
		nextMS  int64
	}{
		// One fix at once, and the tolerance.
		0: {0, stored, 0, 5000}, // tat 5000
		1: {0, tooSoon, 4000, 0},
		2: {3999, tooSoon, 1, 0},
		3: {4000, stored, 0, 6000}, // tat 10000: what was early is owed
		4: {8999, tooSoon, 1, 0},
		5: {9000, stored, 0, 6000}, // tat 15000
		// On time; late; after a long time. Unused time is not saved up.
		6: {15_000, stored, 0, 5000}, // tat 20000
		7: {60_000, stored, 0, 5000}, // tat 65000
		8: {60_001, tooSoon, 3999, 0},
		// The clock is set back by more than a due time can be ahead: no phone waits
		// until it has caught up.
		9: {50_000, stored, 0, 5000}, // tat 55000
		// Set back by less, within the interval and its tolerance: not newer than the
		// live one.
		10: {49_000, stale, 0, 6000},
		11: {48_999, stale, 0, 1000},
		12: {54_000, stored, 0, 6000},
	} {
		j.Clock.Advance(began.Add(ms(step.atMS)).Sub(j.Clock.Now()))
		receipt := j.update(t, sessions.Fix{Point: north(100)})
		require.Equal(t, step.verdict.String(), receipt.Verdict.String(), "step %d", i)
		require.Equal(t, ms(step.retryMS), receipt.RetryAfter, "step %d", i)
		require.Equal(t, ms(step.nextMS), receipt.NextUpdate, "step %d", i)
	}
}

// orderTests are about the phone's clock and the store's.
var orderTests = map[string]func(*testing.T, journey){
	"no_clock": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		require.Equal(t, j.Clock.Now(), j.latest(t).Location.RecordedAt)
	},
	"a_little_ahead": func(t *testing.T, j journey) { j.begun(t).recorded(t, 2*time.Second, 0) },
	"far_ahead":      func(t *testing.T, j journey) { j.begun(t).recorded(t, 24*time.Hour, 0) },
	"behind": func(t *testing.T, j journey) {
		j.startedAgo(time.Minute).begun(t).recorded(t, -time.Minute, -time.Minute)
	},
	"five_minutes_old": func(t *testing.T, j journey) {
		j.startedAgo(10*time.Minute).begun(t).recorded(t, -5*time.Minute, -5*time.Minute)
	},
	"older_than_five_minutes": func(t *testing.T, j journey) {
		j.startedAgo(10*time.Minute).begun(t).requireVerdict(t, sessions.VerdictStale,
			sessions.Fix{Point: north(100), RecordedAt: j.Clock.Now().Add(-5*time.Minute - time.Millisecond)})
		require.Nil(t, j.latest(t).Location)
	},
	"older_than_the_live_one": func(t *testing.T, j journey) { j.after(t, -time.Millisecond, sessions.VerdictStale) },
	"equal_to_the_live_one":   func(t *testing.T, j journey) { j.after(t, 0, sessions.VerdictStale) },
	"newer_than_the_live_one": func(t *testing.T, j journey) { j.after(t, 4*time.Second, sessions.VerdictStored) },
	"newer_than_the_live_one_by_less_than_the_rate": func(t *testing.T, j journey) {
		j.after(t, time.Millisecond, sessions.VerdictIgnoredTooSoon)
	},
	"again_after_a_lost_answer": func(t *testing.T, j journey) {
		j.begun(t)
		j.Clock.Advance(5 * time.Second)
		fix := sessions.Fix{Point: north(100), RecordedAt: j.Clock.Now().Add(-time.Second)}
		first := j.requireVerdict(t, sessions.VerdictStored, fix)
		j.Clock.Advance(5 * time.Second)
		j.unchanged(t, func() {
			require.Equal(t, first.Version, j.requireVerdict(t, sessions.VerdictStale, fix).Version)
		})
	},
	"a_live_one_ahead_of_a_phone_without_clock": func(t *testing.T, j journey) {
		j.begun(t).recorded(t, 2*time.Second, 0)
		j.Clock.Advance(5 * time.Second)
		j.stored(t, 100)
	},
	"the_store's_clock_set_back": func(t *testing.T, j journey) {
		j.startedAgo(10*time.Minute).begun(t).stored(t, 100)
		j.Clock.Advance(-time.Minute)
		j.stored(t, 100)
		require.Equal(t, j.Clock.Now(), j.latest(t).Location.RecordedAt)
	},
}

// recorded sends a fix of a phone whose clock is off by that much, and requires that it
// is stored as taken at that time, relative to the store's.
func (j journey) recorded(t *testing.T, offset, want time.Duration) {
	t.Helper()
	now := j.Clock.Now()
	j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(100), RecordedAt: now.Add(offset)})
	require.Equal(t, now.Add(want), j.latest(t).Location.RecordedAt)
	require.Equal(t, now, j.latest(t).Location.At)
}

// after sends a fix 5 s after another one, recorded that much later than it.
func (j journey) after(t *testing.T, offset time.Duration, want sessions.Verdict) {
	t.Helper()
	live := j.Clock.Now().Add(-time.Second)
	j.begun(t).requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(100), RecordedAt: live})
	j.Clock.Advance(5 * time.Second)
	j.requireVerdict(t, want, sessions.Fix{Point: north(100), RecordedAt: live.Add(offset)})
}
