package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

var endTests = map[string]func(*testing.T, journey){
	"no_coordinate_is_left": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		j.end(t)
		require.Equal(t, sessions.Snapshot{Known: true, Version: first.Version + 1, Over: sessions.Ended}, j.latest(t))
		j.requireNoCoordinate(t)
	},
	"again": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.end(t)
		j.Clock.Advance(time.Second)
		j.unchanged(t, func() { j.end(t) })
	},
	"older_than_the_known": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.unchanged(t, func() { j.startedAgo(time.Millisecond).end(t) })
	},
	"newer_than_the_known": func(t *testing.T, j journey) {
		old := j.startedAgo(time.Second).begun(t)
		old.stored(t, 100)
		j.end(t)
		j.requireNoCoordinate(t)
		require.False(t, old.open(t))
		j.requireVerdict(t, sessions.VerdictEnded, sessions.Fix{Point: north(100)})
	},
	"never_started": func(t *testing.T, j journey) {
		j.StartedAt = time.Time{}
		j.end(t)
		require.Equal(t, sessions.Snapshot{Known: true, Version: j.Clock.Now().UnixMilli(), Over: sessions.Ended}, j.latest(t))
		j.Clock.Advance(time.Second)
		j.unchanged(t, func() { j.end(t) })
	},
	"never_started_under_a_running_one": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.StartedAt = time.Time{}
		j.unchanged(t, func() { j.end(t) })
	},
	"not_opened_here": func(t *testing.T, j journey) {
		j.end(t)
		require.Equal(t, sessions.Snapshot{Known: true, Version: j.Clock.Now().UnixMilli(), Over: sessions.Ended}, j.latest(t))
	},
	"in_a_later_phase": func(t *testing.T, j journey) {
		require.Equal(t, sessions.OnTheWay, j.begun(t).latest(t).Phase())
		j.confirmed(t, 100)
		require.Equal(t, sessions.Arriving, j.latest(t).Phase())
		j.endIn(t, sessions.Arrived)
		arrived := j.latest(t)
		require.Equal(t, sessions.Arrived, arrived.Phase())
		woken := j.watch(t)
		j.endIn(t, sessions.Ended)
		woken.require(t, 1)
		over := j.latest(t)
		require.Equal(t, sessions.Ended, over.Phase())
		require.Greater(t, over.Version, arrived.Version)
		for _, late := range []sessions.Phase{sessions.Arrived, sessions.NotStarted, sessions.Ended} {
			j.unchanged(t, func() { j.endIn(t, late) })
		}
		j.goneAfter(t, 300*time.Second)
	},
	"never_started_and_then_cancelled": func(t *testing.T, j journey) {
		j.StartedAt = time.Time{}
		j.endIn(t, sessions.NotStarted)
		before := j.latest(t)
		require.Equal(t, sessions.NotStarted, before.Phase())
		j.endIn(t, sessions.Ended)
		require.Equal(t, sessions.Ended, j.latest(t).Phase())
		require.Greater(t, j.latest(t).Version, before.Version)
	},
	"then_a_late_open": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.end(t)
		j.unchanged(t, func() { require.False(t, j.open(t)) })
	},
	"then_a_late_fix": func(t *testing.T, j journey) {
		j.begun(t)
		j.end(t)
		j.Clock.Advance(5 * time.Second)
		j.unchanged(t, func() { j.requireVerdict(t, sessions.VerdictEnded, sessions.Fix{Point: north(100)}) })
		j.requireNoCoordinate(t)
	},
	"then_started_anew": func(t *testing.T, j journey) {
		j.begun(t).end(t)
		j.Clock.Advance(time.Second)
		again := j.startedAgo(0).begun(t)
		again.stored(t, 100)
		again.unchanged(t, func() { j.end(t) })
	},
}

// requireNoCoordinate looks into the store: it must hold neither a fix nor the home,
// not even to a kilometre.
func (j journey) requireNoCoordinate(t testing.TB) {
	t.Helper()
	kept := j.Kept(j.Ref)
	for _, degrees := range []string{"12.97", "77.59"} {
		require.NotContains(t, kept, degrees)
	}
	require.Nil(t, j.latest(t).Location)
}

var versionTests = map[string]func(*testing.T, journey){
	"of_the_clock": func(t *testing.T, j journey) {
		j.begun(t)
		for range 3 {
			j.Clock.Advance(5 * time.Second)
			require.Equal(t, j.Clock.Now().UnixMilli(), j.stored(t, 100).Version)
		}
		j.Clock.Advance(time.Millisecond)
		j.end(t)
		require.Equal(t, j.Clock.Now().UnixMilli(), j.latest(t).Version)
	},
	"one_more_within_a_millisecond": func(t *testing.T, j journey) {
		opened := j.begun(t).latest(t).Version
		require.Equal(t, opened+1, j.stored(t, 100).Version)
		j.end(t)
		require.Equal(t, opened+2, j.latest(t).Version)
	},
	"one_more_after_the_clock_was_set_back": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		opened := j.latest(t).Version
		j.Clock.Advance(-time.Minute)
		require.Equal(t, opened+1, j.stored(t, 100).Version)
		j.end(t)
		require.Equal(t, opened+2, j.latest(t).Version)
		j.Clock.Advance(time.Second)
		j.startedAgo(0).begun(t)
		require.Equal(t, opened+3, j.latest(t).Version)
	},
	"the_receipt's_is_the_reader's": func(t *testing.T, j journey) {
		require.Equal(t, j.begun(t).stored(t, 100).Version, j.latest(t).Version)
	},
	"the_same_until_something_changes": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		for _, fix := range []sessions.Fix{
			{Point: north(100), RecordedAt: first.At}, // stale
			{Point: north(100), AccuracyM: 300},       // vague
			{Point: north(100)},                       // too soon
		} {
			j.Clock.Advance(2 * time.Second)
			require.NotEqual(t, sessions.VerdictStored, j.update(t, fix).Verdict)
			require.Equal(t, first.Version, j.latest(t).Version)
		}
	},
	"past_that_of_a_lost_memory": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		j.Forget()
		j.Clock.Advance(time.Second)
		j.end(t)
		require.Greater(t, j.latest(t).Version, first.Version)
	},
}
