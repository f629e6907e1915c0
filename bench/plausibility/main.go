// Command plausibility is the laboratory of the plausibility check: it plays
// recorded journeys through geo.Judge and through the naive rule, lays fakes
// over them, and prints one Markdown document of what became of each. Run it
// from the root of the repository, or see its flags.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"doorstep/geo"
)

func main() {
	if err := lab(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "plausibility:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	traces, verdicts, plots, mode string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("plausibility", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.traces, "traces", tracesDir(), "folder of recordings, *.csv (also DOORSTEP_TRACES)")
	flags.StringVar(&o.verdicts, "verdicts", "", "write one line per fix to this CSV file")
	flags.StringVar(&o.plots, "plots", "bench/out/plausibility", "write SVG plots to this folder; empty for none")
	flags.StringVar(&o.mode, "mode", "", "send every recording as car, bike or walk (default: by the file's name)")
	return o, flags.Parse(args)
}

// tracesDir is where a checkout has its recordings.
func tracesDir() string {
	if dir := os.Getenv("DOORSTEP_TRACES"); dir != "" {
		return dir
	}
	return "../shared/traces"
}

func lab(args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	var force geo.Mode
	if o.mode != "" {
		if force, err = geo.ParseMode(o.mode); err != nil {
			return err
		}
	}
	recordings, err := load(o.traces, force)
	if err != nil {
		return err
	}
	var ours engine = &judge{expiryMS: locationTTLMS}
	inStore, stop, err := startScript(stderr)
	if err != nil {
		return err
	}
	defer stop()
	if inStore != nil {
		ours = inStore
	}
	l := laboratory{recordings, []engine{ours, &naive{expiryMS: locationTTLMS}}, stderr}
	found, err := l.run()
	if err != nil {
		return err
	}
	found.write(stdout)
	if o.verdicts != "" {
		if err := writeVerdicts(o.verdicts, recordings, found); err != nil {
			return fmt.Errorf("write verdicts: %w", err)
		}
	}
	if o.plots != "" {
		if err := draw(o.plots, recordings, found, stderr); err != nil {
			return fmt.Errorf("draw: %w", err)
		}
	}
	return nil
}
