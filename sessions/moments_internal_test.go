package sessions

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// moments are all moments that were written, oldest first.
func (w *written) moments() (list []Moment) {
	for _, batch := range w.all() {
		for _, one := range batch {
			list = append(list, one.Moments...)
		}
	}
	slices.SortStableFunc(list, func(a, b Moment) int { return a.At.Compare(b.At) })
	return list
}

// A first fix, a silence, and what was not stored come with the counts: in the same
// batches, and no others.
func TestFixCounter_moments(t *testing.T) {
	t.Parallel()
	whileCounting(t, func(t *testing.T, repo *written, counter *FixCounter) {
		ref, began := Ref{SessionID: NewID()}, time.Now().UTC() // a full minute
		count := func(r Receipt) {
			r.At = time.Now().UTC()
			counter.count(ref, r, time.Now())
		}
		count(Receipt{Verdict: VerdictStored, SeenAgo: -time.Millisecond})
		time.Sleep(20 * time.Second)
		count(Receipt{Verdict: VerdictStored, SeenAgo: 20 * time.Second}) // no silence yet
		count(Receipt{Verdict: VerdictTooSoon})
		count(Receipt{Verdict: VerdictSpeed})
		time.Sleep(5 * time.Second)
		count(Receipt{Verdict: VerdictTooSoon})
		counter.refusedArrival(ref, Refuse(NotWithinRadius, ""), time.Now())
		counter.refusedArrival(ref, Refuse(Forbidden, ""), time.Now())
		time.Sleep(36 * time.Second) // the next minute
		count(Receipt{Verdict: VerdictStored, SeenAgo: 36 * time.Second})
		counter.phoneSeen(ref, time.Now())
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		list := repo.moments()
		for i := range list {
			require.Equal(t, list[i].Kind == AuditFirstFix, list[i].ID == "", "a first fix has the same id in every gateway")
			list[i].ID = ""
		}
		require.Equal(t, []Moment{
			{Kind: AuditFirstFix, At: began},
			{Kind: AuditNotStored, At: began, Detail: AuditDetail{Counts: map[string]int{"too_soon": 2, "refused_speed": 1, "arrival_not_within_radius": 1}}},
			{Kind: AuditSilenceBegan, At: began.Add(25 * time.Second)},
			{Kind: AuditNotStored, At: began.Add(time.Minute), Detail: AuditDetail{Counts: map[string]int{"unavailable": 1}}},
			{Kind: AuditSilenceEnded, At: began.Add(61 * time.Second), Detail: AuditDetail{Seconds: 36}},
		}, list)
		require.Zero(t, counter.Journeys())
		require.Zero(t, counter.noted.Load())
	})
}

// While the database is away a journey keeps a bounded number of moments; and so do all.
func TestFixCounter_moments_bounded(t *testing.T) {
	t.Parallel()
	counter, now := NewFixCounter(&written{}, FixCounterOptions{}), time.Now()
	ref := Ref{SessionID: NewID()}
	for minute := range 100 {
		counter.count(ref, Receipt{Verdict: VerdictStale}, now.Add(time.Duration(minute)*time.Minute))
	}
	list := counter.take(shardOf(ref.SessionID), time.Time{})
	require.Len(t, list[0].Moments, momentsUnwritten)
	counter.giveBack(list)
	require.EqualValues(t, momentsUnwritten, counter.noted.Load())
	counter.noted.Store(momentsInAll)
	counter.count(Ref{SessionID: NewID()}, Receipt{Verdict: VerdictStored, SeenAgo: -1}, now)
	require.EqualValues(t, momentsInAll, counter.noted.Load())
}

// A fix that is stored, as nearly all are, notices nothing and allocates nothing.
func TestFixCounter_count_allocates_nothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	counter, now := NewFixCounter(&written{}, FixCounterOptions{}), time.Now()
	ref := Ref{SessionID: NewID()}
	counter.count(ref, Receipt{Verdict: VerdictStored, SeenAgo: 5 * time.Second}, now)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		counter.count(ref, Receipt{Verdict: VerdictStored, SeenAgo: 5 * time.Second}, now)
	}))
}
