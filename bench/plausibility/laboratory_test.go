package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/geo/trace"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]struct {
		group string
		mode  geo.Mode
	}{
		"car-motorway-x-01.csv": {"car motorway", geo.Car},
		"car-city-x-01.csv":     {"car city", geo.Car},
		"car-delivery-x-01.csv": {"car delivery", geo.Car},
		"car-01.csv":            {"car city", geo.Car},
		"bus-x-01.csv":          {"bus", geo.Car},
		"walk-x-01.csv":         {"walk", geo.Walk},
		"bike-x-01.csv":         {"bike", geo.Bike},
		"run-x-01.csv":          {"run", geo.Walk},
		"mixed-x-01.csv":        {"mixed", geo.Car},
		"train-x-01.csv":        {"train", geo.Car},
	} {
		group, mode := classify(file)
		assert.Equal(t, want.group, group, file)
		assert.Equal(t, want.mode, mode, file)
	}
	assert.True(t, targeted("bus"))
	assert.False(t, targeted("train"))
}

// answered makes an answered fix of a recording.
func answered(s int64, verdict geo.Verdict) sent {
	return sent{Fix: trace.Fix{Fix: geo.Fix{RecordedMS: s * 1000}}, outcome: outcome{string(verdict), verdict.IsRefused(), 0}}
}

func TestTreatment_blind_time(t *testing.T) {
	t.Parallel()
	ok, no, ignored := geo.Accepted, geo.RefusedSpeed, geo.IgnoredLowAccuracy
	for name, c := range map[string]struct {
		all   []sent
		run   int
		blind time.Duration
	}{
		"none":                    {[]sent{answered(0, ok), answered(5, ok)}, 0, 0},
		"one":                     {[]sent{answered(0, ok), answered(5, no), answered(11, ok)}, 1, 6 * time.Second},
		"two":                     {[]sent{answered(5, no), answered(10, no), answered(15, ok)}, 2, 10 * time.Second},
		"two apart":               {[]sent{answered(5, no), answered(10, ok), answered(15, no), answered(20, ok)}, 1, 5 * time.Second},
		"an ignored one between":  {[]sent{answered(5, no), answered(10, ignored), answered(30, no), answered(35, ok)}, 2, 10 * time.Second},
		"then silent for an hour": {[]sent{answered(5, no), answered(3605, ok)}, 1, 15 * time.Second},
		"never seen again":        {[]sent{answered(5, no), answered(10, no)}, 2, 5 * time.Second},
	} {
		var got treatment
		got.add("f", c.all)
		assert.Equal(t, c.run, got.longestRun, name)
		assert.Equal(t, c.blind, got.longestBlind, name)
	}
}

func TestSuspected_counts_journeys(t *testing.T) {
	t.Parallel()
	flagged := func(s int64, journey int, flags geo.Flags) sent {
		f := answered(s, geo.Accepted)
		f.flags, f.journey = flags, journey
		return f
	}
	var got suspected
	got.add([]sent{flagged(1, 0, geo.FlagFast), flagged(5, 0, geo.FlagFast|geo.FlagSilence), flagged(3700, 1, 0), flagged(4600, 1, 0), answered(4605, geo.RefusedSpeed)})
	assert.Equal(t, 2, got.journeys)
	assert.Equal(t, map[string]int{"fast": 1, "silence": 1, "silent": 1, "refused_speed": 1}, got.by)
}

func TestNaive_never_lets_a_stuck_phone_back(t *testing.T) {
	t.Parallel()
	far, home := geo.MustPoint(52, 5), geo.MustPoint(40, 5)
	play := func(e engine) (refused int) {
		require.NoError(t, e.begin(geo.Car, elsewhere, 1e12))
		for i := range int64(20) {
			at := home
			if i < 2 {
				at = far
			}
			o, err := e.publish(geo.Fix{Point: at, RecordedMS: 1e12 + i*5000}, 1e12+i*5000+100)
			require.NoError(t, err)
			if o.refused {
				refused++
			}
		}
		return refused
	}
	assert.Equal(t, 18, play(&naive{}))
	assert.Equal(t, 2, play(&judge{}))
}

func TestJudgeEngine_expires_and_orders(t *testing.T) {
	t.Parallel()
	e := &judge{}
	require.NoError(t, e.begin(geo.Car, elsewhere, 1e12))
	home := geo.MustPoint(52, 5)
	send := func(ms int64) outcome {
		o, err := e.publish(geo.Fix{Point: home, RecordedMS: 1e12 + ms}, 1e12+ms+100)
		require.NoError(t, err)
		return o
	}
	assert.Equal(t, "accepted", send(0).verdict)
	assert.Equal(t, verdictStale, send(0).verdict)
	assert.Zero(t, send(400_000).flags, "a silence is no re-anchor where the trainer could have got there")
	in, err := e.arrived(home, 1e12+401_000)
	require.NoError(t, err)
	assert.False(t, in, "a second fix must agree")
	for _, ms := range []int64{440_000, 461_000} {
		assert.Equal(t, "accepted", send(ms).verdict)
	}
	in, err = e.arrived(home, 1e12+462_000)
	require.NoError(t, err)
	assert.True(t, in)
}

