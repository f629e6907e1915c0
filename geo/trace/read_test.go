package trace_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/geo/trace"
)

const header = "seq,unix_ms,lat,lng,accuracy_m,speed_mps,heading_deg\n"

func TestRead(t *testing.T) {
	t.Parallel()
	got, err := trace.Read(strings.NewReader(header +
		"7,1700000000123,52.1,5.2,4.5,10,90\n" +
		"8,1700000001123,-52.1,-5.2,,,\n" +
		"9,1700000002123,0,0,0,0,360\n"))
	require.NoError(t, err)
	assert.Equal(t, []trace.Fix{
		{Seq: 7, Fix: geo.Fix{Point: geo.MustPoint(52.1, 5.2), AccuracyM: 4.5, SpeedKMH: geo.Measured(36), HeadingDeg: geo.Measured(90), RecordedMS: 1700000000123}},
		{Seq: 8, Fix: geo.Fix{Point: geo.MustPoint(-52.1, -5.2), RecordedMS: 1700000001123}},
		{Seq: 9, Fix: geo.Fix{Point: geo.MustPoint(0, 0), SpeedKMH: geo.Measured(0), HeadingDeg: geo.Measured(0), RecordedMS: 1700000002123}},
	}, got)
}

func TestRead_takes_columns_by_name(t *testing.T) {
	t.Parallel()
	got, err := trace.Read(strings.NewReader("\ufefflng,extra,lat,unix_ms\n5,x,52,1000\n"))
	require.NoError(t, err)
	assert.Equal(t, []trace.Fix{{Fix: geo.Fix{Point: geo.MustPoint(52, 5), RecordedMS: 1000}}}, got)
}

func TestRead_refuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"nothing":         {"", "header"},
		"a missing field": {"seq,lat,lng\n", "unix_ms"},
		"a ragged row":    {header + "1,2,3\n", "wrong number of fields"},
		"a clock of text": {header + "1,soon,1,1,,,\n", "line 2"},
		"NaN":             {header + "1,1,NaN,1,,,\n", "not finite"},
		"a far latitude":  {header + "1,1,1,1,,,\n2,2,91,1,,,\n", "line 3"},
		"a word as speed": {header + "1,1,1,1,,fast,\n", "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := trace.Read(strings.NewReader(c.text))
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestThin(t *testing.T) {
	t.Parallel()
	var all []trace.Fix
	for _, ms := range []int64{0, 1000, 4999, 5000, 9999, 12000, 11000, 17000} {
		all = append(all, trace.Fix{Fix: geo.Fix{RecordedMS: ms}})
	}
	var kept []int64
	for _, f := range trace.Thin(all, 5*time.Second) {
		kept = append(kept, f.RecordedMS)
	}
	assert.Equal(t, []int64{0, 5000, 12000, 17000}, kept)
	assert.Empty(t, trace.Thin(nil, time.Second))
}

func FuzzRead(f *testing.F) {
	f.Add(header + "0,1452701324163,37.8755835,-122.2591852,700,,\n")
	f.Add("lat,lng,unix_ms\n1,2,3\n\"4\",5,6\n")
	f.Add("lat,lat,lng,unix_ms\n1,2,3,4\n")
	f.Add(header + "1,1,1,1,1e309,-1,720\n")
	f.Fuzz(func(t *testing.T, text string) {
		fixes, err := trace.Read(strings.NewReader(text))
		if err != nil {
			assert.Empty(t, fixes)
			return
		}
		for _, fix := range fixes {
			assert.True(t, fix.Point.Valid())
			assert.GreaterOrEqual(t, fix.AccuracyM, 0.0)
			if heading, known := fix.HeadingDeg.Get(); known {
				assert.True(t, heading >= 0 && heading < 360)
			}
			if speed, known := fix.SpeedKMH.Get(); known {
				assert.GreaterOrEqual(t, speed, 0.0)
			}
		}
	})
}
