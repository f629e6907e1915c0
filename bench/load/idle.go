package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
)

// idle measures what a gateway's memory grows by with each student that waits,
// connection included.
func idle(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	s, err := raise(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.close() }()
	plan := drive.Plan{
		Updates: s.addresses(), Watches: s.addresses(), Journeys: o.journeys, Conns: o.conns,
		Way: drive.Still, Eye: drive.LongPoll, Warmup: time.Millisecond, Duration: time.Second,
	}
	// Journeys first, alone: their setting up is not the students' memory.
	if _, _, err := s.measure(ctx, o, plan, progress); err != nil {
		return nil, err
	}
	before, err := s.processes.Sample()
	if err != nil {
		return nil, err
	}
	plan.Watchers, plan.Warmup, plan.Duration = o.students, o.warmup, o.duration
	result, costs, err := s.measure(ctx, o, plan, progress)
	if err != nil {
		return nil, err
	}
	s.report(out, o, plan, result, costs)
	after := int64(0)
	for _, c := range costs {
		if c.Name == "gateway" {
			after = c.RSS
		}
	}
	grown := after - before.Parts["gateway"].RSS
	each := float64(grown) / 1024 / float64(max(1, o.students))
	fmt.Fprintf(out, "The gateways grew from %.1f MB to %.1f MB: %.1f KB for each of %d waiting students, with their connections.\n",
		mb(before.Parts["gateway"].RSS), mb(after), each, o.students)
	facts := figures.FactsOf(result, costs)
	facts["waiting_student_kb"], facts["students"] = each, float64(o.students)
	return facts, nil
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }
