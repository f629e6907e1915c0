package sessions_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/geo"
	"doorstep/sessions"
)

var park = geo.MustPoint(12.9763472, 77.5929284)

func TestNewFix_refused(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	for name, test := range map[string]struct {
		fix   sessions.Fix
		field string
	}{
		"no_place":           {sessions.Fix{}, "latitude"},
		"negative_accuracy":  {sessions.Fix{Point: park, AccuracyM: -0.1}, "accuracy"},
		"huge_accuracy":      {sessions.Fix{Point: park, AccuracyM: 100_000.1}, "accuracy"},
		"accuracy_NaN":       {sessions.Fix{Point: park, AccuracyM: nan}, "accuracy"},
		"accuracy_infinite":  {sessions.Fix{Point: park, AccuracyM: inf}, "accuracy"},
		"negative_speed":     {sessions.Fix{Point: park, SpeedKMH: new(-1.0)}, "speed"},
		"faster_than_flying": {sessions.Fix{Point: park, SpeedKMH: new(2000.1)}, "speed"},
		"speed_NaN":          {sessions.Fix{Point: park, SpeedKMH: &nan}, "speed"},
		"negative_heading":   {sessions.Fix{Point: park, HeadingDeg: new(-0.1)}, "heading"},
		"heading_over_360":   {sessions.Fix{Point: park, HeadingDeg: new(360.1)}, "heading"},
		"heading_NaN":        {sessions.Fix{Point: park, HeadingDeg: &nan}, "heading"},
		"last_century":       {sessions.Fix{Point: park, RecordedAt: time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)}, "recordedAt"},
		"next_but_one":       {sessions.Fix{Point: park, RecordedAt: time.Date(2200, 1, 1, 0, 0, 0, 1, time.UTC)}, "recordedAt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fix, err := sessions.NewFix(test.fix)
			require.Equal(t, sessions.InvalidRequest, sessions.CodeOf(err))
			require.ErrorContains(t, err, test.field)
			require.Zero(t, fix)
		})
	}
}

func TestNewFix_rounded(t *testing.T) {
	t.Parallel()
	given := sessions.Fix{
		Point: park, AccuracyM: 4.96, SpeedKMH: new(25.34), HeadingDeg: new(89.95),
		RecordedAt: noon.Add(1_999_999 * time.Nanosecond), Mock: true,
	}
	fix, err := sessions.NewFix(given)
	require.NoError(t, err)
	require.Equal(t, sessions.Fix{
		Point: park, AccuracyM: 5, SpeedKMH: new(25.3), HeadingDeg: new(90.0),
		RecordedAt: noon.Add(time.Millisecond), Mock: true,
	}, fix)
	require.InDelta(t, 25.34, *given.SpeedKMH, 0, "the caller's own value is left alone")
	require.InDelta(t, 89.95, *given.HeadingDeg, 0)
}

func TestNewFix_north_has_one_name(t *testing.T) {
	t.Parallel()
	for _, heading := range []float64{0, 0.04, 359.95, 359.97, 360} {
		fix, err := sessions.NewFix(sessions.Fix{Point: park, HeadingDeg: &heading})
		require.NoError(t, err)
		require.Zero(t, *fix.HeadingDeg, "%v", heading)
	}
}

func TestNewFix_unsaid_stays_unsaid(t *testing.T) {
	t.Parallel()
	fix, err := sessions.NewFix(sessions.Fix{Point: park})
	require.NoError(t, err)
	require.Equal(t, sessions.Fix{Point: park}, fix)
	require.True(t, fix.RecordedAt.IsZero())
}

// A value of NewFix goes through it unchanged, is within the bounds, and never
// holds a negative zero, which prints with a sign.
func TestNewFix_any(t *testing.T) {
	t.Parallel()
	number := rapid.OneOf(rapid.Float64Range(0, 360), rapid.Float64(), rapid.Just(math.Copysign(0, -1)))
	rapid.Check(t, func(rt *rapid.T) {
		speed, heading := number.Draw(rt, "speed"), number.Draw(rt, "heading")
		fix, err := sessions.NewFix(sessions.Fix{
			Point: park, AccuracyM: number.Draw(rt, "accuracy"), SpeedKMH: &speed, HeadingDeg: &heading,
			RecordedAt: noon.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(rt, "ns"))),
		})
		if err != nil {
			return
		}
		again, err := sessions.NewFix(fix)
		require.NoError(rt, err)
		require.Equal(rt, fix, again)
		require.Less(rt, *fix.HeadingDeg, 360.0)
		for _, v := range []float64{fix.AccuracyM, *fix.SpeedKMH, *fix.HeadingDeg} {
			require.False(rt, math.Signbit(v), "%v", v)
			require.InDelta(rt, math.Round(v*10), v*10, 1e-6)
		}
	})
}
