package sessions_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/geo"
	"doorstep/geo/trace"
	"doorstep/sessions"
)

// ride is what a phone did on one journey.
type ride struct {
	uploads   int
	arrivalS  int // when the first fix within the fence was sent
	oldestPin int // s, that somebody who watches saw, from the second fix of the watch on
}

// A phone that is steered sends half as much as one that sends every five seconds,
// is not later at the door, and costs nobody who watches anything. The student
// watches twice for a minute, at any time; near the door every fix counts anyway.
func TestSteering_simulation(t *testing.T) {
	t.Parallel()
	const fixed, watchS = 5, 60
	journeys := 1000
	if testing.Short() {
		journeys = 50
	}
	rng := rand.New(rand.NewPCG(7, 18))
	var steered, every ride
	var later []float64
	for i := range journeys {
		mode, farM := geo.Car, 8_000+12_000*rng.Float64()
		if i%4 == 0 {
			mode, farM = geo.Bike, 4_000+5_000*rng.Float64()
		}
		home := geo.MustPoint(12.97, 77.59)
		fixes := trace.Generate(uint64(i), geo.Offset(home, 360*rng.Float64(), farM), home, mode)
		var watches []int
		for range 2 {
			watches = append(watches, rng.IntN(len(fixes)))
		}
		watched := func(s int) bool {
			for _, from := range watches {
				if s >= from && s < from+watchS {
					return true
				}
			}
			return false
		}
		byRule := drive(fixes, home, watched, func(s sessions.Steering) int { return int(s.NextFix(fixed*time.Second) / time.Second) })
		byClock := drive(fixes, home, watched, func(sessions.Steering) int { return fixed })
		steered.uploads += byRule.uploads
		every.uploads += byClock.uploads
		later = append(later, float64(byRule.arrivalS-byClock.arrivalS))
		assert.LessOrEqual(t, byRule.oldestPin, 6)
	}
	mean, latest := 0.0, 0.0
	for _, s := range later {
		mean += s / float64(len(later))
		latest = math.Max(latest, s)
	}
	share := float64(steered.uploads) / float64(every.uploads)
	t.Logf("uploads: %.0f %% fewer; the door: %.2f s later in the mean, %.0f s at most", 100-100*share, mean, latest)
	assert.Less(t, share, 0.5)
	assert.Less(t, math.Abs(mean), 1.0)
	assert.LessOrEqual(t, latest, 10.0) // each has its own beat, and the noise of a receiver crosses the fence both ways
}

// drive sends fixes of a receiver that has one a second, each after the pause that
// the last answer told.
func drive(fixes []trace.Fix, home geo.Point, watched func(second int) bool, pause func(sessions.Steering) int) ride {
	out := ride{arrivalS: -1}
	seen, last := 0, 0 // fixes sent since the watch began; the second of the last
	for s, due := 0, 0; s < len(fixes); s++ {
		if !watched(s) {
			seen = 0
		} else if seen >= 2 {
			out.oldestPin = max(out.oldestPin, s-last)
		}
		if s < due {
			continue
		}
		f := fixes[s]
		distance := geo.DistanceM(f.Point, home)
		out.uploads++
		last = s
		if watched(s) {
			seen++
		}
		if out.arrivalS < 0 && distance <= 150 {
			out.arrivalS = s
		}
		speed := -1.0
		if kmh, ok := f.SpeedKMH.Get(); ok {
			speed = kmh
		}
		due = s + pause(sessions.Steering{Watched: watched(s), DistanceM: distance, SpeedKMH: speed})
	}
	return out
}
