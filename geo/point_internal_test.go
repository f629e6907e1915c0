package geo

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is rounded is what its own text says, and the text is strconv's.
func TestRound7(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	degrees := []float64{0, math.Copysign(0, -1), 1e-8, -1e-8, 4.9e-8, 5e-8, -5e-8, 1e-7, -1e-7, 0.1, 0.9999999, 0.99999995, 90, -90, 180, -180, 179.99999999}
	for range 200_000 {
		degrees = append(degrees, 360*rng.Float64()-180, math.Round(1e7*(360*rng.Float64()-180))/1e7, math.Ldexp(rng.Float64()-0.5, -rng.IntN(30)))
	}
	for _, deg := range degrees {
		v := round7(deg)
		require.False(t, v == 0 && math.Signbit(v), "%v became -0", deg)
		require.InDelta(t, deg, v, 0.50001e-7)
		text := strconv.FormatFloat(v, 'f', 7, 64)
		require.Equal(t, text, string(append7(nil, v)))
		require.Equal(t, "x"+text, string(append7([]byte("x"), v)))
		read, err := strconv.ParseFloat(text, 64)
		require.NoError(t, err)
		require.Equal(t, math.Float64bits(read), math.Float64bits(v), "%v", deg)
		require.Equal(t, math.Float64bits(v), math.Float64bits(round7(v)))
	}
}

func BenchmarkPoint(b *testing.B) {
	b.ReportAllocs()
	var text [64]byte
	for b.Loop() {
		p, _ := NewPoint(52.09074312, 5.12142009)
		_ = p.AppendLng(p.AppendLat(text[:0]))
	}
}
