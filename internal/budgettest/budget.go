// Package budgettest holds a stage of a request to what it may cost. Allocations
// are counted as they are. Time is a multiple of a unit of work that is
// measured in turns with the stage, so that the limit holds on any machine and
// beside any neighbour; an absolute time would hold on one.
package budgettest

import (
	"fmt"
	"testing"
	"time"
)

// Stage is one piece of work and its limits.
type Stage struct {
	Name string
	// Units is the most time a run may take, in runs of the unit. 0: no limit.
	Units float64
	// Allocs is the most allocations of a run. Below 0: no limit.
	Allocs float64
	Run    func()
}

// Bench runs each stage as a benchmark of its own, and fails those over their
// limits. It reports the time in units beside what the benchmark itself says.
func Bench(b *testing.B, unit func(), stages ...Stage) {
	b.Helper()
	for _, s := range stages {
		b.Run(s.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Run()
			}
			units, allocs := timesOf(s.Run, unit), testing.AllocsPerRun(100, s.Run)
			for n := 0; n < again && s.Units > 0 && units > s.Units; n++ { // one that has become slower is over it each time
				units = min(units, timesOf(s.Run, unit))
			}
			b.ReportMetric(units, "units")
			for _, excess := range s.over(units, allocs) {
				b.Error(excess)
			}
		})
	}
}

// over says which limits are exceeded.
func (s Stage) over(units, allocs float64) (excesses []string) {
	if s.Units > 0 && units > s.Units {
		excesses = append(excesses, fmt.Sprintf("%s takes %.2f units, budget %.2f", s.Name, units, s.Units))
	}
	if s.Allocs >= 0 && allocs > s.Allocs {
		excesses = append(excesses, fmt.Sprintf("%s allocates %.0f times, budget %.0f", s.Name, allocs, s.Allocs))
	}
	return excesses
}

// turns of about a millisecond each, work and unit by turns. Of each the fastest
// turn counts: what a neighbour on the machine takes only ever makes a turn
// slower, and one in thirty it leaves alone.
const (
	turns = 30
	turn  = time.Millisecond
	again = 2 // times that who is over a limit is measured once more
)

// timesOf is how many runs of unit one of work takes.
func timesOf(work, unit func()) float64 {
	n, m := runsIn(turn, work), runsIn(turn, unit)
	best, bestUnit := took(n, work), took(m, unit)
	for range turns - 1 {
		best, bestUnit = min(best, took(n, work)), min(bestUnit, took(m, unit))
	}
	return best / bestUnit
}

// runsIn is how many runs fill d, roughly; at least one.
func runsIn(d time.Duration, f func()) int {
	n := 1
	for n < 1<<20 && took(n, f)*float64(n) < d.Seconds() {
		n *= 2
	}
	return n
}

// took is the seconds of one run, of n.
func took(n int, f func()) float64 {
	began := time.Now()
	for range n {
		f()
	}
	return time.Since(began).Seconds() / float64(n)
}
