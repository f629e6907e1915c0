// Command plausibility is the laboratory of the plausibility rules. It plays
// recorded journeys, and fakes that are made from them, to geo.Judge and to the
// naive rule, and prints one Markdown document of the results. Run it from the
// root of the repository, or see its flags.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := lab(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "plausibility:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	traces, plots string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("plausibility", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.traces, "traces", os.Getenv("DOORSTEP_TRACES"), "folder of recordings, *.csv (also DOORSTEP_TRACES)")
	flags.StringVar(&o.plots, "plots", "bench/out/plausibility", "write SVG plots to this folder; empty for none")
	return o, flags.Parse(args)
}

func lab(args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	recordings, err := load(o.traces)
	if err != nil {
		return err
	}
	ours := &judge{}
	stop, err := startScript(ours, stderr)
	if err != nil {
		return err
	}
	defer stop()
	l := laboratory{recordings, ours, []engine{ours, &naive{expiryMS: locationTTLMS}}, stderr}
	found, err := l.run()
	if err != nil {
		return err
	}
	found.write(stdout)
	if o.plots != "" {
		if err := draw(o.plots, recordings, found, stderr); err != nil {
			return fmt.Errorf("draw: %w", err)
		}
	}
	return nil
}
