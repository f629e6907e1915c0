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
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"doorstep/bench/rig"
)

// scenario is one fault.
type scenario struct {
	name string // for -run: lower case, with dashes
	play func(ctx context.Context, s *stage) (row, error)
}

// scenarios are all of them, in the table's order.
func scenarios() []scenario {
	return slices.Concat[[]scenario](
	// each file adds its own here
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

// run plays the scenarios one after the other and prints the table.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	fmt.Fprintln(progress, "building the gateway")
	program, err := rig.Build(ctx)
	if err != nil {
		return err
	}
	defer program.Remove()
	rows, err := playAll(ctx, o, program, progress)
	text := table(rows)
	fmt.Fprint(out, text)
	if o.out != "" {
		err = errors.Join(err, os.WriteFile(o.out, []byte(text), 0o644)) //nolint:gosec // a report
	}
	return err
}

func playAll(ctx context.Context, o options, program *rig.Program, progress io.Writer) (rows []row, err error) {
	for _, sc := range scenarios() {
		if !o.only.MatchString(sc.name) {
			continue
		}
		fmt.Fprintf(progress, "%-28s ", sc.name)
		began := time.Now()
		r, failed := playOne(ctx, sc, o, program)
		if failed != nil {
			r.Fault = sc.name
			r.check(false, "could not be played: %v", failed)
		}
		rows = append(rows, r)
		fmt.Fprintf(progress, "%5.1f s  %s\n", time.Since(began).Seconds(), r.verdict())
		if len(r.Fails) > 0 {
			err = errBroken
		}
		if ctx.Err() != nil {
			return rows, ctx.Err()
		}
	}
	return rows, err
}

// scenarioLimit bounds one scenario, whatever hangs.
const scenarioLimit = 5 * time.Minute

func playOne(ctx context.Context, sc scenario, o options, program *rig.Program) (r row, err error) {
	ctx, cancel := context.WithTimeout(ctx, scenarioLimit)
	defer cancel()
	s := &stage{program: program, short: o.short}
	defer func() { err = errors.Join(err, s.close()) }()
	return sc.play(ctx, s)
}

// table is the result in Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| fault | what callers saw | time to well | verdict |\n|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Fault, r.Saw, r.Well, r.verdict())
	}
	return b.String()
}
