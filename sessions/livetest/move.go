package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

// moved moves the journey's home that many metres north.
func (j journey) moved(t testing.TB, metres float64) bool {
	t.Helper()
	j.Home = north(metres)
	known, err := j.Live.Move(t.Context(), j.Journey)
	require.NoError(t, err)
	return known
}

var moveTests = map[string]func(*testing.T, journey){
	"the_fence_moves": func(t *testing.T, j journey) {
		j.begun(t).confirmed(t, 100)
		before := j.latest(t)
		require.Equal(t, sessions.Arriving, before.Phase())
		woken := j.watch(t)
		j.Clock.Advance(2 * time.Second)
		require.True(t, j.moved(t, 1100))
		woken.require(t, 1)
		after := j.latest(t)
		require.Equal(t, j.Clock.Now().UnixMilli(), after.Version)
		require.Equal(t, sessions.OnTheWay, after.Phase())
		require.InDelta(t, 1000, after.DistanceM, 1)
		require.Equal(t, before.Location, after.Location, "the pin stays, and so do its times")
		require.Equal(t, sessions.Evidence{Fixes: 1, Requests: 1, Lasted: -2 * time.Second}, after.Evidence)

		j.Clock.Advance(28 * time.Second)
		require.False(t, j.stored(t, 800).Arriving)
		require.True(t, j.latest(t).Evidence.Outside)
		j.Clock.Advance(10 * time.Second)
		near := j.stored(t, 1050)
		require.True(t, near.Arriving, "at the new door")
		require.InDelta(t, 50, near.DistanceM, 1)
	},
	"before_the_first_fix": func(t *testing.T, j journey) {
		j.begun(t)
		require.True(t, j.moved(t, 1000))
		require.Nil(t, j.latest(t).Location)
		require.InDelta(t, 1000, j.stored(t, 0).DistanceM, 1)
	},
	"a_guess_stays_one": func(t *testing.T, j journey) {
		j.begun(t)
		j.update(t, sessions.Fix{Point: north(100), Mock: true})
		require.True(t, j.moved(t, 1000))
		require.Equal(t, sessions.Evidence{Guess: true, Mock: true, Fixes: 1, Requests: 1}, j.latest(t).Evidence)
	},
	"the_old_fence_is_not_the_new_one": func(t *testing.T, j journey) {
		j.begun(t).confirmed(t, 1000) // outside the old fence
		require.True(t, j.latest(t).Evidence.Outside)
		require.True(t, j.moved(t, 1000))
		j.Clock.Advance(5 * time.Second)
		require.False(t, j.stored(t, 1002).Trusted, "never seen outside the new one")
		require.False(t, j.latest(t).Evidence.Outside)
	},
	"to_the_same_home": func(t *testing.T, j journey) {
		j.begun(t).confirmed(t, 100)
		before := j.latest(t)
		woken := j.watch(t)
		require.True(t, j.moved(t, 0))
		woken.require(t, 1)
		before.Version++
		require.Equal(t, before, j.latest(t), "only a new version")
	},
	"after_a_silence": func(t *testing.T, j journey) {
		j = j.startedAgo(20 * time.Minute)
		j.Restored = true
		j.Last = sessions.LastFix{At: j.Clock.Now().Add(-10 * time.Minute), DistanceM: 10, Arriving: true, Trusted: true}
		j.begun(t)
		require.Equal(t, sessions.Arriving, j.latest(t).Phase())
		require.True(t, j.moved(t, 1000))
		require.Equal(t, sessions.OnTheWay, j.latest(t).Phase())
		require.NotZero(t, j.stored(t, 1000).Flags&geo.FlagReanchored, "what was known of the old home counts no more")
	},
	"not_running": func(t *testing.T, j journey) {
		require.False(t, j.moved(t, 1000), "unknown")
		require.False(t, j.latest(t).Known)
		j.begun(t).stored(t, 100)
		j.unchanged(t, func() {
			require.False(t, j.startedAgo(time.Millisecond).moved(t, 1000), "an older one")
		})
		j.end(t)
		j.unchanged(t, func() { require.False(t, j.moved(t, 1000), "over") })
	},
}
