package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is a kind of call. What may be answered to it is in expectations.
type kind string

// The kinds of calls.
const (
	update   kind = "update"         // a phone's fix
	live     kind = "live"           // a student's read of a running journey
	wait     kind = "wait"           // a student's long poll of one
	uncached kind = "first read"     // a student's first read of a session
	book     kind = "book"           // an admin's booking
	start    kind = "start"          // a trainer's start
	stop     kind = "stop"           // a trainer's stop
	arrive   kind = "arrived"        // at the door
	afar     kind = "arrived afar"   // kilometres from the door
	unseen   kind = "arrived unseen" // before any fix
	verify   kind = "right OTP"      // of an arrival
	wrong    kind = "wrong OTP"      // of an arrival
	foreign  kind = "foreign read"   // another student's token
	intruder kind = "foreign update" // another trainer's token
	stranger kind = "forged token"   // signed with another key
	health   kind = "health"         // /healthz, which asks no store: how busy the machine is
)

// kinds are all of them, in the table's order.
func kinds() []kind {
	return []kind{
		update, live, wait, uncached, book, start, stop, arrive, afar, unseen, verify, wrong, foreign, intruder, stranger, health,
	}
}

// Limits on answers.
const (
	waitFor     = 2 * time.Second // of a long poll
	early       = waitFor - 100*time.Millisecond
	late        = waitFor + time.Second
	updateLimit = 300 * time.Millisecond
)

// phase is the part of a scenario in which a call was made.
type phase int

const (
	before phase = iota
	during       // from the breaking to the mending; every call that overlaps it
	after
	phases = int(after) + 1
)

// recorder records what callers saw. Safe for concurrent use.
type recorder struct {
	mu       sync.Mutex
	phase    phase
	mended   time.Time
	seen     [phases]map[kind]*counts
	recovers map[kind]*recovering
}

// counts are the answers to one kind of call in one phase.
type counts struct {
	labels map[string]int
	worst  time.Duration
	took   []time.Duration // of updates only, for the share of slow ones
}

// recovering is how one kind of call fares since the mending.
type recovering struct {
	bad  time.Time // the last answer that is not as before
	good int       // answers as before since then
	well time.Time // the first of those
}

func newRecorder() *recorder {
	r := &recorder{recovers: map[kind]*recovering{}}
	for i := range r.seen {
		r.seen[i] = map[kind]*counts{}
	}
	return r
}

func (r *recorder) enter(p phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase = p; p == after {
		r.mended = time.Now()
	}
}

func (r *recorder) now() phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.phase
}

// note records one answer to a call that began in a phase.
func (r *recorder) note(k kind, began phase, label string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.phase
	if began != p {
		p = during
	}
	c := r.seen[p][k]
	if c == nil {
		c = &counts{labels: map[string]int{}}
		r.seen[p][k] = c
	}
	c.labels[label]++
	c.worst = max(c.worst, took)
	if k == update {
		c.took = append(c.took, took)
	}
	if r.phase != after {
		return
	}
	if r.recovers[k] == nil {
		r.recovers[k] = &recovering{}
	}
	switch l := r.recovers[k]; {
	case normal().allows(k, label):
		if l.good++; l.good == 1 {
			l.well = time.Now()
		}
	case !neutral(label):
		*l = recovering{bad: time.Now()}
	}
}

// neutral is an answer that a healthy gateway may give to these callers just
// after a fault: a fix that a stalled store took late counts against the rate, and
// a track that a store had lost has to go on for a while.
func neutral(label string) bool {
	return strings.HasPrefix(label, "429") || label == "400 SUSPICIOUS_LOCATION"
}

// recovery returns how long after the mending every kind of call was answered as
// before, and the kind that took longest; an empty kind if none was affected.
// known is false until that is so and has lasted.
func (r *recorder) recovery(lasting time.Duration) (took time.Duration, last kind, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var at time.Time
	for _, k := range kinds() {
		l := r.recovers[k]
		if l == nil || l.good < 2 || time.Since(l.bad) < lasting || time.Since(r.mended) < lasting {
			return 0, "", false
		}
		if !l.bad.IsZero() && l.well.After(at) {
			at, last = l.well, k
		}
	}
	if at.IsZero() {
		return 0, "", true
	}
	return at.Sub(r.mended), last, true
}

// notRecovered names the kinds of call that are not answered as before.
func (r *recorder) notRecovered() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, k := range kinds() {
		if l := r.recovers[k]; l == nil || l.good < 2 {
			names = append(names, fmt.Sprintf("%s (%s)", k, r.of(after, k)))
		}
	}
	return strings.Join(names, ", ")
}

// of returns what one kind of call saw in one phase; never nil. Only when no call
// is under way any more, or with the lock.
func (r *recorder) of(p phase, k kind) *counts {
	if c := r.seen[p][k]; c != nil {
		return c
	}
	return &counts{}
}

// slow is how many took longer.
func (c *counts) slow(limit time.Duration) (n int) {
	for _, took := range c.took {
		if took > limit {
			n++
		}
	}
	return n
}

func (c *counts) total() (n int) {
	for _, one := range c.labels {
		n += one
	}
	return n
}

// String is "202 ×71, 201 ×3", the most frequent first.
func (c *counts) String() string {
	labels := slices.SortedFunc(maps.Keys(c.labels), func(a, b string) int {
		if c.labels[a] != c.labels[b] {
			return c.labels[b] - c.labels[a]
		}
		return strings.Compare(a, b)
	})
	if len(labels) == 0 {
		return "none"
	}
	var parts []string
	for _, label := range labels {
		parts = append(parts, fmt.Sprintf("%s ×%d", label, c.labels[label]))
	}
	return strings.Join(parts, ", ")
}
