package hub_test

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
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
		h := hub.New(s, s, opts)
		test(t, s, h)
		synctest.Wait()
		assert.Zero(t, h.Waiting())
		assert.Zero(t, s.watched(), "every watch is stopped")
	})
}

// source is a version that wakes its watchers when it changes. It is the Reader, too.
type source struct {
	version  atomic.Int64
	reads    atomic.Int64                             // of Cached and Read
	fails    error                                    // of Watch
	uncached atomic.Bool                              // every read takes a round trip
	onRead   func(n int64) (degraded bool, err error) // nil: nothing happens at the n-th read

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

func (s *source) Cached(ref sessions.Ref) (sessions.View, bool) {
	if s.uncached.Load() {
		return sessions.View{}, false
	}
	view, err := s.read(ref, "look")
	return view, err == nil
}

func (s *source) Read(_ context.Context, ref sessions.Ref) (sessions.View, error) {
	return s.read(ref, "read")
}

func (s *source) read(ref sessions.Ref, how string) (sessions.View, error) {
	s.mu.Lock()
	s.calls = append(s.calls, how)
	s.mu.Unlock()
	n := s.reads.Add(1)
	view := sessions.View{Ref: ref, Snapshot: sessions.Snapshot{Version: s.version.Load()}}
	if s.onRead == nil {
		return view, nil
	}
	var err error
	view.Degraded, err = s.onRead(n)
	return view, err
}

// newerThan is news of every later version.
func newerThan(seen int64) func(sessions.View) bool {
	return func(v sessions.View) bool { return v.Version > seen }
}

// result is how a wait ended, and after how long.
type result struct {
	outcome hub.Outcome
	err     error
	took    time.Duration
}

func waitFor(ctx context.Context, h *hub.Hub, d time.Duration) result {
	return waitAs(ctx, h, caller, d)
}

func waitAs(ctx context.Context, h *hub.Hub, caller sessions.Caller, d time.Duration) result {
	began := time.Now()
	r := h.Wait(ctx, caller, ref, d, newerThan(0))
	return result{r.Outcome, r.Err, time.Since(began)}
}

// started waits in a goroutine; the channel gives its result.
func started(ctx context.Context, h *hub.Hub) <-chan result {
	done := make(chan result, 1)
	go func() { done <- waitFor(ctx, h, wait) }()
	synctest.Wait()
	return done
}

func TestHub_Wait_changed_already(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		s.change(false)
		require.Equal(t, result{hub.Changed, nil, 0}, waitFor(t.Context(), h, wait))
		require.Equal(t, []string{"watch", "look"}, s.calls, "register, then read")
	})
}

// A change between the read and the wait has already woken the waiter.
func TestHub_Wait_changed_between_read_and_wait(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		s.onRead = func(n int64) (bool, error) {
			if n == 1 {
				s.change(true)
			}
			return false, nil
		}
		require.Equal(t, result{hub.Changed, nil, 0}, waitFor(t.Context(), h, wait))
		require.EqualValues(t, 2, s.reads.Load())
	})
}

func TestHub_Wait_woken(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h)
		require.Equal(t, 1, h.Waiting())
		time.Sleep(7 * time.Second)
		s.change(true)
		require.Equal(t, result{hub.Changed, nil, 7 * time.Second}, <-done)
	})
}

func TestHub_Wait_woken_for_nothing(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h)
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
		s.onRead = func(n int64) (bool, error) {
			for range 5 * (2 - min(n, 2)) {
				s.wake()
			}
			return false, nil
		}
		require.Equal(t, result{hub.TimedOut, nil, wait}, waitFor(t.Context(), h, wait))
		require.EqualValues(t, 3, s.reads.Load(), "at first, woken, at last")
	})
}

// The same for the look at a session that waits already, with and without a round
// trip.
func TestHub_Wait_woken_while_it_is_looked_at(t *testing.T) {
	for _, uncached := range []bool{false, true} {
		t.Run(map[bool]string{false: "cached", true: "read"}[uncached], func(t *testing.T) {
			inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
				s.uncached.Store(uncached)
				s.onRead = func(n int64) (bool, error) {
					if n == 2 {
						s.wake()
						s.wake()
					}
					if n == 3 {
						s.change(true) // this look does not show it
					}
					return false, nil
				}
				done := started(t.Context(), h)
				s.wake()
				require.Equal(t, result{hub.Changed, nil, 0}, <-done)
				require.EqualValues(t, 4, s.reads.Load())
			})
		})
	}
}

