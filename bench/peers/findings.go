package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
)

// findings are what the turns have shown.
type findings struct {
	rows  []*row
	notes []string
}

// row is one peer's.
type row struct {
	peer   peer
	floods []turn
	paced  *turn
}

// turn is one run of one peer.
type turn struct {
	result drive.Result
	costs  []figures.Cost
	took   time.Duration
}

// rate is accepted updates a second.
func (t turn) rate() float64 { return float64(t.result.Accepted) / t.took.Seconds() }

// perUpdate is the CPU time of the server and Valkey for an accepted update, µs.
func (t turn) perUpdate() float64 {
	return float64(figures.CPU(t.costs, "server", "valkey").Microseconds()) / float64(max(1, t.result.Accepted))
}

// spread is the least, the median and the most of a round's figure.
func (r *row) spread(of func(turn) float64) (least, median, most float64) {
	var all []float64
	for _, t := range r.floods {
		all = append(all, of(t))
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0, 0, 0
	}
	return all[0], all[len(all)/2], all[len(all)-1]
}

func (r *row) median(of func(turn) float64) float64 {
	_, median, _ := r.spread(of)
	return median
}

// find is the row of a name, or the best of those that begin with it: Express
// with as many workers as serve it best.
func (f findings) find(name string) *row {
	var best *row
	for _, r := range f.rows {
		if strings.HasPrefix(r.peer.name, name) && (best == nil || r.median(turn.rate) > best.median(turn.rate)) {
			best = r
		}
	}
	return best
}

func (f findings) write(w io.Writer, o options) {
	fmt.Fprintf(w, "## Doorstep and its peers\n\n%s. Servers, Valkey and the generator share it. %d rounds in turns of %v, each on a fresh Valkey; "+
		"closed loop, %d connections, %d journeys; medians, with the least and the most. The same request everywhere; rates unlimited.\n",
		figures.Machine(), o.rounds, o.duration, o.conns, o.journeys)
	for _, note := range f.notes {
		fmt.Fprintf(w, "\n%s.\n", note)
	}
	figures.Head(w, "peer", "what", "accepted updates/s", "CPU of server + Valkey per update, µs", "p50, ms", "p99, ms", "not accepted")
	for _, r := range f.rows {
		quantile := func(percent float64) func(turn) float64 {
			return func(t turn) float64 { return figures.At(t.result.Latencies[drive.Update], percent).Seconds() * 1000 }
		}
		refused := func(t turn) float64 { return float64(t.result.Failures()) }
		figures.Row(w, r.peer.name, r.peer.what, between(r.spread(turn.rate)), between(r.spread(turn.perUpdate)),
			between(r.spread(quantile(50))), between(r.spread(quantile(99))), between(r.spread(refused)))
	}
	f.writeRatios(w)
	f.writePaced(w, o)
}

func between(least, median, most float64) string {
	return fmt.Sprintf("%s (%s–%s)", figures.Number(median), figures.Number(least), figures.Number(most))
}

// beside is Doorstep's median in another's, of the same turns.
type beside struct {
	key       string // in the facts' names
	peer      *row
	rate, cpu float64
}

// ratios are those of Doorstep and each peer; of Express the form that serves it
// best.
func (f findings) ratios() (all []beside) {
	ours := f.find(doorstep)
	for _, p := range []struct{ key, name string }{
		{"express", reviewed}, {"go", inGo}, {"floor", floor}, {"scripted_floor", scripted},
	} {
		if peer := f.find(p.name); peer != nil {
			all = append(all, beside{
				key: p.key, peer: peer,
				rate: ours.median(turn.rate) / peer.median(turn.rate), cpu: ours.median(turn.perUpdate) / peer.median(turn.perUpdate),
			})
		}
	}
	return all
}

// facts are the ratios: updates_by_… and cpu_by_….
func (f findings) facts() figures.Facts {
	facts := figures.Facts{}
	for _, b := range f.ratios() {
		facts["updates_by_"+b.key], facts["cpu_by_"+b.key] = b.rate, b.cpu
	}
	return facts
}

func (f findings) writeRatios(w io.Writer) {
	figures.Head(w, "Doorstep's median", "accepted updates/s, times", "CPU per update, times")
	for _, b := range f.ratios() {
		figures.Row(w, "beside "+b.peer.peer.name, fmt.Sprintf("%.2f", b.rate), fmt.Sprintf("%.3f", b.cpu))
	}
}

// writePaced is the table of the paced round.
func (f findings) writePaced(w io.Writer, o options) {
	if o.pacedFor == 0 {
		return
	}
	fmt.Fprintf(w, "\n### At the same pace\n\n%d journeys, an update each 5 s with up to 300 ms of jitter, one student each (none at the floor), %v, open loop. "+
		"The rate is limited as each design has it: the review's plain rule refuses punctual phones whose fixes arrive a little early.\n", o.paced, o.pacedFor)
	figures.Head(w, "peer", "update p50, ms", "p99, ms", "accepted of all", "fix to eye p50, ms", "p99, ms", "never seen", "CPU of server + Valkey, % of a core")
	for _, r := range f.rows {
		if r.paced == nil {
			continue
		}
		result := r.paced.result
		eye50, eye99 := "–", "–"
		if h := result.Latencies[drive.Sight]; h.TotalCount() > 0 {
			eye50, eye99 = figures.MS(figures.At(h, 50)), figures.MS(figures.At(h, 99))
		}
		update := result.Latencies[drive.Update]
		figures.Row(w, r.peer.name, figures.MS(figures.At(update, 50)), figures.MS(figures.At(update, 99)), share(result), eye50, eye99,
			result.Unseen, fmt.Sprintf("%.1f", 100*figures.CPU(r.paced.costs, "server", "valkey").Seconds()/r.paced.took.Seconds()))
	}
}

func share(r drive.Result) string {
	var all int64
	for label, n := range r.Tally {
		if strings.HasPrefix(label, drive.Update+" ") {
			all += n
		}
	}
	return fmt.Sprintf("%.1f %%", 100*float64(r.Accepted)/float64(max(1, all)))
}

// draw plots rates, costs and how old what the student sees is.
func (f findings) draw(dir string) error {
	var rates, costs []figures.Bar
	var eyes []figures.Line
	for _, r := range f.rows {
		bar := func(of func(turn) float64) figures.Bar {
			least, median, most := r.spread(of)
			return figures.Bar{Name: r.peer.name, Value: median, Least: least, Most: most}
		}
		rates, costs = append(rates, bar(turn.rate)), append(costs, bar(turn.perUpdate))
		if r.paced != nil {
			eyes = append(eyes, figures.Line{Name: r.peer.name, Histogram: r.paced.result.Latencies[drive.Sight]})
		}
	}
	if err := figures.DrawBars(filepath.Join(dir, "rates.svg"), "accepted updates a second", "1/s", rates); err != nil {
		return err
	}
	if err := figures.DrawBars(filepath.Join(dir, "costs.svg"), "CPU of server and Valkey for an accepted update", "µs", costs); err != nil {
		return err
	}
	return figures.DrawLatencies(filepath.Join(dir, "eyes.svg"), "from a fix to the student's eye, paced", eyes)
}
