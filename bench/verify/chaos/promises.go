package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// promises are the answers that each kind of call may get: the contract's
// section 5, a row of it each function below. A kind that is not named may get
// what it gets when all is well.
type promises map[kind][]string

// Labels that are more than a status and a code.
const (
	degraded      = "200 degraded"
	degradedEnded = "200 degraded, not active"
	noLocation    = "200 without a location"
	woken         = "200"
	wokenLate     = "200 late"
	timedOut      = "304"
	timedOutEarly = "304 early"
	timedOutLate  = "304 late"
	notStored     = "202"
	stale         = "200 stale"
	noFreshFix    = "400 NO_FRESH_LOCATION"
	liveStoreGone = "503 LIVE_STORE_UNAVAILABLE"
	databaseGone  = "503 DATABASE_UNAVAILABLE"
	withoutARetry = " without Retry-After"
	afterAllItWas = "done before" // a retry of what a lost answer hid
	notWithin     = "400 NOT_WITHIN_RADIUS"
	forbidden     = "403 FORBIDDEN"
	wrongCode     = "400 OTP_WRONG"
	unauthentic   = "401 UNAUTHENTICATED"
)

// asEver is when all is well.
func asEver() promises {
	return promises{
		update: {"201"}, live: {"200"}, wait: {woken}, uncached: {"200"},
		book: {"201"}, start: {"201", afterAllItWas}, stop: {"200", afterAllItWas}, arrive: {"200"}, afar: {notWithin}, unseen: {noFreshFix},
		verify: {"200", afterAllItWas}, wrong: {wrongCode}, foreign: {forbidden}, intruder: {forbidden},
		stranger: {unauthentic}, health: {"200"},
	}
}

// and adds what may be answered besides.
func (p promises) and(more promises) promises {
	sum := promises{}
	for _, k := range kinds() {
		sum[k] = slices.Concat(p[k], more[k])
	}
	return sum
}

// storeGone: 202, degraded reads whose activity is PostgreSQL's word, waits that
// end at their time, no arrival unchecked.
func storeGone() promises {
	return asEver().and(promises{
		update: {notStored, stale}, live: {degraded, noLocation}, wait: {timedOut, wokenLate},
		arrive: {liveStoreGone, noFreshFix}, afar: {liveStoreGone, noFreshFix}, unseen: {liveStoreGone},
		intruder: {notStored},
	})
}

// storeLost: it heals by itself. An arrival needs a fix first, and a track that
// began anew has to go on for a while.
func storeLost() promises {
	return asEver().and(promises{
		live: {noLocation}, arrive: {noFreshFix}, afar: {noFreshFix},
	})
}

// databaseAway: updates and cached reads go on, the rest is refused whole.
func databaseAway() promises {
	return asEver().and(promises{
		uncached: {databaseGone}, book: {databaseGone}, start: {databaseGone}, stop: {databaseGone},
		arrive: {databaseGone}, afar: {databaseGone}, unseen: {databaseGone}, verify: {databaseGone}, wrong: {databaseGone},
		intruder: {notStored},
	})
}

// allAway: what is left is 202 for phones, 304 for who waits already, and 503.
func allAway() promises {
	return storeGone().and(databaseAway()).and(promises{live: {databaseGone}, wait: {databaseGone}, foreign: {databaseGone}})
}

func (p promises) allows(k kind, label string) bool { return slices.Contains(p[k], label) }

// never is what no fault whatever may bring about, in any phase. A promise says
// so already; this is for the table's reader.
func never(r *recorder) (lines []string) {
	for p := range phases {
		for k, t := range r.seen[p] {
			for label, n := range t.labels {
				if failsOpen(k, label) {
					lines = append(lines, fmt.Sprintf("FAILED OPEN: %s got %s ×%d", k, label, n))
				}
			}
		}
	}
	return lines
}

func failsOpen(k kind, label string) bool {
	success := strings.HasPrefix(label, "20") || strings.HasPrefix(label, "304")
	switch k {
	case foreign, wrong, afar, unseen, stranger:
		return success
	case intruder:
		return success && label != notStored
	case update:
		return strings.HasPrefix(label, "5")
	default:
		return false
	}
}

// keep notes every answer in a phase that was promised to nobody.
//
// Where even /healthz, which asks no store, took longer than stalled, a store
// cannot keep a time-out of 250 ms either: then one answer in twenty of a kind,
// or two, may be the one of a store that is away.
func (p promises) keep(r *row, seen map[kind]*tally, noise time.Duration) {
	unlucky := storeGone().and(databaseAway()).and(promises{wait: {timedOutLate}})
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		for _, label := range slices.Sorted(maps.Keys(seen[k].labels)) {
			n := seen[k].labels[label]
			forgiven := noise > stalled && unlucky.allows(k, label) && n <= max(2, seen[k].count()/20)
			r.check(p.allows(k, label) || neutral(label) || forgiven, "%s got %s ×%d", k, label, n)
		}
	}
}

const stalled = 100 * time.Millisecond

// prompt notes updates that were not answered in time. The rule is 300 ms; what
// is added is the machine's doing and not the gateway's: what /healthz, which
// asks no store, took at its worst meanwhile, and 50 ms for the two more turns
// that a timer needs. One call in twenty may be unlucky on top of that.
func prompt(r *row, t *tally, noise time.Duration) {
	limit := promised + noise + 50*time.Millisecond
	r.check(t.slow(limit) <= max(2, t.count()/20), "%d of %d updates took over %s (worst %s)",
		t.slow(limit), t.count(), round(limit), round(t.worst))
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// saw is the table's cell: what callers saw while it lasted.
func saw(seen map[kind]*tally) string {
	var parts []string
	for _, k := range []kind{update, live, wait, start, stop, arrive, uncached, verify} {
		t := seen[k]
		if t.count() == 0 {
			continue
		}
		text := fmt.Sprintf("%s %s", k, t)
		switch {
		case k == update:
			text += fmt.Sprintf(" (worst %s, %d over 300 ms)", round(t.worst), t.slow(promised))
		case strings.Contains(text, "503"):
			text += fmt.Sprintf(" (worst %s)", round(t.worst))
		}
		parts = append(parts, text)
	}
	return strings.NewReplacer(" LIVE_STORE_UNAVAILABLE", "", " DATABASE_UNAVAILABLE", "").Replace(strings.Join(parts, "; "))
}
