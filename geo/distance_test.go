package geo_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"doorstep/geo"
)

func TestOffset_goes_as_far_as_asked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		from := drawPoint(t, "from")
		bearing := rapid.Float64Range(-720, 720).Draw(t, "bearing")
		want := rapid.Float64Range(0, 20_000_000).Draw(t, "distance_m")
		to := geo.Offset(from, bearing, want)
		assert.InDelta(t, want, geo.DistanceM(from, to), 0.02+want*1e-9, "both ends are rounded to 11 mm")
	})
}

func TestOffset_crosses_the_antimeridian_and_the_pole(t *testing.T) {
	t.Parallel()
	east := geo.Offset(geo.MustPoint(0, 179.9999), 90, 100)
	assert.Less(t, east.Lng(), -179.0)
	over := geo.Offset(geo.MustPoint(89.9999, 0), 0, 100)
	assert.InDelta(t, 180, max(over.Lng(), -over.Lng()), 1e-6)
	assert.Less(t, over.Lat(), 90.0)
}

func TestBearingDeg(t *testing.T) {
	t.Parallel()
	home := geo.MustPoint(52, 5)
	for _, deg := range []float64{0, 45, 90, 179, 181, 270, 359} {
		assert.InDelta(t, deg, geo.BearingDeg(home, geo.Offset(home, deg, 1000)), 0.01)
	}
	assert.Zero(t, geo.BearingDeg(home, home))
}

// drawPoint is any place on Earth, the poles and the antimeridian more often
// than chance would have them.
func drawPoint(t *rapid.T, name string) geo.Point {
	lat := rapid.OneOf(rapid.Float64Range(-90, 90), rapid.SampledFrom([]float64{-90, 90, 0, 89.99999, -89.99999})).Draw(t, name+"_lat")
	lng := rapid.OneOf(rapid.Float64Range(-180, 180), rapid.SampledFrom([]float64{-180, 180, 0, 179.99999, -179.99999})).Draw(t, name+"_lng")
	return geo.MustPoint(lat, lng)
}
