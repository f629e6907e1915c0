package trace_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"doorstep/geo"
	"doorstep/geo/trace"
)

func TestGenerate_is_a_journey(t *testing.T) {
	t.Parallel()
	top := map[geo.Mode]float64{geo.Car: 90, geo.Bike: 35, geo.Walk: 20}
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]geo.Mode{geo.Car, geo.Bike, geo.Walk}).Draw(t, "mode")
		// Not within 5 km of the equator: at 0° N 0° E a fix is no position.
		lat := rapid.Float64Range(-80, 80).Filter(func(lat float64) bool { return math.Abs(lat) > 0.1 }).Draw(t, "lat")
		from := geo.MustPoint(lat, rapid.Float64Range(-180, 180).Draw(t, "lng"))
		to := geo.Offset(from, rapid.Float64Range(0, 360).Draw(t, "bearing"), rapid.Float64Range(0, 5000).Draw(t, "length_m"))
		fixes := trace.Generate(rapid.Uint64().Draw(t, "seed"), from, to, mode)

		assert.Less(t, geo.DistanceM(from, fixes[0].Point), 30.0)
		assert.Less(t, geo.DistanceM(to, fixes[len(fixes)-1].Point), 30.0)
		for i, f := range fixes[1:] {
			assert.Equal(t, fixes[i].RecordedMS+1000, f.RecordedMS)
		}
		var track geo.Track
		thin := trace.Thin(fixes, 5*time.Second)
		for i, f := range thin {
			if i > 0 {
				assert.Less(t, geo.DistanceM(thin[i-1].Point, f.Point)/5*3.6, top[mode], "fix %d", i)
			}
			var got geo.Ruling
			f.TakenMS = f.RecordedMS
			got, track = geo.Judge(track, f.Fix, geo.DefaultLimits(mode), f.RecordedMS+300)
			assert.Equal(t, geo.Ruling{Verdict: geo.Accepted}, got, "fix %d", i)
		}
	})
}

func TestGenerate_repeats_itself(t *testing.T) {
	t.Parallel()
	from, to := geo.MustPoint(52.09, 5.12), geo.MustPoint(52.11, 5.14)
	one := trace.Generate(3, from, to, geo.Bike)
	assert.Equal(t, one, trace.Generate(3, from, to, geo.Bike))
	assert.NotEqual(t, one, trace.Generate(4, from, to, geo.Bike))
}
