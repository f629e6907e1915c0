package main

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"doorstep/geo"
)

// soonMS is the time within which a fake should be noticed.
const soonMS = 120_000

// catches counts what an engine caught of one fake.
type catches struct {
	tried, first, soon, ever int
	fixes                    []int // to the first sign, of those caught
	arrivals                 int   // forgeries that asked to arrive
	granted                  int   // of them, granted within a minute
}

// medianFixes is the median number of forged fixes until one was caught.
func (c catches) medianFixes() int {
	if len(c.fixes) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(c.fixes))
	return sorted[len(sorted)/2]
}

// trial plays one forgery to one engine. It is caught by the first forged fix that
// is refused, stale or flagged where the same fix of the honest host is not: a
// motorway that is flagged as fast anyway catches nothing.
func (c *catches) trial(e engine, f forgery, honest []outcome) error {
	got, granted, err := run(e, f)
	if err != nil {
		return err
	}
	c.tried++
	if f.door.Valid() {
		c.arrivals++
		if granted {
			c.granted++
		}
	}
	for i := f.from; i < len(got); i++ {
		if odd(got[i]) && !excused(got[i], honest, i) {
			c.caught(i-f.from, f.at[i]-f.at[f.from])
			return nil
		}
	}
	return nil
}

func (c *catches) caught(after int, ms int64) {
	c.ever++
	c.fixes = append(c.fixes, after+1)
	if after == 0 {
		c.first++
	}
	if ms <= soonMS {
		c.soon++
	}
}

// elsewhere is the home of a journey whose home does not matter.
var elsewhere = geo.MustPoint(0, 0)

// odd reports whether anything was held against a fix.
func odd(o outcome) bool {
	return !o.accepted() && o.verdict != string(geo.IgnoredLowAccuracy) || o.flags != 0
}

// excused reports whether the honest host's fix was treated no better.
func excused(o outcome, honest []outcome, i int) bool {
	return i < len(honest) && o.verdict == honest[i].verdict && o.flags&^honest[i].flags == 0
}

// arrivalMS is for how long a fake at the door asks to arrive.
const arrivalMS = 60_000

// run plays a forgery as one journey. granted is whether an arrival at its door was
// granted, at any fix of the first minute.
func run(e engine, f forgery) (got []outcome, granted bool, err error) {
	home := f.door
	if !home.Valid() {
		home = elsewhere
	}
	if err := e.begin(f.mode, home, f.at[0]); err != nil {
		return nil, false, err
	}
	for i := range f.fixes {
		o, err := e.publish(f.fixes[i].Fix, f.at[i])
		if err != nil {
			return nil, false, err
		}
		got = append(got, o)
		if f.door.Valid() && i >= f.from && f.at[i]-f.at[f.from] <= arrivalMS {
			in, err := e.arrived(f.door, f.at[i])
			if err != nil {
				return nil, false, err
			}
			granted = granted || in
		}
	}
	return got, granted, nil
}

// hunt plays every fake over every host.
func hunt(e engine, all []host, list []fake) (map[string]*catches, error) {
	results := map[string]*catches{}
	for _, f := range list {
		results[f.name] = &catches{}
	}
	for i, h := range all {
		honest, _, err := run(e, copyOf(h))
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			forged, ok := f.forge(h, luck(h.file, f.name, i))
			if !ok {
				continue
			}
			if err := results[f.name].trial(e, forged, honest); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// luck is a source of chance that is the same for every engine and run.
func luck(file, name string, i int) *rand.Rand {
	seed := fnv.New64a()
	seed.Write([]byte(file + name))
	return rand.New(rand.NewPCG(seed.Sum64(), uint64(i)))
}
