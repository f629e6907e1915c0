package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"doorstep/bench/load/figures"
	"doorstep/bench/rig"
	"doorstep/internal/servers/valkeyserver"
)

// starts is how often a gateway is started.
const starts = 9

// start measures the time from the start of the process to the first 200 of
// /readyz, which is read every 5 ms, and the memory of a gateway without calls.
func start(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	valkey, err := valkeyserver.Start(ctx, valkeyserver.Options{TCP: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = valkey.Stop() }()
	var took []time.Duration
	var rss []int64
	for i := range starts {
		fmt.Fprintf(progress, "\r\033[Kstart %d of %d", i+1, starts)
		began := time.Now()
		g, err := o.program.Start(ctx, "VALKEY_URL="+valkey.URL())
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		time.Sleep(time.Second) // for it to be idle
		u, err := rig.UsageOf(g.PID())
		if err != nil {
			return nil, err
		}
		rss = append(rss, u.RSS)
		if err := g.Stop(ctx); err != nil {
			return nil, err
		}
	}
	fmt.Fprint(progress, "\r\033[K")
	slices.Sort(took)
	slices.Sort(rss)
	fmt.Fprintf(out, "## start\n\n%s. %d starts with a Valkey, sessions in memory.\n", figures.Machine(), starts)
	figures.Head(out, "", "least", "median", "most")
	figures.Row(out, "start to first 200, ms", figures.MS(took[0]), figures.MS(took[starts/2]), figures.MS(took[starts-1]))
	figures.Row(out, "idle RSS, MB", fmt.Sprintf("%.1f", mb(rss[0])), fmt.Sprintf("%.1f", mb(rss[starts/2])), fmt.Sprintf("%.1f", mb(rss[starts-1])))
	return figures.Facts{"start_ms": took[starts/2].Seconds() * 1000, "idle_rss_mb": mb(rss[starts/2])}, nil
}
