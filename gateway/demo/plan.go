package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"doorstep/geo"
	"doorstep/geo/trace"
)

// Plan is one journey to be played: what the phone's receiver will give, and
// when.
type Plan struct {
	Name  string
	Mode  geo.Mode
	Home  geo.Point
	Fixes []trace.Fix // one per cadence at most, clocks rising; at least one
}

// Length is the time from the first fix to the last one, in virtual time.
func (p Plan) Length() time.Duration {
	return span(p.Fixes[0], p.Fixes[len(p.Fixes)-1])
}

func span(from, to trace.Fix) time.Duration {
	return time.Duration(to.RecordedMS-from.RecordedMS) * time.Millisecond
}

const (
	// cadence is how often a phone reports.
	cadence = 5 * time.Second
	// longest is what one journey may take: the service ends it after an hour,
	// and a phone that had to wait now and then needs some of that.
	longest = 55 * time.Minute
	// silence ends a journey: a location lives 300 s after the last fix.
	silence = 300 * time.Second
	// shortest is the shortest stretch that is played.
	shortest = time.Minute
)

// Split cuts a recording into journeys: at silences over 300 s, and so that
// none takes longer than 55 minutes. Stretches under a minute are dropped and
// counted. The fixes must have been thinned.
func Split(fixes []trace.Fix) (journeys [][]trace.Fix, dropped int) {
	for len(fixes) > 0 {
		n := firstJourney(fixes)
		if span(fixes[0], fixes[n-1]) < shortest {
			dropped++
		} else {
			journeys = append(journeys, fixes[:n:n])
		}
		fixes = fixes[n:]
	}
	return journeys, dropped
}

// firstJourney is how many fixes the first journey has.
func firstJourney(fixes []trace.Fix) int {
	for i := 1; i < len(fixes); i++ {
		if span(fixes[i-1], fixes[i]) > silence || span(fixes[0], fixes[i]) > longest {
			return i
		}
	}
	return len(fixes)
}

// ModeOf takes the travel mode from a recording's file name, which begins with
// it. All but bikes and walks travel as a car: a bus, a train, a plane and a mix
// of modes, too, since that is what their trainer would have to choose.
func ModeOf(name string) geo.Mode {
	kind, _, _ := strings.Cut(strings.ToLower(filepath.Base(name)), "-")
	switch strings.TrimSuffix(kind, ".csv") {
	case "bike", "bicycle", "cycle":
		return geo.Bike
	case "walk", "foot", "hike", "run":
		return geo.Walk
	default:
		return geo.Car
	}
}

// Recorded makes journeys of one recording. The student lives where each ends.
func Recorded(name string, mode geo.Mode, fixes []trace.Fix) (plans []Plan, dropped int) {
	if mode == "" {
		mode = ModeOf(name)
	}
	name = strings.TrimSuffix(filepath.Base(name), ".csv")
	parts, dropped := Split(trace.Thin(fixes, cadence))
	for i, part := range parts {
		plan := Plan{Name: name, Mode: mode, Home: part[len(part)-1].Point, Fixes: part}
		if len(parts) > 1 {
			plan.Name = fmt.Sprintf("%s#%d", name, i+1)
		}
		plans = append(plans, plan)
	}
	return plans, dropped
}

// town is where the made-up journeys happen.
var town = geo.MustPoint(52.0907, 5.1214)

// Generated makes up n journeys to homes in one town; an empty mode means that
// the modes take turns. The same seed gives the same journeys. lengthM is how
// long the way of a car is; 0: about eight minutes.
func Generated(seed uint64, n int, mode geo.Mode, lengthM float64) []Plan {
	rng := rand.New(rand.NewPCG(seed, 0xd0025))
	turns := []geo.Mode{geo.Car, geo.Bike, geo.Car, geo.Walk}
	plans := make([]Plan, n)
	for i := range plans {
		travel := mode
		if travel == "" {
			travel = turns[i%len(turns)]
		}
		home := geo.Offset(town, 360*rng.Float64(), 3000*rng.Float64())
		from := geo.Offset(home, 360*rng.Float64(), wayM(travel, lengthM)*(0.8+0.4*rng.Float64()))
		plans[i] = Plan{
			Name: fmt.Sprintf("%s-%d", travel, i+1), Mode: travel, Home: home,
			Fixes: trace.Thin(trace.Generate(rng.Uint64(), from, home, travel), cadence),
		}
	}
	return plans
}

// wayM is the length of a mode's way, so that it takes as long as a car takes
// for carM.
func wayM(mode geo.Mode, carM float64) float64 {
	if carM == 0 {
		carM = 4500
	}
	switch mode {
	case geo.Bike:
		return carM / 2
	case geo.Walk:
		return carM / 6.5
	default:
		return carM
	}
}

// Playlist is what will be played and what had to be left out.
type Playlist struct {
	Plans      []Plan
	Recordings int // files read; 0: made up
	Dropped    int // stretches of recordings under a minute
}

// Load reads recordings: each of names is a file, a folder (its *.csv) or a
// pattern. A name that matches nothing, or a file that cannot be read, is an
// error with that name in it.
func Load(names []string, mode geo.Mode) (list Playlist, err error) {
	for _, name := range names {
		files, err := recordings(name)
		if err != nil {
			return list, err
		}
		for _, file := range files {
			if err := list.add(file, mode); err != nil {
				return list, err
			}
		}
	}
	if len(list.Plans) == 0 {
		return list, errors.New("trace: no journey of a minute or more in the recordings")
	}
	return list, nil
}

func recordings(name string) ([]string, error) {
	if info, err := os.Stat(name); err == nil {
		if !info.IsDir() {
			return []string{name}, nil
		}
		name = filepath.Join(name, "*.csv")
	}
	files, err := filepath.Glob(name)
	if err != nil {
		return nil, fmt.Errorf("trace: %s: %w", name, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("trace: %s: no such recording", name)
	}
	slices.Sort(files)
	return files, nil
}

func (l *Playlist) add(file string, mode geo.Mode) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	fixes, err := trace.Read(f)
	_ = f.Close() // nothing was written
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	plans, dropped := Recorded(file, mode, fixes)
	l.Plans = append(l.Plans, plans...)
	l.Dropped += dropped
	l.Recordings++
	return nil
}
