package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"doorstep/bench/load/drive"
)

// idle measures what a gateway's memory grows by with each student that waits,
// connection included.
func idle(ctx context.Context, o options, out, progress io.Writer) error {
	s, err := raise(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = s.close() }()
	plan := drive.Plan{
		Updates: s.addresses(), Watches: s.addresses(), Journeys: o.journeys, Conns: o.conns,
		Way: drive.Still, Eye: drive.LongPoll, Warmup: time.Millisecond, Duration: time.Second,
	}
	// Journeys first, alone: their setting up is not the students' memory.
	if _, _, err := s.measure(ctx, o, plan, progress); err != nil {
		return err
	}
	before, err := s.processes.Sample()
	if err != nil {
		return err
	}
	plan.Watchers, plan.Warmup, plan.Duration = o.students, o.warmup, o.duration
	result, costs, err := s.measure(ctx, o, plan, progress)
	if err != nil {
		return err
	}
	report(out, o, plan, result, costs)
	after := int64(0)
	for _, c := range costs {
		if c.Name == "gateway" {
			after = c.RSS
		}
	}
	grown := after - before.Parts["gateway"].RSS
	fmt.Fprintf(out, "The gateways grew from %.1f MB to %.1f MB: %.1f KB for each of %d waiting students, with their connections.\n",
		mb(before.Parts["gateway"].RSS), mb(after), float64(grown)/1024/float64(max(1, o.students)), o.students)
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }
