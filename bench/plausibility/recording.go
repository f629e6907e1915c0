package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"doorstep/geo"
	"doorstep/geo/trace"
)

// cadence is how often a phone sends a fix. Recordings are thinned to it: the first
// fix is kept, then the next one that is 5 s later or more.
const cadence = 5 * time.Second

// journeyMS is the longest life of a journey. A longer recording is cut into
// journeys one after the other.
const journeyMS = 3_600_000

// recording is one file as a phone would have sent it.
type recording struct {
	file  string
	group string // the row of the table it counts in
	mode  geo.Mode
	fixes []trace.Fix
}

// load reads every CSV file of a folder, by name.
func load(dir string) ([]recording, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.csv"))
	if err != nil {
		return nil, fmt.Errorf("list recordings: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no *.csv in %s: set DOORSTEP_TRACES or -traces: %w", dir, fs.ErrNotExist)
	}
	var all []recording
	for _, path := range paths {
		r, err := open(path)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func open(path string) (r recording, err error) {
	file, err := os.Open(path)
	if err != nil {
		return recording{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	fixes, err := trace.Read(file)
	if err != nil {
		return recording{}, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	r = recording{file: filepath.Base(path), fixes: trace.Thin(fixes, cadence)}
	r.group, r.mode = classify(r.file)
	return r, nil
}

// newRecording generates one.
func newRecording(name, group string, mode geo.Mode, from geo.Point, seed uint64, lengthM float64) recording {
	fixes := trace.Generate(seed, from, geo.Offset(from, float64(seed*77%360), lengthM), mode)
	return recording{file: name, group: group, mode: mode, fixes: trace.Thin(fixes, cadence)}
}

// targeted reports whether a group counts in the targets: whether a trainer can
// travel so.
func targeted(group string) bool {
	switch group {
	case "car city", "car road", "car delivery", "car motorway", "bus", "bike", "walk", "mixed", "generated":
		return true
	}
	return false
}

// classify reads the kind of journey and its mode from a file's name. Kinds that no
// trainer can choose are sent as the nearest mode and do not count in the targets:
// runners as walkers, everything on rails, on water or in the air as cars.
func classify(file string) (group string, mode geo.Mode) {
	words := strings.Split(strings.TrimSuffix(file, ".csv"), "-")
	switch kind := words[0]; kind {
	case "walk", "bike":
		return kind, geo.Mode(kind)
	case "run":
		return kind, geo.Walk
	case "car", "antimeridian":
		if len(words) > 1 && (words[1] == "motorway" || words[1] == "city" || words[1] == "road" || words[1] == "delivery") {
			return "car " + words[1], geo.Car
		}
		return "car city", geo.Car
	default:
		return kind, geo.Car
	}
}

// arrivals is when each fix reaches the gateway: up to a second later, as in a
// mobile network, and the same in every run.
func (r recording) arrivals() []int64 {
	seed := fnv.New64a()
	seed.Write([]byte(r.file))
	rng := rand.New(rand.NewPCG(seed.Sum64(), 1))
	at := make([]int64, len(r.fixes))
	for i, f := range r.fixes {
		at[i] = f.RecordedMS + 50 + rng.Int64N(900)
	}
	return at
}

// sent is one fix and its outcome.
type sent struct {
	trace.Fix
	outcome
	journey int // of the recording
}

// play plays a recording to an engine, a journey for each hour.
func play(e engine, r recording) ([]sent, error) {
	at := r.arrivals()
	var out []sent
	var startMS int64
	journey := -1
	for i, f := range r.fixes {
		if i == 0 || at[i]-startMS >= journeyMS {
			startMS = at[i]
			journey++
			if err := e.begin(r.mode, elsewhere, startMS); err != nil {
				return nil, fmt.Errorf("%s on %s: %w", e.name(), r.file, err)
			}
		}
		o, err := e.publish(f.Fix, at[i])
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", e.name(), r.file, err)
		}
		out = append(out, sent{Fix: f, outcome: o, journey: journey})
	}
	return out, nil
}
