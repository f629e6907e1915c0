package demo

import (
	"sync"
	"time"

	"doorstep/geo"
)

// State is where a journey stands, as the screen names it.
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

// Line is one journey as the screen shows it. A value.
type Line struct {
	Name    string
	Mode    geo.Mode
	State   State
	Located bool    // LeftM is known
	LeftM   float64 // to the home
	FromM   float64 // the farthest it has been from it
	ETA     time.Duration
	Guess   bool // the ETA is the demo's: the service gave none
	Stored  int
	Refused int
	Eye     time.Duration // the last fix's way to the student; 0: none yet
	Note    string
	Changed int64 // rises with every change of State, over all journeys
}

// board is the lines of all journeys, in their order. Safe for concurrent use.
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
	return append([]Line(nil), b.lines...)
}
