// Package chaosevents kills everything on an event's way, at every step and at
// random by seed, and proves from the histories that every event arrived: none
// lost, none invented, in order per session, repeats under the same id, one
// effect each. `make chaos-events` runs it with a thousand journeys, `go test`
// with a hundred.
//
// Real are PostgreSQL, the processes (killed with SIGKILL), the SDK and the wire
// to the bus; the bus itself is package awstest. The parts are put together in
// child_test.go as the gateway puts them together, with time-outs shortened,
// and the traps are wrappers there: the product has no hooks for them.
package chaosevents

import (
	"fmt"
	"maps"
	"slices"

	"doorstep/sessions"
)

// Arrival is an event as it was somewhere: in the outbox, or on the bus.
type Arrival struct {
	Event  sessions.Event
	Detail string // as it stood there, in a form that compares
}

// Push is an effect outside of the house, by one life of a worker.
type Push struct {
	Event sessions.ID
	Life  int
}

// History is what the parts of a run remember.
type History struct {
	Journeys map[sessions.ID]int // session → how many events its transitions must have made
	Written  []Arrival           // the outbox, in the order of seq
	Bus      []Arrival           // in the order of arrival, repeats included
	Pushes   []Push              // what the notify worker did
	Rows     map[sessions.ID]int // how often the analytics worker has a row of an event
	Dead     int                 // dead letters, of the outbox and of the queues
	// Fatal are the lives that were killed between a push and its mark: the
	// last push of each may happen once more (outbox.Once says why).
	Fatal map[int]bool
}

// limit keeps a broken run readable.
const limit = 20

// Check lists what is wrong with a history, in words; nothing when it is as
// promised.
func Check(h History) []string {
	c := checker{History: h, written: map[sessions.ID]Arrival{}, seq: map[sessions.ID]int{}}
	c.outbox()
	c.bus()
	c.effects()
	if h.Dead > 0 {
		c.wrongf("%d dead letters", h.Dead)
	}
	if len(c.found) > limit {
		c.found = append(c.found[:limit], fmt.Sprintf("and %d more", len(c.found)-limit))
	}
	return c.found
}

type checker struct {
	History
	written map[sessions.ID]Arrival
	seq     map[sessions.ID]int // event → its place in the outbox
	found   []string
}

func (c *checker) wrongf(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// outbox: each session tells start, end, start, end …, as often as the
// transitions that were answered, whatever was killed under way.
func (c *checker) outbox() {
	of := map[sessions.ID][]sessions.Event{}
	for i, a := range c.Written {
		if _, twice := c.written[a.Event.ID]; twice {
			c.wrongf("event %s is written twice", a.Event.ID)
		}
		c.written[a.Event.ID], c.seq[a.Event.ID] = a, i
		of[a.Event.SessionID] = append(of[a.Event.SessionID], a.Event)
	}
	for _, session := range slices.Sorted(maps.Keys(c.Journeys)) {
		events := of[session]
		if len(events) != c.Journeys[session] {
			c.wrongf("session %s: %d events written, its transitions make %d", session, len(events), c.Journeys[session])
		}
		for i, e := range events {
			if want := []sessions.EventType{sessions.JourneyStarted, sessions.JourneyEnded}[i%2]; e.Type != want {
				c.wrongf("session %s: event %d is %s", session, i, e.Type)
			}
			if i > 0 && !e.At.After(events[i-1].At) {
				c.wrongf("session %s: event %d is not later than the one before", session, i)
			}
		}
	}
}

func (c *checker) bus() {
	seen := map[sessions.ID]bool{}
	last := map[sessions.ID]int{} // session → place of its last first arrival
	for _, a := range c.Bus {
		id := a.Event.ID
		written, known := c.written[id]
		switch {
		case !known:
			c.wrongf("event %s is on the bus and was never written", id)
			continue
		case a.Detail != written.Detail || a.Event.Type != written.Event.Type:
			c.wrongf("event %s differs from what was written", id)
		}
		if seen[id] {
			continue
		}
		seen[id] = true
		if before, ok := last[a.Event.SessionID]; ok && before > c.seq[id] {
			c.wrongf("session %s: event %s arrived out of order", a.Event.SessionID, id)
		}
		last[a.Event.SessionID] = c.seq[id]
	}
	for _, a := range c.Written {
		if !seen[a.Event.ID] {
			c.wrongf("event %s of session %s was lost", a.Event.ID, a.Event.SessionID)
		}
	}
}

func (c *checker) effects() {
	pushes := map[sessions.ID]int{}
	lastOf := map[int]sessions.ID{}
	for _, p := range c.Pushes {
		pushes[p.Event]++
		lastOf[p.Life] = p.Event
	}
	excused := map[sessions.ID]int{}
	for life := range c.Fatal {
		excused[lastOf[life]]++
	}
	for _, a := range c.Written {
		id := a.Event.ID
		if n := pushes[id]; n < 1 || n > 1+excused[id] {
			c.wrongf("event %s was pushed %d times", id, n)
		}
		if n := c.Rows[id]; n != 1 {
			c.wrongf("event %s has %d rows", id, n)
		}
		delete(pushes, id)
	}
	for id := range pushes {
		c.wrongf("event %s was pushed and never written", id)
	}
}

// Repeats is how often the bus saw an event again.
func (h History) Repeats() int {
	distinct := map[sessions.ID]bool{}
	for _, a := range h.Bus {
		distinct[a.Event.ID] = true
	}
	return len(h.Bus) - len(distinct)
}
