package sessions_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/geo/trace"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// way is a journey as a receiver has it, and when somebody watches it.
type way struct {
	mode    geo.Mode
	home    geo.Point
	fixes   []trace.Fix
	watches [2]int // two times of watchS, in seconds after the start
}

const watchS = 60

func (w way) lastS() int {
	return int(min(3_590_000, w.fixes[len(w.fixes)-1].RecordedMS-w.fixes[0].RecordedMS) / 1000)
}

func (w way) watched(s int) bool {
	return s >= w.watches[0] && s < w.watches[0]+watchS || s >= w.watches[1] && s < w.watches[1]+watchS
}

// ride is what a phone did on one journey.
type ride struct {
	uploads   int
	refused   int // or ignored
	suspected int // 1 if something of it is suspicious
	arrivalS  int // when the gateway first said arriving; -1 for never
	oldestPin int // s, that somebody who watches saw, from the second fix of the watch on
}

// comparison is many journeys, once with a fix every five seconds, and once steered.
type comparison struct {
	fixed, steered ride
	later          []float64 // the arrival, in s
}

var steered = flag.Int("steered", 150, "how many journeys TestSteering_simulation plays; the figures in docs/adr/0018 are of 1,000")

// A phone that is steered sends less than half as much as one that sends every five
// seconds, is not later at the door, and costs nobody who watches anything. Phones do as
// they are told, by a whole gateway's service and the store in memory. The student watches
// twice for a minute, at any time.
func TestSteering_simulation(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 18))
	var c comparison
	for i := range *steered {
		mode, farM := geo.Car, 8_000+12_000*rng.Float64()
		if i%4 == 0 {
			mode, farM = geo.Bike, 4_000+5_000*rng.Float64()
		}
		home := geo.MustPoint(12.97, 77.59)
		w := way{mode: mode, home: home, fixes: trace.Generate(uint64(i), geo.Offset(home, 360*rng.Float64(), farM), home, mode)}
		c.play(t, w, rng)
	}
	t.Log("made-up journeys: ", c.String())
	assert.LessOrEqual(t, c.steered.oldestPin, 6)
	assert.Less(t, float64(c.steered.uploads), 0.5*float64(c.fixed.uploads))
	assert.Equal(t, c.fixed.refused, c.steered.refused)
	assert.Equal(t, c.fixed.suspected, c.steered.suspected)
	mean, worst := c.delay()
	assert.Less(t, math.Abs(mean), 1.0)
	assert.LessOrEqual(t, worst, 10.0) // each has its own beat, and the noise of a receiver crosses the fence both ways
}

// The same on recordings, where DOORSTEP_TRACES says where they are. They are not this
// project's. The end of each is the home.
func TestSteering_recordings(t *testing.T) {
	t.Parallel()
	if os.Getenv("DOORSTEP_TRACES") == "" {
		t.Skip("DOORSTEP_TRACES is not set")
	}
	paths, err := filepath.Glob(filepath.Join(os.Getenv("DOORSTEP_TRACES"), "*.csv"))
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(7, 18))
	var c comparison
	for _, path := range paths {
		file, err := os.Open(path)
		require.NoError(t, err)
		fixes, err := trace.Read(file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		hour := slices.IndexFunc(fixes, func(f trace.Fix) bool { return f.RecordedMS > fixes[0].RecordedMS+3_500_000 })
		if hour > 0 {
			fixes = fixes[:hour]
		}
		if home := fixes[len(fixes)-1].Point; geo.DistanceM(fixes[0].Point, home) > 2500 {
			c.play(t, way{mode: modeOf(path), home: home, fixes: fixes}, rng)
		}
	}
	t.Logf("%d recordings: %s", len(c.later), c.String())
	mean, _ := c.delay()
	assert.Less(t, math.Abs(mean), 1.0)
	assert.LessOrEqual(t, c.steered.oldestPin, c.fixed.oldestPin+1, "what the receiver had")
}

func modeOf(path string) geo.Mode {
	switch name := filepath.Base(path); {
	case strings.HasPrefix(name, "bike"):
		return geo.Bike
	case strings.HasPrefix(name, "walk"):
		return geo.Walk
	}
	return geo.Car
}

