// Package outboxtest is the contract of outbox.Store as tests: one for each sentence
// of its comment.
//
//	func TestStore(t *testing.T) { outboxtest.Run(t, open) }
package outboxtest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

// Fixture is an empty store under test and the way events come into it.
type Fixture struct {
	Store outbox.Store
	// Record stores events that have just happened, in order.
	Record func(t testing.TB, events ...sessions.Event)
	// To is the destination under test: outbox.Bus, or the name of a consumer. For a
	// consumer, record fans events out to To and to a second consumer, "another".
	To string
}

func (f Fixture) record(t testing.TB, events ...sessions.Event) {
	t.Helper()
	f.Record(t, events...)
	for more := f.To != outbox.Bus; more; {
		claimed, err := f.Store.Claim(t.Context(), outbox.Look{FanOut: []string{f.To, "another"}, Limit: 100})
		require.NoError(t, err)
		require.Empty(t, claimed.Rows, "nothing was asked for")
		more = claimed.FannedOut > 0
	}
}

// backlog is that of the destination under test.
func (f Fixture) backlog(t testing.TB) outbox.Backlog {
	t.Helper()
	list, err := f.Store.Backlog(t.Context(), []string{"another", f.To})
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, outbox.Bus, list[0].To)
	if f.To == outbox.Bus {
		return list[0]
	}
	require.Equal(t, f.To, list[2].To)
	return list[2]
}

func (f Fixture) done(t testing.TB, rows []outbox.Row) {
	t.Helper()
	require.NoError(t, f.Store.Done(t.Context(), f.To, seqs(rows)))
}

// Event is the n-th thing that happened to a session. One n is one instant.
func Event(session sessions.ID, n int) sessions.Event {
	at := time.Date(2026, 3, 14, 12, 0, 0, n*1e6, time.UTC)
	return sessions.Event{
		ID: sessions.NewID(), Type: sessions.JourneyStarted, SessionID: session, TrainerID: sessions.NewID(),
		StudentID: sessions.NewID(), At: at, JourneyStartedAt: at,
	}
}

// Events is one event for each of n sessions.
func Events(n int) []sessions.Event {
	events := make([]sessions.Event, n)
	for i := range events {
		events[i] = Event(sessions.NewID(), i)
	}
	return events
}

// lease is longer than a test takes; short is one that runs out in it.
const (
	lease = time.Minute
	short = 30 * time.Millisecond
	soon  = 10 * time.Second
)