// All waits of a session are ended by one read, and are given the same change.
func TestHub_Wait_one_read_for_all(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		changes := make(chan *hub.Change, 100)
		for range cap(changes) {
			w, _ := h.Begin(t.Context(), sessions.Caller{ID: sessions.NewID()}, ref, wait, newerThan(0))
			require.NotNil(t, w)
			w.Start(t.Context(), func(r hub.Result) {
				if r.Change.Encoded == nil {
					r.Change.Encoded = "by the first"
				}
				changes <- r.Change
			})
		}
		s.uncached.Store(true)
		before := s.reads.Load()
		s.change(true)
		first := <-changes
		for range cap(changes) - 1 {
			require.Same(t, first, <-changes)
		}
		require.Equal(t, []any{"by the first", before + 1}, []any{first.Encoded, s.reads.Load()})
	})
}

// A wait ends once, though its caller leaves while another wait of the same look is
// being told.
func TestHub_Wait_ends_once(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		var ended []hub.Outcome
		var second *hub.Wait
		first, _ := h.Begin(t.Context(), sessions.Caller{ID: sessions.NewID()}, ref, wait, newerThan(0))
		first.Start(t.Context(), func(r hub.Result) {
			ended = append(ended, r.Outcome)
			second.Leave()
			time.Sleep(time.Second)
		})
		second, _ = h.Begin(t.Context(), caller, ref, wait, newerThan(0))
		second.Start(t.Context(), func(r hub.Result) { ended = append(ended, r.Outcome) })
		s.change(true)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, []hub.Outcome{hub.Changed, hub.Changed}, ended)
	})
}

// A wait that loses its place before it is started is told so by Start.
func TestHub_Start_displaced(t *testing.T) {
	inBubble(t, hub.Options{PerCaller: 1}, func(t *testing.T, _ *source, h *hub.Hub) {
		older, _ := h.Begin(t.Context(), caller, ref, wait, newerThan(0))
		newer, _ := h.Begin(t.Context(), caller, ref, wait, newerThan(0))
		require.Equal(t, hub.Result{Outcome: hub.Displaced, Err: hub.ErrTooMany}, older.Await())
		require.Equal(t, hub.Result{Outcome: hub.TimedOut}, newer.Await())
	})
}

// A read that hangs holds up no other session.
func TestHub_Wait_read_that_hangs(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		hanging := make(chan struct{})
		done := started(t.Context(), h)
		s.uncached.Store(true)
		s.onRead = func(n int64) (bool, error) {
			if n == 2 {
				<-hanging
			}
			return false, nil
		}
		s.wake()
		synctest.Wait()
		for range 2 * runtime.GOMAXPROCS(0) {
			other := sessions.Ref{TrainerID: ref.TrainerID, SessionID: sessions.NewID()}
			require.Equal(t, hub.TimedOut, h.Wait(t.Context(), caller, other, time.Second, newerThan(0)).Outcome)
		}
		close(hanging)
		require.Equal(t, hub.TimedOut, (<-done).outcome)
	})
}

// A panic of a read on a goroutine of the hub ends the waits, not the process.
func TestHub_Wait_read_that_panics(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		s.uncached.Store(true)
		s.onRead = func(n int64) (bool, error) {
			if n > 1 {
				panic("reader")
			}
			return false, nil
		}
		woken := started(t.Context(), h)
		s.wake()
		r := <-woken
		require.Equal(t, hub.Failed, r.outcome)
		require.ErrorContains(t, r.err, "reader")
	})
}

func TestHub_Wait_timed_out(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		require.Equal(t, result{hub.TimedOut, nil, wait}, waitFor(t.Context(), h, wait))
		require.Equal(t, []string{"watch", "look", "read"}, s.calls)
	})
}

// A lost wake-up costs the time-out, never the change.
func TestHub_Wait_lost_wake(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h)
		s.change(false)
		require.Equal(t, result{hub.Changed, nil, wait}, <-done)
	})
}

func TestHub_Wait_no_time(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, _ *source, h *hub.Hub) {
		require.Equal(t, result{hub.TimedOut, nil, 0}, waitFor(t.Context(), h, 0))
	})
}

