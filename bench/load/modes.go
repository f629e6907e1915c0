package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
)

const (
	cityMPS = 40 / 3.6
	// strollMPS keeps a flood from looking like a jump: a fix that comes after a
	// tenth of the usual gap still moves at a walk.
	strollMPS = 1
	// heldWithin is what the 99th percentile of an update may be for its journeys to
	// count as held.
	heldWithin = 100 * time.Millisecond
)

// unlimited lets one journey be updated, and one caller call, thousands of times
// a second. The limits are checked all the same.
var unlimited = []string{"RATE_INTERVAL=1ms", "CALLER_RATE=1000000", "CALLER_BURST=1000000"}

// plan is what the options and the servers say of every plan.
func (s *stage) plan(o options) drive.Plan {
	p := drive.Plan{
		Updates: s.addresses(), Journeys: o.journeys, Conns: o.conns, Watchers: o.students,
		SpeedMPS: cityMPS, Warmup: o.warmup, Duration: o.duration,
	}
	if !o.together {
		p.Watches = s.addresses()
	}
	return p
}

// pace plays journeys as phones and students do, open loop.
func pace(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	_, facts, err := measured(ctx, o, out, progress, nil, func(p *drive.Plan) {
		p.Way, p.Every, p.Jitter, p.Life, p.Arrivals = drive.Pace, o.every, o.jitter, o.life, o.arrivals
	})
	return facts, err
}

// flood sends as many updates as are accepted.
func flood(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	_, facts, err := measured(ctx, o, out, progress, unlimited, toFlood)
	return facts, err
}

func toFlood(p *drive.Plan) { p.Way, p.SpeedMPS = drive.Flood, strollMPS }

// changeOnce has every journey change at one instant.
func (o options) changeOnce(p *drive.Plan) {
	p.Way, p.Conns, p.Every = drive.Once, min(o.conns, o.journeys), o.every
}

// wake lets students wait and then changes every journey at one instant. With
// fewer journeys than students all who watch one journey wake together.
func wake(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	result, facts, err := measured(ctx, o, out, progress, unlimited, o.changeOnce)
	if err != nil {
		return nil, err
	}
	saw := result.Latencies[drive.Sight].TotalCount()
	fmt.Fprintf(out, "%d of %d students saw the change.\n", saw, o.students)
	facts["students"], facts["students_who_missed"] = float64(o.students), float64(int64(o.students)-saw)
	return facts, nil
}

// measured starts the servers with these settings, plays the options' plan with
// the given change, and reports and plots it.
func measured(ctx context.Context, o options, out, progress io.Writer, settings []string, change func(*drive.Plan)) (drive.Result, figures.Facts, error) {
	s, err := raise(ctx, o, settings...)
	if err != nil {
		return drive.Result{}, nil, err
	}
	defer func() { _ = s.close() }()
	plan := s.plan(o)
	change(&plan)
	result, costs, err := s.measure(ctx, o, plan, progress)
	if err != nil {
		return result, nil, err
	}
	s.report(out, o, plan, result, costs)
	return result, figures.FactsOf(result, costs), draw(o, result)
}

// journeysAlone plays the journeys before the students: what their setting up costs is
// not the students' memory. It returns the plan that it played.
func (s *stage) journeysAlone(ctx context.Context, o options, progress io.Writer) (drive.Plan, error) {
	plan := s.plan(o)
	plan.Way, plan.Watchers, plan.Warmup, plan.Duration = drive.Still, 0, time.Millisecond, time.Second
	_, _, err := s.measure(ctx, o, plan, progress)
	return plan, err
}

// idle measures by how much a gateway's memory grows with each student that
// waits, connection included.
func idle(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	s, err := raise(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.close() }()
	plan, err := s.journeysAlone(ctx, o, progress)
	if err != nil {
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
	had, has := before.Parts["gateway"].RSS, int64(0)
	for _, c := range costs {
		if c.Name == "gateway" {
			has = c.RSS
		}
	}
	each := float64(has-had) / 1024 / float64(max(1, o.students))
	fmt.Fprintf(out, "The gateways grew from %.1f MB to %.1f MB: %.1f KB for each of %d waiting students, with their connections.\n",
		mb(had), mb(has), each, o.students)
	facts := figures.FactsOf(result, costs)
	facts["waiting_student_kb"], facts["students"] = each, float64(o.students)
	return facts, nil
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// held paces -journeys, and then a fifth more, that nobody watches and that do
// not end. It reports the most that were held: no failure, and the updates in
// time.
func held(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	o.students, o.life = 0, 0
	facts := figures.Facts{"held": 0}
	var steps []figures.Facts
	var reports bytes.Buffer // after the table of them
	for _, fifths := range []int{5, 6} {
		step := o
		step.journeys = o.journeys * fifths / 5
		f, err := pace(ctx, step, &reports, progress)
		if err != nil {
			return nil, err
		}
		f["journeys"] = float64(step.journeys)
		steps = append(steps, f)
		if facts["tried"] = f["journeys"]; holds(f) {
			facts["held"] = f["journeys"]
			facts[figures.UpdateP99MS], facts[figures.GatewayCore] = f[figures.UpdateP99MS], f[figures.GatewayCore]
		}
	}
	fmt.Fprintf(out, "## held: more and more journeys, %d connections, %v each\n", o.conns, o.duration)
	figures.Head(out, "journeys", "update p99, ms", "failures", "gateway, % of a core", "held")
	for _, f := range steps {
		figures.Row(out, f["journeys"], fmt.Sprintf("%.1f", f[figures.UpdateP99MS]), f[figures.Failures],
			fmt.Sprintf("%.0f", f[figures.GatewayCore]), map[bool]string{true: "yes", false: "no"}[holds(f)])
	}
	fmt.Fprintln(out)
	_, err := reports.WriteTo(out)
	return facts, err
}

func holds(f figures.Facts) bool {
	return f[figures.Failures] == 0 && f[figures.UpdateP99MS] <= heldWithin.Seconds()*1000
}

// report writes the Markdown of one run.
func (s *stage) report(out io.Writer, o options, plan drive.Plan, r drive.Result, costs []figures.Cost) {
	fmt.Fprintf(out, "## %s: %d journeys, %d students, %d gateways, %v\n\n", o.mode, o.journeys, o.students, o.gateways, o.duration)
	fmt.Fprintf(out, "%s. Generator (%d processes), gateways, Valkey and PostgreSQL share it. Phones share %d connections (0: one each), "+
		"each student has one, all over many loopback addresses. Latencies count from the instant a fix was due. %s.\n\n",
		figures.Machine(), len(plan.Split()), o.conns, s.settled)
	fmt.Fprintf(out, "Accepted: %.1f updates/s. Failures: %d. Overtaken before a student saw them: %d.\n",
		float64(r.Accepted)/o.duration.Seconds(), r.Failures(), r.Unseen)
	figures.Latencies(out, r.Latencies)
	figures.Costs(out, costs, r.Accepted)
	figures.Counts(out, r.Counts)
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
