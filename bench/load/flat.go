package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"slices"

	"doorstep/bench/load/figures"
)

// step is one flood of a flat run: what an update cost, in µs of CPU.
type step struct {
	journeys                   int
	gateway, valkey, generator float64
	rate                       float64 // updates a second
	failures                   int64
}

func (s step) both() float64 { return s.gateway + s.valkey }

// climb is the numbers of journeys in the order in which they are played, up to
// most: five pairs of the two ends, in alternating order, so that a change of the
// machine's speed meets both, and once each number between.
func climb(most int) []int {
	const least = 100
	if most <= least {
		return []int{least}
	}
	steps := []int{least, most}
	for n := 10 * least; n < most; n *= 10 {
		steps = append(steps, n)
	}
	return append(steps, most, least, least, most, most, least, least, most)
}

// flat measures whether an update costs the same however many journeys there
// are. Each step has servers of its own. The generator's cost has a column to
// show that it does not grow; no figure includes it.
func flat(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	var steps []step
	for _, journeys := range climb(o.journeys) {
		o.journeys = journeys
		s, err := flatOnce(ctx, o, progress)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	fmt.Fprintf(out, "## flat: the cost of an update by the number of journeys\n\n%s. %d connections, closed loop, %v each after %v of warm-up, "+
		"in this order, each on a fresh gateway and Valkey, sessions in memory.\n", figures.Machine(), o.conns, o.duration, o.warmup)
	figures.Head(out, "journeys", "updates/s", "gateway, µs", "Valkey, µs", "together, µs", "generator, µs", "failures")
	for _, s := range steps {
		figures.Row(out, s.journeys, fmt.Sprintf("%.0f", s.rate), fmt.Sprintf("%.1f", s.gateway), fmt.Sprintf("%.1f", s.valkey),
			fmt.Sprintf("%.1f", s.both()), fmt.Sprintf("%.1f", s.generator), s.failures)
	}
	facts, bars := growth(steps)
	fmt.Fprintf(out, "\nFrom %d to %d journeys an update's cost, gateway and Valkey together: %+.0f %%, the median of pairs played one after the other (%+.0f to %+.0f %%).\n",
		int(facts["least_journeys"]), int(facts["most_journeys"]), facts["growth_percent"], facts["growth_least"], facts["growth_most"])
	if o.out == "" {
		return facts, nil
	}
	return facts, figures.DrawBars(filepath.Join(o.out, o.mode+".svg"), "CPU of gateway and Valkey for an update, by journeys under way", "µs", bars)
}

func flatOnce(ctx context.Context, o options, progress io.Writer) (step, error) {
	s, err := raise(ctx, o, unlimited...)
	if err != nil {
		return step{}, err
	}
	defer func() { _ = s.close() }()
	plan := s.plan(o)
	toFlood(&plan)
	r, costs, err := s.measure(ctx, o, plan, progress)
	if err != nil {
		return step{}, err
	}
	per := func(name string) float64 {
		return float64(figures.CPU(costs, name).Microseconds()) / float64(max(1, r.Accepted))
	}
	return step{
		journeys: o.journeys, gateway: per("gateway"), valkey: per("valkey"), generator: per("generator"),
		rate: float64(r.Accepted) / o.duration.Seconds(), failures: r.Failures(),
	}, nil
}

// growth compares the fewest journeys with the most, pair by pair: a machine that
// is half as fast a minute later must not look like growth, nor hide it.
func growth(steps []step) (figures.Facts, []figures.Bar) {
	costs := map[int][]float64{}
	var sizes []int
	facts := figures.Facts{}
	for _, s := range steps {
		if costs[s.journeys] == nil {
			sizes = append(sizes, s.journeys)
		}
		costs[s.journeys] = append(costs[s.journeys], s.both())
		facts[figures.Failures] += float64(s.failures)
	}
	slices.Sort(sizes)
	var bars []figures.Bar
	for _, n := range sizes {
		slices.Sort(costs[n])
		of := costs[n]
		bars = append(bars, figures.Bar{Name: figures.Number(float64(n)), Value: of[len(of)/2], Least: of[0], Most: of[len(of)-1]})
	}
	first, last := bars[0], bars[len(bars)-1]
	facts["least_journeys"], facts["most_journeys"] = float64(sizes[0]), float64(sizes[len(sizes)-1])
	facts["least_us"], facts["most_us"] = first.Value, last.Value
	var ratios []float64
	for one, rest := range pairs(steps, sizes[0], sizes[len(sizes)-1]) {
		ratios = append(ratios, 100*(rest.both()/one.both()-1))
	}
	slices.Sort(ratios)
	if len(ratios) > 0 {
		facts["growth_percent"], facts["growth_least"], facts["growth_most"] = ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1]
	}
	return facts, bars
}

// pairs are the steps of the two ends, two that follow each other at a time; the
// one with the fewest journeys comes first in the pair.
func pairs(steps []step, least, most int) iter.Seq2[step, step] {
	return func(yield func(step, step) bool) {
		var before *step
		for _, s := range steps {
			switch {
			case s.journeys != least && s.journeys != most:
			case before == nil || before.journeys == s.journeys:
				before = &s
			default:
				few, many := *before, s
				if few.journeys > many.journeys {
					few, many = many, few
				}
				before = nil
				if !yield(few, many) {
					return
				}
			}
		}
	}
}
