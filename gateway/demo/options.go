package demo

import (
	"fmt"
	"io"

	"doorstep/geo"
)

// Options are the demo's settings; the tags are its flags.
type Options struct {
	Trace    []string `arg:"" sep:"none" help:"Recording to play (CSV: unix_ms,lat,lng,...), a folder of recordings, or a pattern. May be repeated; the paths may be given without the flag, so --trace *.csv works in a shell. None: generated journeys."`
	Journeys int      `default:"4" help:"Number of journeys to generate."`
	Mode     string   `default:"" enum:",car,bike,walk" help:"Travel mode: car, bike or walk. Empty: from the recording's file name; generated journeys alternate."`
	Speed    float64  `default:"15" help:"How many times faster than real time, 0.1 to 5000."`
	Parallel int      `default:"100" help:"Largest number of journeys at one time; the others wait."`
	Seed     uint64   `default:"1" help:"Seed of the generated journeys; the same seed gives the same journeys."`
	Store    string   `default:"auto" enum:"auto,memory" help:"Live store: auto (a private valkey-server or redis-server, if one is installed) or memory."`
	Regions  int      `default:"1" help:"Number of regions, 1 to 5: each has a gateway and a live store of its own, and all have one database. With more than one, each student begins in another region than the trainer."`
	As       string   `default:"" enum:",owntracks,traccar,overland,transistorsoft" help:"Let the phones report as an app from the store does: owntracks, traccar, overland or transistorsoft. Empty: as an app of your own."`
	Wait     bool     `help:"Print the address of the first journey's page, and begin when a browser has opened it."`
	Map      string   `env:"DOORSTEP_MAP_STYLE_URL" help:"URL of the MapLibre style of the pages' map. Empty: a plain ground without streets."`
	Metrics  bool     `help:"Serve /metrics on a free port, and print its address."`
	Log      string   `help:"File to which each event is written as one line: starts, refused fixes with the reason, arrivals."`

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
	case o.Regions < 0 || o.Regions > len(regionNames):
		return fmt.Errorf("regions: %d is not in [1, %d]", o.Regions, len(regionNames))
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
