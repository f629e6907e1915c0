package main

import (
	"context"
	"fmt"
	"io"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
)

// strollMPS keeps the jitter of a flood from looking like a leap: a fix that
// comes after a tenth of the usual gap still moves at a walk.
const strollMPS = 1

// unlimited lets one journey be updated, and one caller call, thousands of times
// a second. The limits are at work all the same.
var unlimited = []string{"RATE_INTERVAL=1ms", "CALLER_RATE=1000000", "CALLER_BURST=1000000"}

// flood asks for as many updates as are accepted.
func flood(ctx context.Context, o options, out, progress io.Writer) error {
	result, costs, plan, err := floodOnce(ctx, o, progress)
	if err != nil {
		return err
	}
	report(out, o, plan, result, costs)
	return draw(o, result)
}

func floodOnce(ctx context.Context, o options, progress io.Writer) (drive.Result, []figures.Cost, drive.Plan, error) {
	s, err := raise(ctx, o, unlimited...)
	if err != nil {
		return drive.Result{}, nil, drive.Plan{}, err
	}
	defer func() { _ = s.close() }()
	plan := drive.Plan{
		Updates: s.addresses(), Watches: s.addresses(), Journeys: o.journeys, Conns: o.conns, Watchers: o.students,
		Way: drive.Flood, Eye: drive.LongPoll, SpeedMPS: strollMPS, Warmup: o.warmup, Duration: o.duration,
	}
	result, costs, err := s.measure(ctx, o, plan, progress)
	return result, costs, plan, err
}

// flat asks whether an update costs the same however many journeys there are.
func flat(ctx context.Context, o options, out, progress io.Writer) error {
	fmt.Fprintf(out, "## flat: the cost of an update by the number of journeys\n\n%s. %d connections, closed loop, %v each.\n",
		figures.Machine(), o.conns, o.duration)
	figures.Head(out, "journeys", "updates/s", "p99, ms", "gateway, µs", "Valkey, µs", "together, µs", "against the first", "failures")
	var first float64
	for _, journeys := range []int{100, 1000, 10_000, 100_000} {
		if journeys > max(100, o.journeys) {
			break
		}
		o.journeys = max(o.journeys, journeys)
		step := o
		step.journeys = journeys
		r, costs, _, err := floodOnce(ctx, step, progress)
		if err != nil {
			return err
		}
		per := func(names ...string) float64 {
			return float64(figures.CPU(costs, names...).Microseconds()) / float64(max(1, r.Accepted))
		}
		both := per("gateway", "valkey")
		if first == 0 {
			first = both
		}
		figures.Row(out, journeys, fmt.Sprintf("%.0f", float64(r.Accepted)/o.duration.Seconds()), figures.MS(figures.At(r.Latencies[drive.Update], 99)),
			fmt.Sprintf("%.1f", per("gateway")), fmt.Sprintf("%.1f", per("valkey")), fmt.Sprintf("%.1f", both),
			fmt.Sprintf("%+.0f %%", 100*(both/first-1)), r.Failures())
	}
	return nil
}
