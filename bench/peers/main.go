// Command peers measures Doorstep beside the design that it replaces
// (docs/origin.md) and beside two floors: the same requests, the same machine, a
// fresh Valkey for each flood, in turns (A B C, A B C, …), so that a slow moment
// of the machine meets all of them. It prints one Markdown document with two
// plots. See -help and make bench-peers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/bench/rig"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
)

func main() { drive.Main("peers", compare) }

type options struct {
	rounds, journeys, conns int
	warmup, duration        time.Duration
	database                bool
	node, out, gateway      string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 3, "floods of each peer")
	flags.IntVar(&o.journeys, "journeys", 2000, "journeys of a flood")
	flags.IntVar(&o.conns, "conns", 64, "connections of the phones")
	flags.DurationVar(&o.warmup, "warmup", 8*time.Second, "played, not measured: until the work of the starts is done")
	flags.DurationVar(&o.duration, "duration", 8*time.Second, "of a flood")
	flags.BoolVar(&o.database, "database", true, "Doorstep's sessions in PostgreSQL; false: in its memory")
	flags.StringVar(&o.node, "node", "bench/peers/express", "folder of the peer on node")
	flags.StringVar(&o.gateway, "gateway", "", "binary of the gateway; empty: it is built")
	flags.StringVar(&o.out, "out", "bench/out/peers", "folder of the report and its plots")
	return o, flags.Parse(args)
}

// peer is a server that takes the same updates, and what its floods showed. Each
// takes a gateway's settings and is started as one.
type peer struct {
	key, name, what string // key is in the names of the facts
	program         *rig.Program
	settings        []string
	floods          []flood
}

// flood is what one flood showed, in the order of measures.
type flood [5]float64

var measures = [...]string{"accepted updates/s", "CPU of server + Valkey per update, µs", "p50, ms", "p99, ms", "not accepted"}

const rate, cpu = 0, 1 // among the measures

func compare(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	gateway, err := rig.Built(ctx, o.gateway)
	if err != nil {
		return err
	}
	defer gateway.Remove()
	floor, err := rig.BuildPackage(ctx, "doorstep/bench/peers/floor")
	if err != nil {
		return err
	}
	defer floor.Remove()
	// One caller stands for many, so the limits are high; they are at work all the same.
	settings := []string{"LOG_LEVEL=warn", "RATE_INTERVAL=1ms", "CALLER_RATE=1000000", "CALLER_BURST=1000000"}
	if o.database {
		database, err := postgrestest.Start(ctx, "max_connections=100")
		if err != nil {
			return err
		}
		defer func() { _ = database.Close() }()
		settings = append(settings, "DATABASE_URL="+database.DSN())
		if err := gateway.Run(ctx, settings, "migrate"); err != nil {
			return err
		}
	}
	peers := []*peer{
		{key: "doorstep", name: "Doorstep", what: "everything on", program: gateway, settings: settings},
		// The queue of valkey-go's own default, which is the faster one here.
		{key: "floor", name: "(c) floor", what: "Hertz, JSON, one HSET", program: floor, settings: []string{"FLOOR=hset", "RUEIDIS_QUEUE_TYPE=ring"}},
		{key: "scripted_floor", name: "(e) script's floor", what: "Hertz, JSON, update.lua through the same store; no token, no metrics", program: floor, settings: []string{"FLOOR=script"}},
	}
	note := withoutNode(o.node)
	if note == "" {
		express, _ := rig.Built(ctx, filepath.Join(o.node, "server.js"))
		peers = append(peers, &peer{key: "express", name: "(a) Express ×2", what: "the design of docs/origin.md: Express and ioredis, two workers by node's cluster", program: express, settings: []string{"NODE_ENV=production"}})
	}
	for round := range o.rounds {
		for _, p := range peers {
			what := fmt.Sprintf("round %d of %d, %s", round+1, o.rounds, p.name)
			if err := p.flood(ctx, what, o, stderr); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
	}
	return publish(peers, note, o, stdout)
}

// withoutNode says why the peer on node cannot run; empty when it can.
func withoutNode(dir string) string {
	_, missing := exec.LookPath("node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "express")); err != nil || missing != nil {
		return "There is no node, or npm has not installed the packages of (a), which make bench-peers does: (a) is left out."
	}
	return ""
}

// flood plays one flood on a Valkey of its own.
func (p *peer) flood(ctx context.Context, what string, o options, progress io.Writer) (err error) {
	valkey, err := valkeyserver.Start(ctx, valkeyserver.Options{TCP: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, valkey.Stop()) }()
	server, err := p.program.Start(ctx, append(slices.Clone(p.settings), "VALKEY_URL="+valkey.URL())...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Kill()) }()
	plan := drive.Plan{
		Journeys: o.journeys, Conns: o.conns, Way: drive.Flood, SpeedMPS: 1, Warmup: o.warmup, Duration: o.duration,
		Updates: []string{server.Listen}, Watches: []string{server.Listen},
	}
	var at figures.Moments
	if p.key == "doorstep" { // the others have no events
		at.SetUp = func(ctx context.Context) error { _, err := rig.AwaitCarried(ctx, server); return err }
	}
	parts := figures.Processes{"server": figures.Descendants(server.PID(), ""), "valkey": {valkey.Process().Pid}}
	result, costs, err := figures.Measure(ctx, what, plan, parts, progress, at)
	if err != nil {
		return err
	}
	update := result.Latencies[drive.Update]
	p.floods = append(p.floods, flood{
		float64(result.Accepted) / o.duration.Seconds(),
		float64(figures.CPU(costs, "server", "valkey").Microseconds()) / float64(max(1, result.Accepted)),
		figures.At(update, 50).Seconds() * 1000, figures.At(update, 99).Seconds() * 1000,
		float64(result.Failures()),
	})
	return nil
}

