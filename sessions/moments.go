package sessions

import (
	"sync/atomic"
	"time"
)

const (
	// silenceAfter is how much longer than the interval that a phone was told (see
	// dueAfter) nothing may come of it until that is a silence.
	silenceAfter = 15 * time.Second
	// momentsUnwritten bounds what one journey has in memory: a flush finds at most
	// seven, so it counts only while the repository is away. momentsInAll bounds those
	// of all journeys: some 20 MB.
	momentsUnwritten = 16
	momentsInAll     = 100_000
)

// What is counted a minute: the verdicts of the fixes that were not stored, and then
// these, each by its number.
const (
	notedUnavailable = int(VerdictNoPosition) + 1 + iota // a fix while no live store could judge it
	notedNotWithinRadius
	notedNoFreshLocation
	notedSuspicious
	notedArrivalUnavailable
	notedKinds
)

// notedName is the number's name in AuditDetail.Counts.
func notedName(n int) string {
	if n < notedUnavailable {
		return Verdict(n).String()
	}
	return [...]string{
		"unavailable", "arrival_not_within_radius", "arrival_no_fresh_location", "arrival_suspicious_location", "arrival_unavailable",
	}[n-notedUnavailable]
}

// notedArrival is the number of a refused arrival; 0 for one that is not counted.
func notedArrival(code Code) int {
	switch code {
	case NotWithinRadius:
		return notedNotWithinRadius
	case NoFreshLocation:
		return notedNoFreshLocation
	case SuspiciousLocation:
		return notedSuspicious
	case LiveStoreUnavailable:
		return notedArrivalUnavailable
	default:
		return 0
	}
}

// NotedNames lists the names of what is counted a minute.
func NotedNames() (names []string) {
	for n := int(VerdictTooSoon); n < notedKinds; n++ {
		if Verdict(n) != VerdictStored {
			names = append(names, notedName(n))
		}
	}
	return names
}

// moments is what this process has noticed of one journey since the last flush. Not
// safe for concurrent use: its shard's lock guards it.
type moments struct {
	list   []Moment
	minute int64 // Unix minutes, that counts are of
	counts [notedKinds]uint16
	open   bool // there are counts
}

// note counts one of that number at an instant.
func (m *moments) note(n int, now time.Time, all *atomic.Int64) {
	minute := now.Unix() / 60
	if m.open && minute != m.minute {
		m.close(all)
	}
	m.minute, m.open = minute, true
	if m.counts[n] < 65_535 {
		m.counts[n]++
	}
}

// close makes a moment of the minute's counts.
func (m *moments) close(all *atomic.Int64) {
	if !m.open {
		return
	}
	counts := map[string]int{}
	for n, count := range m.counts {
		if count > 0 {
			counts[notedName(n)] = int(count)
		}
	}
	m.add(all, Moment{ID: NewID(), Kind: AuditNotStored, At: time.Unix(m.minute*60, 0).UTC(), Detail: AuditDetail{Counts: counts}})
	m.counts, m.open = [notedKinds]uint16{}, false
}

// stored notes a stored fix: the first one of a journey, or the end of a silence.
func (m *moments) stored(r Receipt, silence time.Duration, all *atomic.Int64) {
	switch {
	case r.SeenAgo < 0:
		m.add(all, Moment{Kind: AuditFirstFix, At: r.At})
	case r.SeenAgo > silence:
		m.add(all,
			Moment{ID: NewID(), Kind: AuditSilenceBegan, At: r.At.Add(-r.SeenAgo)},
			Moment{ID: NewID(), Kind: AuditSilenceEnded, At: r.At, Detail: AuditDetail{Seconds: int64(r.SeenAgo / time.Second)}})
	}
}

// add keeps moments where there is room for them.
func (m *moments) add(all *atomic.Int64, list ...Moment) {
	n := len(list)
	if len(m.list)+n > momentsUnwritten {
		return
	}
	if all.Add(int64(n)) > momentsInAll {
		all.Add(int64(-n))
		return
	}
	m.list = append(m.list, list...)
}

// take removes the moments, but for the counts of a minute that is not over at now: two
// entries of one minute would tell less. A zero now takes all.
func (m *moments) take(now time.Time, all *atomic.Int64) []Moment {
	if now.IsZero() || now.Unix()/60 != m.minute {
		m.close(all)
	}
	list := m.list
	m.list = nil
	all.Add(int64(-len(list)))
	return list
}

// refusedArrival notes that an arrival was refused.
func (t *FixCounter) refusedArrival(ref Ref, err error, now time.Time) {
	if n := notedArrival(CodeOf(err)); n > 0 && t != nil {
		t.addNoted(ref, Counts{}, n, nil, now)
	}
}
