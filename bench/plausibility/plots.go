package main

import (
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"doorstep/geo"
	"doorstep/geo/trace"
)

const (
	plotWidth  = 9 * vg.Inch
	plotHeight = 4 * vg.Inch
	worst      = 6 // honest tracks drawn
)

// draw writes the plots: the honest tracks with the most refused fixes, by implied
// speed, and the ROC of both rules.
func draw(dir string, all []recording, f findings, progress io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i, r := range worstOf(all, f) {
		path := filepath.Join(dir, fmt.Sprintf("worst-%d.svg", i+1))
		if err := drawTrack(path, r, f.sent[r.file]); err != nil {
			return err
		}
	}
	return drawROC(filepath.Join(dir, "roc.svg"), all, progress)
}

// worstOf are the targeted recordings with the most refused fixes.
func worstOf(all []recording, f findings) []recording {
	refusals := func(r recording) (n int) {
		for _, s := range f.sent[r.file] {
			if s.refused {
				n++
			}
		}
		return n
	}
	bad := slices.DeleteFunc(slices.Clone(all), func(r recording) bool { return !targeted(r.group) || refusals(r) == 0 })
	slices.SortStableFunc(bad, func(a, b recording) int { return refusals(b) - refusals(a) })
	return bad[:min(worst, len(bad))]
}

func drawTrack(path string, r recording, all []sent) error {
	p := plot.New()
	p.Title.Text = r.file + ": implied speed between fixes"
	p.X.Label.Text, p.Y.Label.Text = "minutes", "km/h"
	limits := geo.DefaultLimits(r.mode)
	p.Y.Max, p.Y.Min = 2*limits.CeilingKMH, 0
	var way, refused plotter.XYs
	for i := 1; i < len(all); i++ {
		at := plotter.XY{X: float64(all[i].RecordedMS-all[0].RecordedMS) / 60_000, Y: min(impliedKMH(all[i-1], all[i]), p.Y.Max)}
		way = append(way, at)
		if all[i].refused {
			refused = append(refused, at)
		}
	}
	if err := addLine(p, way, color.Gray{Y: 120}, ""); err != nil {
		return err
	}
	for _, kmh := range []float64{limits.LimitKMH, limits.CeilingKMH} {
		line := plotter.NewFunction(func(float64) float64 { return kmh })
		line.Color, line.Dashes = color.RGBA{R: 220, G: 120, A: 255}, []vg.Length{vg.Points(4), vg.Points(3)}
		p.Add(line)
	}
	dots, err := plotter.NewScatter(refused)
	if err != nil {
		return err
	}
	dots.Color, dots.Radius = color.RGBA{R: 200, A: 255}, vg.Points(3)
	p.Add(dots)
	p.Legend.Add("refused", dots)
	p.Legend.Top = true
	p.Y.Max, p.Y.Min = 2*limits.CeilingKMH, 0
	return p.Save(plotWidth, plotHeight, path)
}

func impliedKMH(a, b sent) float64 {
	hours := float64(max(1, b.RecordedMS-a.RecordedMS)) / 3_600_000
	return geo.DistanceM(a.Point, b.Point) / 1000 / hours
}

func addLine(p *plot.Plot, xys plotter.XYs, c color.Color, name string) error {
	line, err := plotter.NewLine(xys)
	if err != nil {
		return err
	}
	line.Color = c
	p.Add(line)
	if name != "" {
		p.Legend.Add(name, line)
	}
	return nil
}

// scales multiply both speeds of every mode, from too strict to too lax.
func scales() []float64 { return []float64{0.1, 0.2, 0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4, 6, 10} }

// rocEdge is where the plot ends, in percent: a rule that refuses one honest fix in
// four is of no use.
const rocEdge = 25

// drawROC plots, for each scale, the share of honest fixes refused against the
// share of teleports refused at their first fix. Teleports here are of 100 m to
// 2 km: at 1 km and more, all are caught. The dot is the setting in use. A rule
// that is far too strict catches less, not more: it keeps an old position, and the
// teleport may end near it.
func drawROC(path string, all []recording, progress io.Writer) error {
	p := plot.New()
	p.Title.Text = "teleports of 100 m to 2 km refused at once, against honest fixes refused"
	p.X.Label.Text, p.Y.Label.Text = "honest fixes refused, %", "teleports refused, %"
	for i, rule := range []func(float64) engine{
		func(scale float64) engine { return &judge{scale: scale} },
		func(scale float64) engine { return &naive{expiryMS: locationTTLMS, scale: scale} },
	} {
		fmt.Fprintf(progress, "\r\033[KROC %d/2", i+1)
		var curve, inUse plotter.XYs
		for _, scale := range scales() {
			at, err := rocPoint(rule(scale), all)
			if err != nil {
				return err
			}
			curve = append(curve, at)
			if scale == 1 && at.X <= rocEdge {
				inUse = append(inUse, at)
			}
		}
		dot, err := plotter.NewScatter(inUse)
		if err != nil {
			return err
		}
		dot.Radius = vg.Points(4)
		p.Add(dot)
		if err := addLine(p, curve, []color.Color{color.RGBA{G: 120, B: 60, A: 255}, color.RGBA{R: 200, A: 255}}[i], rule(1).name()); err != nil {
			return err
		}
	}
	fmt.Fprint(progress, "\r\033[K")
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, rocEdge, 0, 100
	return p.Save(plotWidth, plotHeight, path)
}

func rocPoint(e engine, all []recording) (plotter.XY, error) {
	var honest treatment
	tried, caught := 0, 0
	for _, r := range all {
		if !targeted(r.group) || r.group == "mixed" {
			continue
		}
		out, err := play(e, r)
		if err != nil {
			return plotter.XY{}, err
		}
		honest.add(r.file, out)
		for i, h := range hosts(r) {
			got, _, err := run(e, leap(h, i))
			if err != nil {
				return plotter.XY{}, err
			}
			tried++
			if got[h.from].refused {
				caught++
			}
		}
	}
	return plotter.XY{X: 100 * honest.refusedShare(), Y: 100 * share(caught, tried)}, nil
}

// leap is a host whose phone jumps by 100 m to 2 km.
func leap(h host, i int) forgery {
	rng := luck(h.file, "leap", i)
	bearing, far := 360*rng.Float64(), 100+1900*rng.Float64()
	out, _ := each(h, func(f *trace.Fix, _ int64) { f.Point = geo.Offset(f.Point, bearing, far) })
	return out
}
