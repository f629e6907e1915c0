package figures

import (
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"doorstep/bench/load/drive"
)

const (
	width  = 9 * vg.Inch
	height = 4 * vg.Inch
)

// colours can be told apart with most kinds of colour blindness (Okabe and Ito).
var colours = []color.Color{
	color.RGBA{G: 114, B: 178, A: 255},
	color.RGBA{R: 213, G: 94, A: 255},
	color.RGBA{G: 158, B: 115, A: 255},
	color.RGBA{R: 204, G: 121, B: 167, A: 255},
	color.RGBA{R: 230, G: 159, A: 255},
}

// Line is a named histogram of a plot.
type Line struct {
	Name      string
	Histogram *drive.Histogram
}

// DrawLatencies plots latency over percentile with 90, 99 and 99.9 % at equal
// distances, as HdrHistogram's own plots do. Where nothing was measured it writes
// no file.
func DrawLatencies(path, title string, lines []Line) error {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "percentile", "ms"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "0"}, {Value: 1, Label: "90"}, {Value: 2, Label: "99"}, {Value: 3, Label: "99.9"}, {Value: 4, Label: "99.99"}}
	least, most := math.Inf(1), 0.0
	for i, l := range lines {
		if l.Histogram == nil || l.Histogram.TotalCount() == 0 {
			continue
		}
		var curve plotter.XYs
		for nines := 0.0; nines <= 4 && math.Pow(10, nines) <= float64(l.Histogram.TotalCount()); nines += 0.05 {
			ms := float64(At(l.Histogram, 100*(1-math.Pow(10, -nines))).Microseconds()) / 1000
			curve = append(curve, plotter.XY{X: nines, Y: max(ms, 0.001)})
			least, most = min(least, max(ms, 0.001)), max(most, ms)
		}
		if err := add(p, l.Name, curve, i); err != nil {
			return err
		}
	}
	if most == 0 {
		return nil // nothing was measured; a logarithmic axis needs a value
	}
	p.Y.Min, p.Y.Max = least/1.5, most*1.5
	p.Legend.Top, p.Legend.Left = true, true
	return save(p, path)
}

// DrawSeconds plots the 99th percentiles of each second of a run.
func DrawSeconds(path, title string, seconds []drive.Second) error {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "s", "p99, ms"
	var update, sight plotter.XYs
	for _, s := range seconds {
		update = append(update, plotter.XY{X: float64(s.At), Y: s.P99.Seconds() * 1000})
		sight = append(sight, plotter.XY{X: float64(s.At), Y: s.SightP99.Seconds() * 1000})
	}
	if len(seconds) == 0 {
		return nil
	}
	if err := add(p, drive.Update, update, 0); err != nil {
		return err
	}
	if err := add(p, drive.Sight, sight, 1); err != nil {
		return err
	}
	p.Y.Min, p.Legend.Top = 0, true
	return save(p, path)
}

// Bar is a named number of a plot, with its least and its most.
type Bar struct {
	Name               string
	Value, Least, Most float64
}

// DrawBars plots numbers beside each other, each with its spread.
func DrawBars(path, title, unit string, bars []Bar) error {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text, p.Y.Min = title, unit, 0
	var values plotter.Values
	var names []string
	for _, b := range bars {
		values = append(values, b.Value)
		names = append(names, b.Name+"\n"+Number(b.Value))
	}
	chart, err := plotter.NewBarChart(values, vg.Points(40))
	if err != nil {
		return err
	}
	chart.Color = colours[0]
	p.Add(chart)
	for i, b := range bars {
		spread, err := plotter.NewLine(plotter.XYs{{X: float64(i), Y: b.Least}, {X: float64(i), Y: b.Most}})
		if err != nil {
			return err
		}
		spread.Width = vg.Points(2)
		p.Add(spread)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(bars))-0.5 // or the outer ones are cut
	return save(p, path)
}

func add(p *plot.Plot, name string, xys plotter.XYs, colour int) error {
	line, err := plotter.NewLine(xys)
	if err != nil {
		return err
	}
	line.Color, line.Width = colours[colour%len(colours)], vg.Points(1.5)
	p.Add(line)
	p.Legend.Add(name, line)
	return nil
}

func save(p *plot.Plot, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return p.Save(width, height, path)
}
