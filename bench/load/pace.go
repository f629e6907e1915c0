package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
)

const cityMPS = 40 / 3.6

// pace plays journeys as phones and students do.
func pace(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	s, err := raise(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.close() }()
	plan := drive.Plan{
		Updates: s.addresses(), Watches: s.addresses(), Journeys: o.journeys, Conns: o.conns, Watchers: o.students,
		Way: drive.Pace, Eye: drive.LongPoll, Every: o.every, Jitter: o.jitter, Life: o.life, Arrivals: o.arrivals,
		SpeedMPS: cityMPS, Warmup: o.warmup, Duration: o.duration,
	}
	result, costs, err := s.measure(ctx, o, plan, progress)
	if err != nil {
		return nil, err
	}
	s.report(out, o, plan, result, costs)
	return figures.FactsOf(result, costs), draw(o, result)
}

// report is the Markdown of one run.
func (s *stage) report(out io.Writer, o options, plan drive.Plan, r drive.Result, costs []figures.Cost) {
	fmt.Fprintf(out, "## %s: %d journeys, %d students, %d gateways, %v\n\n", o.mode, o.journeys, o.students, o.gateways, o.duration)
	fmt.Fprintf(out, "%s. Generator (%d processes), gateways, Valkey and PostgreSQL share it. Phones share %d connections (0: one each), "+
		"each student has one, all over many loopback addresses. Latencies count from the instant a fix was due. %s.\n\n",
		figures.Machine(), len(plan.Split()), o.conns, s.settled)
	fmt.Fprintf(out, "Accepted: %.1f updates/s. Failures: %d. Overtaken before a student saw them: %d.\n",
		float64(r.Accepted)/o.duration.Seconds(), r.Failures(), r.Unseen)
	figures.Latencies(out, r.Latencies)
	figures.Costs(out, costs, r.Accepted)
	figures.Tally(out, r.Tally)
	fmt.Fprintln(out)
}

// draw plots one run.
func draw(o options, r drive.Result) error {
	if o.out == "" {
		return nil
	}
	lines := []figures.Line{}
	for _, name := range []string{drive.Update, drive.Sight, drive.SightOK} {
		lines = append(lines, figures.Line{Name: name, Histogram: r.Latencies[name]})
	}
	title := fmt.Sprintf("%s, %d journeys, %d students", o.mode, o.journeys, o.students)
	if err := figures.DrawLatencies(filepath.Join(o.out, o.mode+"-latency.svg"), title, lines); err != nil {
		return err
	}
	return figures.DrawSeconds(filepath.Join(o.out, o.mode+"-seconds.svg"), title, r.Seconds)
}
