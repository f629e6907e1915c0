package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is a kind of call. What its answers must be is in promises.
type kind string

// The kinds of calls that a troupe makes.
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
	health   kind = "health"         // /healthz: how busy the machine is
)

// Times of an answer.
const (
	waitFor  = 2 * time.Second
	early    = waitFor - 100*time.Millisecond
	late     = waitFor + time.Second
	promised = 300 * time.Millisecond // for an update
)

// kinds are all of them, in the table's order.
func kinds() []kind {
	return []kind{
		update, live, wait, uncached, book, start, stop, arrive, afar, unseen, verify, wrong, foreign, intruder, stranger, health,
	}
}

// phase is where in a scenario a call fell.
type phase int

const (
	before phase = iota
	during       // from the breaking to the mending; a call that touches it counts as in it
	after
	phases = int(after) + 1
)

// recorder keeps what callers saw. Safe for concurrent use.
type recorder struct {
	mu     sync.Mutex
	phase  phase
	mended time.Time
	seen   [phases]map[kind]*tally
	lately map[kind]*lately
}

// tally is what one kind of call saw in one phase.
type tally struct {
	labels map[string]int
	worst  time.Duration
	took   []time.Duration // of updates only, for the share of slow ones
}

// lately is how one kind of call fares since the mending.
type lately struct {
	bad  time.Time // the last answer that is not as before
	good int       // answers as before since then
	well time.Time // the first of those
}

func newRecorder() *recorder {
	r := &recorder{lately: map[kind]*lately{}}
	for i := range r.seen {
		r.seen[i] = map[kind]*tally{}
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

// note keeps one answer to a call that began in the phase given.
func (r *recorder) note(k kind, began phase, label string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.phase
	if began != p {
		p = during
	}
	t := r.seen[p][k]
	if t == nil {
		t = &tally{labels: map[string]int{}}
		r.seen[p][k] = t
	}
	t.labels[label]++
	t.worst = max(t.worst, took)
	if k == update {
		t.took = append(t.took, took)
	}
	if r.phase == after {
		r.judge(k, label)
	}
}

func (r *recorder) judge(k kind, label string) {
	l := r.lately[k]
	if l == nil {
		l = &lately{}
		r.lately[k] = l
	}
	switch {
	case asEver().allows(k, label):
		if l.good++; l.good == 1 {
			l.well = time.Now()
		}
	case !neutral(label):
		*l = lately{bad: time.Now()}
	}
}

// neutral is an answer that a healthy gateway may give to these callers just
// after a fault: fixes that a stalled store took late count against the rate,
// and a track that a store had forgotten has to go on for a while.
func neutral(label string) bool {
	return strings.HasPrefix(label, "429") || label == "400 SUSPICIOUS_LOCATION"
}

// well is how long after the mending everybody was served as before; false
// while that is not so, or is not known to last.
// last is the kind of call that had to wait longest.
func (r *recorder) well(lasting time.Duration) (took time.Duration, last kind, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var at time.Time
	for _, k := range kinds() {
		l := r.lately[k]
		if l == nil || l.good < 2 || time.Since(l.bad) < lasting || time.Since(r.mended) < lasting {
			return 0, "", false
		}
		if !l.bad.IsZero() && l.well.After(at) {
			at, last = l.well, k
		}
	}
	if at.IsZero() {
		return 0, "", true // nobody noticed
	}
	return at.Sub(r.mended), last, true
}

// unwell names the kinds of call that are not as before.
func (r *recorder) unwell() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, k := range kinds() {
		if l := r.lately[k]; l == nil || l.good < 2 {
			names = append(names, string(k)+" ("+r.seen[after][k].String()+")")
		}
	}
	return strings.Join(names, ", ")
}

// of is what one kind of call saw in one phase. Only when nobody plays any more.
func (r *recorder) of(p phase, k kind) *tally {
	if t := r.seen[p][k]; t != nil {
		return t
	}
	return &tally{}
}

// slow is how many took longer.
func (t *tally) slow(limit time.Duration) (n int) {
	for _, took := range t.took {
		if took > limit {
			n++
		}
	}
	return n
}

func (t *tally) count() (n int) {
	if t == nil {
		return 0
	}
	for _, one := range t.labels {
		n += one
	}
	return n
}

// String is "202 ×71, 201 ×3", the most frequent first.
func (t *tally) String() string {
	if t.count() == 0 {
		return "none"
	}
	labels := slices.SortedFunc(maps.Keys(t.labels), func(a, b string) int {
		if t.labels[a] != t.labels[b] {
			return t.labels[b] - t.labels[a]
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, label := range labels {
		parts = append(parts, fmt.Sprintf("%s ×%d", label, t.labels[label]))
	}
	return strings.Join(parts, ", ")
}

// worst is how long the slowest call of a kind took. Only when nobody plays any
// more.
func (*recorder) worst(seen map[kind]*tally, k kind) time.Duration {
	if t := seen[k]; t != nil {
		return t.worst
	}
	return 0
}
