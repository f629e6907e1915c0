package hub_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/hub"
	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

const wait = 30 * time.Second

var caller = sessions.Caller{ID: "0b7b3ad8-1d2c-4b8f-9d3e-5f8a2c6e4b10", Role: sessions.Student}

var ref = sessions.Ref{TrainerID: "7f1f7f2e-93d5-4c3c-8a51-0e2d9b6a1c42", SessionID: "c0ffee00-93d5-4c3c-8a51-0e2d9b6a1c42"}

// inBubble runs a test on the clock of testing/synctest, on a fresh source.
func inBubble(t *testing.T, opts hub.Options, test func(*testing.T, *source, *hub.Hub)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{wakes: map[int]func(){}}
		h := hub.New(s, opts)
		test(t, s, h)
		synctest.Wait()
		assert.Zero(t, h.Waiting())
		assert.Zero(t, s.watched(), "every watch is stopped")
	})
}

// source is a version that wakes its watchers when it changes.
type source struct {
	version atomic.Int64
	reads   atomic.Int64
	fails   error // of Watch

	mu    sync.Mutex
	last  int
	wakes map[int]func()
	calls []string // what happened, in order
}

func (s *source) Watch(_ context.Context, _ sessions.Ref, wake func()) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, "watch")
	if s.fails != nil {
		return nil, s.fails
	}
	s.last++
	id := s.last
	s.wakes[id] = wake
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.wakes, id)
	}, nil
}

func (s *source) watched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wakes)
}

// change makes a new version, and wakes the watchers unless the wake-up is lost.
func (s *source) change(wake bool) {
	s.version.Add(1)
	if wake {
		s.wake()
	}
}

func (s *source) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, wake := range s.wakes {
		wake()
	}
}

// newerThan is a read that reports a change from a version.
func (s *source) newerThan(seen int64) func(context.Context, bool) (bool, error) {
	return func(_ context.Context, timeUp bool) (bool, error) {
		s.mu.Lock()
		if timeUp {
			s.calls = append(s.calls, "read, the time is up")
		} else {
			s.calls = append(s.calls, "read")
		}
		s.mu.Unlock()
		s.reads.Add(1)
		return s.version.Load() > seen, nil
	}
}

// result is how a wait ended, and after how long.
type result struct {
	outcome hub.Outcome
	err     error
	took    time.Duration
}

func waitFor(ctx context.Context, h *hub.Hub, d time.Duration, read func(context.Context, bool) (bool, error)) result {
	began := time.Now()
	outcome, err := h.Wait(ctx, caller, ref, d, read)
	return result{outcome, err, time.Since(began)}
}

// started waits in a goroutine; the channel gives its result.
func started(ctx context.Context, h *hub.Hub, s *source) <-chan result {
	done := make(chan result, 1)
	go func() { done <- waitFor(ctx, h, wait, s.newerThan(0)) }()
	synctest.Wait()
	return done
}

func TestHub_Wait_changed_already(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		s.change(false)
		require.Equal(t, result{hub.Changed, nil, 0}, waitFor(t.Context(), h, wait, s.newerThan(0)))
		require.Equal(t, []string{"watch", "read"}, s.calls, "register, then read")
	})
}

// A change between the read and the wait has already woken the waiter.
func TestHub_Wait_changed_between_read_and_wait(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		newer := s.newerThan(0)
		read := func(ctx context.Context, timeUp bool) (bool, error) {
			changed, err := newer(ctx, timeUp)
			if s.reads.Load() == 1 {
				s.change(true)
			}
			return changed, err
		}
		require.Equal(t, result{hub.Changed, nil, 0}, waitFor(t.Context(), h, wait, read))
		require.EqualValues(t, 2, s.reads.Load())
	})
}

func TestHub_Wait_woken(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h, s)
		require.Equal(t, 1, h.Waiting())
		time.Sleep(7 * time.Second)
		s.change(true)
		require.Equal(t, result{hub.Changed, nil, 7 * time.Second}, <-done)
	})
}

