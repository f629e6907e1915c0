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
		l, id := NewCallerLimit(time.Second, 3), NewID()
		for range 3 {
			require.Zero(t, l.Take(id, limitStart))
		}
		require.Equal(t, time.Second, l.Take(id, limitStart))
		require.Equal(t, 400*time.Millisecond, l.Take(id, limitStart.Add(600*time.Millisecond)))
		require.Zero(t, l.Take(id, limitStart.Add(time.Second)))
	})
	t.Run("a_refusal_costs_nothing", func(t *testing.T) {
		t.Parallel()
		l, id := NewCallerLimit(time.Second, 1), NewID()
		require.Zero(t, l.Take(id, limitStart))
		for range 1000 {
			require.Positive(t, l.Take(id, limitStart))
		}
		require.Zero(t, l.Take(id, limitStart.Add(time.Second)))
	})
	t.Run("each_caller_has_their_own", func(t *testing.T) {
		t.Parallel()
		l := NewCallerLimit(time.Second, 1)
		for range 100 {
			require.Zero(t, l.Take(NewID(), limitStart))
		}
	})
	t.Run("bounded_in_memory", func(t *testing.T) {
		t.Parallel()
		l := NewCallerLimit(time.Hour, 1)
		for range 16*3*limitGeneration + 7 {
			l.Take(NewID(), limitStart)
		}
		require.LessOrEqual(t, remembered(l), 16*2*limitGeneration)
	})
	t.Run("an_active_caller_is_remembered_through_a_flood", func(t *testing.T) {
		t.Parallel()
		l, id := NewCallerLimit(time.Hour, 1), NewID()
		require.Zero(t, l.Take(id, limitStart))
		for i := range 16 * 5 * limitGeneration {
			l.Take(NewID(), limitStart)
			if i%(16*limitGeneration/4) == 0 {
				require.Positive(t, l.Take(id, limitStart), "after %d others", i)
			}
		}
	})
	t.Run("what_is_given_back_was_never_taken", func(t *testing.T) {
		t.Parallel()
		l, id := NewCallerLimit(time.Hour, 2), NewID()
		for range 100 {
			require.Zero(t, l.Take(id, limitStart))
			l.GiveBack(id)
		}
		for range 2 {
			require.Zero(t, l.Take(id, limitStart))
		}
		require.Equal(t, time.Hour, l.Take(id, limitStart), "and no more than that")
	})
	t.Run("from_everywhere_at_once", func(t *testing.T) {
		t.Parallel()
		l, id := NewCallerLimit(time.Hour, 10), NewID()
		var passed atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 20 {
					if l.Take(id, limitStart) == 0 {
						passed.Add(1)
					}
					l.Take(NewID(), limitStart)
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
		l, id, now := NewCallerLimit(every, burst), ID("someone"), limitStart
		passed := 0
		for range rapid.IntRange(1, 60).Draw(rt, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(rt, "ms")) * time.Millisecond)
			wait := l.Take(id, now)
			if wait > 0 {
				now = now.Add(wait)
				require.Zero(rt, l.Take(id, now))
			}
			passed++
			require.LessOrEqual(rt, passed, burst+int(now.Sub(limitStart)/every))
		}
	})
}

func remembered(l *CallerLimit) (n int) {
	for i := range l.shards {
		n += len(l.shards[i].young) + len(l.shards[i].old)
	}
	return n
}

// What every request pays.
func BenchmarkCallerLimit_Take(b *testing.B) {
	ids := make([]ID, 10_000)
	for i := range ids {
		ids[i] = NewID()
	}
	for name, burst := range map[string]int{"passes": 1 << 30, "refused": 1} {
		b.Run(name, func(b *testing.B) {
			l := NewCallerLimit(time.Second, burst)
			for _, id := range ids {
				l.Take(id, limitStart)
			}
			var from atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := int(from.Add(5000)); pb.Next(); i++ {
					l.Take(ids[i%len(ids)], limitStart)
				}
			})
		})
	}
}
