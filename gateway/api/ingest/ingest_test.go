package ingest_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/api/ingest"
	"doorstep/internal/phoneapps"
	"doorstep/sessions"
)

// golden is a request, and what it reports in the words of shown.
type golden struct {
	query, body string
	want        string
}

// decoded checks requests of one format.
func decoded(t *testing.T, f sessions.Format, rows map[string]golden) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report, err := ingest.Decode(f, ingest.Request{Query: row.query, Body: strings.NewReader(row.body)})
			if errors.Is(err, ingest.ErrUnreadable) {
				assert.Equal(t, row.want, strings.TrimSpace(shown(report)+" unreadable"))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.want, shown(report))
		})
	}
}

// shown is a report as a text: its points, then the counts that are not zero.
func shown(r ingest.Report) string {
	var words []string
	for _, p := range r.Points {
		words = append(words, pointShown(p))
	}
	for _, n := range []struct {
		count int
		name  string
	}{{r.Total - len(r.Points), "old"}, {r.Malformed, "malformed"}, {r.Other, "other"}, {r.Encrypted, "encrypted"}} {
		if n.count != 0 {
			words = append(words, fmt.Sprintf("%s=%d", n.name, n.count))
		}
	}
	if r.DeviceID != "" {
		words = append(words, "id="+r.DeviceID)
	}
	return strings.Join(words, " ")
}

func pointShown(p ingest.Point) string {
	f := p.Fix
	words := fmt.Sprintf("(%v,%v", f.Point.Lat(), f.Point.Lng())
	if f.AccuracyM != 0 {
		words += fmt.Sprintf(" %vm", f.AccuracyM)
	}
	if f.SpeedKMH != nil {
		words += fmt.Sprintf(" %vkm/h", *f.SpeedKMH)
	}
	if f.HeadingDeg != nil {
		words += fmt.Sprintf(" %v°", *f.HeadingDeg)
	}
	if !f.RecordedAt.IsZero() {
		words += f.RecordedAt.UTC().Format(" 15:04:05.999")
	}
	if f.Mock {
		words += " mock"
	}
	if p.Present {
		words += " present"
	}
	return words + ")"
}

// The answers, as each app needs them.
func TestAnswer(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	for _, row := range []struct {
		format     sessions.Format
		steer      ingest.Steer
		kind, body string
	}{
		{sessions.OwnTracks, ingest.Steer{}, jsonType, `[]`},
		{sessions.OwnTracks, ingest.Steer{Interval: 15 * time.Second}, jsonType, `[{"_type":"cmd","action":"setConfiguration","configuration":{"_type":"configuration","monitoring":2,"moveModeLocatorInterval":15,"locatorInterval":15}}]`},
		{sessions.OwnTracks, ingest.Steer{Stop: true, Interval: 300 * time.Second}, jsonType, `[{"_type":"cmd","action":"setConfiguration","configuration":{"_type":"configuration","monitoring":0}}]`},
		{sessions.OsmAnd, ingest.Steer{}, "text/plain", ``},
		{sessions.OsmAnd, ingest.Steer{Interval: 5 * time.Second, Stop: true}, "text/plain", ``},
		{sessions.Transistorsoft, ingest.Steer{}, jsonType, `{}`},
		{sessions.Transistorsoft, ingest.Steer{Interval: 5 * time.Second, SpeedKMH: 36}, jsonType, `{"background_geolocation":[["setConfig",{"distanceFilter":50,"disableElasticity":true,"geolocation":{"distanceFilter":50,"disableElasticity":true}}]]}`},
		{sessions.Transistorsoft, ingest.Steer{Interval: 5 * time.Second}, jsonType, `{"background_geolocation":[["setConfig",{"distanceFilter":20,"disableElasticity":true,"geolocation":{"distanceFilter":20,"disableElasticity":true}}]]}`},
		{sessions.Transistorsoft, ingest.Steer{Stop: true}, jsonType, `{"background_geolocation":[["stop"]]}`},
		{sessions.Overland, ingest.Steer{}, jsonType, `{"result":"ok"}`},
		{sessions.Overland, ingest.Steer{Interval: 5 * time.Second}, jsonType, `{"result":"ok","set":{"send_interval":"5s"}}`},
		{sessions.Overland, ingest.Steer{Interval: 25 * time.Second}, jsonType, `{"result":"ok","set":{"send_interval":"15s"}}`},
		{sessions.Overland, ingest.Steer{Interval: 2 * time.Second}, jsonType, `{"result":"ok","set":{"send_interval":"1s"}}`},
		{sessions.Overland, ingest.Steer{Interval: time.Hour}, jsonType, `{"result":"ok","set":{"send_interval":"5m"}}`},
		{sessions.Overland, ingest.Steer{Stop: true}, jsonType, `{"result":"ok","set":{"main":{"tracking_mode":"off"}}}`},
	} {
		kind, body := ingest.Answer(row.format, row.steer)
		assert.Equal(t, row.kind, kind)
		assert.Equal(t, row.body, string(body))
	}
	for _, app := range phoneapps.Apps {
		for _, s := range []ingest.Steer{{}, {Interval: time.Minute}, {Stop: true}} {
			_, body := ingest.Answer(sessions.Format(app.Format()), s)
			assert.True(t, app.Accepted(200, body), "%s %s", app, body)
		}
	}
}

