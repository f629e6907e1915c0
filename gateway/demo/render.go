package demo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// style is how a frame looks.
type style struct {
	colour     bool
	full, tip  string
	empty      string
	ellipsis   string
	bracketing [2]string
}

var (
	ascii = style{full: "=", tip: ">", empty: ".", ellipsis: "~", bracketing: [2]string{"[", "]"}}
	utf   = style{full: "━", tip: "╸", empty: "─", ellipsis: "…"}
)

// styleOf reads the environment: NO_COLOR (https://no-color.org), and whether
// the locale can show more than ASCII.
func styleOf(env func(string) (string, bool)) style {
	s := ascii
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale, _ := env(name); locale != "" {
			if l := strings.ToUpper(locale); strings.Contains(l, "UTF-8") || strings.Contains(l, "UTF8") {
				s = utf
			}
			break
		}
	}
	none, _ := env("NO_COLOR")
	s.colour = none == ""
	return s
}

// The colours, as SGR parameters.
const (
	dim    = "2"
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (s style) paint(sgr, text string) string {
	if !s.colour || sgr == "" || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// render lays the frame out in a window: no line is wider than columns and there
// are no more lines than rows. Journeys that do not fit are counted.
func (f frame) render(columns, rows int, s style) []string {
	head := []string{s.paint(bold, fit("Doorstep", columns, s))}
	for _, line := range f.About {
		head = append(head, fit("  "+line, columns, s))
	}
	head = append(head, "")
	foot := []string{"", fit("  "+f.footer(), columns, s)}
	if room := rows - len(head) - len(foot) - 1 - min(len(f.Lines), 8); room > 0 && len(f.Recent) > 0 {
		for _, line := range f.Recent[max(0, len(f.Recent)-room):] {
			foot = append(foot, s.paint(dim, fit("  "+strings.TrimSpace(line), columns, s)))
		}
	}
	out := slices.Concat(head, f.table(columns, rows-len(head)-len(foot), s), foot)
	return out[:min(len(out), max(rows, 1))]
}

func (f frame) footer() string {
	t := f.Totals
	return fmt.Sprintf("%s of virtual time   fixes: %s stored, %s refused   fix to eye: p50 %s, p99 %s",
		clockFace(f.Virtual), thousands(t.stored), thousands(t.refused()), milliseconds(t.fixToEye.quantile(.5)), milliseconds(t.fixToEye.quantile(.99)))
}

// table is a heading and as many journeys as fit.
func (f frame) table(columns, rows int, s style) []string {
	w := widthsFor(columns, f.Lines)
	out := []string{s.paint(dim, fit(w.heading(), columns, s))}
	shown := f.Lines
	if room := max(rows-1, 1); len(shown) > room {
		shown = mostRecent(f.Lines, max(room-1, 0))
	}
	for _, l := range shown {
		out = append(out, w.row(l, columns, s))
	}
	if more := len(f.Lines) - len(shown); more > 0 {
		out = append(out, s.paint(dim, fit("  and "+f.rest(shown, more), columns, s)))
	}
	return out
}

// mostRecent selects n lines and keeps their order: it prefers journeys under
// way, and then those whose state changed last.
func mostRecent(lines []Line, n int) []Line {
	order := make([]int, len(lines))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(urgency(lines[a]), urgency(lines[b])), cmp.Compare(lines[b].Changed, lines[a].Changed))
	})
	order = order[:min(n, len(order))]
	slices.Sort(order)
	shown := make([]Line, len(order))
	for i, at := range order {
		shown[i] = lines[at]
	}
	return shown
}

func urgency(l Line) int {
	switch {
	case l.State == Waiting:
		return 2
	case l.State.over():
		return 1
	default:
		return 0
	}
}

// rest counts the journeys that are not shown.
func (f frame) rest(shown []Line, more int) string {
	var count [3]int
	for _, l := range f.Lines {
		count[urgency(l)]++
	}
	for _, l := range shown {
		count[urgency(l)]--
	}
	return fmt.Sprintf("%d more: %d under way, %d waiting, %d done", more, count[0], count[2], count[1])
}

