package geo_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/geo"
)

const startMS = int64(1_700_000_000_000)

// step is one fix of a journey: metres east of home, seconds after the start.
type step struct {
	s, eastM float64
	change   func(*geo.Fix)
	want     geo.Verdict
	flags    geo.Flags
}

// play judges a journey and checks each step.
func play(t *testing.T, limits geo.Limits, track geo.Track, steps []step) geo.Track {
	t.Helper()
	home := geo.MustPoint(52, 5)
	for i, st := range steps {
		now := startMS + int64(st.s*1000)
		fix := geo.Fix{Point: geo.Offset(home, 90, st.eastM), AccuracyM: 5, TakenMS: now - 300}
		if st.change != nil {
			st.change(&fix)
		}
		var got geo.Ruling
		got, track = geo.Judge(track, fix, limits, now)
		assert.Equal(t, st.want, got.Verdict, "step %d", i)
		assert.Equal(t, st.flags.String(), got.Flags.String(), "step %d", i)
	}
	return track
}

func TestJudge(t *testing.T) {
	t.Parallel()
	ok, speed, ceiling, jump := geo.Accepted, geo.RefusedSpeed, geo.RefusedCeiling, geo.RefusedJump
	accuracy := func(m float64) func(*geo.Fix) { return func(f *geo.Fix) { f.AccuracyM = m } }
	kmh := func(v float64) func(*geo.Fix) { return func(f *geo.Fix) { f.SpeedKMH = geo.Measured(v) } }
	taken := func(byMS int64) func(*geo.Fix) { return func(f *geo.Fix) { f.TakenMS += byMS } }
	for name, c := range map[string]struct {
		mode  geo.Mode
		steps []step
	}{
		"plain drive": {geo.Car, []step{{0, 0, nil, ok, 0}, {5, 100, nil, ok, 0}, {10, 250, nil, ok, 0}}},
		"within both accuracies": {geo.Walk, []step{
			{0, 0, accuracy(0), ok, 0}, {5, 70, accuracy(0), ok, 0}, {10, 140, accuracy(0), ok, 0},
		}},
		"a claim of accuracy is capped": {geo.Car, []step{{-5, 1, nil, ok, 0}, {0, 0, accuracy(190), ok, 0}, {5, 600, accuracy(190), ceiling, 0}}},
		"too vague": {geo.Car, []step{
			{0, 0, nil, ok, 0}, {5, 9999, accuracy(200.1), geo.IgnoredLowAccuracy, 0}, {10, 50, nil, ok, 0},
		}},
		"fast from a standing start: refused once, then believed": {geo.Car, []step{
			{-5, 1, nil, ok, 0}, {0, 0, nil, ok, 0}, {5, 200, nil, speed, 0}, {10, 400, nil, ok, geo.FlagFast}, {15, 600, nil, ok, geo.FlagFast},
		}},
		"fast out of a fast pace: believed": {geo.Car, []step{
			{0, 0, nil, ok, 0}, {5, 150, nil, ok, 0}, {10, 300, nil, ok, 0}, {15, 490, nil, ok, geo.FlagFast},
		}},
		"grace ends after five quiet minutes": {geo.Car, []step{
			{-5, 1, nil, ok, 0},
			{0, 0, nil, ok, 0},
			{5, 200, nil, speed, 0},
			{10, 400, nil, ok, geo.FlagFast},
			{100, 420, nil, ok, 0},
			{200, 440, nil, ok, 0},
			{305, 460, nil, ok, 0},
			{309, 640, nil, ok, geo.FlagFast},
			{605, 660, nil, ok, 0},
			{610, 900, nil, speed, 0},
		}},
		"a spike": {geo.Car, []step{{-5, 1, nil, ok, 0}, {0, 0, nil, ok, 0}, {5, 500, nil, ceiling, 0}, {10, 20, nil, ok, 0}, {15, 500, nil, ceiling, 0}}},
		"a jump, and the way back in": {geo.Car, []step{
			{-5, 1, nil, ok, 0}, {0, 0, nil, ok, 0}, {5, 50_000, nil, jump, 0}, {10, 50_050, nil, jump, 0}, {15, 50_100, nil, ok, geo.FlagReanchored}, {20, 50_150, nil, ok, 0},
		}},
		"jumps that do not agree": {geo.Car, []step{
			{-5, 1, nil, ok, 0}, {0, 0, nil, ok, 0}, {5, 50_000, nil, jump, 0}, {10, 90_000, nil, jump, 0}, {15, 50_000, nil, jump, 0}, {20, 90_000, nil, jump, 0},
		}},
		"sparse: two that agree for long enough": {geo.Car, []step{
			{-30, 1, nil, ok, 0}, {0, 0, nil, ok, 0}, {30, 50_000, nil, jump, 0}, {60, 50_050, nil, ok, geo.FlagReanchored},
		}},
		"a glitch that was believed gives way at once": {geo.Car, []step{
			{-5, 1, nil, ok, 0},
			{0, 0, nil, ok, 0},
			{5, 5000, nil, jump, 0},
			{10, 5000, nil, jump, 0},
			{15, 5001, nil, ok, geo.FlagReanchored},
			{20, 80, nil, ok, geo.FlagReanchored},
			{25, 120, nil, ok, 0},
		}},
		"silence buys no more than two minutes without a flag": {geo.Car, []step{
			{0, 0, nil, ok, 0}, {240, 3900, nil, ok, 0}, {480, 8500, nil, ok, geo.FlagSilence},
		}},
		"a position that stood still catches up": {geo.Car, []step{
			{0, 0, nil, ok, 0}, {5, 0, nil, ok, 0}, {10, 0, nil, ok, 0}, {15, 0, nil, ok, 0}, {20, 450, nil, ok, geo.FlagSilence},
		}},
		"but does not jump": {geo.Car, []step{
			{0, 0, nil, ok, 0}, {20, 0, nil, ok, 0}, {40, 0, nil, ok, 0}, {60, 0, nil, ok, 0}, {64, 1500, nil, jump, 0},
		}},
		"a fix that waited for the network": {geo.Car, []step{
			{0, 0, nil, ok, 0}, {30, 150, taken(-25_000), ok, 0}, {34, 450, taken(-19_000), ok, 0},
		}},
		"no position": {geo.Car, []step{{0, 0, func(f *geo.Fix) { f.Point = geo.MustPoint(0, 0) }, geo.IgnoredNoPosition, 0}, {5, 100, nil, ok, 0}}},
		"a first fix from another city is replaced, once": {geo.Car, []step{
			{0, 90_000, nil, ok, 0}, {5, 0, nil, ok, geo.FlagFirstFixReplaced}, {10, 60, nil, ok, 0}, {15, 90_000, nil, jump, 0},
		}},
		"two guesses in turn do not teleport": {geo.Car, []step{
			{0, 90_000, nil, ok, 0}, {5, 0, nil, ok, geo.FlagFirstFixReplaced}, {10, 90_000, nil, jump, 0}, {15, 0, nil, ok, 0},
		}},
		"mock":                                {geo.Car, []step{{0, 0, func(f *geo.Fix) { f.Mock = true }, ok, geo.FlagMock}}},
		"the receiver says otherwise, thrice": {geo.Car, []step{{0, 0, nil, ok, 0}, {5, 100, kmh(0), ok, 0}, {10, 200, kmh(0), ok, 0}, {15, 300, kmh(0), ok, geo.FlagMismatch}}},
		"braking is no contradiction":         {geo.Car, []step{{0, 0, kmh(70), ok, 0}, {5, 60, kmh(0), ok, 0}, {10, 60.5, kmh(0), ok, 0}}},
		"frozen": {geo.Car, []step{
			{0, 0, nil, ok, 0}, {50, 0, nil, ok, 0}, {99, 0, nil, ok, 0}, {101, 0, nil, ok, geo.FlagFrozen},
		}},
		"frozen while it says it moves": {geo.Car, []step{
			{0, 0, kmh(40), ok, 0}, {5, 0, kmh(40), ok, 0}, {10, 0, kmh(40), ok, 0}, {15, 0, kmh(40), ok, geo.FlagFrozen | geo.FlagMismatch},
		}},
		"back at exactly the anchor": {geo.Car, []step{{0, 0, nil, ok, 0}, {5, 60, nil, ok, 0}, {10, 0, nil, ok, geo.FlagRepeated}}},
		"bike downhill":              {geo.Bike, []step{{0, 0, nil, ok, 0}, {5, 40, nil, ok, 0}, {10, 95, nil, ok, geo.FlagFast}}},
		"bus claimed as walk":        {geo.Walk, []step{{-5, 1, nil, ok, 0}, {0, 0, nil, ok, 0}, {5, 70, nil, ceiling, 0}, {10, 140, nil, ceiling, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, geo.DefaultLimits(c.mode), geo.Track{}, c.steps)
		})
	}
}