// A queue in any order is sorted, and what is over five minutes older than its
// newest point is counted and left out.
func TestDecode_keepsTheNewest(t *testing.T) {
	t.Parallel()
	points := make([]phoneapps.Point, 2000)
	for i := range points {
		points[i] = phoneapps.Point{Latitude: 12.9, Longitude: 77.5, At: dayStart.Add(time.Duration(i) * time.Second)}
	}
	newest := points[len(points)-1].At
	for name, reorder := range map[string]func(){
		"oldest_first": func() {},
		"newest_first": func() { slices.Reverse(points) },
		"shuffled": func() {
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		},
	} {
		reorder()
		report := decodeApp(t, phoneapps.Overland, points, nil)
		require.Len(t, report.Points, 301, name)
		assert.Equal(t, len(points), report.Total)
		assert.True(t, slices.IsSortedFunc(report.Points, func(a, b ingest.Point) int { return a.Fix.RecordedAt.Compare(b.Fix.RecordedAt) }), name)
		assert.Equal(t, newest, report.Points[300].Fix.RecordedAt, name)
		assert.Equal(t, newest.Add(-ingest.KeptFor), report.Points[0].Fix.RecordedAt, name)
	}
	for i := range points { // 2,000 within five minutes: the newest of them
		points[i].At = dayStart.Add(time.Duration(i) * 100 * time.Millisecond)
	}
	report := decodeApp(t, phoneapps.TransistorsoftBatch, points, nil)
	require.Len(t, report.Points, ingest.MaxPoints)
	assert.Equal(t, points[len(points)-ingest.MaxPoints].At, report.Points[0].Fix.RecordedAt)
}

// decodeApp reads a request as an app writes it.
func decodeApp(t require.TestingT, app phoneapps.App, points []phoneapps.Point, current *phoneapps.Point) ingest.Report {
	q := app.Request(phoneapps.Login{User: "t1", Secret: "s3cret"}, points, current)
	report, err := ingest.Decode(sessions.Format(app.Format()), ingest.Request{Query: q.Query, Body: strings.NewReader(q.Body)})
	require.NoError(t, err)
	return report
}

// A day of points costs no more memory than five minutes of them, garbage included:
// 100 bytes for each point that is left out, of some 700 in the body.
//
//nolint:paralleltest // it reads what the process allocates
func TestDecode_memory(t *testing.T) {
	small, large := backlog(400), backlog(day)
	of := func(body string) float64 {
		r := strings.NewReader(body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		report, err := ingest.Decode(sessions.Transistorsoft, ingest.Request{Body: r})
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		assert.Len(t, report.Points, 61)
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	assert.Less(t, of(large)-of(small), 250.0*day)
	for _, hostile := range []string{
		strings.Repeat("[", 1<<20),
		strings.Repeat(`{"location":`, 128<<10),
		`{"` + strings.Repeat("k", 1<<20) + `":1}`,
		`{"location":{"timestamp":"` + strings.Repeat(`\u0041`, 128<<10) + `"}}`,
		`{"location":{"coords":{"latitude":` + strings.Repeat("1", 1<<20) + `}}}`,
		`{"location":[` + strings.Repeat(`{},`, 256<<10) + `1]}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = ingest.Decode(sessions.Transistorsoft, ingest.Request{Body: strings.NewReader(hostile)})
		runtime.ReadMemStats(&after)
		assert.Less(t, after.Mallocs-before.Mallocs, uint64(len(hostile)), "%.40s", hostile)
	}
}

// What came before the trouble is reported with it.
func TestDecode_errors(t *testing.T) {
	t.Parallel()
	member := feature("09:27:00", "")
	cut := `{"locations":[` + member + `,` + member[:50]
	report, err := ingest.Decode(sessions.Overland, ingest.Request{Body: strings.NewReader(cut)})
	require.ErrorIs(t, err, ingest.ErrUnreadable)
	assert.Len(t, report.Points, 1)

	report, err = ingest.Decode(sessions.Overland, ingest.Request{Body: io.MultiReader(strings.NewReader(cut), iotest.ErrReader(iotest.ErrTimeout))})
	require.ErrorIs(t, err, iotest.ErrTimeout)
	require.NotErrorIs(t, err, ingest.ErrUnreadable)
	assert.Len(t, report.Points, 1)

	report, err = ingest.Decode(sessions.Overland, ingest.Request{Body: io.MultiReader(strings.NewReader(`{"locations":[`+member+`,"`), blanks(ingest.MaxBody), strings.NewReader(`"]}`))})
	require.ErrorIs(t, err, ingest.ErrTooLarge)
	assert.Len(t, report.Points, 1)

	for _, body := range []string{`{"device_id":"x","location":"` + strings.Repeat("x", ingest.MaxOsmAndBody) + `"}`, "id=x&lat=1&lon=1&x=" + strings.Repeat("x", 64<<10)} {
		_, err = ingest.Decode(sessions.OsmAnd, ingest.Request{Body: strings.NewReader(body)})
		require.ErrorIs(t, err, ingest.ErrTooLarge)
	}
	_, err = ingest.Decode("gpx", ingest.Request{})
	require.Error(t, err)
}

func blanks(n int) io.Reader { return io.LimitReader(blank{}, int64(n)) }

type blank struct{}

func (blank) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}
