package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/bench/rig"
)

// gatewayHolds is how many students wait on one gateway at most: a process may have
// 20,000 files as a rule.
const gatewayHolds = 16_000

// waitersState is what is compared of the machine, before and while students wait.
type waitersState struct {
	figures.Sample
	kernel            rig.KernelMemory
	goroutines, waits float64 // of all gateways
	err               error
}

// waiters lets as many students wait as are asked for, on as many gateways as that
// takes, and reports what a waiting student costs while nothing happens. Then each
// journey changes once, all at the same instant.
func waiters(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	o.gateways = max(o.gateways, (o.students+gatewayHolds-1)/gatewayHolds)
	s, err := raise(ctx, o, unlimited...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.close() }()
	if _, err := s.journeysAlone(ctx, o, progress); err != nil {
		return nil, err
	}
	before := s.state(ctx)
	plan := s.plan(o)
	o.changeOnce(&plan)
	if o.opened {
		plan.Store = s.store
	}
	var begun waitersState
	quiet := make(chan waitersState, 1)
	result, costs, err := figures.Measure(ctx, o.mode, plan, s.processes, progress, figures.Moments{
		SetUp: func(ctx context.Context) error {
			if err := s.settle(ctx, o, progress); err != nil {
				return err
			}
			go func() {
				time.Sleep(o.warmup * 3 / 4) // well before the change
				quiet <- s.state(ctx)
			}()
			begun = s.state(ctx)
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	idle := <-quiet
	if err := errors.Join(before.err, begun.err, idle.err); err != nil {
		return nil, err
	}
	s.report(out, o, plan, result, costs)
	facts := figures.FactsOf(result, costs)
	students := float64(max(1, o.students))
	rss := idle.Parts["gateway"].RSS - before.Parts["gateway"].RSS
	cpu := idle.Parts["gateway"].CPU - begun.Parts["gateway"].CPU
	took := idle.At.Sub(begun.At)
	saw := float64(result.Latencies[drive.Sight].TotalCount())
	facts["students"], facts["gateways"], facts["waits_open"] = students, float64(o.gateways), idle.waits
	facts["rss_kb"] = float64(rss) / 1024 / students
	facts["kernel_slab_kb"] = float64(idle.kernel.Slab-before.kernel.Slab) / 1024 / students
	facts["kernel_socket_kb"] = float64(idle.kernel.Socket-before.kernel.Socket) / 1024 / students
	facts["goroutines"] = idle.goroutines
	facts["idle_core_percent"] = 100 * cpu.Seconds() / took.Seconds()
	facts["idle_us_a_second"] = float64(cpu.Microseconds()) / took.Seconds() / students
	facts["students_who_missed"] = students - saw
	facts["fix_to_eye_max_ms"] = figures.At(result.Latencies[drive.Sight], 100).Seconds() * 1000
	fmt.Fprintf(out, "\n%.0f of %.0f students waited on %d gateways, in %v in which nothing changed:\n", idle.waits, students, o.gateways, took.Round(time.Second))
	figures.Head(out, "of a waiting student, connection included", "")
	figures.Row(out, "RSS of its gateway", fmt.Sprintf("%.2f KB", facts["rss_kb"]))
	figures.Row(out, "kernel's objects, both ends of the connection (Slab)", fmt.Sprintf("%.2f KB", facts["kernel_slab_kb"]))
	figures.Row(out, "kernel's socket buffers, both ends", fmt.Sprintf("%.2f KB", facts["kernel_socket_kb"]))
	figures.Row(out, "CPU of its gateway, a new poll each 25 s included", fmt.Sprintf("%.2f µs a second; %.0f %% of a core for all", facts["idle_us_a_second"], facts["idle_core_percent"]))
	figures.Row(out, "goroutines of all gateways", fmt.Sprintf("%.0f", idle.goroutines))
	fmt.Fprintf(out, "\n%.0f of %.0f students saw the change.\n", saw, students)
	return facts, nil
}

func (s *stage) state(ctx context.Context) (w waitersState) {
	w.Sample, w.err = s.processes.Sample()
	var failed error
	w.kernel, failed = rig.KernelMemoryNow()
	w.err = errors.Join(w.err, failed)
	for _, g := range s.gateways {
		n, err := g.Metric(ctx, "go_goroutines")
		open, failed := g.Metric(ctx, "doorstep_waits_open")
		w.goroutines, w.waits, w.err = w.goroutines+n, w.waits+open, errors.Join(w.err, err, failed)
	}
	return w
}
