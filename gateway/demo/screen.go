package demo

import (
	"fmt"
	"strings"
	"time"
)

// frame is what the screen shows at one moment.
type frame struct {
	About   []string
	Lines   []Line
	Totals  totals
	Virtual time.Duration
	Speed   float64
	Recent  []string // of the journal, oldest first
}

// screen draws frames in place, at most ten a second, each with one write:
// nothing is erased before it is overwritten, so nothing flickers. The last
// frame stays where it is.
type screen struct {
	terminal
	style         style
	drawn         int // lines of the last frame, which the cursor is under
	columns, rows int
}

const frameEvery = 100 * time.Millisecond

func newScreen(t terminal, env func(string) (string, bool)) *screen {
	return &screen{terminal: t, style: styleOf(env)}
}

// draw shows frames until done, and one more.
func (s *screen) draw(done <-chan struct{}, next func() frame) {
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	s.put("\x1b[?25l") // hide the cursor
	defer s.put("\x1b[?25h")
	for {
		s.paint(next())
		select {
		case <-done:
			s.paint(next())
			return
		case <-tick.C:
		}
	}
}

// put ignores errors: a terminal that is gone is noticed by the summary.
func (s *screen) put(text string) { _, _ = s.WriteString(text) }

func (s *screen) paint(f frame) {
	columns, rows, ok := s.size()
	if !ok {
		columns, rows = 80, 24
	}
	lines := f.render(columns-1, rows-1, s.style) // the last column and row would wrap and scroll
	text := redraw(s.drawn, lines)
	if s.drawn > 0 && (columns != s.columns || rows != s.rows) {
		text = clearWindow + redraw(0, lines) // the terminal has moved what was drawn, nobody knows where to
	}
	s.put(text)
	s.drawn, s.columns, s.rows = len(lines), columns, rows
}

const clearWindow = "\x1b[H\x1b[2J"

// redraw is what turns the last frame of so many lines into the next.
func redraw(before int, lines []string) string {
	var b strings.Builder
	if before > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", before)
	}
	for _, line := range lines {
		b.WriteString("\r" + line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	return b.String()
}