// TestFakes needs no recordings: the generated journeys have every field.
func TestFakes_caught_on_generated_journeys(t *testing.T) {
	t.Parallel()
	var all []host
	for _, r := range generated() {
		all = append(all, hosts(r)...)
	}
	require.NotEmpty(t, all)
	got, err := hunt(&judge{}, all, fakes())
	require.NoError(t, err)
	for _, name := range []string{"teleport of 1 to 20 km", "teleport to the door, then arrived", "mock flag"} {
		assert.Equal(t, got[name].tried, got[name].first, name)
	}
	for _, name := range []string{
		"teleport to the door, then arrived", "at the door at once, then arrived", "at the door by mock fixes", "a young track of 5 s at the door",
	} {
		assert.NotZero(t, got[name].arrivals, name)
		assert.Zero(t, got[name].granted, name)
	}
	for _, name := range []string{"clock shifted 2 min", "back-dated 4 min, then twice as fast", "clock 50 s behind, made good in 2 min", "frozen position", "boiling frog: faster by half every minute"} {
		assert.GreaterOrEqual(t, share(got[name].soon, got[name].tried), 0.9, name)
	}
	for _, name := range []string{"constant offset of 300 m", "another day's journey replayed"} {
		assert.Zero(t, got[name].ever, "%s cannot be told from the truth: catching it is luck or a bug", name)
	}
}

func TestLab_keeps_its_targets_on_the_recordings(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("DOORSTEP_TRACES")
	if dir == "" {
		t.Skip("no recordings: set DOORSTEP_TRACES")
	}
	recordings, err := load(dir)
	require.NoError(t, err)
	ours := &judge{}
	found, err := laboratory{recordings, ours, []engine{ours}, io.Discard}.run()
	require.NoError(t, err)
	for _, c := range []struct {
		group string
		want  target
	}{
		{ownMode, target{0.001, 2, 15 * time.Second}},
		{"car motorway", target{0.01, 2, 15 * time.Second}},
		{"mixed", target{0.015, 3, 30 * time.Second}},
	} {
		got := found.treatments(c.group)[0]
		require.NotZero(t, got.fixes, c.group)
		assert.LessOrEqual(t, got.refusedShare(), c.want.refused, c.group)
		assert.LessOrEqual(t, got.longestRun, c.want.run, c.group)
		assert.LessOrEqual(t, got.longestBlind, c.want.blind, c.group)
	}
	assertNetworks(t, found.networks, 1e-4)
	assert.LessOrEqual(t, share(found.nearDoor.refused, found.nearDoor.asked), 0.005)
	door := found.caught[0]["teleport to the door, then arrived"]
	assert.Zero(t, door.granted)
	assert.Equal(t, door.tried, door.first)
}

// assertNetworks checks the promises to phones with bad networks. share is of the fixes
// that may be left out or late where a network looks like a clock.
func assertNetworks(t *testing.T, by map[networkRow]*answers, share float64) {
	t.Helper()
	var refused, calm int
	for row, a := range by {
		few := share * float64(a.fixes)
		require.NotZero(t, a.fixes)
		assert.Zero(t, a.back, "%v: pins that go back", row)
		assert.Zero(t, a.failed, "%v: answers that are no 2xx", row)
		if row.known {
			assert.LessOrEqual(t, float64(a.limited), few, "%v: 429 to an old fix", row)
			assert.LessOrEqual(t, float64(a.unstored), few, "%v: left out", row)
			assert.LessOrEqual(t, float64(a.late), few, "%v: late pins", row)
			refused, calm = refused+a.refused, calm+a.refusedCalm
		}
	}
	assert.LessOrEqual(t, refused, calm, "no more refusals than on a good network")
}

// The generated journeys are the project's own.
func TestBadNetworks_of_generated_journeys(t *testing.T) {
	t.Parallel()
	by := map[networkRow]*answers{}
	for _, r := range generated() {
		require.NoError(t, new(judge).networks(by, r))
	}
	assertNetworks(t, by, 0)
	require.Len(t, by, 6)
}

// update.lua and the store in memory answer the same.
func TestBadNetworks_in_the_real_store(t *testing.T) {
	t.Parallel()
	ours := &judge{}
	stop, err := startScript(ours, io.Discard)
	require.NoError(t, err)
	defer stop()
	by := map[networkRow]*answers{}
	require.NoError(t, ours.networks(by, generated()[2])) // a walk
	assertNetworks(t, by, 0)
}

func TestStartsNearDoor_of_generated_journeys(t *testing.T) {
	t.Parallel()
	var all []host
	for _, r := range generated() {
		all = append(all, hosts(r)...)
	}
	asked, refused, err := startsNearDoor(&judge{}, all)
	require.NoError(t, err)
	assert.NotZero(t, asked)
	assert.Zero(t, refused)
}

func TestLab_writes_a_table_and_plots(t *testing.T) {
	t.Parallel()
	traces, plots := t.TempDir(), t.TempDir()
	var text strings.Builder
	text.WriteString("seq,unix_ms,lat,lng,accuracy_m,speed_mps,heading_deg\n")
	for i, f := range trace.Generate(1, geo.MustPoint(52, 5), geo.Offset(geo.MustPoint(52, 5), 45, 20_000), geo.Car) {
		if i == 100 {
			f.Point = geo.Offset(f.Point, 0, 5000)
		}
		fmt.Fprintf(&text, "%d,%d,%s,%s,,,\n", f.Seq, f.RecordedMS, f.Point.AppendLat(nil), f.Point.AppendLng(nil))
	}
	require.NoError(t, os.WriteFile(filepath.Join(traces, "car-city-made-01.csv"), []byte(text.String()), 0o600))
	var table bytes.Buffer
	require.NoError(t, lab([]string{"-traces", traces, "-plots", plots}, &table, io.Discard))
	assert.Contains(t, table.String(), "| car city | 1 |")
	drawn, err := filepath.Glob(filepath.Join(plots, "*.svg"))
	require.NoError(t, err)
	assert.Len(t, drawn, 2, "the one track that was refused a fix, and the ROC")

	require.Error(t, lab([]string{"-traces", t.TempDir()}, io.Discard, io.Discard), "no recordings")
}
