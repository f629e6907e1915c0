package geo_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"doorstep/geo"
)

func TestETA(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		distanceM    float64
		pace, paced  int64
		want         time.Duration
		wantNotGuess bool
	}{
		"36 km/h, 1 km":      {1000, 10_000, 120_000, 105 * time.Second, true},
		"at the door":        {0, 10_000, 120_000, 0, true},
		"standing":           {1000, 100, 120_000, 0, false},
		"half a minute old":  {1000, 10_000, 30_000, 0, false},
		"no journey at all":  {1000, 0, 0, 0, false},
		"a distance of none": {-1, 10_000, 120_000, 0, false},
	} {
		got, known := geo.ETA(c.distanceM, c.pace, c.paced, geo.DefaultDetour)
		assert.Equal(t, c.want, got, name)
		assert.Equal(t, c.wantNotGuess, known, name)
	}
}

func TestETA_jumps_back_by_no_more_than_it_explains(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		home, limits := geo.MustPoint(52, 5), geo.DefaultLimits(geo.Car)
		track, now, far := geo.Track{}, startMS, 20_000.0
		var before time.Duration
		var beforeM float64
		for range 60 {
			ms := rapid.Int64Range(4000, 10_000).Draw(t, "wait")
			far -= rapid.Float64Range(0, 25).Draw(t, "mps") * float64(ms) / 1000
			now += ms
			old := track
			_, track = geo.Judge(track, geo.Fix{Point: geo.Offset(home, 90, far), AccuracyM: 5, TakenMS: now}, limits, now)
			leftM := geo.DistanceM(track.Last.Point, home)
			eta, known := geo.ETA(leftM, track.PaceMMS, track.PacedMS, geo.DefaultDetour)
			if known && before > 0 {
				explained := before.Seconds() * leftM / beforeM
				if track.Anchor != old.Anchor {
					explained *= 1 + float64(now-old.Anchor.TakenMS)/float64(old.PacedMS)
				}
				assert.LessOrEqual(t, eta.Seconds(), explained*1.01+2, "the pace changes with the anchor alone")
			}
			before, beforeM = eta, leftM
			assert.GreaterOrEqual(t, eta, time.Duration(0))
		}
	})
}
