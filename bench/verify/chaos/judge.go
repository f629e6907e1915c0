package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"doorstep/bench/rig"
)

// readSlack is how old an answer may be when it arrives at the caller: the time
// from the read that ends a wait. An older answer was stale when it was made. It
// is long because the machine may be busy.
const readSlack = 3 * time.Second

// noAnswer is the label of a call without one.
var noAnswer = rig.Answer{}.Label()

// verdict is what the logs of all journeys come to.
type verdict struct {
	journeys, fixes, waits int
	answers                map[string]int // to updates
	failed                 map[string]int // reads without an answer
	retries                []retried
	silent                 []time.Time     // when a call had no answer at all
	delays                 []time.Duration // from a fix's first attempt to the student
	slowest                time.Duration   // update
	late                   int             // waits that ended by their time although a wake-up was due
	lateBy                 time.Duration   // the worst of them
	wrong                  []string        // promises that did not hold
}

func (v *verdict) wrongf(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// judge checks every journey by itself: nothing of one may show in another.
//
// While the live store fails over, reads may be degraded and a stored fix may be
// lost; so a wait may end without it. Versions and pins must not go back even
// then.
func judge(logs []*journeyLog) verdict {
	v := verdict{answers: map[string]int{}, failed: map[string]int{}}
	for _, l := range logs {
		v.journeys++
		v.fixes += len(l.accepted)
		v.retries = append(v.retries, l.retries...)
		v.slowest = max(v.slowest, l.slowest)
		for _, odd := range slices.Concat(l.odd, l.strange) {
			v.wrongf("%s", odd)
		}
		for label, n := range l.answers {
			v.answers[label] += n
		}
		failures := slices.Clone(l.failed)
		for _, f := range failures {
			v.failed[f.label]++
		}
		for _, h := range l.retries {
			failures = append(failures, h.failures...)
		}
		for _, f := range failures {
			if f.label == noAnswer {
				v.silent = append(v.silent, f.at)
			}
		}
		v.locations(l)
		v.versions(l)
		v.wakeUps(l)
		if l.end != "" && l.endSeen.IsZero() {
			v.wrongf("the student never saw the end of a journey")
		}
	}
	slices.Sort(v.delays)
	return v
}

// locations: each accepted fix, or a newer one, or the end of the journey,
// reached the student; and all locations that the student saw are the journey's.
func (v *verdict) locations(l *journeyLog) {
	fixOf := map[[2]float64]int{}
	for k, at := range l.sent {
		fixOf[[2]float64{at.Lat(), at.Lng()}] = k
	}
	newest, seen := -1, map[int]time.Time{} // by fix, when it or a newer one was seen first
	for _, r := range l.reads {
		if r.location == nil {
			continue
		}
		k, own := fixOf[[2]float64{r.location.Lat(), r.location.Lng()}]
		switch {
		case !own:
			v.wrongf("a student saw a place where their trainer never was")
		case k < newest:
			v.wrongf("the pin went back from fix %d to %d", newest, k)
		}
		for ; newest < k; newest++ {
			seen[newest+1] = r.at
		}
	}
	for _, a := range l.accepted {
		at, ok := seen[a.fix]
		switch {
		case ok:
			v.delays = append(v.delays, at.Sub(a.sent))
		case l.endSeen.IsZero():
			v.wrongf("an accepted fix never reached the student, nor did a newer one")
		}
	}
}

// versions: what a student sees never goes back, and a 200 to an ETag shows
// something new.
func (v *verdict) versions(l *journeyLog) {
	var last int64
	for _, r := range l.reads {
		switch {
		case r.version == 0 && l.plan.failover:
		case r.version == 0:
			v.wrongf("a read was degraded, or had no version, while both stores were there")
		case r.version < last:
			v.wrongf("the version went back from %d to %d", last, r.version)
		case r.status == 200 && r.wait > 0 && r.version == r.etag && !l.plan.failover:
			v.wrongf("a 200 to version %d shows it again", r.etag)
		}
		last = max(last, r.version)
	}
}

// wakeUps: a wait for which there is something newer ends by a wake-up, or at the
// latest by its time, and then shows it.
func (v *verdict) wakeUps(l *journeyLog) {
	for _, r := range l.reads {
		if r.wait == 0 {
			continue
		}
		v.waits++
		known, ok := l.newer(r.etag)
		took, since := r.at.Sub(r.asked), min(r.at.Sub(known), r.at.Sub(r.asked))
		switch {
		case !ok:
		case r.status == 304 && r.at.Sub(known) > readSlack && !l.plan.failover:
			v.wrongf("a wait ended as 304, %s after something newer was answered", ms(r.at.Sub(known)))
		case r.status == 200 && took >= r.wait && since > readSlack:
			v.late++
			v.lateBy = max(v.lateBy, since)
		}
		if took > r.wait+readSlack {
			v.wrongf("a wait of %s took %s", r.wait, ms(took))
		}
	}
}

// newer is when the trainer's side first knew of a version after etag.
func (l *journeyLog) newer(etag int64) (time.Time, bool) {
	for _, a := range l.accepted {
		if a.version > etag {
			return a.at, true
		}
	}
	return l.endedAt, l.end != ""
}

// report puts what was seen into the row.
func (v *verdict) report(r *row) {
	for _, wrong := range folded(v.wrong) {
		r.check(false, "%s", wrong)
	}
	tries, worst := 0, time.Duration(0)
	for _, h := range v.retries {
		tries = max(tries, len(h.failures)+1)
		worst = max(worst, h.took)
	}
	r.check(len(v.delays) > 0 && v.waits > 0, "nothing was seen: %d fixes, %d waits", len(v.delays), v.waits)
	r.Saw = fmt.Sprintf("%d journeys; updates: %s, slowest %s; reads cut: %s; fix to eye p50 %s, p99 %s, worst %s; %d of %d waits ended late (worst by %s); %d calls repeated, at most %d tries",
		v.journeys, counted(v.answers), ms(v.slowest), cmp.Or(counted(v.failed), "none"), ms(quantile(v.delays, 0.5)), ms(quantile(v.delays, 0.99)), ms(quantile(v.delays, 1)),
		v.late, v.waits, ms(v.lateBy), len(v.retries), tries)
	if len(v.retries) > 0 {
		r.Well = "every failed call answered within " + ms(worst)
	}
}

// folded joins equal lines: "text (3 times)".
func folded(lines []string) (out []string) {
	n := map[string]int{}
	for _, l := range lines {
		n[l]++
	}
	for _, l := range slices.Sorted(maps.Keys(n)) {
		if n[l] > 1 {
			l = fmt.Sprintf("%s (%d times)", l, n[l])
		}
		out = append(out, l)
	}
	return out
}

// counted is "3 × 201, 1 × no answer".
func counted(n map[string]int) string {
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
