package sessions_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// oldRows has so many old rows of each kind, and keeps what it was asked.
type oldRows struct {
	mu     sync.Mutex
	old    map[sessions.Kept]int
	took   time.Duration
	theirs bool // another process deletes
	fault  error

	asked []sessions.Kept
	ages  map[sessions.Kept]time.Duration
}

func (o *oldRows) DeleteOld(_ context.Context, kind sessions.Kept, age time.Duration, limit int) (int, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	time.Sleep(o.took)
	o.asked = append(o.asked, kind)
	if o.ages == nil {
		o.ages = map[sessions.Kept]time.Duration{}
	}
	o.ages[kind] = age
	if o.fault != nil || o.theirs {
		return 0, !o.theirs, o.fault
	}
	n := min(limit, o.old[kind])
	o.old[kind] -= n
	return n, true, nil
}

type sweepCounts struct {
	mu         sync.Mutex
	rows       map[string]int
	ok, failed int
}

func (c *sweepCounts) RowsDeleted(table string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil {
		c.rows = map[string]int{}
	}
	c.rows[table] += n
}

func (c *sweepCounts) RetentionSwept(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.ok++
	} else {
		c.failed++
	}
}

func TestRetention_Sweep(t *testing.T) {
	t.Parallel()
	keepAll := map[sessions.Kept]time.Duration{}
	for i, kind := range sessions.AllKept() {
		keepAll[kind] = time.Duration(i+1) * time.Hour
		require.NotEmpty(t, kind.Table())
	}
	t.Run("deletes_each_kind_by_its_age", func(t *testing.T) {
		t.Parallel()
		rows, counts, log := &oldRows{old: map[sessions.Kept]int{sessions.DeadEvents: 3, sessions.DoneEvents: 4}}, &sweepCounts{}, &bytes.Buffer{}
		r := sessions.NewRetention(rows, sessions.RetentionOptions{Keep: keepAll, Metrics: counts, Log: slog.New(slog.NewTextHandler(log, nil))})
		require.NoError(t, r.Sweep(t.Context()))
		require.Equal(t, keepAll, rows.ages)
		require.Equal(t, 7, counts.rows["outbox"])
		require.Contains(t, log.String(), `msg="old rows deleted" table=outbox rows=7`)
		require.NotContains(t, log.String(), "push_tokens")
	})
	t.Run("keeps_for_ever_what_is_zero", func(t *testing.T) {
		t.Parallel()
		rows := &oldRows{old: map[sessions.Kept]int{sessions.JourneyRecords: 3}}
		r := sessions.NewRetention(rows, sessions.RetentionOptions{Keep: map[sessions.Kept]time.Duration{sessions.JourneyRecords: 0, sessions.HandledEvents: 1}})
		require.NoError(t, r.Sweep(t.Context()))
		require.Equal(t, []sessions.Kept{sessions.HandledEvents}, rows.asked)
	})
	t.Run("in_batches_at_a_bounded_rate", func(t *testing.T) {
		t.Parallel()
		for _, took := range []time.Duration{0, 400 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				rows := &oldRows{old: map[sessions.Kept]int{sessions.JourneyRecords: 250_500, sessions.UnusedPushTokens: 10}, took: took}
				counts, began := &sweepCounts{}, time.Now()
				r := sessions.NewRetention(rows, sessions.RetentionOptions{Metrics: counts, Keep: map[sessions.Kept]time.Duration{
					sessions.JourneyRecords: time.Hour, sessions.UnusedPushTokens: time.Hour,
				}})
				require.NoError(t, r.Sweep(t.Context()))
				require.Equal(t, map[string]int{"journey_analytics": 250_500, "push_tokens": 10}, counts.rows)
				require.GreaterOrEqual(t, time.Since(began), 250*max(100*time.Millisecond, 2*took))
				require.Equal(t, sessions.UnusedPushTokens, rows.asked[100], "one kind does not hold up the next")
			})
		}
	})
	t.Run("leaves_it_to_another_process", func(t *testing.T) {
		t.Parallel()
		rows := &oldRows{theirs: true}
		require.NoError(t, sessions.NewRetention(rows, sessions.RetentionOptions{Keep: keepAll}).Sweep(t.Context()))
		require.Len(t, rows.asked, len(keepAll))
	})
	t.Run("fault", func(t *testing.T) {
		t.Parallel()
		rows := &oldRows{fault: errors.New("away")}
		require.ErrorIs(t, sessions.NewRetention(rows, sessions.RetentionOptions{Keep: keepAll}).Sweep(t.Context()), rows.fault)
		require.Len(t, rows.asked, 1)
	})
}

func TestRetention_Run(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows, counts, log := &oldRows{old: map[sessions.Kept]int{sessions.DoneEvents: 1_000_000}}, &sweepCounts{}, &bytes.Buffer{}
		r := sessions.NewRetention(rows, sessions.RetentionOptions{
			Keep: map[sessions.Kept]time.Duration{sessions.DoneEvents: time.Hour}, Metrics: counts, Log: slog.New(slog.NewTextHandler(log, nil)),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		time.Sleep(time.Hour)
		rows.mu.Lock()
		rows.fault = errors.New("away")
		rows.mu.Unlock()
		time.Sleep(time.Hour)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.InDelta(t, 12, counts.ok, 4)
		require.InDelta(t, 12, counts.failed, 4)
		require.Equal(t, 1_000_000, counts.rows["outbox"])
		require.Contains(t, log.String(), `msg="old rows not deleted" error=away`)
	})
}
