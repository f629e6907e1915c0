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
		if strings.Contains(label, "IMPLAUSIBLE") || label == labelVague {
			n += k
		}
	}
	return n
}

// summary is the table at the end.
func (t totals) summary(about []string, took time.Duration) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	for i, a := range about {
		line([]string{"played", ""}[min(i, 1)], "%s", a)
	}
	line("took", "%s", took.Round(100*time.Millisecond))
	line("journeys", "%s", t.endings())
	line("fixes", "%s answered: %s stored, %s seen by the student%s", thousands(t.fixes()), thousands(t.stored), thousands(t.seen), t.besides())
	for _, label := range byCount(t.sent) {
		line("", "%9s  %s", thousands(t.sent[label]), label)
	}
	line("fix to eye", "p50 %s, p99 %s, longest %s", milliseconds(t.eye.quantile(.5)), milliseconds(t.eye.quantile(.99)), milliseconds(t.eye.max))
	line("events", "%d TrainerJourneyStarted, %d TrainerJourneyEnded (%d arrived, %d cancelled)",
		t.started, t.arrived()+t.ended[Stopped], t.arrived(), t.ended[Stopped])
	if t.oddCount == 0 {
		line("unexplained", "nothing")
	}
	for i, what := range t.odd {
		line([]string{fmt.Sprintf("UNEXPLAINED"), ""}[min(i, 1)], "%s", what)
	}
	if more := t.oddCount - len(t.odd); more > 0 {
		line("", "and %d more", more)
	}
	return b.String()
}

func (t totals) arrived() int { return t.ended[Arrived] + t.ended[Verified] }

// endings says how the journeys ended, and why some did not arrive.
func (t totals) endings() string {
	var parts []string
	for _, s := range []State{Verified, Arrived, Stopped, Interrupted, Failed} {
		if n := t.ended[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	for _, why := range byCount(t.why) {
		parts = append(parts, fmt.Sprintf("%d x %s", t.why[why], why))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

func (t totals) besides() string {
	var parts []string
	if t.overtaken > 0 {
		parts = append(parts, thousands(t.overtaken)+" never sent (a newer one was due)")
	}
	if t.failures > 0 {
		parts = append(parts, thousands(t.failures)+" requests without an answer")
	}
	if len(parts) == 0 {
		return ""
	}
	return "; " + strings.Join(parts, "; ")
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