// publish writes the report to stdout and, with its plots and facts, to o.out.
func publish(peers []*peer, note string, o options, stdout io.Writer) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(o.out, "peers.md"))
	if err != nil {
		return err
	}
	write(io.MultiWriter(stdout, file), peers, note, o)
	return errors.Join(file.Close(), facts(peers).Save(o.out, "peers"),
		figures.DrawBars(filepath.Join(o.out, "rates.svg"), "accepted updates a second", "1/s", bars(peers, rate)),
		figures.DrawBars(filepath.Join(o.out, "costs.svg"), "CPU of server and Valkey for an accepted update", "µs", bars(peers, cpu)))
}

func write(w io.Writer, peers []*peer, note string, o options) {
	fmt.Fprintf(w, "## Doorstep and its peers\n\n%s. Servers, Valkey and the generator share it. %d rounds in turns of %v, each on a fresh Valkey; "+
		"closed loop, %d connections, %d journeys; medians, with the least and the most. The same request everywhere; rates unlimited. %s\n",
		figures.Machine(), o.rounds, o.duration, o.conns, o.journeys, note)
	figures.Head(w, slices.Concat([]string{"peer", "what"}, measures[:])...)
	for _, p := range peers {
		cells := []any{p.name, p.what}
		for of := range measures {
			least, median, most := p.spread(of)
			cells = append(cells, fmt.Sprintf("%s (%s–%s)", figures.Number(median), figures.Number(least), figures.Number(most)))
		}
		figures.Row(w, cells...)
	}
	figures.Head(w, "Doorstep's median", "accepted updates/s, times", "CPU per update, times")
	for all, rest := facts(peers), peers[1:]; len(rest) > 0; rest = rest[1:] {
		figures.Row(w, "beside "+rest[0].name, fmt.Sprintf("%.2f", all["updates_by_"+rest[0].key]), fmt.Sprintf("%.3f", all["cpu_by_"+rest[0].key]))
	}
}

// spread is the least, the median and the most of a measure.
func (p *peer) spread(of int) (least, median, most float64) {
	var all []float64
	for _, f := range p.floods {
		all = append(all, f[of])
	}
	slices.Sort(all)
	return all[0], all[len(all)/2], all[len(all)-1]
}

// facts are Doorstep's medians as multiples of each peer's: updates_by_… and
// cpu_by_…, which bench/targets judges.
func facts(peers []*peer) figures.Facts {
	facts := figures.Facts{}
	for name, of := range map[string]int{"updates_by_": rate, "cpu_by_": cpu} {
		_, ours, _ := peers[0].spread(of)
		for _, p := range peers[1:] {
			_, theirs, _ := p.spread(of)
			facts[name+p.key] = ours / theirs
		}
	}
	return facts
}

func bars(peers []*peer, of int) (all []figures.Bar) {
	for _, p := range peers {
		least, median, most := p.spread(of)
		all = append(all, figures.Bar{Name: p.name, Value: median, Least: least, Most: most})
	}
	return all
}
