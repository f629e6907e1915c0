// Command peers measures Doorstep beside the design that it replaces
// (docs/origin.md) and beside two floors: the same requests, the same machine, a
// fresh Valkey for each flood, in turns (A B C, A B C, …), so that a slow moment
// of the machine meets all of them. It prints one Markdown document with two
// plots. See -help and make bench-peers.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/bench/rig"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/process"
	"doorstep/internal/servers/valkeyserver"
)

func main() { drive.Main("peers", compare) }

type options struct {
	rounds, journeys, conns int
	warmup, duration        time.Duration
	database                bool
	node, out, gatewayPath  string
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
	flags.StringVar(&o.gatewayPath, "gateway", "", "binary of the gateway; empty: it is built")
	flags.StringVar(&o.out, "out", "bench/out/peers", "folder of the report and its plots; empty for none")
	return o, flags.Parse(args)
}

// peer is one server that takes the same updates, and what its floods showed.
type peer struct {
	key    string // in the names of the facts
	name   string
	what   string
	begin  func(ctx context.Context, valkeyURL string) (*served, error)
	floods []flood
}

// served is a running peer.
type served struct {
	listen string
	pid    int
	stop   func() error
	settle func(ctx context.Context) error // between the starts and the flood; nil: nothing to wait for
}

// flood is one run of one peer.
type flood struct{ rate, cpuUS, p50MS, p99MS, refused float64 }

func compare(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "doorstep-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	gateway, err := rig.Built(ctx, o.gatewayPath)
	if err != nil {
		return err
	}
	defer gateway.Remove()
	var settings []string
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
		{key: "doorstep", name: "Doorstep", what: "everything on", begin: doorstep(gateway, settings)},
		// The queue of valkey-go's own default, which is the faster one here.
		{key: "floor", name: "(c) floor", what: "Hertz, JSON, one HSET", begin: floor(dir, nil, "RUEIDIS_QUEUE_TYPE=ring")},
		{key: "scripted_floor", name: "(e) script's floor", what: "Hertz, JSON, update.lua through the same store; no token, no metrics", begin: floor(dir, []string{"script"})},
	}
	note := withoutNode(o.node)
	if note == "" {
		for workers, name := range map[int]string{1: "(a) Express", 2: "(a) Express ×2"} {
			peers = append(peers, &peer{key: "express", name: name, what: "the design of docs/origin.md: Express and ioredis", begin: express(o.node, workers)})
		}
		slices.SortStableFunc(peers[3:], func(a, b *peer) int { return cmp.Compare(a.name, b.name) })
	} else {
		fmt.Fprintln(stderr, note)
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

// flood plays one flood on a Valkey of its own.
func (p *peer) flood(ctx context.Context, what string, o options, progress io.Writer) (err error) {
	valkey, err := valkeyserver.Start(ctx, valkeyserver.Options{TCP: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, valkey.Stop()) }()
	s, err := p.begin(ctx, valkey.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	plan := drive.Plan{
		Journeys: o.journeys, Conns: o.conns, Way: drive.Flood, SpeedMPS: 1, Warmup: o.warmup, Duration: o.duration,
		Updates: []string{s.listen}, Watches: []string{s.listen},
	}
	servers := figures.Processes{"server": figures.Descendants(s.pid, ""), "valkey": {valkey.Process().Pid}}
	result, costs, err := figures.Measure(ctx, what, plan, servers, progress, figures.Moments{SetUp: s.settle})
	if err != nil {
		return err
	}
	update := result.Latencies[drive.Update]
	p.floods = append(p.floods, flood{
		rate:  float64(result.Accepted) / o.duration.Seconds(),
		cpuUS: float64(figures.CPU(costs, "server", "valkey").Microseconds()) / float64(max(1, result.Accepted)),
		p50MS: figures.At(update, 50).Seconds() * 1000, p99MS: figures.At(update, 99).Seconds() * 1000,
		refused: float64(result.Failures()),
	})
	return nil
}

// withoutNode says why the peers on node cannot run; empty when they can.
func withoutNode(dir string) string {
	if _, err := exec.LookPath("node"); err != nil {
		return "There is no node: (a) is left out."
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "express")); err != nil {
		return "npm has not installed the packages of (a), which make bench-peers does: (a) is left out."
	}
	return ""
}

func doorstep(gateway *rig.Program, settings []string) func(context.Context, string) (*served, error) {
	return func(ctx context.Context, valkeyURL string) (*served, error) {
		// One caller stands for many, so the limits are high; they are at work all the same.
		g, err := gateway.Start(ctx, append([]string{
			"VALKEY_URL=" + valkeyURL, "LOG_LEVEL=warn", "RATE_INTERVAL=1ms", "CALLER_RATE=1000000", "CALLER_BURST=1000000",
		}, settings...)...)
		if err != nil {
			return nil, err
		}
		settle := func(ctx context.Context) error { _, err := rig.AwaitCarried(ctx, g); return err }
		return &served{listen: g.Listen, pid: g.PID(), stop: g.Kill, settle: settle}, nil
	}
}

func floor(dir string, args []string, env ...string) func(context.Context, string) (*served, error) {
	return func(ctx context.Context, valkeyURL string) (*served, error) {
		path := filepath.Join(dir, "floor")
		if _, err := os.Stat(path); err != nil {
			build := exec.CommandContext(ctx, "go", "build", "-o", path, "doorstep/bench/peers/floor") //nolint:gosec // a path of our own
			if out, err := build.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("go build: %w: %s", err, out)
			}
		}
		cmd := exec.Command(path, args...) //nolint:gosec,noctx // ours; stop ends it
		cmd.Env = env
		return serve(ctx, cmd, valkeyURL)
	}
}

func express(dir string, workers int) func(context.Context, string) (*served, error) {
	return func(ctx context.Context, valkeyURL string) (*served, error) {
		cmd := exec.Command("node", "server.js") //nolint:noctx // stop ends it
		cmd.Dir, cmd.Env = dir, []string{"NODE_ENV=production", fmt.Sprintf("WORKERS=%d", workers)}
		return serve(ctx, cmd, valkeyURL)
	}
}

// serve starts a peer and returns once it answers, within 30 s.
func serve(ctx context.Context, cmd *exec.Cmd, valkeyURL string) (*served, error) {
	listen, err := process.FreeAddr()
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+os.TempDir(), "LISTEN="+listen, "REDIS_URL="+valkeyURL,
		"JWT_SECRET="+rig.Secret, "RATE_MS=0")
	var printed strings.Builder
	cmd.Stdout, cmd.Stderr = &printed, &printed
	process, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for !answers(ctx, listen) {
		select {
		case <-process.Done():
			return nil, fmt.Errorf("it has ended: %w: %s", process.Err(), printed.String())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), process.Kill())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return &served{listen: listen, pid: process.OS().Pid, stop: process.Kill}, nil
}

func answers(ctx context.Context, listen string) bool {
	res, err := rig.Get(ctx, "http://"+listen+"/readyz")
	return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
}
