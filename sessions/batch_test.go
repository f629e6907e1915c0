package sessions_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/geo"
	"doorstep/sessions"
)

const (
	interval, tolerance, staleAfter = 5 * time.Second, time.Second, 5 * time.Minute
)

// taken is a fix that was recorded so long after noon and sent at noon + sent; no
// sent for none.
func taken(after time.Duration, sent ...time.Duration) sessions.Fix {
	f := sessions.Fix{Point: park, RecordedAt: noon.Add(after)}
	if len(sent) > 0 {
		f.SentAt = noon.Add(sent[0])
	}
	f, _ = sessions.NewFix(f)
	return f
}

// every is a fix each step from noon on, n of them.
func every(step time.Duration, n int, sent ...time.Duration) (fixes []sessions.Fix) {
	for i := range n {
		fixes = append(fixes, taken(time.Duration(i)*step, sent...))
	}
	return fixes
}

func thin(fixes []sessions.Fix) sessions.Thinned {
	return sessions.Thin(fixes, interval, tolerance, staleAfter)
}

// seconds are the fixes' times after noon; -1 for none.
func seconds(fixes []sessions.Fix) (all []float64) {
	for _, f := range fixes {
		s := -1.0
		if !f.RecordedAt.IsZero() {
			s = f.RecordedAt.Sub(noon).Seconds()
		}
		all = append(all, s)
	}
	return all
}

func TestThin(t *testing.T) {
	t.Parallel()
	s, unknown := time.Second, sessions.Fix{Point: park}
	for name, c := range map[string]struct {
		fixes          []sessions.Fix
		left           []float64
		stale, tooSoon int
	}{
		"one":                            {[]sessions.Fix{taken(0)}, []float64{0}, 0, 0},
		"in order":                       {every(5*s, 3), []float64{0, 5, 10}, 0, 0},
		"newest first":                   {[]sessions.Fix{taken(10 * s), taken(5 * s), taken(0)}, []float64{0, 5, 10}, 0, 0},
		"one a second":                   {every(s, 12), []float64{1, 6, 11}, 0, 9},
		"jitter":                         {[]sessions.Fix{taken(0), taken(4700 * time.Millisecond), taken(10 * s), taken(14600 * time.Millisecond)}, []float64{0, 4.7, 10, 14.6}, 0, 0},
		"half the tolerance":             {[]sessions.Fix{taken(0), taken(4499 * time.Millisecond)}, []float64{4.499}, 0, 1},
		"a repeat":                       {[]sessions.Fix{taken(0), taken(5 * s), taken(5 * s)}, []float64{0, 5}, 0, 1},
		"old by the newest":              {[]sessions.Fix{taken(0), taken(s), taken(301 * s)}, []float64{1, 301}, 1, 0},
		"old by SentAt":                  {[]sessions.Fix{taken(0, 310*s), taken(5*s, 310*s), taken(10*s, 310*s)}, []float64{10}, 2, 0},
		"all old":                        {every(5*s, 3, time.Hour), []float64{10}, 2, 0},
		"no clock is now":                {[]sessions.Fix{unknown, taken(5 * s), taken(0), unknown}, []float64{0, 5, -1}, 0, 1},
		"no clock beside SentAt":         {[]sessions.Fix{unknown, taken(6*s, 10*s), taken(0, 10*s)}, []float64{0, -1}, 0, 1},
		"no clock at all":                {[]sessions.Fix{unknown, unknown, unknown}, []float64{-1}, 0, 2},
		"a clock set back":               {[]sessions.Fix{taken(6*time.Hour, 20*s), taken(10*s, 20*s), taken(15*s, 20*s)}, []float64{10, 15}, 1, 0},
		"a clock set forward":            {[]sessions.Fix{taken(-6*time.Hour, 20*s), taken(10*s, 20*s), taken(15*s, 20*s)}, []float64{10, 15}, 1, 0},
		"a clock set back, all else old": {[]sessions.Fix{taken(6*time.Hour, time.Hour), taken(0, time.Hour)}, []float64{0}, 1, 0},
		"SentAt in whole seconds":        {[]sessions.Fix{taken(0, 5*s), taken(5400*time.Millisecond, 5*s)}, []float64{0, 5.4}, 0, 0},
		"SentAt before all":              {[]sessions.Fix{taken(0, -time.Hour), taken(5*s, -time.Hour)}, []float64{0, 5}, 0, 0},
		"five minutes":                   {every(5*s, 61), seconds(every(5*s, 61)), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := thin(c.fixes)
			assert.Equal(t, c.left, seconds(got.Fixes))
			assert.Equal(t, []int{c.stale, c.tooSoon}, []int{got.Stale, got.TooSoon}, "stale, too soon")
		})
	}
}

// drawBatch draws a batch as NewFix makes it: any times within some minutes, with
// or without SentAt.
func drawBatch(t *rapid.T) []sessions.Fix {
	sent := time.Duration(rapid.Int64Range(-600_000, 900_000).Draw(t, "sent ms")) * time.Millisecond
	with := rapid.Bool().Draw(t, "with SentAt")
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) sessions.Fix {
		f := sessions.Fix{Point: geo.MustPoint(rapid.Float64Range(-90, 90).Draw(t, "lat"), 77)}
		if rapid.IntRange(0, 9).Draw(t, "clock") > 0 {
			f.RecordedAt = noon.Add(time.Duration(rapid.Int64Range(0, 600_000).Draw(t, "ms")) * time.Millisecond)
		}
		if with {
			f.SentAt = noon.Add(sent)
		}
		f, err := sessions.NewFix(f)
		require.NoError(t, err)
		return f
	}), 1, sessions.MaxBatch).Draw(t, "batch")
}

