package sessions

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var limitStart = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func TestCallerLimit(t *testing.T) {
	t.Parallel()
	t.Run("a_burst_and_then_a_wait", func(t *testing.T) {
		t.Parallel()
		l, id := newCallerLimit(time.Second, 3), NewID()
		for range 3 {
			require.Zero(t, l.take(id, limitStart))
		}
		require.Equal(t, time.Second, l.take(id, limitStart))
		require.Equal(t, 400*time.Millisecond, l.take(id, limitStart.Add(600*time.Millisecond)))
		require.Zero(t, l.take(id, limitStart.Add(time.Second)))
	})
	t.Run("a_refusal_costs_nothing", func(t *testing.T) {
		t.Parallel()
		l, id := newCallerLimit(time.Second, 1), NewID()
		require.Zero(t, l.take(id, limitStart))
		for range 1000 {
			require.Positive(t, l.take(id, limitStart))
		}
		require.Zero(t, l.take(id, limitStart.Add(time.Second)))
	})
	t.Run("each_caller_has_their_own", func(t *testing.T) {
		t.Parallel()
		l := newCallerLimit(time.Second, 1)
		for range 100 {
			require.Zero(t, l.take(NewID(), limitStart))
		}
	})
	t.Run("bounded_in_memory", func(t *testing.T) {
		t.Parallel()
		l := newCallerLimit(time.Hour, 1)
		for range 3*limitGeneration + 7 {
			l.take(NewID(), limitStart)
		}
		require.LessOrEqual(t, len(l.young)+len(l.old), 2*limitGeneration)
	})
	t.Run("an_active_caller_is_remembered_through_a_flood", func(t *testing.T) {
		t.Parallel()
		l, id := newCallerLimit(time.Hour, 1), NewID()
		require.Zero(t, l.take(id, limitStart))
		for i := range 5 * limitGeneration {
			l.take(NewID(), limitStart)
			if i%(limitGeneration/2) == 0 {
				require.Positive(t, l.take(id, limitStart), "after %d others", i)
			}
		}
	})
	t.Run("from_everywhere_at_once", func(t *testing.T) {
		t.Parallel()
		l, id := newCallerLimit(time.Hour, 10), NewID()
		var passed atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 20 {
					if l.take(id, limitStart) == 0 {
						passed.Add(1)
					}
					l.take(NewID(), limitStart)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 10, passed.Load())
	})
}

// In any stretch of time no more pass than the burst and what came due in it;
// who waits as long as told passes.
func TestCallerLimit_any_times(t *testing.T) {
	t.Parallel()
	const every, burst = time.Second, 4
	rapid.Check(t, func(rt *rapid.T) {
		l, id, now := newCallerLimit(every, burst), ID("someone"), limitStart
		passed := 0
		for range rapid.IntRange(1, 60).Draw(rt, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(rt, "ms")) * time.Millisecond)
			wait := l.take(id, now)
			if wait > 0 {
				now = now.Add(wait + time.Microsecond) // the bucket counts in floats
				require.Zero(rt, l.take(id, now))
			}
			passed++
			require.LessOrEqual(rt, passed, burst+int(now.Sub(limitStart)/every))
		}
	})
}
