package main

import (
	"context"
	"fmt"
	"io"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
)

// wake lets students wait and then changes every journey at one instant. With
// fewer journeys than students it is all who watch one that wake together.
func wake(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	s, err := raise(ctx, o, unlimited...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.close() }()
	plan := drive.Plan{
		Updates: s.addresses(), Watches: s.addresses(), Journeys: o.journeys, Conns: min(o.conns, o.journeys), Watchers: o.students,
		Way: drive.Once, Eye: drive.LongPoll, SpeedMPS: cityMPS, Warmup: o.warmup, Duration: o.duration,
	}
	result, costs, err := s.measure(ctx, o, plan, progress)
	if err != nil {
		return nil, err
	}
	s.report(out, o, plan, result, costs)
	saw := result.Latencies[drive.Sight].TotalCount()
	fmt.Fprintf(out, "%d of %d students saw the change.\n", saw, o.students)
	facts := figures.FactsOf(result, costs)
	facts["students"], facts["students_who_missed"] = float64(o.students), float64(int64(o.students)-saw)
	return facts, draw(o, result)
}
