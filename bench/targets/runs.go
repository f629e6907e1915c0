package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"doorstep/bench/load/figures"
)

// run is one program that is played.
type run struct {
	name    string
	how     string // the method, in a sentence
	program string // load, peers or go
	floor   bool   // load plays to the floor of bench/peers instead of the gateway
	args    []string
	short   []string // of a short run; they come last, so they win
	bound   time.Duration
}

// many are the flags for runs with more journeys than a database can start in a
// minute. They do not fit where the live store may be too slow under many students,
// because the gateway then asks the database.
var many = []string{"-opened", "-database=false"}

// What the gateway and the floor both play, for the figures that are judged beside the floor's.
var (
	paceBeside = append([]string{"-mode", "pace", "-journeys", "10000", "-conns", "256", "-life", "0", "-duration", "30s"}, many...)
	wakeBeside = append([]string{"-mode", "wake", "-journeys", "50", "-students", "15000", "-warmup", "5s", "-duration", "5s"}, many...)
)

// runs are all runs, first those that a warm machine would spoil. Their bounds are
// three times what they take on two idle cores.
var runs = []run{
	{
		name: "start", program: "load", bound: 2 * time.Minute,
		how:  "nine gateways are started with a Valkey, one after the other; /readyz is asked each 5 ms; medians; RSS after a second without a call; the binary is copied, as by an installation (of one that was just linked 9 MB more are mapped)",
		args: []string{"-mode", "start"},
	},
	{
		name: "benchmarks", program: "go", bound: 8 * time.Minute,
		how:   "every Go benchmark but the next two; those of the stages of a request fail over their budgets of time and allocations",
		args:  []string{"test", "-run", "^$", "-bench", ".", "-skip", "^BenchmarkUpdate_", "-benchmem", "-benchtime", "500ms", "-timeout", "8m", "./...", "./bench/..."},
		short: []string{"-bench", "^BenchmarkStages_JSON$"},
	},
	{
		name: "script", program: "go", bound: 8 * time.Minute,
		how: "`BenchmarkUpdate_valkey_benchmark`: the server's CPU, by INFO, for updates of 10,000 journeys, for their five commands alone and for HSETs of seven fields, in thirty turns, by " +
			"`valkey-benchmark -P 16 -c 16`, the median of the turns' ratios; `BenchmarkUpdate_server`: the same from one connection, and the memory of a journey's hash",
		args:  []string{"test", "-run", "^$", "-bench", "^BenchmarkUpdate_", "-benchtime", "30x", "-timeout", "8m", "./scripts"},
		short: []string{"-benchtime", "1x"},
	},
	{
		name: "pace", program: "load", bound: 8 * time.Minute,
		how:   "10,000 journeys, an update each 5 s with up to 300 ms of jitter, a waiting student each, arrivals and stops going on; open loop, 60 s after 36 s, when each journey's first fix is in its history; sessions in PostgreSQL",
		args:  []string{"-mode", "pace", "-journeys", "10000", "-conns", "256", "-warmup", "36s", "-duration", "60s"},
		short: []string{"-journeys", "20", "-conns", "4", "-every", "500ms", "-duration", "1s"},
	},
	{
		name: "pace-floor", program: "load", floor: true, bound: 3 * time.Minute,
		how:   "as pace, without ends, and in the gateway's place the floor: Hertz, JSON, one HSET, long polls answered from its memory, and nothing checked",
		args:  paceBeside,
		short: []string{"-journeys", "20", "-conns", "4", "-every", "500ms", "-duration", "1s"},
	},
	{
		name: "pace-alone", program: "load", bound: 3 * time.Minute,
		how:   "as pace-floor, with the gateway",
		args:  paceBeside,
		short: []string{"-journeys", "20", "-conns", "4", "-every", "500ms", "-duration", "1s"},
	},
	{
		name: "held", program: "load", bound: 15 * time.Minute,
		how:   "as pace, 35 s each after 36 s, with 50,000 and 60,000 journeys, no students, and no ends",
		args:  []string{"-mode", "held", "-journeys", "50000", "-conns", "512", "-warmup", "36s", "-duration", "35s"},
		short: []string{"-journeys", "20", "-conns", "4", "-every", "500ms", "-duration", "1s"},
	},
	{
		name: "wake", program: "load", bound: 4 * time.Minute,
		how: "50,000 wait on three gateways for 50 journeys, each of which changes once, all at one instant: a change wakes a thousand, " +
			"its student and admins, each a caller of their own; a phone whose update is not stored sends its next fix 5 s later, " +
			"and what is seen then counts from the first one's instant",
		args:  []string{"-mode", "wake", "-journeys", "50", "-students", "50000", "-gateways", "3", "-warmup", "5s"},
		short: []string{"-journeys", "2", "-students", "20", "-gateways", "1", "-database=false"},
	},
	{
		name: "wake-many", program: "load", bound: 4 * time.Minute,
		how:   "as wake, with 12,500 journeys that four watch each: 12,500 updates at one instant from 2,048 connections, five seconds' worth of 12,500 phones",
		args:  []string{"-mode", "wake", "-journeys", "12500", "-students", "50000", "-gateways", "3", "-conns", "2048", "-warmup", "5s"},
		short: []string{"-journeys", "10", "-students", "20", "-conns", "4", "-gateways", "1", "-database=false"},
	},
	{
		name: "wake-three-floors", program: "load", floor: true, bound: 4 * time.Minute,
		how:   "as wake, on three floors; who watches a journey is at the floor of its phone",
		args:  append([]string{"-mode", "wake", "-journeys", "50", "-students", "50000", "-gateways", "3", "-together", "-warmup", "5s"}, many...),
		short: []string{"-journeys", "2", "-students", "20", "-gateways", "1"},
	},
	{
		name: "wake-many-floors", program: "load", floor: true, bound: 4 * time.Minute,
		how:   "as wake-many, on three floors; who watches a journey is at the floor of its phone",
		args:  append([]string{"-mode", "wake", "-journeys", "12500", "-students", "50000", "-gateways", "3", "-conns", "2048", "-together", "-warmup", "5s"}, many...),
		short: []string{"-journeys", "10", "-students", "20", "-conns", "4", "-gateways", "1"},
	},
	{
		name: "wake-one", program: "load", bound: 2 * time.Minute,
		how:   "as wake, with 15,000 on one gateway: what one process may have open here",
		args:  wakeBeside,
		short: []string{"-journeys", "2", "-students", "20"},
	},
	{
		name: "wake-floor", program: "load", floor: true, bound: 2 * time.Minute,
		how:   "as wake-one, on the floor",
		args:  wakeBeside,
		short: []string{"-journeys", "2", "-students", "20"},
	},
	{
		name: "idle", program: "load", bound: 4 * time.Minute,
		how:   "RSS of three gateways before and after 50,000 have begun to wait, a connection each",
		args:  append([]string{"-mode", "idle", "-journeys", "12500", "-students", "50000", "-gateways", "3"}, many...),
		short: []string{"-journeys", "10", "-students", "20", "-gateways", "2"},
	},
	{
		name: "idle-embedded", program: "load", bound: 2 * time.Minute,
		how:   "as idle, with 15,000 on one gateway whose live store is in its memory",
		args:  []string{"-mode", "idle", "-journeys", "3750", "-students", "15000", "-shards", "0", "-database=false"},
		short: []string{"-journeys", "10", "-students", "20"},
	},
	{
		name: "idle-floor", program: "load", floor: true, bound: 2 * time.Minute,
		how:   "as idle, with 12,000 on the floor",
		args:  append([]string{"-mode", "idle", "-journeys", "3000", "-students", "12000"}, many...),
		short: []string{"-journeys", "10", "-students", "20"},
	},
	{
		name: "waiters", program: "load", bound: 10 * time.Minute,
		how: "100,000 wait on seven gateways for 1,000 journeys, a connection each; half a minute in which nothing changes; then each journey changes once, " +
			"all at one instant; kernel memory is that of both ends of the connections",
		args:  append([]string{"-mode", "waiters", "-journeys", "1000", "-students", "100000", "-warmup", "30s", "-duration", "20s"}, many...),
		short: []string{"-journeys", "10", "-students", "20", "-gateways", "2"},
	},
	{
		name: "flat", program: "load", bound: 8 * time.Minute,
		how:   "floods of 64 connections, 8 s each after 12 s, in which every phone has sent a fix: five pairs of 100 and 100,000 journeys, in alternating order, and once 1,000 and 10,000; the median of the pairs' ratios",
		args:  append([]string{"-mode", "flat", "-journeys", "100000", "-warmup", "12s", "-duration", "8s"}, many...),
		short: []string{"-journeys", "200", "-conns", "4"},
	},
	{
		name: "peers", program: "peers", bound: 15 * time.Minute,
		how:   "Doorstep and its peers, three floods of 8 s each in turns, each after 8 s, when the starts cost nothing any more, with a fresh Valkey for each",
		short: []string{"-rounds", "1", "-journeys", "20", "-conns", "4", "-duration", "300ms", "-database=false"},
	},
}

