package released

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/haproxy"
)

// ledger is what the callers saw. Safe for concurrent use.
type ledger struct {
	locked  *sync.Mutex
	answers map[string]map[string]int // by kind of call and answer
	failing map[string]*failing       // by what failed, as failed names it
}

// failing are failed calls of one kind, with one answer and one cause.
type failing struct {
	cause, what, label string
	calls, healed      int
	longest            time.Duration // until the call that healed one was answered
}

func newLedger() ledger {
	return ledger{&sync.Mutex{}, map[string]map[string]int{}, map[string]*failing{}}
}

func (l ledger) answered(what, label string) {
	l.locked.Lock()
	defer l.locked.Unlock()
	if l.answers[what] == nil {
		l.answers[what] = map[string]int{}
	}
	l.answers[what][label]++
}

// failed counts a failed call and returns its name, for healed.
func (l ledger) failed(what, label, cause string) string {
	l.locked.Lock()
	defer l.locked.Unlock()
	name := cause + what + label
	if l.failing[name] == nil {
		l.failing[name] = &failing{cause: cause, what: what, label: label}
	}
	l.failing[name].calls++
	return name
}

// healed counts failed calls whose repeat succeeded, the first one so long after.
func (l ledger) healed(names []string, after time.Duration) {
	l.locked.Lock()
	defer l.locked.Unlock()
	for _, name := range names {
		l.failing[name].healed++
		l.failing[name].longest = max(l.failing[name].longest, after)
	}
}

// unavailable reports whether the answer is a gateway's own, as the contract has it while a
// store is away.
func (f *failing) unavailable() bool {
	return strings.HasPrefix(f.label, "503 ") && strings.HasSuffix(f.label, "_UNAVAILABLE")
}

func (l ledger) unavailable() (calls int) {
	for _, f := range l.failing {
		if f.unavailable() {
			calls += f.calls
		}
	}
	return calls
}

// judge compares what HAProxy and the callers saw with the contract, and writes the table.
func (r *rolling) judge(front haproxy.Stats, took time.Duration, counted string) {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.locked.Lock()
	defer r.locked.Unlock()
	for _, f := range r.failing {
		assert.Equal(r, f.calls, f.healed, "failed calls that no repeat healed: %+v", f)
		if f.unavailable() {
			assert.NotEmpty(r, f.cause, "no fault explains %d × %s: %s", f.calls, f.what, f.label)
		} else {
			assert.False(r, strings.HasPrefix(f.label, "5") || f.label == "no answer", "failed calls: %+v", f)
		}
	}
	odd := map[string][]haproxy.Failure{} // every 5xx, and what was cut
	for _, f := range r.failures {
		if f.State != haproxy.Check && !f.ByCaller() && (f.State != "--" || f.Status != "503") {
			kind := f.State + " " + f.Status
			odd[kind] = append(odd[kind], f)
		}
	}
	for kind, all := range odd {
		assert.Fail(r, "HAProxy saw calls fail", "%d × %s; the first: %s at %s, faults %v", len(all), kind, all[0], all[0].At.Format(time.TimeOnly), r.played)
	}
	assert.Equal(r, r.unavailable(), front.Responses["5xx"], "HAProxy's 5xx, and the callers' 503 of gateways")
	assert.Zero(r, front.Refused, "connections to gateways that HAProxy could not make")
	assert.Zero(r, front.Broken, "answers that gateways did not finish")
	text := r.text(front, took, counted)
	r.Log("\n" + text)
	if *table != "" {
		require.NoError(r, os.WriteFile(*table, []byte(text), 0o600))
	}
}

// text is the result in Markdown.
func (r *rolling) text(front haproxy.Stats, took time.Duration, counted string) string {
	commit, err := exec.CommandContext(r.Context(), "git", "describe", "--always", "--dirty").Output()
	require.NoError(r, err)
	var b strings.Builder
	fmt.Fprintf(&b, "Commit %s; %d rolling updates and %d roll-backs of %d gateways in %s, %d journeys at a time.\n\n",
		strings.TrimSpace(string(commit)), *rounds, *rounds, *gateways, took.Round(time.Second), *journeys)
	b.WriteString("| Call | Answers |\n|---|---|\n")
	for _, what := range slices.Sorted(maps.Keys(r.answers)) {
		answers := []string{}
		for _, label := range slices.Sorted(maps.Keys(r.answers[what])) {
			answers = append(answers, fmt.Sprintf("%d × %s", r.answers[what][label], label))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", what, strings.Join(answers, ", "))
	}
	fmt.Fprintf(&b, "| all, by HAProxy | %d × 2xx, %d × 3xx, %d × 4xx, %d × 5xx, of which %d are HAProxy's own; %d connections refused, %d answers broken |\n",
		front.Responses["2xx"], front.Responses["3xx"], front.Responses["4xx"], front.Responses["5xx"], front.Responses["5xx"]-r.unavailable(), front.Refused, front.Broken)
	for _, f := range r.played {
		fmt.Fprintf(&b, "\n%s, within %s.", f.name, f.to.Add(-recovery).Sub(f.from).Round(10*time.Millisecond))
	}
	if len(r.failing) > 0 {
		b.WriteString("\n\n| Cause | Call | Answer | Calls | Healed by a repeat | Longest until then |\n|---|---|---|---|---|---|\n")
	}
	for _, f := range slices.SortedFunc(maps.Values(r.failing), func(x, y *failing) int {
		return cmp.Or(cmp.Compare(x.cause, y.cause), cmp.Compare(x.what, y.what), cmp.Compare(x.label, y.label))
	}) {
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %s |\n", cmp.Or(f.cause, "none"), f.what, f.label, f.calls, f.healed, f.longest.Round(100*time.Millisecond))
	}
	fmt.Fprintf(&b, "\n%d journeys, each with one start and one end among the events: %s. %d fixes were answered 201; the readers saw %d, and %d died with the Valkey primary.\n",
		len(r.finished), counted, r.seen.Load()+r.lost.Load(), r.seen.Load(), r.lost.Load())
	return b.String()
}