func TestHub_Wait_left(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		ctx, cancel := context.WithCancel(t.Context())
		done := started(ctx, h)
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
			require.Equal(t, result{hub.Left, nil, 0}, waitFor(ctx, h, wait))
		})
	})
	t.Run("read", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			ctx, cancel := context.WithCancel(t.Context())
			s.uncached.Store(true)
			s.onRead = func(int64) (bool, error) {
				cancel()
				return false, ctx.Err()
			}
			require.Equal(t, result{hub.Left, nil, 0}, waitFor(ctx, h, wait))
		})
	})
}

func TestHub_Wait_failed(t *testing.T) {
	broken := errors.New("broken")
	t.Run("watch", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			s.fails = broken
			require.Equal(t, result{hub.Failed, broken, 0}, waitFor(t.Context(), h, wait))
		})
	})
	t.Run("read", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			s.uncached.Store(true)
			s.onRead = func(int64) (bool, error) { return false, broken }
			require.Equal(t, result{hub.Failed, broken, 0}, waitFor(t.Context(), h, wait))
		})
	})
	t.Run("woken", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			one, two := started(t.Context(), h), started(t.Context(), h)
			s.uncached.Store(true)
			s.onRead = func(int64) (bool, error) { return false, broken }
			s.wake()
			require.Equal(t, result{hub.Failed, broken, 0}, <-one)
			require.Equal(t, result{hub.Failed, broken, 0}, <-two)
		})
	})
	t.Run("last_read", func(t *testing.T) {
		inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
			s.onRead = func(n int64) (bool, error) {
				if n > 1 {
					return false, broken
				}
				return false, nil
			}
			require.Equal(t, result{hub.Failed, broken, wait}, waitFor(t.Context(), h, wait))
		})
	})
}

func TestHub_Drain(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		first, second := started(t.Context(), h), started(t.Context(), h)
		time.Sleep(time.Second)
		h.Drain()
		h.Drain()
		require.Equal(t, result{hub.Drained, nil, time.Second}, <-first)
		require.Equal(t, result{hub.Drained, nil, time.Second}, <-second)
		require.NotContains(t, s.calls, "read", "a drain must not make every waiter read the store itself")
		require.Equal(t, result{hub.Drained, nil, 0}, waitFor(t.Context(), h, wait), "a wait that begins after the drain, too")
		s.change(true)
		require.Equal(t, hub.Changed, waitFor(t.Context(), h, wait).outcome, "a change is still reported")
	})
}

func TestHub_Drain_with_an_unheard_change(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h)
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
				waits[i] = started(t.Context(), h)
			}
			time.Sleep(time.Second)
			fifth := started(t.Context(), h)
			require.Equal(t, result{hub.Displaced, hub.ErrTooMany, time.Second}, <-waits[0], "the oldest makes room at once")
			require.Equal(t, 4, h.Waiting())
			waits = append(waits[1:], fifth)
			require.Equal(t, result{hub.TimedOut, nil, 0}, waitAs(t.Context(), h, other, 0), "another caller")
			s.change(true)
			for _, done := range waits {
				require.Equal(t, hub.Changed, (<-done).outcome)
			}
			require.NoError(t, waitFor(t.Context(), h, wait).err, "the place is free again")
		})
	})
	t.Run("total", func(t *testing.T) {
		inBubble(t, hub.Options{Total: 1}, func(t *testing.T, s *source, h *hub.Hub) {
			done := started(t.Context(), h)
			require.Equal(t, result{"", hub.ErrFull, 0}, waitAs(t.Context(), h, other, wait))
			s.change(true)
			<-done
			require.NoError(t, waitFor(t.Context(), h, wait).err)
		})
	})
	t.Run("a_caller's_own_comes_first", func(t *testing.T) {
		inBubble(t, hub.Options{Total: 1, PerCaller: 1}, func(t *testing.T, s *source, h *hub.Hub) {
			done := started(t.Context(), h)
			newer := started(t.Context(), h)
			require.Equal(t, hub.Displaced, (<-done).outcome, "the caller's own limit is checked first")
			require.Equal(t, result{"", hub.ErrFull, 0}, waitAs(t.Context(), h, other, wait))
			s.change(true)
			require.Equal(t, hub.Changed, (<-newer).outcome)
		})
	})
	t.Run("after_a_failure", func(t *testing.T) {
		inBubble(t, hub.Options{PerCaller: 1}, func(t *testing.T, s *source, h *hub.Hub) {
			s.fails = errors.New("broken")
			for range 3 {
				require.ErrorIs(t, waitFor(t.Context(), h, wait).err, s.fails)
			}
		})
	})
	t.Run("after_a_panic", func(t *testing.T) {
		m := &meter{}
		inBubble(t, hub.Options{PerCaller: 1, Metrics: m}, func(t *testing.T, s *source, h *hub.Hub) {
			for range 3 {
				s.onRead = func(int64) (bool, error) { panic("reader") }
				require.PanicsWithValue(t, "reader", func() { waitFor(t.Context(), h, wait) })
			}
			require.Zero(t, m.open.Load())
			require.Zero(t, s.watched())
		})
	})
}

