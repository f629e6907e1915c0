package ingest_test

import (
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/api/ingest"
	"doorstep/sessions"
)

// fuzz reads any request. The report keeps what it says of itself, and is the same
// however the body arrives.
func fuzz(f *testing.F, format sessions.Format) {
	f.Helper()
	f.Fuzz(func(t *testing.T, query, body string) {
		report, err := ingest.Decode(format, ingest.Request{Query: query, Body: strings.NewReader(body)})
		again, errAgain := ingest.Decode(format, ingest.Request{Query: query, Body: iotest.OneByteReader(strings.NewReader(body))})
		assert.Equal(t, err, errAgain)
		assert.Equal(t, report, again)
		assert.LessOrEqual(t, len(report.Points), min(report.Total, ingest.MaxPoints))
		assert.LessOrEqual(t, report.Total+report.Malformed+report.Other+report.Encrypted, 1+len(body))
		timed := slices.DeleteFunc(slices.Clone(report.Points), func(p ingest.Point) bool { return p.Fix.RecordedAt.IsZero() })
		for i, p := range timed {
			assert.True(t, p.Fix.Point.Valid())
			newest := timed[len(timed)-1].Fix.RecordedAt
			assert.False(t, p.Fix.RecordedAt.After(newest) || p.Fix.RecordedAt.Before(newest.Add(-ingest.KeptFor)), "%d", i)
		}
		assert.True(t, format == sessions.OsmAnd || len(timed) == len(report.Points))
		if err == nil && report.Total == 0 && format != sessions.OsmAnd {
			assert.Empty(t, report.Points)
		}
	})
}
