package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

var expiryTests = map[string]func(*testing.T, journey){
	"without_a_fix_at_the_hour": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		j.goneAfter(t, 50*time.Minute)
	},
	"300_s_after_a_fix": func(t *testing.T, j journey) {
		j.begun(t)
		require.Equal(t, 300*time.Second, j.stored(t, 100).TTL)
		j.goneAfter(t, 300*time.Second)
	},
	"300_s_after_the_last_fix": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.Clock.Advance(200 * time.Second)
		j.stored(t, 100)
		j.goneAfter(t, 300*time.Second)
	},
	"no_later_for_a_refused_fix": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 100)
		j.Clock.Advance(100 * time.Second)
		require.Equal(t, 200*time.Second, j.requireVerdict(t, sessions.VerdictStale, sessions.Fix{Point: north(100), RecordedAt: first.At}).TTL)
		require.Equal(t, 200*time.Second, j.requireVerdict(t, sessions.VerdictVague, sessions.Fix{Point: north(100), AccuracyM: 300}).TTL)
		j.goneAfter(t, 200*time.Second)
	},
	"never_past_the_hour": func(t *testing.T, j journey) {
		j = j.startedAgo(58 * time.Minute).begun(t)
		require.Equal(t, 2*time.Minute, j.stored(t, 100).TTL)
		j.goneAfter(t, 2*time.Minute)
	},
	"gone_stays_gone": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.Clock.Advance(300 * time.Second)
		require.Equal(t, sessions.Snapshot{}, j.latest(t))
		j.Clock.Advance(-10 * time.Second)
		require.Equal(t, sessions.Snapshot{}, j.latest(t))
	},
	"the_tombstone_of_an_ended_one": func(t *testing.T, j journey) {
		j.begun(t).stored(t, 100)
		j.end(t)
		j.goneAfter(t, 300*time.Second)
	},
}

// goneAfter requires that the journey is there until a millisecond before d, and that
// nothing of it is left at d.
func (j journey) goneAfter(t *testing.T, d time.Duration) {
	t.Helper()
	j.Clock.Advance(d - time.Millisecond)
	require.True(t, j.latest(t).Known)
	j.Clock.Advance(time.Millisecond)
	require.Equal(t, sessions.Snapshot{}, j.latest(t))
	j.requireVerdict(t, sessions.VerdictUnknown, sessions.Fix{Point: north(100)})
}

var arrivingTests = map[string]func(*testing.T, journey){
	"inside": func(t *testing.T, j journey) {
		require.True(t, j.begun(t).confirmed(t, 149.9).Arriving)
		require.True(t, j.latest(t).Arriving)
		require.InDelta(t, 149.9, j.latest(t).DistanceM, 0)
	},
	"outside": func(t *testing.T, j journey) {
		require.False(t, j.begun(t).confirmed(t, 150.1).Arriving)
		require.False(t, j.latest(t).Arriving)
	},
	"at_the_door": func(t *testing.T, j journey) {
		receipt := j.begun(t).confirmed(t, 0)
		require.True(t, receipt.Arriving)
		require.Zero(t, receipt.DistanceM)
	},
	"sticky": func(t *testing.T, j journey) {
		j.begun(t).confirmed(t, 140)
		j.Clock.Advance(5 * time.Second)
		require.True(t, j.stored(t, 200).Arriving)
		require.True(t, j.latest(t).Arriving)
	},
	"not_by_a_vague_fix": func(t *testing.T, j journey) {
		receipt := j.begun(t).requireVerdict(t, sessions.VerdictVague, sessions.Fix{Point: north(1), AccuracyM: 300})
		require.False(t, receipt.Arriving)
		require.False(t, j.latest(t).Arriving)
	},
	"not_by_a_stale_fix": func(t *testing.T, j journey) {
		first := j.begun(t).stored(t, 200)
		j.Clock.Advance(5 * time.Second)
		require.False(t, j.requireVerdict(t, sessions.VerdictStale, sessions.Fix{Point: north(1), RecordedAt: first.At}).Arriving)
	},
}

var metaTests = map[string]func(*testing.T, journey){
	"unknown": func(t *testing.T, j journey) {
		_, known := j.meta(t)
		require.False(t, known)
	},
	"as_last_set": func(t *testing.T, j journey) {
		for _, region := range []string{"", "eu-west-1", ""} {
			want := sessions.Meta{TrainerID: j.TrainerID, StudentID: sessions.NewID(), Region: region}
			require.NoError(t, j.Live.SetMeta(t.Context(), j.SessionID, want))
			got, known := j.meta(t)
			require.True(t, known)
			require.Equal(t, want, got)
		}
	},
	"for_300_s_from_the_last": func(t *testing.T, j journey) {
		m := sessions.Meta{TrainerID: j.TrainerID, StudentID: sessions.NewID()}
		require.NoError(t, j.Live.SetMeta(t.Context(), j.SessionID, m))
		j.Clock.Advance(200 * time.Second)
		require.NoError(t, j.Live.SetMeta(t.Context(), j.SessionID, m))
		j.Clock.Advance(300*time.Second - time.Millisecond)
		_, known := j.meta(t)
		require.True(t, known)
		j.Clock.Advance(time.Millisecond)
		_, known = j.meta(t)
		require.False(t, known)
	},
	"gone_stays_gone": func(t *testing.T, j journey) {
		require.NoError(t, j.Live.SetMeta(t.Context(), j.SessionID, sessions.Meta{TrainerID: j.TrainerID, StudentID: sessions.NewID()}))
		j.Clock.Advance(300 * time.Second)
		_, known := j.meta(t)
		require.False(t, known)
		j.Clock.Advance(-10 * time.Second)
		_, known = j.meta(t)
		require.False(t, known)
	},
	"apart_from_the_journey": func(t *testing.T, j journey) {
		j.begun(t)
		_, known := j.meta(t)
		require.False(t, known)
	},
}

func (j journey) meta(t testing.TB) (sessions.Meta, bool) {
	t.Helper()
	m, known, err := j.Live.Meta(t.Context(), j.SessionID)
	require.NoError(t, err)
	return m, known
}