func TestJudge_looks_back_a_minute(t *testing.T) {
	t.Parallel()
	limits, track := geo.DefaultLimits(geo.Walk), geo.Track{}
	var flags geo.Flags
	for i := range 14 { // 40 km/h, hidden in two unknown accuracies at every step
		var got geo.Ruling
		fix := geo.Fix{Point: geo.Offset(geo.MustPoint(52, 5), 90, 55.6*float64(i)), TakenMS: startMS + int64(i)*5000}
		got, track = geo.Judge(track, fix, limits, startMS+int64(i)*5000)
		require.Equal(t, geo.Accepted, got.Verdict)
		flags |= got.Flags
	}
	assert.Equal(t, geo.FlagFast|geo.FlagReanchored, flags, "over the ceiling of a minute is no approach")
	assert.NotZero(t, track.ReanchoredMS)
}

func TestJudge_restored_track_counts_as_reanchored(t *testing.T) {
	t.Parallel()
	track := play(t, geo.DefaultLimits(geo.Car), geo.Restored(startMS-900), []step{{0, 0, nil, geo.Accepted, geo.FlagReanchored}, {5, 50, nil, geo.Accepted, 0}})
	assert.Equal(t, startMS, track.ReanchoredMS, "the wait begins with the fix")
}

func TestJudge_shadow_counts_and_lets_pass(t *testing.T) {
	t.Parallel()
	limits := geo.DefaultLimits(geo.Car)
	limits.Shadow = geo.Shadow{LowAccuracy: true, Speed: true, Ceiling: true}
	play(t, limits, geo.Track{}, []step{
		{-5, 1, nil, geo.Accepted, 0},
		{0, 0, nil, geo.Accepted, 0},
		{5, 200, nil, geo.Accepted, geo.FlagShadow},
		{10, 9000, nil, geo.Accepted, geo.FlagShadow},
		{15, 9050, func(f *geo.Fix) { f.AccuracyM = 900 }, geo.Accepted, geo.FlagShadow},
	})
	limits.Shadow = geo.Shadow{Speed: true}
	play(t, limits, geo.Track{}, []step{{-5, 1, nil, geo.Accepted, 0}, {0, 0, nil, geo.Accepted, 0}, {5, 9000, nil, geo.RefusedJump, 0}})
}

