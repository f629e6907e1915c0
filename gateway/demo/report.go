package demo

import (
	"cmp"
	"fmt"
	"maps"
	"math"
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
	fixToEye  latencies
	toPixel   latencies // of what a browser has painted
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
func (t totals) fixes() (n int) {
	for _, k := range t.sent {
		n += k
	}
	return n
}

// refused is how many fixes were not stored and not to be sent again.
func (t totals) refused() (n int) {
	for label, k := range t.sent {
		if strings.Contains(label, implausible) || label == labelVague {
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
	section("fix to eye", fmt.Sprintf("p50 %s, p99 %s, longest %s (%s seen, %s answered as stored)", milliseconds(t.fixToEye.quantile(.5)),
		milliseconds(t.fixToEye.quantile(.99)), milliseconds(t.fixToEye.max), thousands(t.seen), thousands(t.stored)))
	if n := t.toPixel.count; n > 0 {
		section("fix to pixel", fmt.Sprintf("p50 %s, p99 %s, longest %s (%s painted in a browser)", milliseconds(t.toPixel.quantile(.5)),
			milliseconds(t.toPixel.quantile(.99)), milliseconds(t.toPixel.max), thousands(n)))
	}
	arrived := t.ended[Arrived] + t.ended[Verified]
	section("events", fmt.Sprintf("%d TrainerJourneyStarted, %d TrainerJourneyEnded (%d arrived, %d cancelled)",
		t.started, arrived+t.ended[Stopped], arrived, t.ended[Stopped]))
	if t.pushed > 0 {
		section("pushes", fmt.Sprintf("%d to the students, shown and not sent: no push service is set", t.pushed))
	}
	section("unexplained", t.oddities()...)
	return b.String()
}

// endings says how the journeys ended, and why some did not arrive.
func (t totals) endings() (lines []string) {
	for _, s := range []State{Verified, Stopped, Interrupted, Failed} {
		n := t.ended[s]
		switch {
		case n == 0:
		case s == Stopped:
			var refusals []string
			for _, code := range byCount(t.why) {
				refusals = append(refusals, fmt.Sprintf("%d %s", t.why[code], code))
			}
			lines = append(lines, fmt.Sprintf("%d stopped, not let in at the door: %s", n, strings.Join(refusals, ", ")))
		default:
			lines = append(lines, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(lines) == 0 {
		return []string{"none ended"}
	}
	return lines
}

// answers is the answers to fixes, the most frequent first.
func (t totals) answers() []string {
	lines := []string{thousands(t.fixes()) + " answered"}
	if t.overtaken > 0 {
		lines[0] += ", " + thousands(t.overtaken) + " never sent (a newer one was due)"
	}
	for _, label := range byCount(t.sent) {
		lines = append(lines, fmt.Sprintf("%9s  %s", thousands(t.sent[label]), label))
	}
	if t.failures > 0 {
		lines = append(lines, thousands(t.failures)+" requests without an answer")
	}
	return lines
}

func (t totals) oddities() []string {
	lines := t.odd
	if more := t.oddCount - len(t.odd); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	if len(lines) == 0 {
		return []string{"nothing"}
	}
	return lines
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

// latencies is a histogram whose buckets grow by 5 %, from 10 µs to a minute:
// bounded memory for any run, and a quantile within 2.5 %. Not safe for
// concurrent use.
type latencies struct {
	buckets [321]int // 10 µs · 1.05^320 = 60 s
	count   int
	max     time.Duration
}

const (
	latencyFloor  = 10 * time.Microsecond
	latencyGrowth = 1.05
)

func (l *latencies) add(d time.Duration) {
	i := 0
	if d > latencyFloor {
		i = int(math.Round(math.Log(float64(d)/float64(latencyFloor)) / math.Log(latencyGrowth)))
	}
	l.buckets[min(i, len(l.buckets)-1)]++
	l.count++
	l.max = max(l.max, d)
}

// quantile is 0 when nothing was added. q in (0, 1].
func (l *latencies) quantile(q float64) time.Duration {
	rank := int(math.Ceil(q * float64(l.count)))
	for i, n := range l.buckets {
		if rank -= n; rank <= 0 && l.count > 0 {
			return min(l.max, time.Duration(float64(latencyFloor)*math.Pow(latencyGrowth, float64(i))))
		}
	}
	return l.max
}
