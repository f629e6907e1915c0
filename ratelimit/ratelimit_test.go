package ratelimit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func newKey() string { return uuid.NewString() }

var start = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func TestLimit(t *testing.T) {
	t.Parallel()
	t.Run("a_burst_and_then_a_wait", func(t *testing.T) {
		t.Parallel()
		l, key := New(time.Second, 3), newKey()
		for range 3 {
			require.Zero(t, l.Take(key, start))
		}
		require.Equal(t, time.Second, l.Take(key, start))
		require.Equal(t, 400*time.Millisecond, l.Take(key, start.Add(600*time.Millisecond)))
		require.Zero(t, l.Take(key, start.Add(time.Second)))
	})
	t.Run("a_refusal_takes_nothing", func(t *testing.T) {
		t.Parallel()
		l, key := New(time.Second, 1), newKey()
		require.Zero(t, l.Take(key, start))
		for range 1000 {
			require.Positive(t, l.Take(key, start))
		}
		require.Zero(t, l.Take(key, start.Add(time.Second)))
	})
	t.Run("each_key_has_its_own", func(t *testing.T) {
		t.Parallel()
		l := New(time.Second, 1)
		for range 100 {
			require.Zero(t, l.Take(newKey(), start))
		}
	})
	t.Run("bounded_in_memory", func(t *testing.T) {
		t.Parallel()
		l := New(time.Hour, 1)
		for range 3*shardCount*shardKeys + 7 {
			l.Take(newKey(), start)
		}
		require.LessOrEqual(t, remembered(l), shardCount*shardKeys)
	})
	t.Run("an_active_key_is_remembered_through_a_flood", func(t *testing.T) {
		t.Parallel()
		l, key := New(time.Hour, 1), newKey()
		require.Zero(t, l.Take(key, start))
		for i := range 5 * shardCount * shardKeys {
			l.Take(newKey(), start)
			if i%(shardCount*shardKeys/2) == 0 {
				require.Positive(t, l.Take(key, start), "after %d others", i)
			}
		}
	})
	t.Run("give_back_undoes_take", func(t *testing.T) {
		t.Parallel()
		l, key := New(time.Hour, 2), newKey()
		for range 100 {
			require.Zero(t, l.Take(key, start))
			l.GiveBack(key)
		}
		for range 2 {
			require.Zero(t, l.Take(key, start))
		}
		require.Equal(t, time.Hour, l.Take(key, start), "and no more than that")
	})
	t.Run("concurrent", func(t *testing.T) {
		t.Parallel()
		l, key := New(time.Hour, 10), newKey()
		var passed atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 20 {
					if l.Take(key, start) == 0 {
						passed.Add(1)
					}
					l.Take(newKey(), start)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 10, passed.Load())
	})
}

// In any stretch of time at most the burst and what came due in it pass, and a
// caller that waits as long as it is told passes.
func TestLimit_any_times(t *testing.T) {
	t.Parallel()
	const every, burst = time.Second, 4
	rapid.Check(t, func(rt *rapid.T) {
		l, key, now := New(every, burst), "someone", start
		passed := 0
		for range rapid.IntRange(1, 60).Draw(rt, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(rt, "ms")) * time.Millisecond)
			wait := l.Take(key, now)
			if wait > 0 {
				now = now.Add(wait)
				require.Zero(rt, l.Take(key, now))
			}
			passed++
			require.LessOrEqual(rt, passed, burst+int(now.Sub(start)/every))
		}
	})
}

func remembered(l *Limit) (n int) {
	for i := range l.shards {
		n += l.shards[i].paid.Len()
	}
	return n
}

// BenchmarkLimit_Take is what every request pays.
func BenchmarkLimit_Take(b *testing.B) {
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = newKey()
	}
	for name, burst := range map[string]int{"passes": 1 << 30, "refused": 1} {
		b.Run(name, func(b *testing.B) {
			l := New(time.Second, burst)
			for _, key := range keys {
				l.Take(key, start)
			}
			var from atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := int(from.Add(5000)); pb.Next(); i++ {
					l.Take(keys[i%len(keys)], start)
				}
			})
		})
	}
}

// Who is at its limit when the clock is set back waits no longer than for a full burst, and gets one burst more at most.
func TestLimit_clock_set_back(t *testing.T) {
	t.Parallel()
	const every, burst = time.Second, 4
	rapid.Check(t, func(rt *rapid.T) {
		l, key := New(every, burst), "someone"
		for range rapid.IntRange(1, 6).Draw(rt, "before") {
			l.Take(key, start)
		}
		now := start.Add(-time.Duration(rapid.IntRange(0, 7200_000).Draw(rt, "ms")) * time.Millisecond)
		wait := l.Wait(key, now)
		require.LessOrEqual(rt, wait, burst*every+apart)
		now = now.Add(wait)
		passed := 0
		for l.Take(key, now) == 0 {
			passed++
		}
		require.GreaterOrEqual(rt, passed, 1)
		require.LessOrEqual(rt, passed, burst)
	})
}
