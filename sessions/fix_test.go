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

func TestNewFix_without_a_place(t *testing.T) {
	t.Parallel()
	fix, err := sessions.NewFix(sessions.Fix{})
	require.Equal(t, sessions.InvalidRequest, sessions.CodeOf(err))
	require.ErrorContains(t, err, "latitude")
	require.Zero(t, fix)
}

// An optional field never costs the fix.
func TestNewFix_not_known(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	for name, fix := range map[string]sessions.Fix{
		"accuracy -1, as iOS says":  {AccuracyM: -1},
		"accuracy a little below 0": {AccuracyM: -0.001},
		"accuracy NaN":              {AccuracyM: nan},
		"accuracy below all":        {AccuracyM: -inf},
		"speed -1, as iOS says":     {SpeedKMH: new(-1.0)},
		"speed -3.6, from m/s":      {SpeedKMH: new(-3.6)},
		"faster than flying":        {SpeedKMH: new(2000.1)},
		"speed NaN":                 {SpeedKMH: &nan},
		"heading -1, as iOS says":   {HeadingDeg: new(-1.0)},
		"heading over 360":          {HeadingDeg: new(360.1)},
		"heading NaN":               {HeadingDeg: &nan},
		"heading infinite":          {HeadingDeg: &inf},
		"recorded last century":     {RecordedAt: time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)},
		"recorded in 2569":          {RecordedAt: time.Date(2569, 3, 14, 0, 0, 0, 0, time.UTC)},
		"sent without recorded":     {SentAt: noon},
		"recorded 2569, sent today": {RecordedAt: time.Date(2569, 3, 14, 0, 0, 0, 0, time.UTC), SentAt: noon},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fix.Point = park
			got, err := sessions.NewFix(fix)
			require.NoError(t, err)
			require.Equal(t, sessions.Fix{Point: park}, got)
		})
	}
}

// An accuracy that is no radius on this planet is vague. "Not known" is believed.
func TestNewFix_huge_accuracy_is_vague(t *testing.T) {
	t.Parallel()
	for _, accuracy := range []float64{100_000, 100_000.1, 1e300, math.Inf(1)} {
		fix, err := sessions.NewFix(sessions.Fix{Point: park, AccuracyM: accuracy})
		require.NoError(t, err)
		require.InDelta(t, 100_000, fix.AccuracyM, 0)
	}
}

func TestNewFix_SentAt(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]time.Time{
		-time.Hour: {}, -time.Millisecond: {}, 0: noon, time.Microsecond: noon, time.Hour: noon.Add(time.Hour),
	} {
		fix, err := sessions.NewFix(sessions.Fix{Point: park, RecordedAt: noon, SentAt: noon.Add(after)})
		require.NoError(t, err)
		require.Equal(t, want, fix.SentAt, "%s after it was recorded", after)
		require.Equal(t, noon, fix.RecordedAt)
	}
}

func TestFix_NoPosition(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lat, lng float64
		want     bool
	}{
		{0, 0, true},
		{0.0000089, 0, true},
		{0, -0.0000089, true},
		{-0.000006, 0.000006, true},
		{0.000009, 0, false},
		{0, 0.000009, false},
		{0.000007, 0.000007, false},
		{0, 77.6, false},
		{12.9, 0, false},
		{0, 180, false},
	} {
		require.Equal(t, c.want, sessions.Fix{Point: geo.MustPoint(c.lat, c.lng)}.NoPosition(), "%v,%v", c.lat, c.lng)
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
		require.NoError(rt, err, "no optional field costs the fix")
		again, err := sessions.NewFix(fix)
		require.NoError(rt, err)
		require.Equal(rt, fix, again)
		for _, v := range []*float64{&fix.AccuracyM, fix.SpeedKMH, fix.HeadingDeg} {
			if v == nil {
				continue
			}
			require.False(rt, math.Signbit(*v), "%v", *v)
			require.InDelta(rt, math.Round(*v*10), *v*10, 1e-6)
		}
		require.True(rt, fix.HeadingDeg == nil || *fix.HeadingDeg < 360)
	})
}
