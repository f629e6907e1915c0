// Command chaos breaks one thing after another under a real gateway and prints
// what its callers saw, as one table: fault, what callers saw, time to well,
// verdict. `make chaos` runs it whole; the tests run its short form.
//
// A scenario is one fault. It starts what it needs on its stage, lets callers
// play, breaks something, mends it, and says in a row what was seen. It returns
// an error only when it could not be played at all.
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

// scenario is one fault.
type scenario struct {
	name string // for -run: lower case, with dashes
	play func(ctx context.Context, s *stage) (row, error)
	// beside: the short form may play it beside others, because its verdict does
	// not hang on what the machine does otherwise.
	beside bool
}

// scenarios are all of them, in the table's order.
func scenarios() []scenario {
	return slices.Concat[[]scenario](
		// each file adds its own here
		storeFaults(), networkFaults(), databaseFaults(),
		fleetScenarios(), drainScenarios(), overloadScenarios(), clusterScenarios(),
	)
}

// row is a line of the table.
type row struct {
	Fault string   // what was broken, and for how long
	Saw   string   // statuses with their counts, the worst latency
	Well  string   // how long after the mending all was as before; "at once", "–"
	Fails []string // promises of the contract that did not hold; none: it passes
}

func (r row) verdict() string {
	if len(r.Fails) == 0 {
		return "as promised"
	}
	return "BROKEN: " + strings.Join(r.Fails, "; ")
}

// check notes a promise that does not hold.
func (r *row) check(holds bool, promise string, args ...any) {
	if !holds {
		r.Fails = append(r.Fails, fmt.Sprintf(promise, args...))
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
	shared := &commons{}
	rows, err := playAll(ctx, o, program, shared, progress)
	err = errors.Join(err, shared.close())
	text := table(rows)
	fmt.Fprint(out, text)
	if o.out != "" {
		err = errors.Join(err, write(o.out, text))
	}
	return err
}

func write(path, text string) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(text), 0o600))
}

// atOnce is how many scenarios the short form plays beside each other: they
// mostly wait.
const atOnce = 4

// playAll plays those that may be played beside others first.
func playAll(ctx context.Context, o options, program *rig.Program, shared *commons, progress io.Writer) ([]row, error) {
	list := slices.DeleteFunc(scenarios(), func(sc scenario) bool { return !o.only.MatchString(sc.name) })
	rows := make([]row, len(list))
	report := &reporter{to: progress}
	one := func(i int) {
		rows[i] = report.follow(ctx, list[i], &stage{program: program, commons: shared, short: o.short})
	}
	var beside sync.WaitGroup
	slots := make(chan struct{}, pick(&stage{short: o.short}, atOnce, 1))
	for i, sc := range list {
		if sc.beside && ctx.Err() == nil {
			slots <- struct{}{}
			beside.Go(func() { defer func() { <-slots }(); one(i) })
		}
	}
	beside.Wait()
	for i, sc := range list {
		if !sc.beside && ctx.Err() == nil {
			one(i)
		}
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return r.Fault == "" })
	return rows, errors.Join(ctx.Err(), report.err)
}

// reporter says how each scenario went. Safe for concurrent use.
type reporter struct {
	mu  sync.Mutex
	to  io.Writer
	err error
}

func (rep *reporter) follow(ctx context.Context, sc scenario, s *stage) row {
	began := time.Now()
	r, failed := playOne(ctx, sc, s)
	if failed != nil {
		r.check(false, "could not be played: %v", failed)
	}
	if r.Fault == "" {
		r.Fault = sc.name
	}
	rep.mu.Lock()
	defer rep.mu.Unlock()
	fmt.Fprintf(rep.to, "%-24s %5.1f s  %s\n", sc.name, time.Since(began).Seconds(), r.verdict())
	if len(r.Fails) > 0 {
		rep.err = errBroken
		fmt.Fprint(rep.to, tail(s.lastWords, 4000))
	}
	return r
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// scenarioLimit bounds one scenario, whatever hangs.
const scenarioLimit = 5 * time.Minute

func playOne(ctx context.Context, sc scenario, s *stage) (r row, err error) {
	ctx, cancel := context.WithTimeout(ctx, scenarioLimit)
	defer cancel()
	defer func() { err = errors.Join(err, s.close()) }()
	return sc.play(ctx, s)
}

// commit names what was played, with a mark when there are changes besides.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output() //nolint:noctx // a moment
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// table is the result in Markdown.
func table(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Commit %s.\n\n", commit())
	b.WriteString("| fault | what callers saw | time to well | verdict |\n|---|---|---|---|\n")
	for _, r := range rows {
		// An error may bring a server's whole log along.
		verdict, _, _ := strings.Cut(r.verdict(), "\n")
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Fault, r.Saw, r.Well, verdict)
	}
	return b.String()
}
