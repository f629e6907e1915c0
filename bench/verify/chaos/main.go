// Command chaos breaks one thing after another under a real gateway and prints
// one table of what its callers saw: fault, what callers saw, time to well,
// verdict. `make chaos` plays all scenarios; the tests play their short form.
//
// A scenario plays one fault: it starts servers and callers, breaks something,
// mends it, and returns a row. Its error means that it could not be played.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"doorstep/bench/rig"
)

type scenario struct {
	name string // for -run
	play func(ctx context.Context, s *stage) (row, error)
	// parallel: the short form may play it with others at the same time, because
	// its verdict does not depend on the machine's load.
	parallel bool
}

// scenarios lists all of them in the table's order.
func scenarios() []scenario {
	return slices.Concat(faultScenarios(), []scenario{
		{"gateways-come-and-go", playFleet, false},
		{"drain", playDrain, true},
		{"drain-cut-short", playSecondSignal, true},
		{"slow-loris", slowLoris, false},
		{"idle-connections", idleConnections, false},
		{"flood-of-one-token", floodOfOneToken, false},
		{"thousand-waits", thousandWaits, false},
		{"cluster-primary-killed", playPrimaryKilled, false},
		{"cluster-slots-moved", playSlotsMoved, false},
		{"sentinel-primary-killed", playSentinels, false},
	})
}

// row is a line of the table.
type row struct {
	Fault string   // what was broken, and for how long
	Saw   string   // answers with their counts, the worst latency
	Well  string   // how long after the mending all was as before; "at once", "–"
	Fails []string // promises of the contract that did not hold; none: it passes
}

func (r row) verdict() string {
	if len(r.Fails) == 0 {
		return "as promised"
	}
	return "BROKEN: " + strings.Join(r.Fails, "; ")
}

// check adds the message to the failures unless the promise holds.
func (r *row) check(holds bool, message string, args ...any) {
	if !holds {
		r.Fails = append(r.Fails, fmt.Sprintf(message, args...))
	}
}

type options struct {
	short bool
	only  *regexp.Regexp
	out   string
}

func main() {
	var o options
	only := flag.String("run", "", "only scenarios whose name matches this regular expression")
	flag.BoolVar(&o.short, "short", false, "the short form, as CI runs it")
	flag.StringVar(&o.out, "out", "", "write the table to this file, too")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err = run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

var errBroken = errors.New("a promise did not hold, see the table")

// run plays the scenarios and prints the table.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	fmt.Fprintln(progress, "building the gateway")
	program, err := rig.Build(ctx)
	if err != nil {
		return err
	}
	defer program.Remove()
	shared := &sharedPostgres{}
	rows, err := playAll(ctx, o, program, shared, progress)
	err = errors.Join(err, shared.close())
	text := table(rows)
	fmt.Fprint(out, text)
	if o.out != "" {
		err = errors.Join(err, os.MkdirAll(filepath.Dir(o.out), 0o750), os.WriteFile(o.out, []byte(text), 0o600))
	}
	return err
}

// parallelism is how many scenarios the short form plays at the same time. They
// mostly wait: half of the time for journeys that may arrive.
const parallelism = 8

// playAll plays the parallel scenarios first, then the others one by one.
func playAll(ctx context.Context, o options, program *rig.Program, shared *sharedPostgres, progress io.Writer) ([]row, error) {
	list := slices.DeleteFunc(scenarios(), func(sc scenario) bool { return !o.only.MatchString(sc.name) })
	rows := make([]row, len(list))
	report := &reporter{to: progress}
	one := func(i int) {
		rows[i] = report.play(ctx, list[i], &stage{program: program, shared: shared, short: o.short})
	}
	var parallel sync.WaitGroup
	slots := make(chan struct{}, pick(&stage{short: o.short}, parallelism, 1))
	for i, sc := range list {
		if sc.parallel && ctx.Err() == nil {
			slots <- struct{}{}
			parallel.Go(func() { defer func() { <-slots }(); one(i) })
		}
	}
	parallel.Wait()
	for i, sc := range list {
		if !sc.parallel && ctx.Err() == nil {
			one(i)
		}
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return r.Fault == "" })
	return rows, errors.Join(ctx.Err(), report.err)
}

// reporter prints how each scenario went. Safe for concurrent use.
type reporter struct {
	mu  sync.Mutex
	to  io.Writer
	err error
}

func (rep *reporter) play(ctx context.Context, sc scenario, s *stage) row {
	began := time.Now()
	r, err := playOne(ctx, sc, s)
	if err != nil {
		r.check(false, "could not be played: %v", err)
	}
	if r.Fault == "" {
		r.Fault = sc.name
	}
	rep.mu.Lock()
	defer rep.mu.Unlock()
	fmt.Fprintf(rep.to, "%-24s %5.1f s  %s\n", sc.name, time.Since(began).Seconds(), r.verdict())
	if len(r.Fails) > 0 {
		rep.err = errBroken
		fmt.Fprint(rep.to, s.gatewayLog[max(0, len(s.gatewayLog)-4000):])
	}
	return r
}

// scenarioLimit bounds one scenario, so that one that hangs ends.
const scenarioLimit = 5 * time.Minute

func playOne(ctx context.Context, sc scenario, s *stage) (r row, err error) {
	ctx, cancel := context.WithTimeout(ctx, scenarioLimit)
	defer cancel()
	defer func() { err = errors.Join(err, s.ends.Close()) }()
	return sc.play(ctx, s)
}

// table is the result in Markdown.
func table(rows []row) string {
	commit, err := exec.Command("git", "describe", "--always", "--dirty").Output() //nolint:noctx // a moment
	if err != nil {
		commit = []byte("unknown")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Commit %s.\n\n", strings.TrimSpace(string(commit)))
	b.WriteString("| fault | what callers saw | time to well | verdict |\n|---|---|---|---|\n")
	for _, r := range rows {
		// An error may contain a server's whole log.
		verdict, _, _ := strings.Cut(r.verdict(), "\n")
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Fault, r.Saw, r.Well, verdict)
	}
	return b.String()
}
