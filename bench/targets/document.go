package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"doorstep/bench/load/figures"
)

// document is the result of all runs.
type document struct {
	began        time.Time
	took         time.Duration
	short        bool
	surroundings string
	runs         []played
}

var version = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

// surroundings names the commit, the machine and the servers.
func surroundings(ctx context.Context, root string) string {
	commit, err := said(ctx, root, "git", "describe", "--tags", "--always", "--dirty")
	if err != nil {
		commit = "unknown"
	}
	about := []string{figures.Machine()}
	for _, part := range []struct{ name, program, flag string }{
		{"kernel", "uname", "-r"}, {"Valkey", "valkey-server", "--version"}, {"PostgreSQL", "psql", "--version"}, {"Node", "node", "--version"},
	} {
		if text, err := said(ctx, root, part.program, part.flag); err == nil {
			about = append(about, part.name+" "+version.FindString(text))
		}
	}
	return fmt.Sprintf("Commit `%s`; %s.", commit, strings.Join(about, ", "))
}

// failures joins the errors of the runs that failed.
func (d document) failures() error {
	var errs []error
	for _, r := range d.runs {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, r.err))
		}
	}
	return errors.Join(errs...)
}

// picture is a plot of the document.
type picture struct{ run, file, title string }

// name is the picture's file beside the document.
func (p picture) name() string { return p.run + "-" + p.file }

var pictures = []picture{
	{"peers", "rates.svg", "accepted updates a second: Doorstep, its peers and the floors"},
	{"peers", "costs.svg", "CPU of server and Valkey for an accepted update"},
	{"pace", "pace-latency.svg", "10,000 journeys and students: latencies"},
	{"pace", "pace-seconds.svg", "10,000 journeys and students, second by second"},
	{"held", "held-latency.svg", "the most journeys that were tried: latencies"},
	{"wake", "wake-latency.svg", "50,000 students woken by 50 changes"},
	{"wake-many", "wake-latency.svg", "50,000 students woken by 12,500 changes"},
	{"flat", "flat.svg", "cost of an update by journeys under way"},
}

func (d document) write(w io.Writer) {
	fmt.Fprintf(w, "%s %s; all of it in one run of %.0f minutes. Generator, gateways, Valkey and PostgreSQL share the machine, also with other work: "+
		"compare ratios within the run rather than absolute figures.\n", d.surroundings, d.began.UTC().Format("2006-01-02 15:04 MST"), d.took.Minutes())
	if d.short {
		fmt.Fprint(w, "\n**A short run, to see that everything works: its figures mean nothing.**\n")
	}
	fmt.Fprint(w, "\n## The targets\n")
	facts := map[string]figures.Facts{}
	for _, r := range d.runs {
		facts[r.name] = r.facts
	}
	figures.Head(w, "measure", "target", "measured", "")
	for _, t := range targets {
		measured, verdict := t.judge(facts)
		figures.Row(w, t.measure, t.wanted, measured, verdict)
	}
	d.writeMethod(w)
	d.writeRuns(w)
}

// writeMethod writes what was played, and how that went.
func (d document) writeMethod(w io.Writer) {
	fmt.Fprint(w, "\n## How it was measured\n\nLatencies count from the instant at which a fix was due, even if the generator was late. "+
		"CPU and RSS are read from /proc. The events of the starts are delivered before the measurement begins, or the run says that they were not. The journeys "+
		"of runs with `-opened` are opened in the live store directly, because the runs do not measure starts.\n")
	figures.Head(w, "run", "how", "command", "took", "")
	for _, r := range d.runs {
		how := "done"
		if r.err != nil {
			how = "**failed**: " + strings.Join(strings.Fields(r.err.Error()), " ")
		}
		figures.Row(w, r.name, r.how, "`"+strings.ReplaceAll(r.command(), "|", "\\|")+"`", r.took.Round(time.Second), how)
	}
}

// command plays the run alone.
func (r run) command() string {
	words := []string{"go", "run", "./bench/" + r.program}
	if r.program == "go" {
		words = []string{"go"}
	}
	for _, a := range r.args {
		if strings.ContainsAny(a, "^$|") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// writeRuns writes every run's own report, one heading lower, the peers' first.
func (d document) writeRuns(w io.Writer) {
	for _, peers := range []bool{true, false} {
		for _, r := range d.runs {
			if (r.name == "peers") != peers {
				continue
			}
			text, err := os.ReadFile(filepath.Join(r.dir, r.report()+".md"))
			if err != nil {
				continue // benchmarks have none, nor has a run that failed
			}
			title, body, _ := strings.Cut(string(text), "\n")
			if peers {
				fmt.Fprintf(w, "\n## Beside its peers\n%s", body)
			} else {
				fmt.Fprintf(w, "\n<details><summary>%s: %s</summary>\n\n%s\n", r.name, strings.TrimLeft(title, "# "), strings.ReplaceAll(body, "\n## ", "\n### "))
			}
			for _, p := range pictures {
				if _, err := os.Stat(filepath.Join(r.dir, p.file)); p.run == r.name && err == nil {
					fmt.Fprintf(w, "\n![%s](img/%s)\n", p.title, p.name())
				}
			}
			if !peers {
				fmt.Fprint(w, "\n</details>\n")
			}
		}
		if peers {
			fmt.Fprint(w, "\n## The runs\n")
		}
	}
}

// publish prints the document and writes it with its plots beside it; also into
// another document, where options.into names one.
func (d document) publish(o options, stdout io.Writer) error {
	var text bytes.Buffer
	d.write(&text)
	_, err := stdout.Write(text.Bytes())
	err = errors.Join(err, os.WriteFile(filepath.Join(o.out, "targets.md"), text.Bytes(), 0o600), d.copyPictures(o.out))
	if o.into == "" || err != nil {
		return err
	}
	return errors.Join(insert(o.into, text.String()), d.copyPictures(filepath.Dir(o.into)))
}

func (d document) copyPictures(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "img"), 0o755); err != nil {
		return err
	}
	for _, p := range pictures {
		for _, r := range d.runs {
			text, err := os.ReadFile(filepath.Join(r.dir, p.file))
			if p.run != r.name || err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, "img", p.name()), text, 0o644); err != nil { //nolint:gosec // for all to see
				return err
			}
		}
	}
	return nil
}

// The markers in another document between which this one is inserted.
const (
	markerBegin = "<!-- make bench: begin -->\n"
	markerEnd   = "<!-- make bench: end -->\n"
)

// insert replaces the text between the markers of a file.
func insert(path, text string) error {
	whole, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(whole), markerBegin)
	_, after, ok2 := strings.Cut(rest, markerEnd)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no two lines %q and %q", path, strings.TrimSpace(markerBegin), strings.TrimSpace(markerEnd))
	}
	return os.WriteFile(path, []byte(before+markerBegin+"\n"+text+"\n"+markerEnd+after), 0o644) //nolint:gosec // as it was
}
