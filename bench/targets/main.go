// Command targets is `make bench`. It plays every run that a target of
// docs/performance.md needs, one after the other on an otherwise idle machine,
// judges the targets by the results, and prints one Markdown document: machine,
// commit, the table of targets, method, peers, runs and plots. The runs are the
// programs bench/load and bench/peers and the Go benchmarks with their budgets;
// each can also be played alone.
//
// A missed target is a result. A run that fails, or a benchmark over its budget,
// makes the exit code 1, after the document.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/rig"
)

func main() { drive.Main("targets", measure) }

// options are the flags.
type options struct {
	only  *regexp.Regexp
	short bool
	out   string
	into  string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("targets", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("run", "", "regular expression of the runs to play; the targets of the others are not measured")
	flags.BoolVar(&o.short, "short", false, "a moment of each run, to see that it works; the figures mean nothing")
	flags.StringVar(&o.out, "out", "bench/out/targets", "folder of the document, its plots, and what each run has left")
	flags.StringVar(&o.into, "into", "", "file whose part between the two markers becomes the document, with the plots beside it: docs/performance.md")
	err := flags.Parse(args)
	if err == nil {
		o.only, err = regexp.Compile(*only)
	}
	if err == nil {
		o.out, err = filepath.Abs(o.out)
	}
	return o, err
}

func measure(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	chosen := plan(o)
	if len(chosen) == 0 {
		return errors.New("no run has such a name")
	}
	root, err := said(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", "doorstep")
	if err != nil {
		return err
	}
	bin, err := os.MkdirTemp("", "doorstep-targets-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	// Built once, so that all runs measure the same commit even if the files change
	// meanwhile.
	if _, err := said(ctx, root, "go", "build", "-o", bin+"/", "./bench/load", "./bench/peers", "./bench/peers/floor"); err != nil {
		return err
	}
	built, err := rig.Build(ctx)
	if err != nil {
		return err
	}
	defer built.Remove()
	// A copy, as by an installation. Of a file that the linker has just written, or another program
	// in one write, the kernel maps more at a time, which adds 9 MB to the RSS.
	gateway := filepath.Join(bin, "gateway")
	if _, err := said(ctx, root, "cp", built.Path(), gateway); err != nil {
		return err
	}
	d := document{began: time.Now(), short: o.short, surroundings: surroundings(ctx, root)}
	s := stand{root: root, bin: bin, gateway: gateway, out: o.out, short: o.short, stderr: stderr}
	d.runs, err = s.play(ctx, chosen)
	if err != nil {
		return err
	}
	d.took = time.Since(d.began)
	return errors.Join(d.publish(o, stdout), d.failures())
}

// plan returns the chosen runs.
func plan(o options) (chosen []run) {
	for _, r := range runs {
		if o.only.MatchString(r.name) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

// said returns what a command prints, without the white space around it.
func said(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := command(ctx, dir, name, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, complaint.String())
	}
	return strings.TrimSpace(out.String()), nil
}
