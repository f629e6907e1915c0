// Command load plays journeys against gateways, a Valkey and a PostgreSQL that
// it starts, and prints a Markdown document of what it measured, with plots. Its
// modes:
//
//	pace   journeys on their schedule, open loop, one student each
//	flood  as many updates as are accepted, closed loop
//	wake   many students wait; each journey changes once, all at the same instant
//	idle   what a waiting student costs in memory
//	start  from the start of the process to its first 200
//	flat   flood with 100 journeys, -journeys, and numbers between: the cost of each update
//	waiters  as many waiting students as are asked for, on as many gateways as that takes: memory, idle CPU, a wake of all
//	held   pace with -journeys and with a fifth more: the most that are held
//
// A process may have some 20,000 connections (RLIMIT_NOFILE), so 50,000 students
// need -gateways 3; the generator splits itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/bench/rig"
)

func main() { drive.Main("load", load) }

// options are the flags.
type options struct {
	mode               string
	journeys, students int
	conns, gateways    int
	shards             int
	every, jitter      time.Duration
	life               time.Duration
	arrivals           float64
	warmup, duration   time.Duration
	database, opened   bool
	together           bool
	gateway            string
	out                string
	profile            bool
	program            *rig.Program
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.mode, "mode", "pace", "pace, flood, wake, idle, start, flat, held or waiters")
	flags.IntVar(&o.journeys, "journeys", 1000, "journeys at the same time")
	flags.IntVar(&o.students, "students", -1, "students, shared among the journeys; -1: one each (flood and flat: none)")
	flags.IntVar(&o.conns, "conns", 64, "connections that the phones share, as behind a load balancer; 0: one each")
	flags.IntVar(&o.gateways, "gateways", 1, "gateway processes")
	flags.BoolVar(&o.together, "together", false, "students at the gateway of their journey's phone, as a floor needs them; else at another one where there are several")
	flags.IntVar(&o.shards, "shards", 1, "primaries of the live store; more than one make a cluster; 0: none, the live store is in the gateway's memory")
	flags.DurationVar(&o.every, "every", 5*time.Second, "pace: between two fixes of a journey")
	flags.DurationVar(&o.jitter, "jitter", 300*time.Millisecond, "pace: a fix is due up to this much after its schedule")
	flags.DurationVar(&o.life, "life", 20*time.Minute, "pace: mean length of a journey; 0: none ends")
	flags.Float64Var(&o.arrivals, "arrivals", 0.8, "pace: share of the journeys that arrive; the others are stopped")
	flags.DurationVar(&o.warmup, "warmup", 6*time.Second, "played, not measured; a pace needs more than -every")
	flags.DurationVar(&o.duration, "duration", 10*time.Second, "measured")
	flags.BoolVar(&o.database, "database", true, "sessions in PostgreSQL; false: in the gateway's memory")
	flags.BoolVar(&o.opened, "opened", false, "open the journeys in the live store itself, without booking and start: fast, for many; none ends")
	flags.StringVar(&o.gateway, "gateway", "", "binary of the gateway; empty: build it")
	flags.StringVar(&o.out, "out", "bench/out/load", "folder of the report and its plots; empty for none")
	flags.BoolVar(&o.profile, "profile", false, "take a CPU profile of the first gateway while measuring, into -out")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.students < 0 {
		o.students = o.journeys
		if o.mode == "flood" || o.mode == "flat" {
			o.students = 0
		}
	}
	if o.opened {
		o.life = 0
	}
	if o.shards == 0 && (o.opened || o.gateways > 1) {
		return o, errors.New("a live store in a gateway's memory is of that one, and journeys begin there by its API: without -opened")
	}
	if !o.database && !o.opened && o.gateways > 1 {
		return o, errors.New("several gateways share a database: -database, or -opened")
	}
	return o, nil
}

func load(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if modes[o.mode] == nil {
		return fmt.Errorf("no mode %q", o.mode)
	}
	program, err := rig.Built(ctx, o.gateway)
	if err != nil {
		return err
	}
	defer program.Remove()
	o.program = program
	return play(ctx, o, stdout, stderr)
}

// mode is one kind of run: it prints its report to out and its progress to
// progress, and returns the report's figures for a program to read.
type mode func(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error)

var modes = map[string]mode{
	"pace": pace, "flood": flood, "wake": wake, "idle": idle, "start": start, "flat": flat, "held": held, "waiters": waiters,
}

// play runs the mode and writes its report and facts to files, too.
func play(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if o.out == "" {
		_, err := modes[o.mode](ctx, o, stdout, stderr)
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(o.out, o.mode+".md"))
	if err != nil {
		return err
	}
	facts, err := modes[o.mode](ctx, o, io.MultiWriter(stdout, file), stderr)
	if err == nil {
		err = facts.Save(o.out, o.mode)
	}
	return errors.Join(err, file.Close())
}