// Whatever a batch holds: nothing is lost or made up, what is left is sorted and
// fits the rate of a live store that has all its tolerance, the newest is among
// it, and thinning it again changes nothing.
func TestThin_any(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		batch := drawBatch(t)
		got := thin(batch)
		require.NotEmpty(t, got.Fixes)
		require.LessOrEqual(t, len(got.Fixes), 75)
		require.Len(t, batch, len(got.Fixes)+got.Stale+got.TooSoon)
		var due, last, newest time.Time // of the rate; the one before; the newest that a clock of SentAt can have recorded
		var sent bool
		for _, f := range batch {
			sent = sent || !f.SentAt.IsZero()
		}
		for _, f := range batch {
			if f.RecordedAt.After(newest) && (!sent || !f.SentAt.IsZero()) {
				newest = f.RecordedAt
			}
		}
		unknown := 0
		for _, f := range got.Fixes {
			require.Contains(t, batch, f)
			if f.RecordedAt.IsZero() {
				unknown++
				continue
			}
			require.Zero(t, unknown, "fixes without a clock come last")
			require.True(t, f.RecordedAt.After(last), "sorted")
			require.False(t, f.RecordedAt.Before(due.Add(-tolerance)), "the store would refuse it")
			last = f.RecordedAt
			if f.RecordedAt.After(due) {
				due = f.RecordedAt
			}
			due = due.Add(interval)
		}
		require.LessOrEqual(t, unknown, 1)
		if unknown == 0 {
			require.False(t, last.Before(newest), "the newest stays")
		}
		again := thin(got.Fixes)
		require.Equal(t, got.Fixes, again.Fixes)
		require.Zero(t, again.Stale+again.TooSoon)
	})
}

// batchLive is a live store that keeps what it is given and answers by a script.
type batchLive struct {
	sessions.Live
	got    []sessions.Fix
	answer func(ctx context.Context, n int) (sessions.Receipt, error)
}

func (l *batchLive) Update(ctx context.Context, _ sessions.Ref, f sessions.Fix) (sessions.Receipt, error) {
	l.got = append(l.got, f)
	return l.answer(ctx, len(l.got)-1)
}

func (l *batchLive) UpdateAll(ctx context.Context, ref sessions.Ref, fixes []sessions.Fix) ([]sessions.Receipt, error) {
	return sessions.OneByOne(fixes, func(f sessions.Fix) (sessions.Receipt, error) { return l.Update(ctx, ref, f) })
}

func verdicts(all ...sessions.Verdict) func(context.Context, int) (sessions.Receipt, error) {
	return func(_ context.Context, n int) (sessions.Receipt, error) {
		r := sessions.Receipt{Verdict: all[n], At: noon, RetryAfter: 3 * time.Second}
		if r.Verdict >= sessions.VerdictStale {
			r.Version, r.NextUpdate = int64(n+1), 5*time.Second
		}
		return r, nil
	}
}

func updateBatch(t *testing.T, live *batchLive, fixes []sessions.Fix) (sessions.Receipt, map[sessions.Verdict]int, error) {
	t.Helper()
	service := sessions.NewService(nil, live, sessions.ServiceOptions{})
	counts := map[sessions.Verdict]int{}
	r, err := service.UpdateBatch(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}, sessions.NewID(), fixes,
		func(r sessions.Receipt) { counts[r.Verdict]++ })
	return r, counts, err
}

func TestService_UpdateBatch(t *testing.T) {
	t.Parallel()
	const stored, jump, stale, tooSoon = sessions.VerdictStored, sessions.VerdictJump, sessions.VerdictStale, sessions.VerdictTooSoon
	live := &batchLive{answer: verdicts(stale, stored, jump, stored)}
	receipt, counts, err := updateBatch(t, live, append(every(5*time.Second, 4), taken(-time.Hour), taken(0), taken(14*time.Second)))
	require.NoError(t, err)
	assert.Equal(t, []float64{0, 5, 10, 15}, seconds(live.got), "oldest first, thinned")
	assert.Equal(t, int64(4), receipt.Version, "the newest fix's receipt")
	assert.Equal(t, map[sessions.Verdict]int{stored: 2, jump: 1, stale: 2, sessions.VerdictIgnoredTooSoon: 2}, counts)
	var continued []bool
	for _, f := range live.got {
		continued = append(continued, f.Continued)
	}
	assert.Equal(t, []bool{false, false, true, true}, continued, "after the first one that is stored")

	live = &batchLive{answer: verdicts(stored, tooSoon)}
	receipt, _, err = updateBatch(t, live, every(5*time.Second, 2))
	require.NoError(t, err)
	assert.Equal(t, sessions.Receipt{Verdict: tooSoon, At: noon, Version: 1, RetryAfter: 3 * time.Second, NextUpdate: 3 * time.Second}, receipt)
}

func TestService_UpdateBatch_store_away(t *testing.T) {
	t.Parallel()
	away := func(_ context.Context, n int) (sessions.Receipt, error) {
		if n == 1 {
			return sessions.Receipt{}, sessions.ErrUnavailable
		}
		return sessions.Receipt{Verdict: sessions.VerdictStored}, nil
	}
	live := &batchLive{answer: away}
	_, counts, err := updateBatch(t, live, every(5*time.Second, 4))
	require.True(t, sessions.Unavailable(err), "%v", err)
	assert.Empty(t, counts)
}