// shortArgs are the flags of all loads and peers of a short run.
var shortArgs = []string{"-warmup", "200ms", "-duration", "500ms"}

// played is the result of a run.
type played struct {
	run
	facts figures.Facts // nil where it wrote none
	dir   string        // of its report and plots
	took  time.Duration
	err   error
}

// stand is the environment of the runs.
type stand struct {
	root, bin, out string
	gateway        string // binary
	short          bool
	stderr         io.Writer
}

// play plays the runs in turn. It goes on after a run that fails, but not after the
// end of ctx.
func (s stand) play(ctx context.Context, all []run) ([]played, error) {
	var done []played
	for i, r := range all {
		fmt.Fprintf(s.stderr, "=== %d of %d, %s: %s\n", i+1, len(all), r.name, r.how)
		p := s.one(ctx, r)
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		if p.err != nil {
			fmt.Fprintf(s.stderr, "%s failed: %v\n", r.name, p.err)
		}
		done = append(done, p)
	}
	return done, nil
}

func (s stand) one(ctx context.Context, r run) played {
	p := played{run: r, dir: filepath.Join(s.out, r.name)}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.bound)
	defer cancel()
	// The files of an earlier run must not be read as this one's.
	p.err = errors.Join(os.RemoveAll(p.dir), os.MkdirAll(p.dir, 0o755))
	if p.err == nil {
		p.err = s.exec(ctx, &p)
	}
	if ctx.Err() != nil {
		p.err = fmt.Errorf("not within %v: %w", r.bound, p.err)
	}
	p.took = time.Since(began)
	return p
}

