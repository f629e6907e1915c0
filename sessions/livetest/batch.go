package livetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// batchTests are about Live.UpdateAll.
var batchTests = map[string]func(*testing.T, journey){
	"as_one_after_the_other": func(t *testing.T, j journey) {
		j = j.startedAgo(10 * time.Minute).begun(t)
		twin := j.sameTrainer().begun(t)
		fixes := make([]sessions.Fix, 75)
		for i := range fixes {
			fixes[i] = sessions.Fix{Point: north(1000 - 10*float64(i)), RecordedAt: j.Clock.Now().Add(time.Duration(i-74) * 4 * time.Second)}
		}
		fixes[7].Mock, fixes[20].Point, fixes[30].AccuracyM = true, north(5000), 500
		want, err := sessions.OneByOne(fixes, func(f sessions.Fix) (sessions.Receipt, error) { return twin.update(t, f), nil })
		require.NoError(t, err)
		require.Equal(t, want, j.updateAll(t, fixes...))
		require.Equal(t, describe(twin.latest(t)), describe(j.latest(t)))
	},
	"back_dated_fixes_at_the_door": func(t *testing.T, j journey) {
		j = j.startedAgo(30 * time.Second).begun(t)
		fixes := make([]sessions.Fix, 5)
		for i := range fixes {
			fixes[i] = sessions.Fix{Point: north(10 + float64(i)), RecordedAt: j.Clock.Now().Add(time.Duration(i-4) * 5 * time.Second)}
		}
		for i, receipt := range j.updateAll(t, fixes...) {
			require.Equal(t, sessions.VerdictStored, receipt.Verdict)
			require.Equal(t, i < 3, receipt.Late)
		}
		require.Equal(t, sessions.SuspiciousLocation, j.arrival(t))
	},
	"two_that_overlap": func(t *testing.T, j journey) {
		j = j.startedAgo(30 * time.Second).begun(t)
		at := func(ago time.Duration) sessions.Fix {
			return sessions.Fix{Point: north(10 + ago.Seconds()), RecordedAt: j.Clock.Now().Add(-ago)}
		}
		first := []sessions.Fix{at(15 * time.Second), at(10 * time.Second)}
		j.updateAll(t, first...)
		require.EqualValues(t, 1, j.latest(t).Evidence.Requests)
		receipts := j.updateAll(t, append(first, at(5*time.Second), at(0))...)
		require.Equal(t, sessions.VerdictStale, receipts[1].Verdict)
		require.Equal(t, sessions.VerdictStored, receipts[3].Verdict)
		require.EqualValues(t, 2, j.latest(t).Evidence.Requests, "the first that was stored counts")
	},
	"of_no_journey": func(t *testing.T, j journey) {
		fixes := []sessions.Fix{{Point: north(100)}, {Point: north(100)}}
		for _, r := range j.updateAll(t, fixes...) {
			require.Equal(t, sessions.Receipt{Verdict: sessions.VerdictUnknown}, r)
		}
		j.begun(t).end(t)
		for _, r := range j.updateAll(t, fixes...) {
			require.Equal(t, sessions.Receipt{Verdict: sessions.VerdictEnded}, r)
		}
	},
}

func (j journey) updateAll(t testing.TB, fixes ...sessions.Fix) []sessions.Receipt {
	t.Helper()
	receipts, err := j.Live.UpdateAll(t.Context(), j.Ref, fixes)
	require.NoError(t, err)
	require.Len(t, receipts, len(fixes))
	return receipts
}
