package demo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// report counts what happened in all journeys. Safe for concurrent use.
type report struct {
	mu sync.Mutex
	totals
}

// totals are the counts of a report at one moment.
type totals struct {
	sent      map[string]int // answers to fixes, by label
	failures  int            // requests without an answer
	overtaken int            // fixes never sent: a newer one was due first
	stored    int
	seen      int // fixes that a student's answer showed
	eye       latencies
	ended     map[State]int
	started   int
	pushed    int
	why       map[string]int // of journeys that did not arrive
	odd       []string       // answers that nothing explains, the first few
	oddCount  int
}

const oddShown = 10

func newReport() *report {
	return &report{totals: totals{sent: map[string]int{}, ended: map[State]int{}, why: map[string]int{}}}
}

func (r *report) count(f func(t *totals)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.totals)
}

// unexplained counts an answer that should not have been.
func (r *report) unexplained(what string) {
	r.count(func(t *totals) {
		t.oddCount++
		if len(t.odd) < oddShown {
			t.odd = append(t.odd, what)
		}
	})
}

// now is a copy.
func (r *report) now() totals {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.totals
	t.sent, t.ended, t.why, t.odd = maps.Clone(t.sent), maps.Clone(t.ended), maps.Clone(t.why), slices.Clone(t.odd)
	return t
}

// fixes is how many answers to fixes there were.
func (t totals) fixes() int {
	n := 0
	for _, k := range t.sent {
		n += k
	}
	return n
}

// refused is how many fixes were not stored and not to be sent again.
func (t totals) refused() int {
	n := 0
	for label, k := range t.sent {
		if strings.Contains(label, codeImplausible) || label == labelVague {
			n += k
		}
	}
	return n
}

// summary is the table at the end: name and value, and values without a name
// that belong to the one above.
func (t totals) summary(about []string, took time.Duration) string {
	var b strings.Builder
	section := func(name string, values ...string) {
		for _, v := range values {
			fmt.Fprintf(&b, "  %-11s %s\n", name, v)
			name = ""
		}
	}
	section("played", about...)
	section("took", took.Round(100*time.Millisecond).String())
	section("journeys", t.endings()...)
	section("fixes", t.answers()...)
	section("fix to eye", fmt.Sprintf("p50 %s, p99 %s, longest %s (%s seen, %s answered as stored)", milliseconds(t.eye.quantile(.5)),
		milliseconds(t.eye.quantile(.99)), milliseconds(t.eye.max), thousands(t.seen), thousands(t.stored)))
	section("events", fmt.Sprintf("%d TrainerJourneyStarted, %d TrainerJourneyEnded (%d arrived, %d cancelled)",
		t.started, t.arrived()+t.ended[Stopped], t.arrived(), t.ended[Stopped]))
	if t.pushed > 0 {
		section("pushes", fmt.Sprintf("%d to the students, shown and not sent: no push service is set", t.pushed))
	}
	section("unexplained", t.oddities()...)
	return b.String()
}

func (t totals) arrived() int { return t.ended[Arrived] + t.ended[Verified] }

// endings says how the journeys ended, and why some did not arrive.
func (t totals) endings() []string {
	var out []string
	for _, s := range []State{Verified, Stopped, Interrupted, Failed} {
		n := t.ended[s]
		switch {
		case n == 0:
		case s == Stopped:
			out = append(out, fmt.Sprintf("%d stopped, not let in at the door: %s", n, t.refusals()))
		default:
			out = append(out, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(out) == 0 {
		return []string{"none ended"}
	}
	return out
}

func (t totals) refusals() string {
	var parts []string
	for _, code := range byCount(t.why) {
		parts = append(parts, fmt.Sprintf("%d %s", t.why[code], code))
	}
	return strings.Join(parts, ", ")
}

// answers is the answers to fixes, the most frequent first.
func (t totals) answers() []string {
	out := []string{thousands(t.fixes()) + " answered"}
	if t.overtaken > 0 {
		out[0] += ", " + thousands(t.overtaken) + " never sent (a newer one was due)"
	}
	for _, label := range byCount(t.sent) {
		out = append(out, fmt.Sprintf("%9s  %s", thousands(t.sent[label]), label))
	}
	if t.failures > 0 {
		out = append(out, thousands(t.failures)+" requests without an answer")
	}
	return out
}

func (t totals) oddities() []string {
	out := t.odd
	if more := t.oddCount - len(t.odd); more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	if len(out) == 0 {
		return []string{"nothing"}
	}
	return out
}

// byCount is the keys, most frequent first.
func byCount(m map[string]int) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(m[b]-m[a], strings.Compare(a, b)) })
}

// thousands groups digits: 41 234.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + " " + text[i:]
	}
	return text
}

func milliseconds(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d == 0:
		return "-"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.0f ms", ms)
	}
}
