package geo_test

import (
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uber/h3-go/v4"
	"pgregory.net/rapid"

	"doorstep/geo"
)

// long multiplies the random work when DOORSTEP_LONG is set.
func long(n int) int {
	if os.Getenv("DOORSTEP_LONG") != "" {
		return n * 50
	}
	return n
}

// places are homes of one kind each, drawn without end.
func places(t *testing.T) map[string]func(*rand.Rand) geo.Point {
	t.Helper()
	pentagons, err := h3.Pentagons(9)
	require.NoError(t, err)
	near := func(p geo.Point, r *rand.Rand, m float64) geo.Point {
		return geo.Offset(p, 360*r.Float64(), m*r.Float64())
	}
	return map[string]func(*rand.Rand) geo.Point{
		"anywhere": func(r *rand.Rand) geo.Point {
			return geo.MustPoint(math.Asin(2*r.Float64()-1)*180/math.Pi, 360*r.Float64()-180)
		},
		"any latitude": func(r *rand.Rand) geo.Point { return geo.MustPoint(180*r.Float64()-90, 360*r.Float64()-180) },
		"north pole":   func(r *rand.Rand) geo.Point { return near(geo.MustPoint(90, 0), r, 1000) },
		"south pole":   func(r *rand.Rand) geo.Point { return near(geo.MustPoint(-90, 0), r, 1000) },
		"antimeridian": func(r *rand.Rand) geo.Point { return near(geo.MustPoint(160*r.Float64()-80, 180), r, 1000) },
		"pentagon": func(r *rand.Rand) geo.Point {
			c, err := h3.CellToLatLng(pentagons[r.IntN(len(pentagons))])
			if err != nil {
				panic(err)
			}
			return near(geo.MustPoint(c.Lat, c.Lng), r, 1500)
		},
		"face edge": func(r *rand.Rand) geo.Point { return near(faceEdge(pentagons, r), r, 400) },
	}
}

// faceEdge is a point on an edge of the icosahedron: the great circle between
// two neighbouring pentagons, which stand on its corners.
func faceEdge(pentagons []h3.Cell, r *rand.Rand) geo.Point {
	for {
		a, err1 := h3.CellToLatLng(pentagons[r.IntN(len(pentagons))])
		b, err2 := h3.CellToLatLng(pentagons[r.IntN(len(pentagons))])
		if err1 != nil || err2 != nil {
			panic("a pentagon without a centre")
		}
		p, q := geo.MustPoint(a.Lat, a.Lng), geo.MustPoint(b.Lat, b.Lng)
		if d := geo.DistanceM(p, q); d > 1 && d < 8e6 {
			return geo.Offset(p, geo.BearingDeg(p, q), d*r.Float64())
		}
	}
}

func TestFence_never_denies_a_point_inside(t *testing.T) {
	t.Parallel()
	const perHome = 100
	for kind, home := range places(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, 2))
			inside, ruledOut := 0, 0
			for range long(400) {
				at := home(rng)
				fence, err := geo.Cover(at, 150)
				require.NoError(t, err)
				require.Less(t, len(fence.String()), 64)
				for range perHome {
					p := geo.Offset(at, 360*rng.Float64(), 450*math.Sqrt(rng.Float64()))
					in, may := geo.DistanceM(at, p) <= 150, fence.MayContain(geo.CellOf(p))
					if in && !may {
						t.Fatalf("home %v, point %v: %v m away and not in %v", at, p, geo.DistanceM(at, p), fence)
					}
					inside += count(in)
					ruledOut += count(!may)
				}
			}
			assert.Greater(t, inside, long(400)*perHome/20, "the test must look inside")
			assert.Greater(t, ruledOut, long(400)*perHome/20, "a fence that never rules out is no fence")
		})
	}
}

func TestFence_holds_at_its_rim(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for kind, home := range places(t) {
		for range long(60) {
			at, radius := home(rng), math.Exp(rng.Float64()*math.Log(geo.MaxFenceM))
			fence, err := geo.Cover(at, radius)
			require.NoError(t, err)
			for range 50 {
				p := geo.Offset(at, 360*rng.Float64(), radius*(1-0.001*rng.Float64()))
				if geo.DistanceM(at, p) <= radius && !fence.MayContain(geo.CellOf(p)) {
					t.Fatalf("%s: home %v radius %v: %v is not in %v", kind, at, radius, p, fence)
				}
			}
		}
	}
}

