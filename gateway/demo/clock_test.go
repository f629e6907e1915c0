package demo

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClock_runs_faster(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
		clock := NewClock(start, 60)
		assert.Equal(t, start, clock.Now())
		time.Sleep(time.Second)
		assert.Equal(t, start.Add(time.Minute), clock.Now())
		assert.Equal(t, time.Minute, clock.Elapsed())
		assert.Equal(t, time.Second, clock.Real(time.Minute))
	})
}

func TestClock_Until(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock, began := NewClock(time.Unix(0, 0), 10), time.Now()
		require.NoError(t, clock.Until(t.Context(), time.Unix(5, 0)))
		assert.Equal(t, 500*time.Millisecond, time.Since(began))
		require.NoError(t, clock.Until(t.Context(), time.Unix(1, 0)), "long past")
		require.NoError(t, clock.Sleep(t.Context(), 20*time.Second))
		assert.Equal(t, 2500*time.Millisecond, time.Since(began))
	})
}

func TestClock_Until_ends_with_its_context(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock, began := NewClock(time.Unix(0, 0), 1), time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, clock.Until(ctx, time.Unix(3600, 0)), context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, clock.Until(ctx, time.Unix(0, 0)), context.DeadlineExceeded, "nothing to wait for, but nobody waits")
	})
}