func TestFlags_are_a_closed_list(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, f := range geo.AllFlags() {
		assert.NotEmpty(t, f.String())
		names[f.String()] = true
	}
	assert.Len(t, names, 10)
	assert.Equal(t, "fast|mock", (geo.FlagMock | geo.FlagFast).String())
	_, err := geo.ParseMode("boat")
	require.Error(t, err)
}

// drawTrack is any state a store could hold, reachable or not.
func drawTrack(t *rapid.T, limits geo.Limits) (geo.Track, int64) {
	track, now := geo.Track{}, startMS
	for i := range rapid.IntRange(0, 30).Draw(t, "history") {
		now += rapid.Int64Range(4000, 90_000).Draw(t, fmt.Sprint("wait", i))
		_, track = geo.Judge(track, drawFix(t, now), limits, now)
	}
	return track, now
}

func drawFix(t *rapid.T, now int64) geo.Fix {
	f := geo.Fix{
		Point:     geo.Offset(geo.MustPoint(52, 179.99), rapid.Float64Range(0, 360).Draw(t, "bearing"), rapid.SampledFrom([]float64{0, 10, 100, 400, 5000, 3e6}).Draw(t, "far")),
		AccuracyM: rapid.SampledFrom([]float64{0, 4, 30, 150, 500}).Draw(t, "accuracy"),
		Mock:      rapid.Bool().Draw(t, "mock"),
	}
	f.TakenMS = now - max(0, rapid.Int64Range(-5000, 3000).Draw(t, "lag"))
	if rapid.Bool().Draw(t, "speed") {
		f.SpeedKMH = geo.Measured(rapid.Float64Range(0, 300).Draw(t, "kmh"))
	}
	return f
}