func TestHub_Wait_woken_for_nothing(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h, s)
		for range 3 {
			s.wake()
			synctest.Wait()
		}
		require.EqualValues(t, 4, s.reads.Load())
		require.Equal(t, result{hub.TimedOut, nil, wait}, <-done)
	})
}

// Any number of wake-ups during a read cause one more read.
func TestHub_Wait_wakes_are_one(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		newer := s.newerThan(0)
		read := func(ctx context.Context, timeUp bool) (bool, error) {
			changed, err := newer(ctx, timeUp)
			for range 5 * (2 - min(s.reads.Load(), 2)) {
				s.wake()
			}
			return changed, err
		}
		require.Equal(t, result{hub.TimedOut, nil, wait}, waitFor(t.Context(), h, wait, read))
		require.EqualValues(t, 3, s.reads.Load(), "at first, woken, at last")
	})
}

func TestHub_Wait_timed_out(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		require.Equal(t, result{hub.TimedOut, nil, wait}, waitFor(t.Context(), h, wait, s.newerThan(0)))
		require.Equal(t, []string{"watch", "read", "read, the time is up"}, s.calls)
	})
}

// A lost wake-up costs the time-out, never the change.
func TestHub_Wait_lost_wake(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h, s)
		s.change(false)
		require.Equal(t, result{hub.Changed, nil, wait}, <-done)
	})
}

func TestHub_Wait_no_time(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		require.Equal(t, result{hub.TimedOut, nil, 0}, waitFor(t.Context(), h, 0, s.newerThan(0)))
	})
}

func TestHub_Wait_left(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		ctx, cancel := context.WithCancel(t.Context())
		done := started(ctx, h, s)
		time.Sleep(time.Second)
		cancel()
		require.Equal(t, result{hub.Left, nil, time.Second}, <-done)
		require.EqualValues(t, 1, s.reads.Load(), "no read after the caller has left")
	})
}

// A caller that leaves during a read has left; the wait has not failed.
func TestHub_Wait_left_during_a_call(t *testing.T) {
	t.Run("watch", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			s.fails = ctx.Err()
			require.Equal(t, result{hub.Left, nil, 0}, waitFor(ctx, h, wait, s.newerThan(0)))
		})
	})
	t.Run("read", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, _ *source, h *hub.Hub) {
			ctx, cancel := context.WithCancel(t.Context())
			read := func(ctx context.Context, _ bool) (bool, error) {
				cancel()
				return false, ctx.Err()
			}
			require.Equal(t, result{hub.Left, nil, 0}, waitFor(ctx, h, wait, read))
		})
	})
}

func TestHub_Wait_failed(t *testing.T) {
	broken := errors.New("broken")
	t.Run("watch", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			s.fails = broken
			require.Equal(t, result{hub.Failed, broken, 0}, waitFor(t.Context(), h, wait, s.newerThan(0)))
		})
	})
	t.Run("read", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, _ *source, h *hub.Hub) {
			read := func(context.Context, bool) (bool, error) { return false, broken }
			require.Equal(t, result{hub.Failed, broken, 0}, waitFor(t.Context(), h, wait, read))
		})
	})
	t.Run("last_read", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			newer := s.newerThan(0)
			read := func(ctx context.Context, timeUp bool) (bool, error) {
				if s.reads.Load() > 0 {
					return false, broken
				}
				return newer(ctx, timeUp)
			}
			require.Equal(t, result{hub.Failed, broken, wait}, waitFor(t.Context(), h, wait, read))
		})
	})
}

func TestHub_Drain(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		first, second := started(t.Context(), h, s), started(t.Context(), h, s)
		time.Sleep(time.Second)
		h.Drain()
		h.Drain()
		require.Equal(t, result{hub.Drained, nil, time.Second}, <-first)
		require.Equal(t, result{hub.Drained, nil, time.Second}, <-second)
		require.NotContains(t, s.calls, "read, the time is up", "a drain must not make every waiter read the store itself")
		require.Equal(t, result{hub.Drained, nil, 0}, waitFor(t.Context(), h, wait, s.newerThan(0)), "a wait that begins after the drain, too")
		s.change(true)
		require.Equal(t, hub.Changed, waitFor(t.Context(), h, wait, s.newerThan(0)).outcome, "a change is still reported")
	})
}

