package demo

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"doorstep/geo"
)

// State is the state of a journey, as the screen names it.
type State string

// The states.
const (
	Waiting     State = "waiting"
	Booked      State = "booked"
	OnTheWay    State = "on the way"
	Arriving    State = "arriving"
	Arrived     State = "arrived"
	Verified    State = "verified"
	Stopped     State = "stopped"     // did not arrive, for a reason that is explained
	Interrupted State = "interrupted" // by Ctrl-C
	Failed      State = "failed"
)

// over reports whether nothing will happen any more.
func (s State) over() bool {
	return s == Verified || s == Stopped || s == Interrupted || s == Failed
}

// Line is one journey as the screen shows it.
type Line struct {
	Name     string
	Mode     geo.Mode
	State    State
	Located  bool    // LeftM is known
	LeftM    float64 // to the home
	FromM    float64 // the farthest it has been from it
	ETA      time.Duration
	Guess    bool // the ETA is the demo's: the service gave none
	Stored   int
	Refused  int
	FixToEye time.Duration // of the last fix; 0: none yet
	Note     string
	Changed  int64 // rises with every change of State, over all journeys
}

// board holds the lines of all journeys, in their order. Safe for concurrent use.
type board struct {
	mu      sync.Mutex
	lines   []Line
	changes int64
}

func newBoard(plans []Plan) *board {
	b := &board{lines: make([]Line, len(plans))}
	for i, p := range plans {
		b.lines[i] = Line{Name: p.Name, Mode: p.Mode, State: Waiting}
	}
	return b
}

// change edits line i.
func (b *board) change(i int, f func(*Line)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.lines[i].State
	f(&b.lines[i])
	if b.lines[i].State != before {
		b.changes++
		b.lines[i].Changed = b.changes
	}
}

// now is a copy of all lines.
func (b *board) now() []Line {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

// frame is what the screen shows at one moment.
type frame struct {
	About   []string
	Lines   []Line
	Totals  totals
	Virtual time.Duration
	Recent  []string // of the journal, oldest first
}

// screen draws frames in place, at most ten a second, each with one write.
// Nothing is erased before it is overwritten, so nothing flickers. The last frame
// stays.
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

// put ignores errors: the summary's write reports a terminal that is gone.
func (s *screen) put(text string) { _, _ = s.WriteString(text) }

func (s *screen) paint(f frame) {
	columns, rows, ok := s.size()
	if !ok {
		columns, rows = 80, 24
	}
	lines := f.render(columns-1, rows-1, s.style) // the last column and row would wrap and scroll
	text := redraw(s.drawn, lines)
	if s.drawn > 0 && (columns != s.columns || rows != s.rows) {
		text = clearWindow + redraw(0, lines) // the terminal has moved the last frame to an unknown place
	}
	s.put(text)
	s.drawn, s.columns, s.rows = len(lines), columns, rows
}

const clearWindow = "\x1b[H\x1b[2J"

// redraw returns the text that replaces the last frame, which had before
// lines.
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

// terminal is a terminal that can be drawn on.
type terminal struct{ *os.File }

// terminalOf returns out as a terminal where it is one: a character device that
// has a size, and not a dumb one.
func terminalOf(out io.Writer) (terminal, bool) {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return terminal{}, false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return terminal{}, false
	}
	_, _, ok = terminal{file}.size()
	return terminal{file}, ok
}

// size reads the window's size from the kernel, which costs a microsecond: cheap
// enough before every frame, so that no signal has to be caught. ok is false where
// there is none.
func (t terminal) size() (columns, rows int, ok bool) {
	var window struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, t.Fd(), syscall.TIOCGWINSZ,
		uintptr(unsafe.Pointer(&window))) //nolint:gosec // the kernel fills the struct; golang.org/x/term would be a dependency for this line
	return int(window.columns), int(window.rows), errno == 0 && window.columns > 0 && window.rows > 0
}