// exec runs the program and reads its facts. The facts of benchmarks count even when
// one of them is over its budget.
func (s stand) exec(ctx context.Context, p *played) error {
	name, args := filepath.Join(s.bin, p.program), append([]string{}, p.args...)
	if p.program == "go" {
		name = "go"
	} else {
		gateway := s.gateway
		if p.floor {
			gateway = filepath.Join(s.bin, "floor")
		}
		args = append(args, "-gateway", gateway, "-out", p.dir)
	}
	if s.short {
		if p.program != "go" {
			args = append(args, shortArgs...)
		}
		args = append(args, p.short...)
	}
	output, err := os.Create(filepath.Join(p.dir, "output.txt"))
	if err != nil {
		return err
	}
	cmd := command(ctx, s.root, name, args...)
	cmd.Env = append(os.Environ(), "DOORSTEP_REQUIRE_SERVERS=1") // a skipped benchmark must not pass for a met target
	cmd.Stdout, cmd.Stderr = output, s.stderr
	failed := errors.Join(cmd.Run(), output.Close())
	if p.program == "go" {
		p.facts, err = benchmarked(output.Name())
		if failed != nil {
			failed = fmt.Errorf("%w: %s", failed, complaints(output.Name()))
		}
	} else if failed == nil {
		p.facts, err = figures.ReadFacts(p.dir, p.report())
	}
	return errors.Join(failed, err)
}

// report is the name of the file that the program writes.
func (r run) report() string {
	if len(r.args) > 1 && r.args[0] == "-mode" {
		return r.args[1]
	}
	return r.program
}

// command is interrupted when ctx ends, and killed 30 s later.
func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the programs above
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// benchmarked reads the figures of `go test -bench`: "name unit" by "name unit",
// without the number of processors.
func benchmarked(path string) (figures.Facts, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	facts := figures.Facts{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if dash := strings.LastIndexByte(name, '-'); dash > 0 {
			name = name[:dash]
		}
		for i := 2; i+1 < len(fields); i += 2 {
			var v float64
			if _, err := fmt.Sscan(fields[i], &v); err == nil {
				facts[name+" "+fields[i+1]] = v
			}
		}
	}
	return facts, nil
}

// complaints are the lines in which `go test` says what failed.
func complaints(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "_test.go:") || strings.HasPrefix(line, "--- FAIL") || strings.HasPrefix(line, "panic:") || strings.HasSuffix(line, "[build failed]") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[:min(len(lines), 10)], "; ")
}
