package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

// updateTests are about the verdicts, the receipts and the order of the decisions.
var updateTests = map[string]func(*testing.T, journey){
	"unknown": func(t *testing.T, j journey) {
		require.Equal(t, sessions.Receipt{Verdict: sessions.VerdictUnknown}, j.update(t, sessions.Fix{Point: north(100)}))
		require.Empty(t, j.Kept(j.Ref))
	},
	"another_trainer's": func(t *testing.T, j journey) {
		j.begun(t)
		j.TrainerID = sessions.NewID()
		j.requireVerdict(t, sessions.VerdictUnknown, sessions.Fix{Point: north(100)})
	},
	"ended": func(t *testing.T, j journey) {
		j.begun(t).end(t)
		j.unchanged(t, func() {
			require.Equal(t, sessions.Receipt{Verdict: sessions.VerdictEnded}, j.update(t, sessions.Fix{Point: north(100)}))
		})
	},
	"too_soon": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.Clock.Advance(3 * time.Second)
		j.unchanged(t, func() {
			require.Equal(t, sessions.Receipt{Verdict: sessions.VerdictTooSoon, At: j.Clock.Now(), RetryAfter: time.Second},
				j.update(t, sessions.Fix{Point: north(100)}))
		})
	},
	"stale": func(t *testing.T, j journey) {
		first := j.begun(t).requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(100), RecordedAt: j.Clock.Now()})
		j.Clock.Advance(4 * time.Second)
		j.unchanged(t, func() {
			require.Equal(t, sessions.Receipt{
				Verdict: sessions.VerdictStale, At: j.Clock.Now(), NextUpdate: time.Second, Version: first.Version,
				TTL: 296 * time.Second,
			}, j.update(t, sessions.Fix{Point: north(100), RecordedAt: first.At}))
		})
	},
	"stale_does_not_count_against_the_rate": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		j.Clock.Advance(5 * time.Second)
		j.requireVerdict(t, sessions.VerdictStale, sessions.Fix{Point: north(100), RecordedAt: first.At})
		j.stored(t, 100)
	},
	"vague": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		j.Clock.Advance(5 * time.Second)
		before := j.latest(t)
		require.Equal(t, sessions.Receipt{
			Verdict: sessions.VerdictVague, At: j.Clock.Now(), NextUpdate: 5 * time.Second, Version: first.Version,
			TTL: 295 * time.Second,
		}, j.update(t, sessions.Fix{Point: north(100), AccuracyM: 200.1}))
		require.Equal(t, before, j.latest(t))
	},
	"as_vague_as_may_be": func(t *testing.T, j journey) {
		j.begun(t).requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(100), AccuracyM: 200})
	},
	"vague_counts_against_the_rate": func(t *testing.T, j journey) {
		j.begun(t).requireVerdict(t, sessions.VerdictVague, sessions.Fix{Point: north(100), AccuracyM: 300})
		j.requireVerdict(t, sessions.VerdictTooSoon, sessions.Fix{Point: north(100)})
	},
	"stored": func(t *testing.T, j journey) {
		j.begun(t)
		j.Clock.Advance(time.Second)
		require.Equal(t, sessions.Receipt{
			Verdict: sessions.VerdictStored, At: j.Clock.Now(), NextUpdate: 5 * time.Second,
			Version: j.Clock.Now().UnixMilli(), TTL: 300 * time.Second, DistanceM: 1234.5,
			SeenAgo: -time.Millisecond,
		}, j.update(t, sessions.Fix{Point: north(1234.5)}))
	},
	"in_order/ended_before_too_soon": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.end(t)
		j.requireVerdict(t, sessions.VerdictEnded, sessions.Fix{Point: north(100)})
	},
	"in_order/stale_before_too_soon": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		j.requireVerdict(t, sessions.VerdictStale, sessions.Fix{Point: north(100), RecordedAt: first.At})
	},
	"in_order/stale_before_vague": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		j.Clock.Advance(5 * time.Second)
		j.requireVerdict(t, sessions.VerdictStale, sessions.Fix{Point: north(100), RecordedAt: first.At, AccuracyM: 300})
	},
	"in_order/vague_before_implausible": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.Clock.Advance(5 * time.Second)
		j.requireVerdict(t, sessions.VerdictVague, sessions.Fix{Point: north(100_000), AccuracyM: 300})
	},
}

