package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"doorstep/bench/load/figures"
)

// publish writes the report to stdout and, with its plots and facts, to o.out.
func publish(peers []*peer, note string, o options, stdout io.Writer) error {
	write(stdout, peers, note, o)
	if o.out == "" {
		return nil
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(o.out, "peers.md"))
	if err != nil {
		return err
	}
	write(file, peers, note, o)
	rate := func(f flood) float64 { return f.rate }
	cpu := func(f flood) float64 { return f.cpuUS }
	return errors.Join(file.Close(), facts(peers).Save(o.out, "peers"),
		figures.DrawBars(filepath.Join(o.out, "rates.svg"), "accepted updates a second", "1/s", bars(peers, rate)),
		figures.DrawBars(filepath.Join(o.out, "costs.svg"), "CPU of server and Valkey for an accepted update", "µs", bars(peers, cpu)))
}

func write(w io.Writer, peers []*peer, note string, o options) {
	fmt.Fprintf(w, "## Doorstep and its peers\n\n%s. Servers, Valkey and the generator share it. %d rounds in turns of %v, each on a fresh Valkey; "+
		"closed loop, %d connections, %d journeys; medians, with the least and the most. The same request everywhere; rates unlimited.\n",
		figures.Machine(), o.rounds, o.duration, o.conns, o.journeys)
	if note != "" {
		fmt.Fprintf(w, "\n%s\n", note)
	}
	figures.Head(w, "peer", "what", "accepted updates/s", "CPU of server + Valkey per update, µs", "p50, ms", "p99, ms", "not accepted")
	for _, p := range peers {
		cells := []any{p.name, p.what}
		for _, of := range []func(flood) float64{
			func(f flood) float64 { return f.rate }, func(f flood) float64 { return f.cpuUS },
			func(f flood) float64 { return f.p50MS }, func(f flood) float64 { return f.p99MS },
			func(f flood) float64 { return f.refused },
		} {
			least, median, most := p.spread(of)
			cells = append(cells, fmt.Sprintf("%s (%s–%s)", figures.Number(median), figures.Number(least), figures.Number(most)))
		}
		figures.Row(w, cells...)
	}
	figures.Head(w, "Doorstep's median", "accepted updates/s, times", "CPU per update, times")
	all := facts(peers)
	for _, p := range best(peers) {
		figures.Row(w, "beside "+p.name, fmt.Sprintf("%.2f", all["updates_by_"+p.key]), fmt.Sprintf("%.3f", all["cpu_by_"+p.key]))
	}
}

// spread is the least, the median and the most of a figure.
func (p *peer) spread(of func(flood) float64) (least, median, most float64) {
	var all []float64
	for _, f := range p.floods {
		all = append(all, of(f))
	}
	slices.Sort(all)
	return all[0], all[len(all)/2], all[len(all)-1]
}

func (p *peer) median(of func(flood) float64) float64 { _, m, _ := p.spread(of); return m }

// best is each peer but Doorstep; of Express the number of workers that takes
// the most updates.
func best(peers []*peer) (all []*peer) {
	rate := func(f flood) float64 { return f.rate }
	for _, p := range peers[1:] {
		if last := len(all) - 1; last >= 0 && all[last].key == p.key {
			if p.median(rate) > all[last].median(rate) {
				all[last] = p
			}
			continue
		}
		all = append(all, p)
	}
	return all
}

// facts are Doorstep's medians as multiples of each peer's: updates_by_… and
// cpu_by_…, which bench/targets judges.
func facts(peers []*peer) figures.Facts {
	facts := figures.Facts{}
	rate := func(f flood) float64 { return f.rate }
	cpu := func(f flood) float64 { return f.cpuUS }
	for _, p := range best(peers) {
		facts["updates_by_"+p.key] = peers[0].median(rate) / p.median(rate)
		facts["cpu_by_"+p.key] = peers[0].median(cpu) / p.median(cpu)
	}
	return facts
}

func bars(peers []*peer, of func(flood) float64) (all []figures.Bar) {
	for _, p := range peers {
		least, median, most := p.spread(of)
		all = append(all, figures.Bar{Name: p.name, Value: median, Least: least, Most: most})
	}
	return all
}
