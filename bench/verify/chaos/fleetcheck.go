package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"doorstep/bench/rig"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// readSlack is what may lie between the read that ends a wait and its answer's
// arrival at the caller: an answer that is older than that was stale when it
// was made. It is long because the machine may be busy.
const readSlack = 3 * time.Second

// noAnswer is the label of a call without one.
var noAnswer = rig.Answer{}.Label()

// verdict is what the histories of all trips come to.
type verdict struct {
	trips, fixes, waits int
	answers             map[string]int // of updates
	cuts                map[string]int // reads without an answer
	healed              []healing
	silent              []time.Time     // when a call had no answer at all
	eye                 []time.Duration // an accepted fix's way to the student, from its first attempt
	late                int             // waits that a wake-up should have ended, and only their time did
	lateBy              time.Duration   // the worst of them
	wrong               []string        // promises that did not hold
}

func (v *verdict) wrongf(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// judge checks every trip by itself: nothing of a journey may show in another.
func judge(trips []*trip) verdict {
	v := verdict{answers: map[string]int{}, cuts: map[string]int{}}
	for _, t := range trips {
		v.trips++
		v.fixes += len(t.accepted)
		v.healed = append(v.healed, t.healed...)
		for _, odd := range slices.Concat(t.odd, t.strange) {
			v.wrongf("%s", odd)
		}
		for label, n := range t.answers {
			v.answers[label] += n
		}
		for _, c := range t.cuts {
			v.cuts[c.label]++
		}
		v.silence(t)
		v.eyes(t)
		v.versions(t)
		v.wakeUps(t)
		if t.end != "" && t.endSeen.IsZero() {
			v.wrongf("the student never saw the end of a journey")
		}
	}
	return v
}

// silence notes the calls that had no answer, not even a balancer's.
func (v *verdict) silence(t *trip) {
	failures := slices.Clone(t.cuts)
	for _, h := range t.healed {
		failures = append(failures, h.failures...)
	}
	for _, f := range failures {
		if f.label == noAnswer {
			v.silent = append(v.silent, f.at)
		}
	}
}

// eyes: each accepted fix, or a newer one, or the end of the journey, reached
// the student; and what they saw was that journey's own.
func (v *verdict) eyes(t *trip) {
	fixOf := map[[2]float64]int{}
	for k, at := range t.sent {
		fixOf[[2]float64{at.Lat(), at.Lng()}] = k
	}
	newest, seen := -1, map[int]time.Time{} // a fix, first seen
	for _, l := range t.looks {
		if l.location == nil {
			continue
		}
		k, own := fixOf[[2]float64{l.location.Lat(), l.location.Lng()}]
		switch {
		case !own:
			v.wrongf("a student saw a place where their trainer never was")
		case k < newest:
			v.wrongf("the pin went back from fix %d to %d", newest, k)
		}
		for ; newest < k; newest++ {
			seen[newest+1] = l.at
		}
	}
	for _, a := range t.accepted {
		at, ok := seen[a.fix]
		switch {
		case ok:
			v.eye = append(v.eye, at.Sub(a.sent))
		case t.endSeen.IsZero():
			v.wrongf("an accepted fix never reached the student, nor did a newer one")
		}
	}
}

// versions: what a student sees never goes back, and a 200 to a validator is
// something new.
func (v *verdict) versions(t *trip) {
	var last int64
	for _, l := range t.looks {
		switch {
		case l.version == 0:
			v.wrongf("a read was degraded, or had no version, while both stores were there")
		case l.version < last:
			v.wrongf("the version went back from %d to %d", last, l.version)
		case l.status == 200 && l.wait > 0 && l.version == l.etag:
			v.wrongf("a 200 to version %d shows it again", l.etag)
		}
		last = max(last, l.version)
	}
}

// wakeUps: a wait for which something newer was there ends by a wake-up, or at
// worst by its time, and then shows it.
func (v *verdict) wakeUps(t *trip) {
	for _, l := range t.looks {
		if l.wait == 0 {
			continue
		}
		v.waits++
		there, ok := t.newer(l.etag)
		since := l.at.Sub(later(there, l.asked))
		switch {
		case !ok:
		case l.status == 304 && l.at.Sub(there) > readSlack:
			v.wrongf("a wait ended as 304, %s after something newer was answered", l.at.Sub(there).Round(time.Millisecond))
		case l.status == 200 && l.at.Sub(l.asked) >= l.wait && since > readSlack:
			v.late++
			v.lateBy = max(v.lateBy, since)
		}
		if took := l.at.Sub(l.asked); took > l.wait+readSlack {
			v.wrongf("a wait of %s took %s", l.wait, took.Round(time.Millisecond))
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// newer is when the trainer's side first knew of a version after etag.
func (t *trip) newer(etag int64) (time.Time, bool) {
	for _, a := range t.accepted {
		if a.version > etag {
			return a.at, true
		}
	}
	return t.endedAt, t.end != ""
}

// report puts what was seen into the row.
func (f *fleet) report(r *row, trips []*trip) {
	v := judge(trips)
	slices.Sort(v.eye)
	for _, wrong := range counted(v.wrong) {
		r.check(false, "%s", wrong)
	}
	ends := f.ends(r)
	// HAProxy may say nothing of a call whose connection it dropped.
	for _, at := range v.silent {
		died := slices.ContainsFunc(f.members, func(m *member) bool { return m.died(at) })
		r.check(died, "a call had no answer, and no gateway had been killed")
	}
	tries, worst := 0, time.Duration(0)
	for _, h := range v.healed {
		tries = max(tries, len(h.failures)+1)
		worst = max(worst, h.took)
	}
	r.check(len(v.eye) > 0 && v.waits > 0, "nothing was seen: %d fixes, %d waits", len(v.eye), v.waits)
	r.Saw = fmt.Sprintf("%d journeys; updates: %s; reads cut: %s; fix to eye p50 %s, p99 %s, worst %s; %d of %d waits ended late (worst by %s); %d calls repeated, at most %d tries; HAProxy: %s; drains took %s at most",
		v.trips, counts(v.answers), cmp.Or(counts(v.cuts), "none"), ms(quantile(v.eye, 0.5)), ms(quantile(v.eye, 0.99)), ms(quantile(v.eye, 1)),
		v.late, v.waits, ms(v.lateBy), len(v.healed), tries, cmp.Or(counts(ends), "no errors"), ms(f.longestDrain()))
	if len(v.healed) > 0 {
		r.Well = "every failed call answered within " + ms(worst)
	}
}

// ends counts HAProxy's errors by what had become of the gateway. One that was
// asked to go, or serves, causes none; and one that serves says that it is ready.
// Thousands of a kind are one line of the table.
func (f *fleet) ends(r *row) map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	by := map[string]int{}
	was := map[string]func(time.Time) string{}
	for _, m := range f.members {
		was[m.name] = m.was
		for _, uneven := range m.uneven {
			r.check(false, "%s", uneven)
		}
	}
	odd := map[string][]mishap{} // by what they have in common
	for _, m := range f.mishaps {
		if m.byCaller() {
			continue
		}
		cause := "no gateway"
		if find := was[m.server]; find != nil {
			cause = find(m.at)
		}
		allowed := cause == killed
		if m.state == ofCheck {
			allowed = cause != serving
		} else {
			by[cause]++
		}
		if !allowed {
			kind := strings.Join([]string{m.server, m.state, m.status, cause}, " ")
			odd[kind] = append(odd[kind], m)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(odd)) {
		r.check(false, "%d × %s; the first: %s", len(odd[kind]), kind, odd[kind][0])
	}
	return by
}

func (f *fleet) longestDrain() (longest time.Duration) {
	for _, m := range f.members {
		longest = max(longest, slices.Max(append(m.drains, 0)))
	}
	return longest
}

// spread checks that the callers really did hop: each gateway, new since its
// last end, has stored fixes.
func (f *fleet) spread(ctx context.Context, r *row) error {
	for _, m := range f.members {
		stored, err := m.gateway.Metric(ctx, `doorstep_updates_total{verdict="stored"}`)
		if err != nil {
			return err
		}
		r.check(stored > 0, "%s has stored nothing since it is back", m.name)
	}
	return nil
}

// checkEvents holds the bus against PostgreSQL: for each transition one event,
// which may have come again under the same id.
func (f *fleet) checkEvents(ctx context.Context, r *row, trips []*trip) error {
	if err := f.awaitOutbox(ctx, r); err != nil {
		return err
	}
	want := map[transition]int{}
	for _, t := range trips {
		s, err := f.truth.Session(ctx, t.journey.ID)
		if err != nil {
			return err
		}
		r.check(s.JourneyEndReason == t.end, "a journey ended as %q to its trainer and as %q in the database", t.end, s.JourneyEndReason)
		if !s.JourneyStartedAt.IsZero() {
			want[transition{s.ID, sessions.JourneyStarted, "", ""}] = 1
		}
		if !s.JourneyEndedAt.IsZero() {
			want[transition{s.ID, sessions.JourneyEnded, s.JourneyEndReason, ""}] = 1
		}
	}
	got, repeats := f.onBus()
	for _, t := range trips {
		t.excuse(got)
	}
	compareEvents(r, want, got)
	r.Saw += fmt.Sprintf("; %d transitions, %d events, %d of them came again", len(want), len(got), repeats)
	return nil
}

// excuse takes out what is known of a journey whose start was repeated: when
// its gateway died before it had told the live store, the first fix restores
// it, and a restored track is told as one that has begun anew.
func (t *trip) excuse(got map[transition]int) {
	repeated := slices.ContainsFunc(t.healed, func(h healing) bool { return h.call == "start" })
	maps.DeleteFunc(got, func(e transition, _ int) bool {
		return repeated && e.session == t.journey.ID && e.what == sessions.LocationSuspicious
	})
}

// transition is what an event tells of.
type transition struct {
	session sessions.ID
	what    sessions.EventType
	reason  sessions.EndReason
	verdict string // of a suspicion, which an honest phone raises none of
}

func compareEvents(r *row, want, got map[transition]int) {
	var wrong []string
	for t, n := range want {
		if got[t] != n {
			wrong = append(wrong, fmt.Sprintf("%s has %d events, not %d", t.what, got[t], n))
		}
	}
	for t, n := range got {
		if want[t] == 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s that PostgreSQL does not know", n, strings.TrimSpace(string(t.what)+" "+t.verdict)))
		}
	}
	for _, w := range counted(wrong) {
		r.check(false, "%s", w)
	}
}

// onBus is how many distinct events each transition has there, and how often
// one came again.
func (f *fleet) onBus() (got map[transition]int, repeats int) {
	got = map[transition]int{}
	known := map[sessions.ID]bool{}
	for _, e := range f.bus.Events() {
		var d struct {
			EventID   sessions.ID        `json:"eventId"`
			SessionID sessions.ID        `json:"sessionId"`
			Reason    sessions.EndReason `json:"reason"`
			Verdict   string             `json:"verdict"`
		}
		_ = json.Unmarshal([]byte(e.Detail), &d) // no id is a transition that nobody knows
		if known[d.EventID] {
			repeats++
			continue
		}
		known[d.EventID] = true
		got[transition{d.SessionID, sessions.EventType(e.DetailType), d.Reason, d.Verdict}]++
	}
	return got, repeats
}

// endLeases takes the claims from whoever has them. A relay that lives may
// publish twice then, as it may at any time.
const endLeases = "UPDATE outbox SET locked_until = NULL WHERE published_at IS NULL"

// awaitOutbox returns when nothing waits in it any more; what a killed relay
// had in hand waits for its lease.
func (f *fleet) awaitOutbox(ctx context.Context, r *row) error {
	ctx, cancel := context.WithTimeout(ctx, leaseOver)
	defer cancel()
	hurry := time.Now().Add(time.Second)
	for {
		waiting, _, dead, err := f.truth.Outbox().Lag(ctx)
		if err == nil && waiting == 0 {
			r.check(dead == 0, "%d dead letters", dead)
			return nil
		}
		if f.plan.hurry && time.Now().After(hurry) {
			if err := execute(ctx, f.database, endLeases); err != nil {
				return err
			}
		}
		if pause.For(ctx, 50*time.Millisecond) != nil {
			r.check(false, "%d events still wait after %s (%v)", waiting, leaseOver, err)
			return nil
		}
	}
}

// checkWorker has the worker drain: what is in its hands ends or goes back, and
// it ends well.
func (f *fleet) checkWorker(ctx context.Context, r *row) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	began := time.Now()
	err := f.worker.Stop(ctx)
	r.check(err == nil, "the worker after SIGTERM: %v: %s", err, f.worker.Log())
	for _, queue := range f.queues {
		n := f.bus.Waiting(queue + "-dlq")
		r.check(n == 0, "%d dead letters of %s", n, queue)
	}
	r.Saw += "; the worker drained in " + ms(time.Since(began))
}

// counted folds equal lines: "text (3 times)".
func counted(lines []string) (folded []string) {
	n := map[string]int{}
	for _, l := range lines {
		n[l]++
	}
	for _, l := range slices.Sorted(maps.Keys(n)) {
		if n[l] > 1 {
			l = fmt.Sprintf("%s (%d times)", l, n[l])
		}
		folded = append(folded, l)
	}
	return folded
}

// counts is "3 × 201, 1 × no answer".
func counts(n map[string]int) string {
	var parts []string
	for _, label := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d × %s", n[label], label))
	}
	return strings.Join(parts, ", ")
}

// quantile is of a sorted list; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func ms(d time.Duration) string { return d.Round(time.Millisecond).String() }