// plausibleTests are about plausibility.
var plausibleTests = map[string]func(*testing.T, journey){
	"first_fix": func(t *testing.T, j journey) { j.begun(t).stored(t, 500_000) },
	"jump": func(t *testing.T, j journey) {
		j.begun(t).confirmed(t, 100)
		j.implausible(t, 50_000, sessions.VerdictJump)
	},
	"ceiling": func(t *testing.T, j journey) {
		j.begun(t).confirmed(t, 100)
		j.implausible(t, 600, sessions.VerdictCeiling)
	},
	"speed_by_mode": func(t *testing.T, j journey) {
		for mode, metres := range map[sessions.Mode]float64{sessions.Walk: 85, sessions.Bike: 110, sessions.Car: 270} {
			j := j.sameTrainer()
			j.Mode = mode
			j.begun(t).confirmed(t, 0)
			j.implausible(t, metres, sessions.VerdictSpeed)
		}
	},
	"the_way_from_the_fix_before": func(t *testing.T, j journey) {
		require.Zero(t, j.begun(t).stored(t, 300).MovedM)
		j.Clock.Advance(5 * time.Second)
		require.InDelta(t, 100, j.stored(t, 200).MovedM, 0)
	},
	"seen_ago": func(t *testing.T, j journey) {
		require.Negative(t, j.begun(t).stored(t, 300).SeenAgo, "the first fix")
		j.Clock.Advance(70 * time.Second)
		require.Equal(t, 70*time.Second, j.stored(t, 300).SeenAgo)
		j.Clock.Advance(30 * time.Second)
		j.requireVerdict(t, sessions.VerdictVague, sessions.Fix{Point: north(300), AccuracyM: 300})
		j.Clock.Advance(6 * time.Second)
		require.Equal(t, 6*time.Second, j.stored(t, 300).SeenAgo, "a vague fix was seen, too")
	},
	"seen_ago/after_the_location_has_expired": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 300)
		require.Equal(t, 400*time.Second, j.silent(t, 400*time.Second).stored(t, 300).SeenAgo)
	},
	"seen_ago/after_the_store_has_lost_it": func(t *testing.T, j journey) {
		require.Negative(t, j.restored(t, sessions.LastFix{}).stored(t, 300).SeenAgo)
	},
	"a_suspicion_once": func(t *testing.T, j journey) {
		j.begun(t)
		for _, first := range []sessions.Suspicions{sessions.Suspicions(geo.FlagMock), 0} {
			receipt := j.requireVerdict(t, sessions.VerdictStored, sessions.Fix{Point: north(300), Mock: true})
			require.Equal(t, geo.FlagMock, receipt.Flags)
			require.Equal(t, first, receipt.Suspicions)
			require.Equal(t, []string{"mock"}, j.latest(t).Suspicions.Names())
			j.Clock.Advance(5 * time.Second)
		}
	},
	"restored": func(t *testing.T, j journey) {
		j.Restored = true
		require.Equal(t, j.Clock.Now(), j.begun(t).latest(t).ReanchoredAt)
		j.Clock.Advance(5 * time.Second)
		require.Equal(t, geo.FlagReanchored, j.stored(t, 300).Flags)
		require.Equal(t, j.Clock.Now(), j.latest(t).ReanchoredAt)
	},
}

// implausible sends a fix 5 s later. It must be refused, must not change the live
// location, and must count against the rate.
func (j journey) implausible(t *testing.T, metres float64, want sessions.Verdict) {
	t.Helper()
	before := j.latest(t)
	j.Clock.Advance(5 * time.Second)
	receipt := j.requireVerdict(t, want, sessions.Fix{Point: north(metres)})
	require.Equal(t, j.Clock.Now(), receipt.At)
	after := j.latest(t)
	require.Equal(t, before.Suspicions|receipt.Suspicions, after.Suspicions)
	after.Suspicions = before.Suspicions
	require.Equal(t, before, after)
	j.requireVerdict(t, sessions.VerdictTooSoon, sessions.Fix{Point: north(100)})
}
