package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"doorstep/bench/load/figures"
)

// heldWithin is what the 99th percentile of an update may be for its journeys to
// count as held.
const heldWithin = 100 * time.Millisecond

// held paces more and more journeys, whom nobody watches and none of which ends:
// -journeys, and a fifth more. It tells the most that were held: no failure, and
// the updates in time.
func held(ctx context.Context, o options, out, progress io.Writer) (figures.Facts, error) {
	o.students, o.life = 0, 0
	facts := figures.Facts{"held": 0}
	var rungs []figures.Facts
	var reports bytes.Buffer // after the table of them
	for _, fifths := range []int{5, 6} {
		rung := o
		rung.journeys = o.journeys * fifths / 5
		f, err := pace(ctx, rung, &reports, progress)
		if err != nil {
			return nil, err
		}
		f["journeys"] = float64(rung.journeys)
		rungs = append(rungs, f)
		if facts["tried"] = f["journeys"]; holds(f) {
			facts["held"] = f["journeys"]
			facts[figures.UpdateP99MS], facts[figures.GatewayCore] = f[figures.UpdateP99MS], f[figures.GatewayCore]
		}
	}
	fmt.Fprintf(out, "## held: more and more journeys, %d connections, %v each\n", o.conns, o.duration)
	figures.Head(out, "journeys", "update p99, ms", "failures", "gateway, % of a core", "held")
	for _, f := range rungs {
		figures.Row(out, f["journeys"], fmt.Sprintf("%.1f", f[figures.UpdateP99MS]), f[figures.Failures],
			fmt.Sprintf("%.0f", f[figures.GatewayCore]), map[bool]string{true: "yes", false: "no"}[holds(f)])
	}
	fmt.Fprintln(out)
	_, err := reports.WriteTo(out)
	return facts, err
}

func holds(f figures.Facts) bool {
	return f[figures.Failures] == 0 && f[figures.UpdateP99MS] <= heldWithin.Seconds()*1000
}
