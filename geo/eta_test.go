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
		mode         geo.Mode
		pace, paced  int64
		want         time.Duration
		wantNotGuess bool
	}{
		"as usual, 1 km":         {1000, geo.Car, 11_000, 120_000, 95 * time.Second, true},
		"fast for two minutes":   {1000, geo.Car, 22_000, 120_000, 53 * time.Second, true},
		"fast for five seconds":  {1000, geo.Car, 22_000, 5_000, 84 * time.Second, true},
		"a bike that is as fast": {1000, geo.Bike, 22_000, 5_000, 143 * time.Second, true},
		"at the door":            {0, geo.Walk, 1_000, 120_000, 0, true},
		"standing":               {1000, geo.Car, 100, 120_000, 0, false},
		"the first fix":          {1000, geo.Car, 0, 0, 0, false},
		"a distance of none":     {-1, geo.Car, 10_000, 120_000, 0, false},
	} {
		got, known := geo.ETA(c.distanceM, c.mode, c.pace, c.paced, geo.DefaultDetour)
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
			eta, known := geo.ETA(leftM, geo.Car, track.PaceMMS, track.PacedMS, geo.DefaultDetour)
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

func TestPaceFrom(t *testing.T) {
	t.Parallel()
	from := geo.TrackPoint{Point: geo.MustPoint(52, 5), TakenMS: startMS}
	after := func(ms int64) geo.TrackPoint {
		return geo.TrackPoint{Point: geo.Offset(from.Point, 90, 100), TakenMS: startMS + ms}
	}
	for name, c := range map[string]struct {
		last                     geo.TrackPoint
		pace, paced, mms, overMS int64
	}{
		"the first fix":       {after(0), 0, 0, 0, 0},
		"the first seconds":   {after(5_000), 0, 0, 20_000, 5_000},
		"at once":             {after(1), 0, 0, 100_000, 1_000},
		"after a long gap":    {after(200_000), 0, 0, 500, 120_000},
		"once it is measured": {after(5_000), 9_000, 60_000, 9_000, 60_000},
	} {
		mms, overMS := geo.PaceFrom(from, c.last, c.pace, c.paced)
		assert.Equal(t, c.mms, mms, name)
		assert.Equal(t, c.overMS, overMS, name)
	}
}
