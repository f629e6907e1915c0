package main

import (
	"fmt"
	"io"
	"slices"

	"doorstep/geo"
)

// suspected counts the honest journeys of a class of recordings for which each
// TrainerLocationSuspicious would be raised. An hour of a recording is one journey.
type suspected struct {
	journeys int
	by       map[string]int
}

// silentAfterMS is a silence that is reported.
const silentAfterMS = 900_000

// add counts the journeys of one recording.
func (s *suspected) add(all []sent) {
	of := map[int]map[string]bool{}
	var before sent
	for _, f := range all {
		names := of[f.journey]
		if names == nil {
			names = map[string]bool{}
			of[f.journey] = names
		}
		for _, flag := range geo.AllFlags() {
			names[flag.String()] = names[flag.String()] || f.flags.Has(flag)
		}
		names[f.verdict] = names[f.verdict] || f.refused
		if before.journey == f.journey && before.RecordedMS > 0 && f.RecordedMS-before.RecordedMS >= silentAfterMS {
			names["silent"] = true
		}
		before = f
	}
	if s.by == nil {
		s.by = map[string]int{}
	}
	for _, names := range of {
		s.journeys++
		for name, is := range names {
			if is {
				s.by[name]++
			}
		}
	}
}

// classOf is the column of a recording's group; empty for those that no trainer makes.
func classOf(group string) string {
	switch t, ok := targetOf(group); {
	case !ok:
		return ""
	case t.refused == 0.001:
		return ownMode
	default:
		return group
	}
}

func (f findings) writeSuspicions(w io.Writer) {
	fmt.Fprint(w, "\nHonest journeys for which a suspicion is raised. An hour of a recording is one journey.\n\n")
	classes := []string{ownMode, "car motorway", "mixed"}
	cells := []string{"verdict"}
	var names []string
	for _, class := range classes {
		s := f.suspected[class]
		if s == nil {
			s = &suspected{}
		}
		cells = append(cells, fmt.Sprintf("%s (%d)", class, s.journeys))
		for name := range s.by {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	printHead(w, cells...)
	for _, name := range slices.Compact(names) {
		cells := []string{name}
		for _, class := range classes {
			if s := f.suspected[class]; s != nil {
				cells = append(cells, percent(s.by[name], s.journeys))
			} else {
				cells = append(cells, "")
			}
		}
		printRow(w, cells...)
	}
}
