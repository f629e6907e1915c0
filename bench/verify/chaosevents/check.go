// Package chaosevents kills every process on an event's way, at every step and at
// random by seed, and checks from the histories that every event arrived: none is
// lost or invented, events are in order within a session, repeats have the same id,
// and each has one effect. `make chaos-events` runs it with a thousand journeys,
// `go test` with a hundred.
//
// PostgreSQL, the processes (killed with SIGKILL), the SDK and the protocol of the
// bus are real; the bus itself is package awstest. child_test.go assembles the parts
// as the gateway does, with shorter time-outs, and wraps them to kill at a step: the
// product has no hooks for that.
package chaosevents

import (
	"fmt"
	"maps"
	"slices"

	"doorstep/sessions"
)

// Arrival is an event as it was in the outbox or on the bus.
type Arrival struct {
	Event  sessions.Event
	Detail string // in a form that can be compared
}

// Push is an effect outside of PostgreSQL, made by one process of a worker.
type Push struct {
	Event sessions.ID
	Life  int
}

// History is what the parts of a run recorded.
type History struct {
	Journeys map[sessions.ID]int // session → how many events its steps must have made
	Written  []Arrival           // the outbox, in the order of seq
	Bus      []Arrival           // in the order of arrival, repeats included
	Pushes   []Push              // of the notify worker
	Rows     map[sessions.ID]int // how many rows of the analytics worker an event has
	Dead     int                 // dead letters, of the outbox and of the queues
	// Fatal are the processes that were killed between a push and its record: the
	// last push of each may happen once more (outbox.Once says why).
	Fatal map[int]bool
}

// limit is the most findings of a broken run.
const limit = 20

// Check lists what is wrong with a history, in words; nothing when the promises
// hold.
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

// outbox: each session's events are start, end, start, end …, one for each
// transition that was answered, with at most one TrainerArriving between a start and
// its end.
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
		before := sessions.JourneyEnded
		for i, e := range events {
			if !follows(before, e.Type) {
				c.wrongf("session %s: event %d is %s", session, i, e.Type)
			}
			if i > 0 && e.At.Before(events[i-1].At) {
				c.wrongf("session %s: event %d is earlier than the one before", session, i)
			}
			before = e.Type
		}
	}
}

// follows reports whether an event may come right after another one of its session.
func follows(before, e sessions.EventType) bool {
	switch e {
	case sessions.JourneyStarted:
		return before == sessions.JourneyEnded
	case sessions.JourneyArriving:
		return before == sessions.JourneyStarted
	default:
		return e == sessions.JourneyEnded && before != sessions.JourneyEnded
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