func TestHub_metrics(t *testing.T) {
	m := &meter{}
	inBubble(t, hub.Options{Metrics: m}, func(t *testing.T, s *source, h *hub.Hub) {
		done := started(t.Context(), h)
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

// memoryReader reads the in-process live store.
type memoryReader struct{ *memory.Live }

func (r memoryReader) Cached(ref sessions.Ref) (sessions.View, bool) {
	snap, ok := r.CachedView(ref)
	return sessions.View{Ref: ref, Snapshot: snap}, ok
}

func (r memoryReader) Read(ctx context.Context, ref sessions.Ref) (sessions.View, error) {
	snap, err := r.Latest(ctx, ref)
	return sessions.View{Ref: ref, Snapshot: snap}, err
}

// Ten thousand waits on the in-process live store: each sees the change, none has a
// goroutine, and no goroutine is left.
func TestHub_many(t *testing.T) {
	const waiters = 10_000
	clock := time.Now()
	live := memory.NewLive(sessions.LiveOptions{}, func() time.Time { return clock })
	h := hub.New(live, memoryReader{live}, hub.Options{})
	before := runtime.NumGoroutine()
	journeys := make([]sessions.Journey, 100)
	for i := range journeys {
		journeys[i] = sessions.Journey{
			Ref:  sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()},
			Home: geo.MustPoint(1, 2), Mode: sessions.Walk, StartedAt: clock,
		}
	}
	var wg sync.WaitGroup
	begin := func(from, to int) {
		for i := from; i < to; i++ {
			wg.Add(1)
			ended := func(r hub.Result) {
				defer wg.Done()
				assert.NoError(t, r.Err)
				assert.Equal(t, hub.Changed, r.Outcome)
			}
			w, over := h.Begin(t.Context(), sessions.Caller{ID: sessions.NewID()}, journeys[i%len(journeys)].Ref, time.Minute,
				func(v sessions.View) bool { return v.Active })
			if w == nil {
				ended(over)
				continue
			}
			w.Start(t.Context(), ended)
		}
	}
	begin(0, waiters/2)
	require.Less(t, runtime.NumGoroutine(), before+50)
	// The changes come while waits begin and while they wait.
	wg.Go(func() { begin(waiters/2, waiters) })
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
	h := hub.New(live, memoryReader{live}, hub.Options{})
	b.ReportAllocs()
	for b.Loop() {
		if r := h.Wait(b.Context(), caller, ref, wait, func(sessions.View) bool { return true }); r.Err != nil {
			b.Fatal(r.Err)
		}
	}
}

// A read that was degraded is repeated, less and less often, because the last wake-up
// may have been lost.
func TestHub_Wait_reads_again_what_could_not_be_read(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		s.change(false)
		s.onRead = func(n int64) (bool, error) { return n < 4, nil }
		r := waitFor(t.Context(), h, wait)
		require.NoError(t, r.err)
		assert.Equal(t, hub.Changed, r.outcome)
		assert.Less(t, r.took, 700*time.Millisecond, "100, 200 and 400 ms at most")
		assert.GreaterOrEqual(t, r.took, 350*time.Millisecond, "half of that at least")
	})
}

func TestHub_Wait_asks_seldom_what_stays_unread(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		s.onRead = func(int64) (bool, error) { return true, nil }
		require.Equal(t, result{hub.TimedOut, nil, wait}, waitFor(t.Context(), h, wait))
		assert.Less(t, s.reads.Load(), int64(25))
	})
}

