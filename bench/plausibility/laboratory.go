package main

import (
	"fmt"
	"io"
	"slices"

	"doorstep/geo"
)

// laboratory plays recordings to engines. ours is the first of them.
type laboratory struct {
	recordings []recording
	ours       *judge
	engines    []engine
	progress   io.Writer
}

// findings are the data of the table and the plots.
type findings struct {
	engines []string
	honest  map[string][]treatment // by group, then by engine
	caught  []map[string]*catches
	hosts   int
	// nearDoor counts the honest journeys that start near the door, of the first engine.
	nearDoor struct{ asked, refused int }
	networks map[networkRow]*answers
	// suspected is of the first engine, by classOf.
	suspected map[string]*suspected
	eta       map[string]*etaErrors
	sent      map[string][]sent // of the first engine, by file
}

func (l laboratory) run() (findings, error) {
	f := findings{
		honest: map[string][]treatment{}, eta: map[string]*etaErrors{}, sent: map[string][]sent{}, networks: map[networkRow]*answers{},
		suspected: map[string]*suspected{},
	}
	for i, r := range l.recordings {
		fmt.Fprintf(l.progress, "\r\033[K[%d/%d] %s", i+1, len(l.recordings), r.file)
		if err := l.honest(&f, r); err != nil {
			return f, err
		}
		estimate(f.eta, r)
	}
	var all []host
	for _, r := range append(slices.Clone(l.recordings), generated()...) {
		if targeted(r.group) {
			all = append(all, hosts(r)...)
		}
	}
	f.hosts = len(all)
	if err := l.badNetworks(&f); err != nil {
		return f, err
	}
	var err error
	if f.nearDoor.asked, f.nearDoor.refused, err = startsNearDoor(l.ours, all); err != nil {
		return f, err
	}
	for _, e := range l.engines {
		fmt.Fprintf(l.progress, "\r\033[K%s: %d fakes over %d stretches", e.name(), len(fakes()), len(all))
		caught, err := hunt(e, all, fakes())
		if err != nil {
			return f, err
		}
		f.engines, f.caught = append(f.engines, e.name()), append(f.caught, caught)
	}
	fmt.Fprint(l.progress, "\r\033[K")
	return f, nil
}

// inScript is the share of the recordings whose phones with bad networks go through
// update.lua, too, which takes a minute for all: one in inScript.
const inScript = 12

// badNetworks plays phones with bad networks.
func (l laboratory) badNetworks(f *findings) error {
	inMemory := &judge{}
	for i, r := range append(slices.Clone(l.recordings), generated()...) {
		if !targeted(r.group) {
			continue
		}
		fmt.Fprintf(l.progress, "\r\033[Kbad networks [%d/%d] %s", i+1, len(l.recordings), r.file)
		j := inMemory
		if i%inScript == 0 {
			j = l.ours
		}
		if err := j.networks(f.networks, r); err != nil {
			return err
		}
	}
	return nil
}

func (l laboratory) honest(f *findings, r recording) error {
	if f.honest[r.group] == nil {
		f.honest[r.group] = make([]treatment, len(l.engines))
	}
	for i, e := range l.engines {
		out, err := play(e, r)
		if err != nil {
			return err
		}
		f.honest[r.group][i].add(r.file, out)
		if i == 0 {
			f.sent[r.file] = out
			if class := classOf(r.group); class != "" {
				if f.suspected[class] == nil {
					f.suspected[class] = &suspected{}
				}
				f.suspected[class].add(out)
			}
		}
	}
	return nil
}

// estimate checks the ETA of journeys that a trainer could have made.
func estimate(by map[string]*etaErrors, r recording) {
	if !targeted(r.group) || r.group == "mixed" || len(r.fixes) < 2 {
		return
	}
	kind := string(r.mode)
	if by[kind] == nil {
		by[kind] = &etaErrors{}
	}
	by[kind].add(r, geo.DefaultDetour)
	by[kind].addEarly(r)
}

// generated are journeys with all fields that a phone sends. Few recordings have a
// speed and an accuracy.
func generated() []recording {
	var all []recording
	for i := range uint64(12) {
		mode := []geo.Mode{geo.Car, geo.Bike, geo.Walk}[i%3]
		length := map[geo.Mode]float64{geo.Car: 25_000, geo.Bike: 9_000, geo.Walk: 3_000}[mode]
		from := geo.MustPoint(-40+10*float64(i), -170+30*float64(i))
		all = append(all, newRecording(fmt.Sprintf("generated-%s-%02d", mode, i), "generated", mode, from, i, length))
	}
	return all
}
