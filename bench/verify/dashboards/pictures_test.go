package dashboards

import (
	"cmp"
	"flag"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

var (
	rounds   = flag.Int("rounds", 3, "rounds of traffic")
	pictures = flag.String("pictures", "", "folder for a picture of each dashboard; empty: they are drawn and dropped")
)

const (
	columns     = 24 // of a dashboard's grid
	columnWidth = 1200 * vg.Inch / 96 / columns
	rowHeight   = 26 * vg.Inch / 96
	margin      = 6 * vg.Inch / 96
	mostNames   = 6 // of lines, in a legend
)

// colours can be told apart with most kinds of colour blindness (Okabe and Ito).
var colours = []color.Color{
	color.RGBA{G: 114, B: 178, A: 255},
	color.RGBA{R: 213, G: 94, A: 255},
	color.RGBA{G: 158, B: 115, A: 255},
	color.RGBA{R: 204, G: 121, B: 167, A: 255},
	color.RGBA{R: 230, G: 159, A: 255},
	color.RGBA{R: 86, G: 180, B: 233, A: 255},
	color.RGBA{A: 255},
	color.RGBA{R: 150, G: 150, B: 150, A: 255},
}

// named is a line with the name that its legend gives it.
type named struct {
	series
	name string
}

func (n named) most() float64 {
	return slices.MaxFunc(n.points, func(a, b point) int { return cmp.Compare(a.Y, b.Y) }).Y
}

// draw makes a picture of a dashboard: what each panel's queries answer, where
// Grafana would show it.
func (p *queries) draw(t *testing.T, name string, board []panel, since time.Time) {
	t.Helper()
	rows := 0
	for _, shown := range board {
		rows = max(rows, shown.GridPos.Y+shown.GridPos.H)
	}
	canvas := vgimg.PngCanvas{Canvas: vgimg.New(columns*columnWidth, vg.Length(rows)*rowHeight)}
	whole := draw.New(canvas)
	for _, shown := range board {
		at := shown.GridPos
		top := whole.Max.Y - vg.Length(at.Y)*rowHeight
		cell := draw.Canvas{Canvas: whole, Rectangle: vg.Rectangle{
			Min: vg.Point{X: vg.Length(at.X)*columnWidth + margin, Y: top - vg.Length(at.H)*rowHeight + margin},
			Max: vg.Point{X: vg.Length(at.X+at.W)*columnWidth - margin, Y: top - margin},
		}}
		var lines []named
		for _, q := range shown.Targets {
			for _, found := range p.during(t, q.Expr, since) {
				lines = append(lines, named{found, legend(q.LegendFormat, found.labels)})
			}
		}
		if shown.Type == "stat" {
			stat(cell, shown, lines)
		} else {
			require.NoError(t, graph(cell, shown, lines, since))
		}
	}
	dir := *pictures
	if dir == "" {
		dir = t.TempDir()
	}
	file, err := os.Create(filepath.Join(dir, "dashboard-"+name+".png"))
	require.NoError(t, err)
	_, err = canvas.WriteTo(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

var label = regexp.MustCompile(`\{\{(\w+)\}\}`)

// legend fills a legend's labels in.
func legend(format string, labels map[string]string) string {
	return label.ReplaceAllStringFunc(format, func(of string) string { return labels[strings.Trim(of, "{}")] })
}

// stat writes the last number of each line.
func stat(c draw.Canvas, shown panel, lines []named) {
	write := func(size vg.Length, y vg.Length, text string) {
		style := draw.TextStyle{Color: color.Black, Font: font.From(plot.DefaultFont, size), Handler: plot.DefaultTextHandler}
		c.FillText(style, vg.Point{X: c.Min.X, Y: y}, text)
	}
	y := c.Max.Y - 12
	write(11, y, shown.Title)
	for _, line := range lines {
		y -= 20
		write(14, y, value(line.points[len(line.points)-1].Y, shown.FieldConfig.Defaults.Unit)+"  "+line.name)
	}
}

// graph draws the lines over the seconds since the traffic began.
func graph(c draw.Canvas, shown panel, lines []named, since time.Time) error {
	unit := shown.FieldConfig.Defaults.Unit
	g := plot.New()
	g.Title.Text, g.Y.Min, g.X.Label.Text = shown.Title, 0, "s"
	g.Title.TextStyle.Font.Size, g.X.Label.TextStyle.Font.Size = 11, 8
	g.X.Tick.Label.Font.Size, g.Y.Tick.Label.Font.Size, g.Legend.TextStyle.Font.Size = 8, 8, 8
	g.Legend.Top, g.Legend.Left = true, true
	g.Y.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(low, high)
		for i, tick := range ticks {
			if tick.Label != "" {
				ticks[i].Label = value(tick.Value, unit)
			}
		}
		return ticks
	})
	slices.SortStableFunc(lines, func(a, b named) int { // the legend has room for the highest
		return cmp.Or(cmp.Compare(b.most(), a.most()), strings.Compare(a.name, b.name))
	})
	for i, line := range lines {
		var xys plotter.XYs
		for _, at := range line.points {
			if !math.IsInf(at.Y, 0) {
				xys = append(xys, plotter.XY{X: at.X - float64(since.Unix()), Y: at.Y})
			}
		}
		drawn, err := plotter.NewLine(xys)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", shown.Title, line.name, err)
		}
		drawn.Color, drawn.Width = colours[i%len(colours)], 1.2
		g.Add(drawn)
		if i < mostNames && (i == 0 || line.most() > 0) {
			g.Legend.Add(line.name, drawn)
		}
	}
	if g.Y.Max *= 1.1; g.Y.Max <= 0 {
		g.Y.Max = 1
	}
	g.Draw(c)
	return nil
}

// value is a number in a unit of Grafana's.
func value(v float64, unit string) string {
	short := func(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
	switch {
	case unit == "percentunit":
		return short(100*v) + " %"
	case unit == "bytes":
		return short(v/(1<<20)) + " MiB"
	case unit == "s" && v < 1:
		return short(1000*v) + " ms"
	case unit == "s":
		return short(v) + " s"
	default:
		return short(v)
	}
}
