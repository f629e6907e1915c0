package main

import (
	"context"
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
func flood(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	s, err := raise(ctx, o, unlimited...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.close() }()
	plan := s.flood(o)
	result, costs, err := s.measure(ctx, o, plan, progress)
	if err != nil {
		return nil, err
	}
	s.report(out, o, plan, result, costs)
	return figures.FactsOf(result, costs), draw(o, result)
}

func (s *stage) flood(o options) drive.Plan {
	return drive.Plan{
		Updates: s.addresses(), Watches: s.addresses(), Journeys: o.journeys, Conns: o.conns, Watchers: o.students,
		Way: drive.Flood, Eye: drive.LongPoll, SpeedMPS: strollMPS, Warmup: o.warmup, Duration: o.duration,
	}
}