func drawMode(t *rapid.T) geo.Mode {
	return rapid.SampledFrom([]geo.Mode{geo.Car, geo.Bike, geo.Walk}).Draw(t, "mode")
}

func TestJudge_never_refuses_a_steady_track_under_the_limit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limits := geo.DefaultLimits(drawMode(t))
		from, bearing := drawPoint(t, "from"), rapid.Float64Range(0, 360).Draw(t, "bearing")
		kmh := rapid.Float64Range(0, limits.LimitKMH).Draw(t, "kmh")
		if geo.DistanceM(from, geo.MustPoint(0, 0)) < 100_000 {
			t.Skip("0,0 is no position")
		}
		track, now, goneM := geo.Track{}, startMS, 0.0
		for i := range 60 {
			fix := geo.Fix{Point: geo.Offset(from, bearing, goneM), AccuracyM: 3, TakenMS: now}
			var got geo.Ruling
			got, track = geo.Judge(track, fix, limits, now+int64(i%3)*200)
			require.Equal(t, geo.Ruling{Verdict: geo.Accepted}, geo.Ruling{Verdict: got.Verdict, Flags: got.Flags &^ (geo.FlagFrozen | geo.FlagSilence)})
			ms := rapid.Int64Range(4500, 40_000).Draw(t, "wait")
			now, goneM = now+ms, goneM+kmh*float64(ms)/3600
		}
	})
}

func TestJudge_locks_no_honest_phone_out(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limits := geo.DefaultLimits(drawMode(t))
		track, now := drawTrack(t, limits)
		from, bearing := drawPoint(t, "from"), rapid.Float64Range(0, 360).Draw(t, "bearing")
		kmh := rapid.Float64Range(0, limits.CeilingKMH).Draw(t, "kmh")
		if geo.DistanceM(from, geo.MustPoint(0, 0)) < 100_000 {
			t.Skip("0,0 is no position")
		}
		refused := 0
		for i := range 20 {
			now += 5000
			fix := geo.Fix{Point: geo.Offset(from, bearing, kmh*float64(i)*5/3.6), AccuracyM: 5, TakenMS: now - 100}
			var got geo.Ruling
			got, track = geo.Judge(track, fix, limits, now)
			refused += count(got.Verdict.IsRefused())
		}
		assert.LessOrEqual(t, refused, 3, "of twenty at %v km/h", kmh)
	})
}

func TestJudge_refuses_or_flags_every_teleport(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mode := drawMode(t)
		limits := geo.DefaultLimits(mode)
		track, now := drawTrack(t, limits)
		if !track.Last.Point.Valid() {
			t.Skip("a first fix has nothing to be far from")
		}
		now = max(now, track.Last.TakenMS) + 5000
		far := geo.Offset(track.Last.Point, rapid.Float64Range(0, 360).Draw(t, "bearing"), rapid.Float64Range(1000, 1e6).Draw(t, "far"))
		got, after := geo.Judge(track, geo.Fix{Point: far, AccuracyM: 20, TakenMS: now}, limits, now)
		odd := got.Verdict.IsRefused() || got.Flags&(geo.FlagReanchored|geo.FlagSilence|geo.FlagFirstFixReplaced) != 0
		assert.True(t, odd || now-track.Last.TakenMS > 20_000, "%v %v", got.Verdict, got.Flags)
		if got.Verdict == geo.Accepted && odd && !got.Flags.Has(geo.FlagFirstFixReplaced) {
			assert.Equal(t, now, after.ReanchoredMS, "no arrival for a minute")
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	limits, track := geo.DefaultLimits(geo.Car), geo.Track{}
	here, there := geo.MustPoint(52, 5), geo.MustPoint(52.0005, 5)
	for i := int64(0); b.Loop(); i++ {
		fix := geo.Fix{Point: here, AccuracyM: 8, TakenMS: startMS + i*5000}
		here, there = there, here
		_, track = geo.Judge(track, fix, limits, startMS+i*5000+300)
	}
}