// After a read that succeeded nothing is repeated.
func TestHub_Wait_reads_no_more_than_it_must(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		s.onRead = func(n int64) (bool, error) { return n == 1, nil }
		require.Equal(t, result{hub.TimedOut, nil, wait}, waitFor(t.Context(), h, wait))
		assert.EqualValues(t, 3, s.reads.Load(), "the first, its repetition, and the last")
	})
}

// The reads of many sessions that could not be read are spread, and the same in every
// run: who waits first makes no difference.
func TestHub_Wait_reads_again_at_different_times(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, _ *hub.Hub) {
		s.onRead = func(int64) (bool, error) { return true, nil }
		times := func(order []sessions.ID) map[sessions.ID]time.Duration {
			var mu sync.Mutex
			when := map[sessions.ID]time.Duration{}
			began := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			defer synctest.Wait()
			defer cancel()
			for _, id := range order {
				one := &source{wakes: map[int]func(){}}
				one.onRead = func(n int64) (bool, error) {
					if n == 2 {
						mu.Lock()
						defer mu.Unlock()
						when[id] = time.Since(began)
					}
					return true, nil
				}
				w, _ := hub.New(one, one, hub.Options{}).Begin(ctx, caller, sessions.Ref{SessionID: id}, wait, newerThan(0))
				w.Start(t.Context(), func(hub.Result) {})
			}
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(when)
		}
		ids := make([]sessions.ID, 50)
		for i := range ids {
			ids[i] = sessions.NewID()
		}
		first := times(ids)
		slices.Reverse(ids)
		require.Equal(t, first, times(ids))
		different := map[time.Duration]bool{}
		for _, at := range first {
			different[at] = true
		}
		require.Greater(t, len(different), len(ids)/2)
	})
}

// A session that can be read again is looked at for all who wait, not only for the one
// that found out.
func TestHub_Wait_the_end_of_an_outage_is_told(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		var back atomic.Bool
		s.onRead = func(int64) (bool, error) { return !back.Load(), nil }
		done := started(t.Context(), h)
		time.Sleep(20 * time.Second) // it is read every 4 s at most by now
		back.Store(true)
		s.change(false)
		w, _ := h.Begin(t.Context(), sessions.Caller{ID: sessions.NewID()}, ref, wait, newerThan(1))
		w.Start(t.Context(), func(hub.Result) {})
		require.Equal(t, result{hub.Changed, nil, 20 * time.Second}, <-done)
		h.Drain()
	})
}

// A wait that begins while the one that was read for leaves is read again all the same, whether the repetition comes
// while nobody waits or its read ends then.
func TestHub_Wait_reads_again_after_a_repetition_for_nobody(t *testing.T) {
	for name, during := range map[string]time.Duration{"pause": 0, "read": time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
				var back atomic.Bool
				s.uncached.Store(true)
				s.onRead = func(n int64) (bool, error) {
					if n == 3 {
						time.Sleep(during)
					}
					return !back.Load(), nil
				}
				ends := make(chan result, 1)
				first, _ := h.Begin(t.Context(), caller, ref, wait, newerThan(0))
				first.Start(t.Context(), func(hub.Result) {})
				second, _ := h.Begin(t.Context(), caller, ref, wait, newerThan(0))
				time.Sleep(min(during, 200*time.Millisecond)) // the repetition has begun, or not
				first.Leave()
				time.Sleep(2 * time.Second)
				back.Store(true)
				s.change(false)
				began := time.Now()
				second.Start(t.Context(), func(r hub.Result) { ends <- result{r.Outcome, r.Err, time.Since(began)} })
				r := <-ends
				assert.Equal(t, hub.Changed, r.outcome)
				assert.LessOrEqual(t, r.took, 100*time.Millisecond)
			})
		})
	}
}

// Look is for what has become of a session in another region, of which no message tells.
func TestHub_Look(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		h.Look(ref) // nobody waits
		moved := errors.New("moved")
		s.uncached.Store(true)
		var away atomic.Bool
		s.onRead = func(int64) (bool, error) {
			if away.Load() {
				return false, moved
			}
			return false, nil
		}
		ended := make(chan hub.Result, 1)
		go func() { ended <- h.Wait(t.Context(), caller, ref, wait, func(sessions.View) bool { return false }) }()
		synctest.Wait()
		away.Store(true)
		h.Look(ref)
		r := <-ended
		require.Equal(t, hub.Failed, r.Outcome)
		require.ErrorIs(t, r.Err, moved)
	})
}
