package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/geo"
	"doorstep/geo/trace"
)

// every is a recording with a fix every step seconds, from..to.
func every(step, from, to int) []trace.Fix {
	var fixes []trace.Fix
	for s := from; s <= to; s += step {
		fixes = append(fixes, fix(s, float64(to-s)))
	}
	return fixes
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fixes   []trace.Fix
		lengths []time.Duration
		dropped int
	}{
		"nothing":            {nil, nil, 0},
		"one journey":        {every(5, 0, 600), []time.Duration{10 * time.Minute}, 0},
		"a silence of 300 s": {append(every(5, 0, 300), every(5, 600, 900)...), []time.Duration{15 * time.Minute}, 0},
		"a silence of 301 s": {append(every(5, 0, 300), every(5, 601, 901)...), []time.Duration{5 * time.Minute, 5 * time.Minute}, 0},
		"55 minutes":         {every(5, 0, 3300), []time.Duration{55 * time.Minute}, 0},
		"two hours":          {every(5, 0, 7200), []time.Duration{55 * time.Minute, 55 * time.Minute, 9*time.Minute + 50*time.Second}, 0},
		"under a minute":     {append(every(5, 0, 55), every(5, 900, 960)...), []time.Duration{time.Minute}, 1},
		"a lonely fix":       {every(5, 0, 0), nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			journeys, dropped := Split(c.fixes)
			var lengths []time.Duration
			for _, j := range journeys {
				lengths = append(lengths, Plan{Fixes: j}.Length())
			}
			assert.Equal(t, c.lengths, lengths)
			assert.Equal(t, c.dropped, dropped)
		})
	}
}

func TestSplit_loses_nothing_but_short_stretches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var fixes []trace.Fix
		at := 0
		for i, step := range rapid.SliceOfN(rapid.OneOf(rapid.IntRange(5, 30), rapid.IntRange(200, 400)), 0, 500).Draw(t, "steps") {
			at += step
			fixes = append(fixes, fix(at, float64(i)))
		}
		journeys, dropped := Split(fixes)
		next := 0
		for _, j := range journeys {
			assert.LessOrEqual(t, Plan{Fixes: j}.Length(), longest)
			assert.GreaterOrEqual(t, Plan{Fixes: j}.Length(), shortest)
			for i, f := range j {
				for fixes[next] != f {
					next++ // in a stretch that was dropped
				}
				if i > 0 {
					assert.LessOrEqual(t, span(j[i-1], f), silence)
				}
				next++
			}
		}
		if dropped == 0 {
			assert.Len(t, fixes, next)
		}
	})
}

func TestModeOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]geo.Mode{
		"/x/car-city-lisbon-01.csv": geo.Car, "bus-limerick-01.csv": geo.Car, "train-a-b.csv": geo.Car, "mixed-01.csv": geo.Car,
		"plane-usa-01.csv": geo.Car, "antimeridian-car-01.csv": geo.Car, "nonsense": geo.Car,
		"bike-london-01.csv": geo.Bike, "BIKE-x.csv": geo.Bike, "bike.csv": geo.Bike,
		"walk-lisbon-01.csv": geo.Walk, "run-bend-01.csv": geo.Walk, "walk.csv": geo.Walk,
	} {
		assert.Equal(t, want, ModeOf(name), name)
	}
}

func TestRecorded(t *testing.T) {
	t.Parallel()
	fixes := append(every(1, 0, 300), every(1, 900, 1200)...)
	plans, dropped := Recorded("/somewhere/bike-x-01.csv", "", fixes)
	require.Len(t, plans, 2)
	assert.Zero(t, dropped)
	assert.Equal(t, []string{"bike-x-01#1", "bike-x-01#2"}, []string{plans[0].Name, plans[1].Name})
	assert.Equal(t, geo.Bike, plans[0].Mode)
	assert.Len(t, plans[0].Fixes, 61, "thinned to one in five seconds")
	assert.Equal(t, fixes[300].Point, plans[0].Home, "the student lives where the journey ends")
	assert.Equal(t, fixes[len(fixes)-1].Point, plans[1].Home)

	plans, _ = Recorded("bike-x-01.csv", geo.Walk, every(5, 0, 300))
	assert.Equal(t, "bike-x-01", plans[0].Name, "a single journey has the recording's name")
	assert.Equal(t, geo.Walk, plans[0].Mode, "as asked for")
}

func TestGenerated(t *testing.T) {
	t.Parallel()
	plans := Generated(7, 8, "", 0)
	assert.Equal(t, plans, Generated(7, 8, "", 0), "the same seed, the same drives")
	assert.NotEqual(t, plans, Generated(8, 8, "", 0))
	modes := map[geo.Mode]int{}
	for _, p := range plans {
		modes[p.Mode]++
		last := p.Fixes[len(p.Fixes)-1].Point
		assert.Less(t, geo.DistanceM(last, p.Home), 50.0, "%s ends at the door", p.Name)
		assert.Less(t, p.Length(), 15*time.Minute, "at 15x, a minute")
		assert.Greater(t, p.Length(), 4*time.Minute)
	}
	assert.Equal(t, map[geo.Mode]int{geo.Car: 4, geo.Bike: 2, geo.Walk: 2}, modes)
	assert.Equal(t, geo.Bike, Generated(7, 1, geo.Bike, 0)[0].Mode)
}
