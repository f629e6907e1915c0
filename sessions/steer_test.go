package sessions_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"doorstep/sessions"
)

func TestSteering(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		is   sessions.Steering
		want int // seconds
	}{
		"watched":               {sessions.Steering{Watched: true, DistanceM: 20_000, SpeedKMH: 40}, 5},
		"watched_standing":      {sessions.Steering{Watched: true, DistanceM: 20_000}, 5},
		"near":                  {sessions.Steering{DistanceM: 2000, SpeedKMH: 40}, 5},
		"near_standing":         {sessions.Steering{DistanceM: 100}, 5},
		"nowhere":               {sessions.Steering{DistanceM: math.NaN(), SpeedKMH: 40}, 5},
		"far":                   {sessions.Steering{DistanceM: 20_000, SpeedKMH: 40}, 15},
		"far_walking":           {sessions.Steering{DistanceM: 2100, SpeedKMH: 5}, 15},
		"far_standing":          {sessions.Steering{DistanceM: 20_000, SpeedKMH: 1.9}, 25},
		"coming_near":           {sessions.Steering{DistanceM: 2240, SpeedKMH: 36}, 12},
		"almost_near":           {sessions.Steering{DistanceM: 2001, SpeedKMH: 36}, 5},
		"speed_not_known":       {sessions.Steering{DistanceM: 2600, SpeedKMH: -1}, 9},
		"speed_not_known_far":   {sessions.Steering{DistanceM: 20_000, SpeedKMH: math.NaN()}, 15},
		"ended":                 {sessions.Steering{Ended: true, Watched: true, DistanceM: 10}, 300},
		"speed_is_out_of_range": {sessions.Steering{DistanceM: 20_000, SpeedKMH: math.Inf(1)}, 5},
	} {
		assert.Equal(t, time.Duration(row.want)*time.Second, row.is.NextFix(5*time.Second), name)
	}
	assert.Equal(t, time.Minute, sessions.Steering{DistanceM: 20_000}.NextFix(time.Minute))
}

// A phone that keeps its speed, or doubles it at once, is near by less than its last
// pause when it is told so; and nearer or faster is never a longer pause.
func TestSteering_property(t *testing.T) {
	t.Parallel()
	const shortest = 5 * time.Second
	rapid.Check(t, func(t *rapid.T) {
		s := sessions.Steering{DistanceM: rapid.Float64Range(0, 30_000).Draw(t, "distance"), SpeedKMH: rapid.Float64Range(2, 120).Draw(t, "speed")}
		pause := s.NextFix(shortest)
		assert.GreaterOrEqual(t, pause, shortest)
		assert.LessOrEqual(t, pause, 3*shortest)
		travelled := 2 * s.SpeedKMH / 3.6 * pause.Seconds()
		assert.True(t, pause == shortest || s.DistanceM-travelled >= 2000-1e-6)
		nearer, faster := s, s
		nearer.DistanceM -= rapid.Float64Range(0, s.DistanceM).Draw(t, "nearer")
		faster.SpeedKMH += rapid.Float64Range(0, 100).Draw(t, "faster")
		assert.LessOrEqual(t, nearer.NextFix(shortest), pause)
		assert.LessOrEqual(t, faster.NextFix(shortest), pause)
	})
}
