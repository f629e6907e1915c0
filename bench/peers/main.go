// Command peers measures Doorstep and what it is compared with side by side:
// the same requests, the same machine, a fresh Valkey for each turn, in turns
// (A B C, A B C, …), so that what the machine does meanwhile meets all. It
// prints one Markdown document, with plots. See -help and make bench-peers.
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
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
)

func main() { drive.Main("peers", compare) }

// options are the flags.
type options struct {
	rounds           int
	journeys, conns  int
	paced            int
	warmup, duration time.Duration
	pacedFor         time.Duration
	database         bool
	node, out        string
	gatewayPath      string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "rounds", 3, "floods of each peer")
	flags.IntVar(&o.journeys, "journeys", 2000, "journeys of a flood")
	flags.IntVar(&o.conns, "conns", 64, "connections of the phones")
	flags.IntVar(&o.paced, "paced", 1000, "journeys, with a student each, of the paced round: a fifth as many updates a second")
	flags.DurationVar(&o.warmup, "warmup", 8*time.Second, "played, not measured: until the starts cost nothing any more")
	flags.DurationVar(&o.duration, "duration", 8*time.Second, "of a flood")
	flags.DurationVar(&o.pacedFor, "paced-for", 20*time.Second, "of the paced round; 0: none")
	flags.BoolVar(&o.database, "database", true, "Doorstep's sessions in PostgreSQL; false: in its memory")
	flags.StringVar(&o.node, "node", "bench/peers/express", "folder of the peers on node")
	flags.StringVar(&o.gatewayPath, "gateway", "", "binary of the gateway; empty: it is built")
	flags.StringVar(&o.out, "out", "bench/out/peers", "folder of the report and its plots; empty for none")
	return o, flags.Parse(args)
}

// bench is what the turns have in common.
type bench struct {
	options
	gateway     *rig.Program
	databaseURL string
	dir         string // of the peers in Go
	nodeDir     string
	progress    io.Writer
}

func compare(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b := &bench{options: o, nodeDir: o.node, progress: stderr}
	if b.gateway, err = rig.Built(ctx, o.gatewayPath); err != nil {
		return err
	}
	defer b.gateway.Remove()
	if b.dir, err = os.MkdirTemp("", "doorstep-peers-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if o.database {
		database, err := postgrestest.Start(ctx, "max_connections=100")
		if err != nil {
			return err
		}
		defer func() { _ = database.Close() }()
		b.databaseURL = database.DSN()
		if err := b.gateway.Run(ctx, []string{"DATABASE_URL=" + b.databaseURL}, "migrate"); err != nil {
			return err
		}
	}
	found, err := b.turns(ctx)
	if err != nil {
		return err
	}
	return found.publish(o, stdout)
}

// publish writes the report, to a file, too, and the plots.
func (f findings) publish(o options, stdout io.Writer) error {
	f.write(stdout, o)
	if o.out == "" {
		return nil
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(o.out, "peers.md"))
	if err != nil {
		return err
	}
	f.write(file, o)
	return errors.Join(file.Close(), f.facts().Save(o.out, "peers"), f.draw(o.out))
}

// turns plays all rounds.
func (b *bench) turns(ctx context.Context) (findings, error) {
	f := findings{}
	peers := b.peers(func(why string) {
		f.notes = append(f.notes, why)
		fmt.Fprintln(b.progress, why)
	})
	for _, p := range peers {
		f.rows = append(f.rows, &row{peer: p})
	}
	for round := range b.rounds {
		for _, r := range f.rows {
			what := fmt.Sprintf("round %d of %d, %s", round+1, b.rounds, r.peer.name)
			t, err := b.turn(ctx, what, r.peer, 0, drive.Plan{
				Journeys: b.journeys, Conns: b.conns, Way: drive.Flood, SpeedMPS: 1, Warmup: b.warmup, Duration: b.duration,
			})
			if err != nil {
				return f, fmt.Errorf("%s: %w", what, err)
			}
			r.floods = append(r.floods, t)
		}
	}
	for _, r := range f.rows {
		if b.pacedFor == 0 {
			break
		}
		plan := drive.Plan{
			Journeys: b.paced, Conns: b.conns, Watchers: b.paced, Way: drive.Pace, Eye: r.peer.eye, Every: interval,
			Jitter: 300 * time.Millisecond, SpeedMPS: 40 / 3.6, Warmup: b.warmup, Duration: b.pacedFor,
		}
		if r.peer.eye == "" {
			plan.Watchers = 0
		}
		t, err := b.turn(ctx, "paced, "+r.peer.name, r.peer, interval, plan)
		if err != nil {
			return f, fmt.Errorf("paced, %s: %w", r.peer.name, err)
		}
		r.paced = &t
	}
	return f, nil
}

// interval is the review's, between two updates of a journey.
const interval = 5 * time.Second

// turn is one peer's run of a plan, on a Valkey of its own.
func (b *bench) turn(ctx context.Context, what string, p peer, rate time.Duration, plan drive.Plan) (t turn, err error) {
	valkey, err := valkeyserver.Start(ctx, valkeyserver.Options{TCP: true})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, valkey.Stop()) }()
	s, err := p.begin(ctx, valkey.URL(), rate)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	plan.Updates, plan.Watches = []string{s.listen}, []string{s.listen}
	servers := figures.Processes{"server": s.pids(), "valkey": {valkey.Process().Pid}}
	t.result, t.costs, err = figures.Measure(ctx, what, plan, servers, b.progress, figures.Moments{SetUp: s.settle})
	t.took = plan.Duration
	return t, err
}
