package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// expectations are the answers that each kind of call may get. Each function
// below is a row of docs/contract.md, section 5. A kind that it does not name may
// get its normal answers.
type expectations map[kind][]string

// Labels that say more than a status and a code.
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
	storeGone     = "503 LIVE_STORE_UNAVAILABLE"
	databaseGone  = "503 DATABASE_UNAVAILABLE"
	withoutARetry = " without Retry-After"
	doneBefore    = "done before" // to a retry, after an answer that was lost
	notWithin     = "400 NOT_WITHIN_RADIUS"
	forbidden     = "403 FORBIDDEN"
	wrongCode     = "400 OTP_WRONG"
	unauthentic   = "401 UNAUTHENTICATED"
)

// normal is when nothing is broken.
func normal() expectations {
	return expectations{
		update: {"201"}, live: {"200"}, wait: {woken}, uncached: {"200"},
		book: {"201"}, start: {"201", doneBefore}, stop: {"200", doneBefore}, arrive: {"200"}, afar: {notWithin}, unseen: {noFreshFix},
		verify: {"200", doneBefore}, wrong: {wrongCode}, foreign: {forbidden}, intruder: {forbidden},
		stranger: {unauthentic}, health: {"200"},
	}
}

// and adds more answers.
func (e expectations) and(more expectations) expectations {
	sum := expectations{}
	for _, k := range kinds() {
		sum[k] = slices.Concat(e[k], more[k])
	}
	return sum
}

// storeDown: updates are 202, reads degraded with PostgreSQL's word on whether
// the journey runs, waits end at their time, and no arrival goes unchecked.
func storeDown() expectations {
	return normal().and(expectations{
		update: {notStored, stale}, live: {degraded, noLocation}, wait: {timedOut, wokenLate},
		arrive: {storeGone, noFreshFix}, afar: {storeGone, noFreshFix}, unseen: {storeGone},
		intruder: {notStored},
	})
}

// storeLost: it heals by itself. An arrival needs a fix first, and a track that
// began anew has to go on for a while.
func storeLost() expectations {
	return normal().and(expectations{
		live: {noLocation}, arrive: {noFreshFix}, afar: {noFreshFix},
	})
}

// databaseDown: updates and cached reads go on, the rest is refused.
func databaseDown() expectations {
	return normal().and(expectations{
		uncached: {databaseGone}, book: {databaseGone}, start: {databaseGone}, stop: {databaseGone},
		arrive: {databaseGone}, afar: {databaseGone}, unseen: {databaseGone}, verify: {databaseGone}, wrong: {databaseGone},
		intruder: {notStored},
	})
}

// bothDown: phones get 202, open waits 304, and everything else 503.
func bothDown() expectations {
	return storeDown().and(databaseDown()).and(expectations{live: {databaseGone}, wait: {databaseGone}, foreign: {databaseGone}})
}

func (e expectations) allows(k kind, label string) bool { return slices.Contains(e[k], label) }

// stalled is a time for /healthz at which the machine is too busy to judge every
// single answer.
const stalled = 100 * time.Millisecond

// check adds every answer in a phase that was not expected to the failures. noise
// is the slowest /healthz, which asks no store: where it took longer than
// stalled, a store cannot keep a time-out of 250 ms either, and then one answer in
// twenty of a kind, or two, may be the one of a store that is down.
func (e expectations) check(r *row, seen map[kind]*counts, noise time.Duration) {
	unlucky := storeDown().and(databaseDown()).and(expectations{wait: {timedOutLate}})
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		for _, label := range slices.Sorted(maps.Keys(seen[k].labels)) {
			n := seen[k].labels[label]
			excused := noise > stalled && unlucky.allows(k, label) && n <= max(2, seen[k].total()/20)
			r.check(e.allows(k, label) || neutral(label) || excused, "%s got %s ×%d", k, label, n)
		}
	}
}

// checkPrompt checks that updates were answered within 300 ms. On top of that
// come the machine's delays, which are not the gateway's: what /healthz took at
// its worst, and 50 ms for two more turns of a timer. One call in twenty may
// take longer still.
func checkPrompt(r *row, c *counts, noise time.Duration) {
	limit := updateLimit + noise + 50*time.Millisecond
	r.check(c.slow(limit) <= max(2, c.total()/20), "%d of %d updates took over %s (worst %s)",
		c.slow(limit), c.total(), round(limit), round(c.worst))
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// summary is the table's cell of what callers saw during the fault.
func summary(seen map[kind]*counts) string {
	var parts []string
	for _, k := range []kind{update, live, wait, start, stop, arrive, uncached, verify} {
		c := seen[k]
		if c == nil {
			continue
		}
		text := fmt.Sprintf("%s %s", k, c)
		switch {
		case k == update:
			text += fmt.Sprintf(" (worst %s, %d over 300 ms)", round(c.worst), c.slow(updateLimit))
		case strings.Contains(text, "503"):
			text += fmt.Sprintf(" (worst %s)", round(c.worst))
		}
		parts = append(parts, text)
	}
	return strings.NewReplacer(" LIVE_STORE_UNAVAILABLE", "", " DATABASE_UNAVAILABLE", "").Replace(strings.Join(parts, "; "))
}