func TestFence_is_short_and_of_resolution_9_nearly_everywhere(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	home, fine, short, homes := places(t)["anywhere"], 0, 0, 3000
	for range homes {
		fence, err := geo.Cover(home(rng), 150)
		require.NoError(t, err)
		parts := strings.Split(fence.String(), ",")
		fine += count(len(parts[0])+len(parts[1]) == 12)
		short += count(len(fence.String()) <= 40)
	}
	assert.Greater(t, float64(fine)/float64(homes), 0.9)
	assert.Greater(t, float64(short)/float64(homes), 0.9)
}

func TestCover_refuses(t *testing.T) {
	t.Parallel()
	_, err := geo.Cover(geo.Point{}, 150)
	require.ErrorIs(t, err, geo.ErrOutOfRange)
	for _, radius := range []float64{0, -1, math.NaN(), math.Inf(1), geo.MaxFenceM + 1} {
		_, err := geo.Cover(geo.MustPoint(0, 0), radius)
		require.ErrorIs(t, err, geo.ErrRadius, radius)
	}
}

func TestFence_String(t *testing.T) {
	t.Parallel()
	fence, err := geo.Cover(geo.MustPoint(52.0907, 5.1214), 150)
	require.NoError(t, err)
	assert.Regexp(t, `^\d+(,\d+)+$`, fence.String(), "how all begin, then how each ends")
	assert.True(t, geo.Fence{}.MayContain(geo.CellOf(geo.MustPoint(1, 1))), "no fence rules nothing out")
}

func TestCellOf(t *testing.T) {
	t.Parallel()
	assert.Regexp(t, `^(0\d\d|1[01]\d|12[01])[0-6]{9}$`, geo.CellOf(geo.MustPoint(52.0907, 5.1214)))
	assert.Empty(t, geo.CellOf(geo.Point{}))
	assert.Equal(t, geo.CellOf(geo.MustPoint(10, 180)), geo.CellOf(geo.MustPoint(10, -180)))
	seen := sync.Map{}
	rapid.Check(t, func(t *rapid.T) {
		p := drawPoint(t, "p")
		cell, err := h3.LatLngToCell(h3.LatLng{Lat: p.Lat(), Lng: p.Lng()}, 9)
		require.NoError(t, err)
		if old, dup := seen.LoadOrStore(geo.CellOf(p), cell); dup {
			assert.Equal(t, old, cell, "one text, one cell")
		}
	})
}

func TestCrossesFence(t *testing.T) {
	t.Parallel()
	home := geo.MustPoint(52, 5)
	at := func(deg, m float64) geo.Point { return geo.Offset(home, deg, m) }
	for name, c := range map[string]struct {
		a, b geo.Point
		want bool
	}{
		"through":        {at(0, 500), at(180, 500), true},
		"past":           {geo.Offset(at(90, 200), 0, 500), geo.Offset(at(90, 200), 180, 500), false},
		"grazing":        {geo.Offset(at(90, 149), 0, 500), geo.Offset(at(90, 149), 180, 500), true},
		"short of it":    {at(0, 900), at(0, 151), false},
		"ends in it":     {at(0, 900), at(0, 149), true},
		"standing far":   {at(0, 900), at(0, 900), false},
		"standing in it": {at(0, 9), at(0, 9), true},
		"antipode":       {at(0, 2e7), at(90, 2e7), false},
	} {
		assert.Equal(t, c.want, geo.CrossesFence(c.a, c.b, home, 150), name)
	}
}

func TestCrossesFence_agrees_with_small_steps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		home := drawPoint(t, "home")
		a := geo.Offset(home, rapid.Float64Range(0, 360).Draw(t, "from"), rapid.Float64Range(0, 1000).Draw(t, "far"))
		bearing, length := rapid.Float64Range(0, 360).Draw(t, "bearing"), rapid.Float64Range(1, 1000).Draw(t, "length")
		nearest := math.Inf(1)
		for m := 0.0; m <= length; m++ {
			nearest = min(nearest, geo.DistanceM(geo.Offset(a, bearing, m), home))
		}
		b := geo.Offset(a, bearing, length)
		if math.Abs(nearest-150) > 1 {
			assert.Equal(t, nearest <= 150, geo.CrossesFence(a, b, home, 150), "nearest %v m", nearest)
		}
		if geo.CrossesFence(a, b, home, 150) {
			assert.GreaterOrEqual(t, geo.DistanceM(a, b)+150.01, geo.DistanceM(b, home), "the script's first question")
		}
	})
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func BenchmarkCellOf(b *testing.B) {
	p := geo.MustPoint(52.0907, 5.1214)
	for b.Loop() {
		geo.CellOf(p)
	}
}

func BenchmarkCover(b *testing.B) {
	p := geo.MustPoint(52.0907, 5.1214)
	for b.Loop() {
		if _, err := geo.Cover(p, 150); err != nil {
			b.Fatal(err)
		}
	}
}