func TestHub_Drain_with_an_unheard_change(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h, s)
		s.change(false)
		h.Drain()
		require.Equal(t, hub.Changed, (<-done).outcome)
	})
}

func TestHub_limits(t *testing.T) {
	other := sessions.Caller{ID: "5ca1ab1e-93d5-4c3c-8a51-0e2d9b6a1c42", Role: sessions.Student}
	t.Run("per_caller", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			waits := make([]<-chan result, 4)
			for i := range waits {
				waits[i] = started(t.Context(), h, s)
			}
			time.Sleep(time.Second)
			fifth := started(t.Context(), h, s)
			require.Equal(t, result{hub.Displaced, hub.ErrTooMany, time.Second}, <-waits[0], "the oldest makes room at once")
			require.Equal(t, 4, h.Waiting())
			waits = append(waits[1:], fifth)
			outcome, err := h.Wait(t.Context(), other, ref, 0, s.newerThan(0))
			require.NoError(t, err)
			require.Equal(t, hub.TimedOut, outcome, "another caller")
			s.change(true)
			for _, done := range waits {
				require.Equal(t, hub.Changed, (<-done).outcome)
			}
			require.NoError(t, waitFor(t.Context(), h, wait, s.newerThan(0)).err, "the place is free again")
		})
	})
	t.Run("total", func(t *testing.T) {
		inBubble(t, hub.Options{Total: 1}, func(t *testing.T, s *source, h *hub.Hub) {
			done := started(t.Context(), h, s)
			_, err := h.Wait(t.Context(), other, ref, wait, s.newerThan(0))
			require.ErrorIs(t, err, hub.ErrFull)
			s.change(true)
			<-done
			require.NoError(t, waitFor(t.Context(), h, wait, s.newerThan(0)).err)
		})
	})
	t.Run("a_caller's_own_comes_first", func(t *testing.T) {
		inBubble(t, hub.Options{Total: 1, PerCaller: 1}, func(t *testing.T, s *source, h *hub.Hub) {
			done := started(t.Context(), h, s)
			newer := started(t.Context(), h, s)
			require.Equal(t, hub.Displaced, (<-done).outcome, "the caller's own limit is checked first")
			_, err := h.Wait(t.Context(), other, ref, wait, s.newerThan(0))
			require.ErrorIs(t, err, hub.ErrFull)
			s.change(true)
			require.Equal(t, hub.Changed, (<-newer).outcome)
		})
	})
	t.Run("after_a_failure", func(t *testing.T) {
		inBubble(t, hub.Options{PerCaller: 1}, func(t *testing.T, s *source, h *hub.Hub) {
			s.fails = errors.New("broken")
			for range 3 {
				require.ErrorIs(t, waitFor(t.Context(), h, wait, s.newerThan(0)).err, s.fails)
			}
		})
	})
	t.Run("after_a_panic", func(t *testing.T) {
		m := &meter{}
		inBubble(t, hub.Options{PerCaller: 1, Metrics: m}, func(t *testing.T, s *source, h *hub.Hub) {
			for range 3 {
				require.PanicsWithValue(t, "reader", func() {
					waitFor(t.Context(), h, wait, func(context.Context, bool) (bool, error) { panic("reader") })
				})
			}
			require.Zero(t, m.open.Load())
			require.Zero(t, s.watched())
		})
	})
}

func TestHub_metrics(t *testing.T) {
	m := &meter{}
	inBubble(t, hub.Options{Metrics: m}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h, s)
		require.EqualValues(t, 1, m.open.Load())
		time.Sleep(3 * time.Second)
		s.change(true)
		<-done
		require.Zero(t, m.open.Load())
		require.Equal(t, []string{"changed 3s"}, m.ended)
	})
}