// widths are the columns that become narrower in a narrow window.
type widths struct{ name, bar int }

// fixed is the width of all other columns, with the spaces between.
const fixed = 2 + 1 + 1 + 8 + 1 + 7 + 2 + 11 + 1 + 6 + 1 + 7 + 1 + 7

const noteWidth = 20

func widthsFor(columns int, lines []Line) widths {
	w := widths{name: len("journey")}
	for _, l := range lines {
		w.name = max(w.name, utf8.RuneCountInString(l.Name))
	}
	w.name = min(w.name, 30, max(10, columns-fixed-8))
	w.bar = max(0, min(30, columns-fixed-w.name-noteWidth))
	if w.bar < 8 {
		w.bar = max(0, min(8, columns-fixed-w.name))
	}
	return w
}

func (w widths) heading() string {
	return "  " + pad("journey", w.name) + " " + pad("way", w.bar) + " " + fmt.Sprintf("%8s %7s  %-11s %6s %7s %7s", "left", "ETA", "state", "stored", "refused", "eye")
}

func (w widths) row(l Line, columns int, s style) string {
	left, eta, eye := "-", "-", milliseconds(l.FixToEye)
	if l.Located && !l.State.over() && l.State != Arrived {
		left, eta = metres(l.LeftM), l.eta()
	}
	plain := fmt.Sprintf("%8s %7s  ", left, eta)
	name := "  " + pad(fit(l.Name, w.name, s), w.name) + " "
	tail := strings.TrimRight(fmt.Sprintf(" %6d %7d %7s  %s", l.Stored, l.Refused, eye, l.Note), " ")
	used := utf8.RuneCountInString(name) + w.bar + 1 + utf8.RuneCountInString(plain) + 11
	if used > columns {
		return fit(name+pad("", w.bar)+" "+plain, columns, s)
	}
	return name + s.bar(l, w.bar) + " " + plain + s.paint(stateColour(l.State), pad(string(l.State), 11)) + fit(tail, columns-used, s)
}

func stateColour(st State) string {
	switch st {
	case OnTheWay:
		return cyan
	case Arriving, Arrived, Stopped, Interrupted:
		return yellow
	case Verified:
		return green
	case Failed:
		return red
	default:
		return dim
	}
}

// done is the share of the way that is behind the trainer, 0 to 1.
func (l Line) done() float64 {
	switch {
	case l.State == Arrived || l.State == Verified:
		return 1
	case !l.Located || l.FromM == 0:
		return 0
	default:
		return 1 - l.LeftM/l.FromM
	}
}

func (l Line) eta() string {
	switch {
	case l.ETA <= 0 || l.ETA > time.Hour: // no journey takes longer: a guess from too short a way
		return "-"
	case l.Guess:
		return "~" + clockFace(l.ETA)
	default:
		return clockFace(l.ETA)
	}
}

func (s style) bar(l Line, width int) string {
	inner := width - len(s.bracketing[0]) - len(s.bracketing[1])
	if inner < 1 {
		return pad("", width)
	}
	full := int(l.done() * float64(inner)) // rounded down: the bar is full only on arrival
	text := strings.Repeat(s.full, full)
	if full > 0 && full < inner {
		text = strings.Repeat(s.full, full-1) + s.tip
	}
	return s.bracketing[0] + s.paint(stateColour(l.State), text) + s.paint(dim, strings.Repeat(s.empty, inner-full)) + s.bracketing[1]
}

func metres(m float64) string {
	if m < 1000 {
		return fmt.Sprintf("%.0f m", m)
	}
	if m < 100_000 {
		return fmt.Sprintf("%.1f km", m/1000)
	}
	return fmt.Sprintf("%.0f km", m/1000)
}

// clockFace is h:mm:ss, or m:ss under an hour.
func clockFace(d time.Duration) string {
	s := int(d.Round(time.Second) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// fit shortens text to a width. The text must not have colours yet.
func fit(text string, width int, s style) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	if width < 1 {
		return ""
	}
	return string([]rune(text)[:width-1]) + s.ellipsis
}
