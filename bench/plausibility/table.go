package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"doorstep/geo"
)

// target is what a group of recordings must keep.
type target struct {
	refused float64
	run     int
	blind   time.Duration
}

func targetOf(group string) (target, bool) {
	switch group {
	case "car motorway":
		return target{0.01, 2, 15 * time.Second}, true
	case "mixed":
		return target{0.015, 3, 30 * time.Second}, true
	case "car city", "car road", "car delivery", "bus", "bike", "walk", ownMode:
		return target{0.001, 2, 15 * time.Second}, true
	}
	return target{}, false
}

// ownMode is the sum of the groups with the strictest target.
const ownMode = "**all own-mode rows**"

// write prints the findings as Markdown.
func (f findings) write(w io.Writer) {
	f.writeHonest(w)
	f.writeNetworks(w)
	f.writeSuspicions(w)
	f.writeFakes(w)
	f.writeETA(w)
	f.writeEarlyETA(w)
}

func printRow(w io.Writer, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

func printHead(w io.Writer, cells ...string) {
	printRow(w, cells...)
	printRow(w, slices.Repeat([]string{"---"}, len(cells))...)
}

func (f findings) writeHonest(w io.Writer) {
	cells := []string{"honest phones", "recordings", "fixes"}
	for _, name := range f.engines {
		cells = append(cells, name+": refused", "longest run", "longest blind")
	}
	printHead(w, append(cells, "ignored", "flagged", "target")...)
	for _, group := range f.groups() {
		printRow(w, honestRow(group, f.treatments(group))...)
	}
}

// groups are those with the strictest target, their sum, and the rest.
func (f findings) groups() []string {
	var own, other, apart []string
	for group := range f.honest {
		switch t, ok := targetOf(group); {
		case ok && t.refused == 0.001:
			own = append(own, group)
		case ok:
			other = append(other, group)
		default:
			apart = append(apart, group)
		}
	}
	for _, groups := range [][]string{own, other, apart} {
		slices.Sort(groups)
	}
	if len(own) > 0 {
		own = append(own, ownMode)
	}
	return slices.Concat(own, other, apart)
}

func (f findings) treatments(group string) []treatment {
	if group != ownMode {
		return f.honest[group]
	}
	sum := make([]treatment, len(f.engines))
	for g, treatments := range f.honest {
		if t, ok := targetOf(g); ok && t.refused == 0.001 {
			for i := range treatments {
				sum[i] = sum[i].plus(treatments[i])
			}
		}
	}
	return sum
}

func honestRow(group string, by []treatment) []string {
	cells := []string{group, fmt.Sprint(by[0].recordings), fmt.Sprint(by[0].fixes)}
	for _, t := range by {
		cells = append(cells, percent(t.refused, t.fixes), fmt.Sprint(t.longestRun), seconds(t.longestBlind))
	}
	want := "none"
	if t, ok := targetOf(group); ok {
		met := by[0].refusedShare() <= t.refused && by[0].longestRun <= t.run && by[0].longestBlind <= t.blind
		want = fmt.Sprintf("%.1f %%, %d, %.0f s: %s", 100*t.refused, t.run, t.blind.Seconds(), verdictOn(met))
	}
	return append(cells, percent(by[0].ignored, by[0].fixes), percent(by[0].flagged, by[0].fixes), want)
}

func verdictOn(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// writeNetworks prints what phones with bad networks were answered.
func (f findings) writeNetworks(w io.Writer) {
	fmt.Fprintln(w)
	printHead(w, "phones with bad networks", "fixes", "pins that go back", "429 to an old fix", "other answers", "refused", "on a good network", "left out", "late pins", "longest")
	for _, known := range []bool{true, false} {
		for _, o := range []order{oldestFirst, newestFirst, batched} {
			a := f.networks[networkRow{o, known}]
			if a == nil {
				continue
			}
			name := o.String()
			if !known {
				name += ", clock not known"
			}
			cells := []string{name}
			for _, n := range []int{a.fixes, a.back, a.limited, a.failed, a.refused, a.refusedCalm, a.unstored, a.late} {
				cells = append(cells, fmt.Sprint(n))
			}
			printRow(w, append(cells, seconds(time.Duration(a.longestLateMS)*time.Millisecond))...)
		}
	}
}

func (f findings) writeFakes(w io.Writer) {
	fmt.Fprintf(w, "\n%d honest journeys that start within %d m of the home and ask to arrive after %d s, with a fix: %d of them refused, %s.\n",
		f.nearDoor.asked, nearDoorM, nearDoorMS/1000, f.nearDoor.refused, percent(f.nearDoor.refused, f.nearDoor.asked))
	fmt.Fprintf(w, "\nLaid over %d honest stretches of 15 minutes, from the fifth minute on.\n\n", f.hosts)
	cells := []string{"fake", "tried"}
	for _, name := range f.engines {
		cells = append(cells, name+": at the first fix", "within 2 min", "ever", "median fixes", "`arrived` refused, first minute")
	}
	printHead(w, cells...)
	for _, k := range fakes() {
		cells := []string{k.name, fmt.Sprint(f.caught[0][k.name].tried)}
		for _, by := range f.caught {
			cells = append(cells, catchCells(*by[k.name])...)
		}
		printRow(w, cells...)
	}
}

func catchCells(c catches) []string {
	arrived, fixes := "", "–"
	if c.arrivals > 0 {
		arrived = percent(c.arrivals-c.granted, c.arrivals)
	}
	if n := c.medianFixes(); n > 0 {
		fixes = fmt.Sprint(n)
	}
	return []string{percent(c.first, c.tried), percent(c.soon, c.tried), percent(c.ever, c.tried), fixes, arrived}
}

func (f findings) writeETA(w io.Writer) {
	fmt.Fprintln(w, "\nArrival estimates: median absolute error, and how many estimates there were.")
	fmt.Fprintln(w)
	cells := []string{"mode"}
	for _, m := range minutesOut {
		cells = append(cells, fmt.Sprintf("%d min out", m))
	}
	printHead(w, cells...)
	for _, mode := range []geo.Mode{geo.Car, geo.Bike, geo.Walk} {
		errors := f.eta[string(mode)]
		if errors == nil {
			continue
		}
		cells := []string{string(mode)}
		for i := range minutesOut {
			cells = append(cells, etaCell(errors.offS[i], errors.none[i]))
		}
		printRow(w, cells...)
	}
}

// writeEarlyETA prints how good the first estimates are.
func (f findings) writeEarlyETA(w io.Writer) {
	fmt.Fprintln(w, "\nRelative error, median and 90th percentile, by seconds since the first fix; beside it that of the mode's usual speed.")
	fmt.Fprintln(w)
	cells := []string{"mode"}
	for _, s := range secondsIn {
		cells = append(cells, fmt.Sprintf("%d s", s))
	}
	printHead(w, cells...)
	var all etaErrors
	for _, mode := range []geo.Mode{geo.Car, geo.Bike, geo.Walk} {
		if e := f.eta[string(mode)]; e != nil {
			printRow(w, append([]string{string(mode)}, e.earlyCells()...)...)
			for i := range secondsIn {
				all.early[i].ours = append(all.early[i].ours, e.early[i].ours...)
				all.early[i].usual = append(all.early[i].usual, e.early[i].usual...)
				all.early[i].none += e.early[i].none
			}
		}
	}
	printRow(w, append([]string{"all"}, all.earlyCells()...)...)
}

func (e *etaErrors) earlyCells() []string {
	var cells []string
	for _, at := range e.early {
		cells = append(cells, fmt.Sprintf("%.0f, %.0f %%; usual %.0f, %.0f %% (%d of %d)",
			100*median(at.ours), 100*ninetieth(at.ours), 100*median(at.usual), 100*ninetieth(at.usual), len(at.ours), len(at.ours)+at.none))
	}
	return cells
}

func etaCell(offS []float64, none int) string {
	if len(offS) == 0 {
		return fmt.Sprintf("none of %d", none)
	}
	return fmt.Sprintf("%.0f s (%d of %d)", median(offS), len(offS), len(offS)+none)
}

func percent(part, whole int) string {
	p := 100 * share(part, whole)
	if p > 0 && p < 10 || p > 99 && p < 100 {
		return fmt.Sprintf("%.2f %%", p)
	}
	return fmt.Sprintf("%.0f %%", math.Round(p))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