type meter struct {
	open  atomic.Int64
	mu    sync.Mutex
	ended []string
}

func (m *meter) Waiting(delta int) { m.open.Add(int64(delta)) }

func (m *meter) Waited(outcome string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = append(m.ended, outcome+" "+took.String())
}

// Ten thousand waiters on the in-process live store: each sees the change, and no
// goroutine is left.
func TestHub_many(t *testing.T) {
	const waiters = 10_000
	clock := time.Now()
	live := memory.NewLive(sessions.LiveOptions{}, func() time.Time { return clock })
	h := hub.New(live, hub.Options{})
	before := runtime.NumGoroutine()
	journeys := make([]sessions.Journey, 100)
	for i := range journeys {
		journeys[i] = sessions.Journey{
			Ref:  sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()},
			Home: geo.MustPoint(1, 2), Mode: sessions.Walk, StartedAt: clock,
		}
	}
	var wg sync.WaitGroup
	for i := range waiters {
		j := journeys[i%len(journeys)]
		wg.Go(func() {
			outcome, err := h.Wait(t.Context(), sessions.Caller{ID: sessions.NewID()}, j.Ref, time.Minute, func(ctx context.Context, _ bool) (bool, error) {
				snap, err := live.Latest(ctx, j.Ref)
				return snap.Active, err
			})
			assert.NoError(t, err)
			assert.Equal(t, hub.Changed, outcome)
		})
	}
	// The changes come while waits begin and while they wait.
	for _, j := range journeys {
		_, err := live.Open(t.Context(), j)
		require.NoError(t, err)
	}
	wg.Wait()
	require.Zero(t, h.Waiting())
	for range 10_000 { // a goroutine that has called Done is not gone at once
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	require.Fail(t, "goroutines are left", "%d, at first %d", runtime.NumGoroutine(), before)
}

func BenchmarkHub_Wait(b *testing.B) {
	live := memory.NewLive(sessions.LiveOptions{}, time.Now)
	h := hub.New(live, hub.Options{})
	changed := func(context.Context, bool) (bool, error) { return true, nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Wait(b.Context(), caller, ref, wait, changed); err != nil {
			b.Fatal(err)
		}
	}
}

// A read that returned ErrUnread is repeated, less and less often, because the last
// wake-up may have been lost.
func TestHub_Wait_reads_again_what_could_not_be_read(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, _ *source, h *hub.Hub) {
		began, reads := time.Now(), 0
		outcome, err := h.Wait(t.Context(), caller, ref, wait, func(context.Context, bool) (bool, error) {
			if reads++; reads < 4 {
				return false, hub.ErrUnread
			}
			return true, nil
		})
		require.NoError(t, err)
		assert.Equal(t, hub.Changed, outcome)
		assert.Less(t, time.Since(began), 700*time.Millisecond, "100, 200 and 400 ms at most")
		assert.GreaterOrEqual(t, time.Since(began), 350*time.Millisecond, "half of that at least")
	})
}

func TestHub_Wait_asks_seldom_what_stays_unread(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, _ *source, h *hub.Hub) {
		reads := 0
		outcome, err := h.Wait(t.Context(), caller, ref, wait, func(context.Context, bool) (bool, error) {
			reads++
			return false, hub.ErrUnread
		})
		require.NoError(t, err)
		assert.Equal(t, hub.TimedOut, outcome)
		assert.Less(t, reads, 25)
	})
}

// After a read that succeeded nothing is repeated.
func TestHub_Wait_reads_no_more_than_it_must(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, _ *source, h *hub.Hub) {
		reads := 0
		outcome, err := h.Wait(t.Context(), caller, ref, wait, func(context.Context, bool) (bool, error) {
			if reads++; reads == 1 {
				return false, hub.ErrUnread
			}
			return false, nil
		})
		require.NoError(t, err)
		assert.Equal(t, hub.TimedOut, outcome)
		assert.Equal(t, 3, reads, "the first, its repetition, and the last")
	})
}