// Run is the contract suite. Each test opens its own fixture.
func Run(t *testing.T, open func(t testing.TB) Fixture) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Fixture){
		"claim_takes_the_oldest_up_to_the_limit":   claimOldest,
		"claim_takes_one_row_of_a_session":         claimOneOfSession,
		"claim_holds_for_its_lease":                claimLease,
		"claim_leaves_out_what_is_too_young":       claimOlder,
		"claim_begins_after_a_seq":                 claimAfter,
		"claim_is_exclusive_in_a_race":             claimRace,
		"published_makes_way_for_the_next":         publishedMakesWay,
		"published_holds_after_the_claim_ran_out":  publishedLate,
		"retry_waits_and_counts":                   retryCounts,
		"retry_holds_up_the_session":               retryHoldsUp,
		"release_waits_and_does_not_count":         releaseDoesNotCount,
		"bury_makes_way_and_is_counted":            buryMakesWay,
		"what_is_done_stays_done":                  doneStaysDone,
		"backlog_counts_what_waits_claimed_or_not": backlogCounts,
		"event_comes_back_as_it_was":               eventIntact,
		"destinations_know_nothing_of_each_other":  destinationsApart,
		"outcomes_of_what_waits_is_done_or_dead":   outcomes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func (f Fixture) claim(t testing.TB, limit int, d time.Duration) []outbox.Row {
	t.Helper()
	claimed, err := f.Store.Claim(t.Context(), outbox.Look{Asks: []outbox.Ask{{To: f.To, Lease: d}}, Limit: limit})
	require.NoError(t, err)
	rows := claimed.Rows
	for i := range rows {
		require.Equal(t, f.To, rows[i].To)
		require.NoError(t, rows[i].Unreadable)
		require.True(t, i == 0 || rows[i-1].Seq < rows[i].Seq, "lowest first")
	}
	return rows
}

// claims waits for the next row to be due.
func (f Fixture) claims(t testing.TB) outbox.Row {
	t.Helper()
	var rows []outbox.Row
	require.Eventually(t, func() bool {
		rows = f.claim(t, 1, lease)
		return len(rows) == 1
	}, soon, 2*time.Millisecond)
	return rows[0]
}

func ids(rows []outbox.Row) []sessions.ID {
	var list []sessions.ID
	for _, row := range rows {
		list = append(list, row.Event.ID)
	}
	return list
}

func seqs(rows []outbox.Row) []int64 {
	list := make([]int64, len(rows))
	for i, row := range rows {
		list[i] = row.Seq
	}
	return list
}

func claimOldest(t *testing.T, f Fixture) {
	require.Empty(t, f.claim(t, 10, lease), "of nothing")
	events := Events(5)
	f.record(t, events...)
	require.Equal(t, []sessions.ID{events[0].ID, events[1].ID, events[2].ID}, ids(f.claim(t, 3, lease)))
	require.Equal(t, []sessions.ID{events[3].ID, events[4].ID}, ids(f.claim(t, 3, lease)))
	require.Empty(t, f.claim(t, 3, lease))
}

func claimOneOfSession(t *testing.T, f Fixture) {
	a, b := sessions.NewID(), sessions.NewID()
	a1, a2, b1 := Event(a, 1), Event(a, 2), Event(b, 3)
	f.record(t, a1, a2, b1)
	require.Equal(t, []sessions.ID{a1.ID, b1.ID}, ids(f.claim(t, 10, lease)))
	require.Empty(t, f.claim(t, 10, lease), "a2 waits for a1, which is claimed")
}

func claimLease(t *testing.T, f Fixture) {
	f.record(t, Events(1)...)
	first := f.claim(t, 1, short)
	require.Len(t, first, 1)
	require.Equal(t, 1, first[0].Attempts)
	again := f.claims(t)
	require.Equal(t, first[0].Event.ID, again.Event.ID)
	require.Equal(t, 1, again.Attempts, "a claim that ran out says nothing about the event")
}

func claimOlder(t *testing.T, f Fixture) {
	if f.To == outbox.Bus {
		t.Skip("not for the bus")
	}
	f.record(t, Events(1)...)
	claim := func(older time.Duration) []outbox.Row {
		claimed, err := f.Store.Claim(t.Context(), outbox.Look{Asks: []outbox.Ask{{To: f.To, Lease: lease, Older: older}}, Limit: 10})
		require.NoError(t, err)
		return claimed.Rows
	}
	require.Empty(t, claim(time.Hour))
	require.Eventually(t, func() bool { return len(claim(short)) == 1 }, soon, 2*time.Millisecond)
}

func claimAfter(t *testing.T, f Fixture) {
	events := Events(4)
	second := Event(events[0].SessionID, 9)
	f.record(t, append(events, second)...)
	first := f.claim(t, 1, short)
	claim := func(after int64) []sessions.ID {
		claimed, err := f.Store.Claim(t.Context(), outbox.Look{Asks: []outbox.Ask{{To: f.To, Lease: lease, After: after}}, Limit: 2})
		require.NoError(t, err)
		return ids(claimed.Rows)
	}
	require.Equal(t, []sessions.ID{events[1].ID, events[2].ID}, claim(first[0].Seq))
	require.NoError(t, f.Store.Release(t.Context(), f.To, seqs(first), 0))
	require.Equal(t, []sessions.ID{events[3].ID}, claim(first[0].Seq), "the second of a session still waits for the first")
	require.Equal(t, []sessions.ID{events[0].ID}, claim(0))
}

func claimRace(t *testing.T, f Fixture) {
	const sessionsN, perSession, racers = 20, 3, 6
	var all []sessions.Event
	order := map[sessions.ID][]sessions.ID{}
	for n := range perSession {
		for s := range sessionsN {
			if n == 0 {
				all = append(all, Event(sessions.NewID(), n))
			} else {
				all = append(all, Event(all[s].SessionID, n))
			}
			e := all[len(all)-1]
			order[e.SessionID] = append(order[e.SessionID], e.ID)
		}
	}
	f.record(t, all...)
	var (
		mu   sync.Mutex
		got  = map[sessions.ID][]sessions.ID{}
		left = len(all)
		wg   sync.WaitGroup
	)
	for range racers {
		wg.Go(func() {
			for end := time.Now().Add(soon); time.Now().Before(end); {
				claimed, err := f.Store.Claim(t.Context(), outbox.Look{Asks: []outbox.Ask{{To: f.To, Lease: lease}}, Limit: 4})
				if err != nil {
					t.Error(err)
					return
				}
				rows := claimed.Rows
				mu.Lock()
				for _, row := range rows { // "published" here: before the mark, as on a bus
					got[row.Event.SessionID] = append(got[row.Event.SessionID], row.Event.ID)
				}
				left -= len(rows)
				done := left <= 0
				mu.Unlock()
				if err := f.Store.Done(t.Context(), f.To, seqs(rows)); err != nil {
					t.Error(err)
				}
				if done {
					return
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, order, got, "each once, and in order within its session")
}

func publishedMakesWay(t *testing.T, f Fixture) {
	session := sessions.NewID()
	one, two := Event(session, 1), Event(session, 2)
	f.record(t, one, two)
	f.done(t, f.claim(t, 10, lease))
	require.Equal(t, []sessions.ID{two.ID}, ids(f.claim(t, 10, lease)))
	require.NoError(t, f.Store.Done(t.Context(), f.To, nil), "of nothing")
}

func publishedLate(t *testing.T, f Fixture) {
	f.record(t, Events(1)...)
	mine := f.claim(t, 1, short)
	f.claims(t) // another relay's
	f.done(t, mine)
	require.Zero(t, f.backlog(t).Waiting)
}

func retryCounts(t *testing.T, f Fixture) {
	f.record(t, Events(1)...)
	row := f.claims(t)
	require.NoError(t, f.Store.Retry(t.Context(), f.To, row.Seq, lease, "no"))
	require.Empty(t, f.claim(t, 1, lease), "not due yet")
	require.NoError(t, f.Store.Retry(t.Context(), f.To, row.Seq, short, "no"))
	require.Equal(t, 3, f.claims(t).Attempts)
}

func retryHoldsUp(t *testing.T, f Fixture) {
	session := sessions.NewID()
	f.record(t, Event(session, 1), Event(session, 2))
	require.NoError(t, f.Store.Retry(t.Context(), f.To, f.claims(t).Seq, lease, "no"))
	require.Empty(t, f.claim(t, 10, lease), "the second must not overtake the first")
}

func releaseDoesNotCount(t *testing.T, f Fixture) {
	f.record(t, Events(2)...)
	rows := f.claim(t, 2, lease)
	require.NoError(t, f.Store.Release(t.Context(), f.To, seqs(rows[:1]), 0))
	require.NoError(t, f.Store.Release(t.Context(), f.To, seqs(rows[1:]), lease))
	again := f.claims(t)
	require.Equal(t, rows[0].Event.ID, again.Event.ID)
	require.Equal(t, 1, again.Attempts)
	require.Empty(t, f.claim(t, 2, lease), "the other is not due yet")
}

func buryMakesWay(t *testing.T, f Fixture) {
	session := sessions.NewID()
	one, two := Event(session, 1), Event(session, 2)
	f.record(t, one, two)
	require.NoError(t, f.Store.Bury(t.Context(), f.To, f.claims(t).Seq, "poison"))
	require.Equal(t, two.ID, f.claims(t).Event.ID)
	b := f.backlog(t)
	require.Equal(t, []int{1, 1}, []int{b.Waiting, b.Dead})
}

func outcomes(t *testing.T, f Fixture) {
	events := Events(4)
	f.record(t, events...)
	rows := f.claim(t, 4, lease)
	f.done(t, rows[:1])
	require.NoError(t, f.Store.Bury(t.Context(), f.To, rows[1].Seq, "poison"))
	require.NoError(t, f.Store.Retry(t.Context(), f.To, rows[2].Seq, 0, "again"))
	var ids []sessions.ID
	for _, row := range rows[:3] {
		ids = append(ids, row.Event.ID)
	}
	list, err := f.Store.Outcomes(t.Context(), append(ids, sessions.NewID()))
	require.NoError(t, err)
	got := map[sessions.ID]sessions.EventOutcome{}
	for _, o := range list {
		if o.To == f.To {
			require.Equal(t, o.State == sessions.OutcomeWaiting, o.At.IsZero())
			o.At = time.Time{}
			got[o.EventID] = o
		}
	}
	want := map[sessions.ID]sessions.EventOutcome{}
	for i, state := range []sessions.OutcomeState{sessions.OutcomeDone, sessions.OutcomeDead, sessions.OutcomeWaiting} {
		want[ids[i]] = sessions.EventOutcome{EventID: ids[i], Type: sessions.JourneyStarted, To: f.To, State: state, Attempts: min(i, 1)}
	}
	require.Equal(t, want, got)
}

func doneStaysDone(t *testing.T, f Fixture) {
	f.record(t, Events(2)...)
	rows := f.claim(t, 2, lease)
	f.done(t, rows[:1])
	require.NoError(t, f.Store.Bury(t.Context(), f.To, rows[1].Seq, "poison"))
	for _, row := range rows { // a relay that is late
		require.NoError(t, f.Store.Retry(t.Context(), f.To, row.Seq, 0, "late"))
		require.NoError(t, f.Store.Release(t.Context(), f.To, []int64{row.Seq}, 0))
		require.NoError(t, f.Store.Bury(t.Context(), f.To, row.Seq, "late"))
	}
	require.Empty(t, f.claim(t, 10, lease))
	require.Equal(t, 1, f.backlog(t).Dead)
}

func backlogCounts(t *testing.T, f Fixture) {
	require.Equal(t, outbox.Backlog{To: f.To}, f.backlog(t))
	f.record(t, Events(3)...)
	f.claim(t, 1, lease)
	b := f.backlog(t)
	require.Equal(t, 3, b.Waiting)
	require.WithinDuration(t, time.Now(), b.Oldest, soon)
	require.True(t, b.NewerSince.IsZero())
}

func eventIntact(t *testing.T, f Fixture) {
	s := sessions.NewID()
	started, ended, flagged := Event(s, 1), Event(sessions.NewID(), 2), Event(sessions.NewID(), 3)
	ended.Type, ended.Reason, ended.At = sessions.JourneyEnded, sessions.EndTimeout, ended.At.Add(time.Hour)
	flagged.Type, flagged.Verdict, flagged.Count = sessions.LocationSuspicious, "mock", 3
	f.record(t, started, ended, flagged)
	for i, row := range f.claim(t, 10, lease) {
		require.Equal(t, []sessions.Event{started, ended, flagged}[i], row.Event)
	}
}

func destinationsApart(t *testing.T, f Fixture) {
	f.Record(t, Events(2)...)
	consumers := []string{"one", "two"}
	both := []outbox.Ask{{To: "one", Lease: lease}, {To: "two", Lease: lease}}
	claim := func(fanOut []string) outbox.Claimed {
		claimed, err := f.Store.Claim(t.Context(), outbox.Look{FanOut: fanOut, Asks: both, Limit: 10})
		require.NoError(t, err)
		return claimed
	}
	first := claim(consumers)
	require.Equal(t, 2, first.FannedOut)
	second := claim(consumers)
	require.Zero(t, second.FannedOut)
	rows := slices.Concat(first.Rows, second.Rows)
	require.Len(t, rows, 4, "each event once for each")
	for i, row := range rows {
		require.Equal(t, consumers[i/2], row.To)
	}
	require.NoError(t, f.Store.Done(t.Context(), "one", seqs(rows[:1])))
	require.NoError(t, f.Store.Bury(t.Context(), "one", rows[1].Seq, "poison"))
	require.NoError(t, f.Store.Release(t.Context(), "two", seqs(rows[2:]), 0))
	require.Empty(t, claim(nil).Rows[2:])
	list, err := f.Store.Backlog(t.Context(), consumers)
	require.NoError(t, err)
	for i, want := range []outbox.Backlog{{To: outbox.Bus}, {To: "one", Dead: 1}, {To: "two", Waiting: 2}} {
		list[i].Oldest = time.Time{}
		require.Equal(t, want, list[i])
	}
}
