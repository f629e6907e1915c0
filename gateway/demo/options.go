package demo

import (
	"fmt"
	"io"

	"doorstep/geo"
)

// Options are the demo's settings; the tags are its flags.
type Options struct {
	Trace    []string `arg:"" sep:"none" help:"Play a recording (CSV: unix_ms,lat,lng,...), a folder of them or a pattern; may be repeated, also without the flag, as a shell does with --trace *.csv. None: made-up drives."`
	Journeys int      `default:"4" help:"How many drives to make up."`
	Mode     string   `default:"" enum:",car,bike,walk" help:"Travel mode. Empty: by the recording's file name, or taking turns."`
	Speed    float64  `default:"15" help:"How many times faster than life, 0.1 to 5000."`
	Parallel int      `default:"100" help:"Journeys at once; the others wait."`
	Seed     uint64   `default:"1" help:"Of the made-up drives; the same seed gives the same."`
	Store    string   `default:"auto" enum:"auto,memory" help:"Live store: auto (a private valkey-server or redis-server, if there is one) or memory."`
	Metrics  bool     `help:"Serve /metrics on a free port, and say where."`
	Log      string   `help:"Write what happens, a line each: refused fixes with the reason, starts, arrivals."`

	// Out gets the demo's output: drawn in place on a terminal, else line by line.
	// Nil: standard output.
	Out io.Writer

	lengthM float64 // of a made-up drive by car; tests make it short
}

func (o Options) validate() error {
	switch {
	case !(o.Speed >= 0.1 && o.Speed <= 5000):
		return fmt.Errorf("speed: %v is not in [0.1, 5000]", o.Speed)
	case o.Parallel < 1:
		return fmt.Errorf("parallel: %d is under 1", o.Parallel)
	case len(o.Trace) == 0 && (o.Journeys < 1 || o.Journeys > 10_000):
		return fmt.Errorf("journeys: %d is not in [1, 10000]", o.Journeys)
	}
	return nil
}

func (o Options) playlist() (Playlist, error) {
	if len(o.Trace) > 0 {
		return Load(o.Trace, geo.Mode(o.Mode))
	}
	return Playlist{Plans: Generated(o.Seed, o.Journeys, geo.Mode(o.Mode), o.lengthM)}, nil
}
