package ingest_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/internal/phoneapps"
	"doorstep/sessions"
)

// What one format says, every other can say: a point that has come through one app's
// format comes through another's unchanged, to that format's resolution.
func TestDecode_formatsAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.SampledFrom(phoneapps.Apps).Draw(t, "from")
		to := rapid.SampledFrom(phoneapps.Apps).Draw(t, "to")
		first := fixOf(t, from, phoneapps.Point{
			Latitude: degrees(t, "latitude", 90), Longitude: degrees(t, "longitude", 180),
			AccuracyM:  rapid.Float64Range(-1, 3000).Draw(t, "accuracy"),
			SpeedMPS:   rapid.Float64Range(-1, 60).Draw(t, "speed"),
			HeadingDeg: rapid.Float64Range(-1, 359.9).Draw(t, "heading"),
			At:         time.UnixMilli(rapid.Int64Range(1_600_000_000_000, 1_900_000_000_000).Draw(t, "at")).UTC(),
			Mock:       rapid.Bool().Draw(t, "mock"),
		})
		second := fixOf(t, to, phoneapps.Point{
			Latitude: first.Point.Lat(), Longitude: first.Point.Lng(), AccuracyM: first.AccuracyM,
			SpeedMPS: said(first.SpeedKMH) / 3.6, HeadingDeg: said(first.HeadingDeg), At: first.RecordedAt, Mock: first.Mock,
		})
		assert.Equal(t, first.Point, second.Point)
		speed, whole := 0.1, 0.0 // of km/h; of metres and degrees
		step := time.Millisecond
		switch to {
		case phoneapps.OwnTracksAndroid, phoneapps.OwnTracksIOS:
			speed, whole, step = 1, 1, time.Second
		case phoneapps.Overland, phoneapps.Traccar8, phoneapps.Traccar10:
			step = time.Second
		}
		assert.Equal(t, first.RecordedAt.Truncate(step), second.RecordedAt)
		assert.InDelta(t, first.AccuracyM, second.AccuracyM, whole+1e-9)
		if said(first.SpeedKMH) >= 1 { // under it some apps say 0, which may be "not known"
			require.NotNil(t, second.SpeedKMH)
			assert.InDelta(t, *first.SpeedKMH, *second.SpeedKMH, speed+1e-9)
			assert.InDelta(t, math.Max(0, said(first.HeadingDeg)), math.Max(0, said(second.HeadingDeg)), whole+1e-9)
		}
		if to == phoneapps.Traccar8 || to == phoneapps.Transistorsoft || to == phoneapps.TransistorsoftBatch {
			assert.Equal(t, first.Mock, second.Mock)
		}
	})
}

// degrees are to 1e-7, as all stores keep them.
func degrees(t *rapid.T, label string, limit float64) float64 {
	return math.Round(rapid.Float64Range(-limit, limit).Draw(t, label)*1e7) / 1e7
}

func fixOf(t *rapid.T, app phoneapps.App, p phoneapps.Point) sessions.Fix {
	report := decodeApp(t, app, []phoneapps.Point{p}, nil)
	require.Len(t, report.Points, 1)
	require.Equal(t, 1, report.Total)
	return report.Points[0].Fix
}

func said(v *float64) float64 {
	if v == nil {
		return -1
	}
	return *v
}