func (c *comparison) play(t *testing.T, w way, rng *rand.Rand) {
	t.Helper()
	w.watches = [2]int{rng.IntN(w.lastS()), rng.IntN(w.lastS())}
	fixed, steered := drive(t, w, false), drive(t, w, true)
	for sum, r := range map[*ride]ride{&c.fixed: fixed, &c.steered: steered} {
		sum.uploads += r.uploads
		sum.refused += r.refused
		sum.suspected += r.suspected
		sum.oldestPin = max(sum.oldestPin, r.oldestPin)
	}
	if fixed.arrivalS >= 0 && steered.arrivalS >= 0 {
		c.later = append(c.later, float64(steered.arrivalS-fixed.arrivalS))
	}
}

func (c *comparison) delay() (mean, worst float64) {
	for _, s := range c.later {
		mean += s / float64(len(c.later))
		worst = max(worst, s)
	}
	return mean, worst
}

func (c *comparison) String() string {
	mean, worst := c.delay()
	within := 0
	for _, s := range c.later {
		if s <= 1 {
			within++
		}
	}
	return fmt.Sprintf("%.0f %% fewer uploads (%d for %d); the door %.2f s later in the mean, %.0f s at most, %d of %d at most 1 s; the oldest pin %d s (%d s); not stored %d (%d); suspected journeys %d (%d)",
		100-100*float64(c.steered.uploads)/float64(c.fixed.uploads), c.steered.uploads, c.fixed.uploads, mean, worst, within, len(c.later),
		c.steered.oldestPin, c.fixed.oldestPin, c.steered.refused, c.fixed.refused, c.steered.suspected, c.fixed.suspected)
}

// drive sends the fixes of a receiver, each when the last answer says.
func drive(t *testing.T, w way, steer bool) ride {
	t.Helper()
	now := noon
	clock := func() time.Time { return now }
	live := memory.NewLive(sessions.LiveOptions{}, clock)
	service := sessions.NewService(memory.NewRepository(nil), live, sessions.ServiceOptions{Now: clock, Steer: steer})
	trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	s, _, err := service.Create(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, sessions.Booking{
		TrainerID: trainer.ID, StudentID: sessions.NewID(), Home: w.home, Mode: w.mode,
	})
	require.NoError(t, err)
	_, err = service.Start(t.Context(), trainer, s.ID, "")
	require.NoError(t, err)

	out := ride{arrivalS: -1}
	ref := sessions.Ref{TrainerID: trainer.ID, SessionID: s.ID}
	stop := func() {}
	watching, seen, pinS, next := false, 0, 0, 0
	due := noon
	for second := range w.lastS() {
		now = noon.Add(time.Duration(second) * time.Second)
		if is := w.watched(second); is != watching {
			watching, seen = is, 0
			if stop(); is {
				stop, _ = live.Watch(t.Context(), ref, func() {})
			}
		}
		if watching && seen >= 2 {
			out.oldestPin = max(out.oldestPin, second-pinS)
		}
		fix, fresh := w.at(second, &next)
		if now.Before(due) || !fresh {
			continue
		}
		out.uploads++
		r, err := service.Update(t.Context(), trainer, s.ID, fix)
		require.NoError(t, err)
		if r.Suspicions != 0 {
			out.suspected = 1
		}
		due = now.Add(max(r.NextUpdate, r.RetryAfter))
		if r.Verdict != sessions.VerdictStored {
			out.refused++
			continue
		}
		pinS = second
		if watching {
			seen++
		}
		if out.arrivalS < 0 && r.Arriving {
			out.arrivalS = second
		}
	}
	stop()
	return out
}

// at is the receiver's newest fix at a second of the journey, and whether there has been
// one since the last call.
func (w way) at(second int, next *int) (sessions.Fix, bool) {
	before := *next
	for *next < len(w.fixes) && w.fixes[*next].RecordedMS-w.fixes[0].RecordedMS <= int64(second)*1000 {
		*next++
	}
	if *next == before {
		return sessions.Fix{}, false
	}
	f := w.fixes[*next-1]
	fix := sessions.Fix{Point: f.Point, AccuracyM: f.AccuracyM}
	if kmh, ok := f.SpeedKMH.Get(); ok {
		fix.SpeedKMH = &kmh
	}
	fix, err := sessions.NewFix(fix)
	return fix, err == nil
}
