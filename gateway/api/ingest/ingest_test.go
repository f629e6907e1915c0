package ingest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api/ingest"
)

// one reads a request that must hold one point and nothing else.
func one(t *testing.T, f ingest.Format, query, body string) ingest.Point {
	t.Helper()
	report, err := ingest.Decode(f, ingest.Request{Query: query, Body: strings.NewReader(body)})
	require.NoError(t, err)
	require.Len(t, report.Points, 1, "%+v", report)
	assert.Equal(t, 1, report.Total)
	assert.Zero(t, report.Malformed+report.Other+report.Encrypted)
	return report.Points[0]
}

func TestDecode(t *testing.T) {
	t.Parallel()
	p := one(t, ingest.OwnTracks, "", `{"_type":"location","lat":12.9716,"lon":77.5946,"tst":1773480420,"acc":8,"vel":25,"cog":90}`)
	assert.InDelta(t, 25, *p.Fix.SpeedKMH, 0)
	p = one(t, ingest.OsmAnd, "id=x&lat=12.9716&lon=77.5946&timestamp=1773480420&speed=10", "")
	assert.InDelta(t, 18.5, *p.Fix.SpeedKMH, 0)
	p = one(t, ingest.Transistorsoft, "", `{"location":{"coords":{"latitude":12.9716,"longitude":77.5946,"speed":10},"timestamp":"2026-03-14T09:27:00.123Z"},"device_id":"1"}`)
	assert.InDelta(t, 36, *p.Fix.SpeedKMH, 0)
	p = one(t, ingest.Overland, "", `{"locations":[{"type":"Feature","geometry":{"type":"Point","coordinates":[77.5946,12.9716]},"properties":{"timestamp":"2026-03-14T14:57:00+0530","speed":10}}]}`)
	assert.InDelta(t, 36, *p.Fix.SpeedKMH, 0)
}
