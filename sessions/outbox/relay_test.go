package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/outboxtest"
)

// bus is a publisher that does as it is told. Its clock is the test's bubble's.
type bus struct {
	mu     sync.Mutex
	calls  [][]outbox.Row
	asked  []time.Time // of each call
	taken  []sessions.Event
	times  []time.Time
	answer func(row outbox.Row) error // nil: take it
	takes  time.Duration
}

func (b *bus) Publish(ctx context.Context, rows []outbox.Row) []error {
	select {
	case <-time.After(b.delay()):
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls, b.asked = append(b.calls, slices.Clone(rows)), append(b.asked, time.Now())
	errs := make([]error, len(rows))
	for i, row := range rows {
		switch {
		case ctx.Err() != nil:
			errs[i] = outbox.Down(ctx.Err())
		case b.answer != nil:
			errs[i] = b.answer(row)
		}
		if errs[i] == nil {
			b.taken = append(b.taken, row.Event)
			b.times = append(b.times, time.Now())
		}
	}
	return errs
}

func (b *bus) delay() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.takes
}

func (b *bus) answers(f func(outbox.Row) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

func (b *bus) events() []sessions.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.taken)
}

func (b *bus) made() [][]outbox.Row {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

// counts is Metrics that are read back.
type counts struct {
	mu                sync.Mutex
	published, buried int
	failed            map[string]int
	waiting, dead     int
	lag, newer        time.Duration
}

// read is the counts so far.
func (r relaying) read() *counts {
	r.seen.mu.Lock()
	defer r.seen.mu.Unlock()
	return &counts{
		published: r.seen.published, buried: r.seen.buried, failed: maps.Clone(r.seen.failed),
		waiting: r.seen.waiting, dead: r.seen.dead, lag: r.seen.lag, newer: r.seen.newer,
	}
}

func (c *counts) EventPublished(string, time.Duration) { c.mu.Lock(); c.published++; c.mu.Unlock() }
func (c *counts) EventBuried(string)                   { c.mu.Lock(); c.buried++; c.mu.Unlock() }
func (c *counts) EventFailed(_, why string)            { c.mu.Lock(); c.failed[why]++; c.mu.Unlock() }

func (c *counts) OutboxState(_ string, waiting, dead int, lag, newer time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.dead, c.lag, c.newer = waiting, dead, lag, newer
}

// relaying is a relay that runs in a bubble until the test's end or stop.
type relaying struct {
	*outbox.Relay
	*outbox.Memory
	bus  *bus
	seen *counts
	stop func() time.Duration // how long it took
}

func relay(t *testing.T, store outbox.Store, b *bus, opts outbox.RelayOptions, maxAttempts ...int) relaying {
	t.Helper()
	m := outbox.NewMemory()
	if store == nil {
		store = m
	}
	seen := &counts{failed: map[string]int{}}
	opts.Metrics = seen
	to := outbox.Destination{Name: outbox.Bus, To: b}
	for _, n := range maxAttempts {
		to.MaxAttempts = n
	}
	r, err := outbox.NewRelay(store, []outbox.Destination{to}, opts)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	stop := func() time.Duration {
		began := time.Now()
		cancel()
		<-done
		return time.Since(began)
	}
	t.Cleanup(func() { stop() })
	return relaying{r, m, b, seen, stop}
}

func (r relaying) record(events ...sessions.Event) {
	for _, e := range events {
		r.Record(e)
	}
}

func TestRelay_timely(t *testing.T) {
	t.Parallel()
	t.Run("a_nudge_is_heard_at_once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := relay(t, nil, &bus{}, outbox.RelayOptions{})
			synctest.Wait()
			began := time.Now()
			r.record(outboxtest.Events(1)...)
			r.Nudge()
			synctest.Wait()
			require.Len(t, r.bus.events(), 1)
			require.Zero(t, time.Since(began))
		})
	})
	t.Run("without_one_it_takes_two_and_a_half_seconds_at_most", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := relay(t, nil, &bus{}, outbox.RelayOptions{})
			for range 200 {
				synctest.Wait()
				before := len(r.bus.events())
				r.record(outboxtest.Events(1)...)
				time.Sleep(2500 * time.Millisecond)
				synctest.Wait()
				require.Len(t, r.bus.events(), before+1)
			}
		})
	})
	t.Run("the_next_of_a_session_need_not_wait_for_a_look", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := relay(t, nil, &bus{}, outbox.RelayOptions{})
			synctest.Wait()
			session := sessions.NewID()
			for n := range 30 {
				r.record(outboxtest.Event(session, n))
			}
			began := time.Now()
			r.Nudge()
			synctest.Wait()
			require.Len(t, r.bus.events(), 30)
			require.Zero(t, time.Since(began))
			require.True(t, slices.IsSortedFunc(r.bus.events(), func(a, b sessions.Event) int { return a.At.Compare(b.At) }))
		})
	})
}

func TestRelay_bounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := relay(t, nil, &bus{takes: time.Second}, outbox.RelayOptions{InFlight: 3})
		r.record(outboxtest.Events(100)...)
		r.Nudge()
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		require.Len(t, r.bus.events(), 30, "three batches of ten at a time")
		for _, call := range r.bus.made() {
			require.LessOrEqual(t, len(call), 10)
		}
	})
}

func TestRelay_partial_failure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := outboxtest.Events(10)
		b := &bus{answer: func(row outbox.Row) error {
			if row.Event.ID == events[3].ID && row.Attempts < 3 {
				return errors.New("refused")
			}
			return nil
		}}
		r := relay(t, nil, b, outbox.RelayOptions{})
		r.record(events...)
		r.Nudge()
		synctest.Wait()
		require.Len(t, b.events(), 9, "the others are done")
		time.Sleep(4 * time.Second) // 1 s + 2 s at most, and a look
		synctest.Wait()
		require.Len(t, b.events(), 10)
		require.Equal(t, events[3], b.events()[9])
		require.Equal(t, 2, r.read().failed["rejected"])
		require.Equal(t, 10, r.read().published)
	})
}

func TestRelay_poison(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		err      error
		attempts int
	}{
		"after_its_attempts": {errors.New("refused"), 4},
		"at_once_when_it_can_never_be_taken": {
			fmt.Errorf("wrapped: %w", outbox.Permanent(errors.New("too large"))), 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				session := sessions.NewID()
				poison, next := outboxtest.Event(session, 1), outboxtest.Event(session, 2)
				b := &bus{answer: func(r outbox.Row) error {
					if r.Event.ID == poison.ID {
						return row.err
					}
					return nil
				}}
				r := relay(t, nil, b, outbox.RelayOptions{}, 4)
				r.record(poison, next)
				r.Nudge()
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Equal(t, []sessions.Event{next}, b.events(), "it no longer holds up its session")
				dead := r.DeadLetters()
				require.Len(t, dead, 1)
				require.Equal(t, row.attempts, dead[0].Attempts)
				require.Equal(t, row.err.Error(), dead[0].Reason)
				require.Equal(t, 1, r.read().buried)
				require.Equal(t, 1, r.read().dead)
			})
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			m := outbox.NewMemory()
			r := relay(t, unreadable{m}, &bus{}, outbox.RelayOptions{})
			m.Record(outboxtest.Events(1)[0])
			r.Nudge()
			synctest.Wait()
			require.Empty(t, r.bus.made())
			require.Len(t, m.DeadLetters(), 1)
		})
	})
}

type unreadable struct{ *outbox.Memory }

func (u unreadable) Claim(ctx context.Context, look outbox.Look) (outbox.Claimed, error) {
	claimed, err := u.Memory.Claim(ctx, look)
	for i := range claimed.Rows {
		claimed.Rows[i].Unreadable = errors.New("event eventId is not a UUID")
	}
	return claimed, err
}

// A bus that is down for ever buries nothing, is asked ever more rarely, and
// is found within DownCap when it is back.
func TestRelay_bus_down(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const sessionsN = 500
		down := func(outbox.Row) error { return outbox.Down(errors.New("no route")) }
		b := &bus{answer: down}
		r := relay(t, nil, b, outbox.RelayOptions{}, 2)
		events := outboxtest.Events(sessionsN)
		for _, e := range events {
			r.record(e, outboxtest.Event(e.SessionID, 5000))
			r.Nudge()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, r.DeadLetters())
		require.Empty(t, b.events())
		require.Less(t, len(b.made()), 1000, "an hour of up to 15 s between two, 7.5 s on average")
		require.Greater(t, len(b.made()), 250)
		for i := range b.asked[1:] {
			require.LessOrEqual(t, b.asked[i+1].Sub(b.asked[i]), 15*time.Second+time.Millisecond)
		}
		require.Equal(t, 2*sessionsN, r.read().waiting)
		require.InDelta(t, time.Hour, r.read().lag, float64(time.Minute))

		b.answers(nil)
		time.Sleep(16 * time.Second)
		synctest.Wait()
		require.Len(t, b.events(), 2*sessionsN)
		last := map[sessions.ID]time.Time{}
		for _, e := range b.events() {
			require.True(t, e.At.After(last[e.SessionID]))
			last[e.SessionID] = e.At
		}
		for _, call := range b.made() {
			for _, row := range call {
				require.Equal(t, 1, row.Attempts, "an outage does not count")
			}
		}
	})
}

// A destination may be away for some events only, for more than a batch of them. The others
// do not wait for those, wherever they stand. Those wait until it is back.
func TestRelay_away_for_some_events(t *testing.T) {
	t.Parallel()
	const n = 725
	for name, taken := range map[string]func(i int) bool{
		"the_oldest":        func(i int) bool { return i >= 685 },
		"around_the_others": func(i int) bool { return i >= 465 && i < 665 },
		"all_but_one":       func(i int) bool { return i == 375 },
		"in_between":        func(i int) bool { return i%11 == 5 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				events, away := outboxtest.Events(n), map[sessions.ID]bool{}
				for i, e := range events {
					away[e.ID] = !taken(i)
				}
				b := &bus{answer: func(row outbox.Row) error {
					if away[row.Event.ID] {
						return outbox.Down(errors.New("no right to send this type"))
					}
					return nil
				}}
				r, want := relay(t, nil, b, outbox.RelayOptions{}, 2), 0
				for i, e := range events {
					r.record(e, outboxtest.Event(e.SessionID, 5000))
					if taken(i) {
						want += 2
					}
				}
				time.Sleep(36*time.Minute + 30*time.Second) // 73 batches, at most 15 s apart, and as many looks for newer rows
				synctest.Wait()
				require.Len(t, b.events(), want)
				for range 20 {
					r.record(outboxtest.Events(1)...)
					r.Nudge()
					want++
					time.Sleep(31 * time.Second) // every second look begins with what is newer
					synctest.Wait()
					require.Len(t, b.events(), want)
				}
				require.Less(t, len(b.made()), 1400, "46 minutes of up to 15 s between two, and up to eight at once where one was taken")
				require.Empty(t, r.DeadLetters())

				b.answers(nil)
				time.Sleep(16 * time.Second)
				synctest.Wait()
				require.Len(t, b.events(), 2*n+20)
				last := map[sessions.ID]time.Time{}
				for _, e := range b.events() {
					require.True(t, e.At.After(last[e.SessionID]))
					last[e.SessionID] = e.At
				}
			})
		})
	}
}

// One throttled entry beside others that were taken is not an outage.
func TestRelay_throttled_entry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := outboxtest.Events(10)
		failing := true
		b := &bus{}
		b.answer = func(row outbox.Row) error {
			if row.Event.ID == events[0].ID && failing {
				failing = false
				return outbox.Down(errors.New("ThrottlingException"))
			}
			return nil
		}
		r := relay(t, nil, b, outbox.RelayOptions{})
		r.record(events...)
		r.Nudge()
		synctest.Wait()
		require.Len(t, b.events(), 9)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Len(t, b.events(), 10)
		require.Empty(t, r.read().failed["rejected"])
	})
}

func TestRelay_stop(t *testing.T) {
	t.Parallel()
	t.Run("what_is_in_flight_ends", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := relay(t, nil, &bus{takes: 2 * time.Second}, outbox.RelayOptions{})
			r.record(outboxtest.Events(3)...)
			r.Nudge()
			time.Sleep(time.Second)
			require.Equal(t, time.Second, r.stop())
			require.Len(t, r.bus.events(), 3)
			list, err := r.Backlog(t.Context(), nil)
			require.NoError(t, err)
			require.Zero(t, list[0].Waiting, "and is marked")
		})
	})
	t.Run("what_takes_too_long_is_given_back", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := relay(t, nil, &bus{takes: 9 * time.Second}, outbox.RelayOptions{Drain: 3 * time.Second})
			r.record(outboxtest.Events(3)...)
			r.Nudge()
			time.Sleep(time.Second)
			require.Equal(t, 3*time.Second, r.stop())
			claimed, err := r.Claim(t.Context(), outbox.Look{Asks: []outbox.Ask{{To: outbox.Bus, Lease: time.Minute}}, Limit: 10})
			require.NoError(t, err)
			require.Len(t, claimed.Rows, 3, "for another relay, at once")
			require.Equal(t, 1, claimed.Rows[0].Attempts)
		})
	})
}

// flaky is a store that is away at times.
type flaky struct {
	*outbox.Memory
	mu   sync.Mutex
	away bool
}

func (f *flaky) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return errors.New("away")
	}
	return nil
}

func (f *flaky) set(away bool) { f.mu.Lock(); f.away = away; f.mu.Unlock() }

func (f *flaky) Claim(ctx context.Context, look outbox.Look) (outbox.Claimed, error) {
	if err := f.err(); err != nil {
		return outbox.Claimed{}, err
	}
	return f.Memory.Claim(ctx, look)
}

func (f *flaky) Done(ctx context.Context, to string, seqs []int64) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Memory.Done(ctx, to, seqs)
}

func TestRelay_store_away(t *testing.T) {
	t.Parallel()
	t.Run("shortly_after_a_publish_repeats_nothing", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &flaky{Memory: outbox.NewMemory()}
			r := relay(t, store, &bus{takes: time.Second}, outbox.RelayOptions{})
			store.Record(outboxtest.Events(1)[0])
			r.Nudge()
			time.Sleep(500 * time.Millisecond)
			store.set(true)
			time.Sleep(5 * time.Second)
			store.set(false)
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Len(t, r.bus.events(), 1, "the mark was tried until it could be made")
		})
	})
	t.Run("for_longer_than_the_claim_repeats_the_event", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &flaky{Memory: outbox.NewMemory()}
			r := relay(t, store, &bus{takes: time.Second}, outbox.RelayOptions{})
			store.Record(outboxtest.Events(1)[0])
			r.Nudge()
			time.Sleep(500 * time.Millisecond)
			store.set(true)
			time.Sleep(5 * time.Minute)
			store.set(false)
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Len(t, r.bus.events(), 2)
			require.Equal(t, r.bus.events()[0].ID, r.bus.events()[1].ID, "under the same id")
			require.Positive(t, r.read().failed["store"])
		})
	})
}

func TestNewRelay_refuses(t *testing.T) {
	t.Parallel()
	for field, to := range map[string]outbox.Destination{
		"Name": {}, "Lease": {Name: "x", Lease: time.Second}, "MaxAttempts": {Name: "x", MaxAttempts: -1},
	} {
		_, err := outbox.NewRelay(outbox.NewMemory(), []outbox.Destination{to}, outbox.RelayOptions{})
		require.ErrorContains(t, err, field)
	}
	_, err := outbox.NewRelay(outbox.NewMemory(), nil, outbox.RelayOptions{InFlight: -1})
	require.ErrorContains(t, err, "InFlight")
}

// looks counts the statements of a relay.
type looks struct {
	*outbox.Memory
	n atomic.Int32
}

func (l *looks) Claim(ctx context.Context, look outbox.Look) (outbox.Claimed, error) {
	l.n.Add(1)
	return l.Memory.Claim(ctx, look)
}

func (l *looks) Backlog(ctx context.Context, consumers []string) ([]outbox.Backlog, error) {
	l.n.Add(1)
	return l.Memory.Backlog(ctx, consumers)
}

// An idle relay leaves room for the rest of an idle gateway, which asks once a second,
// also while the bus is away.
func TestRelay_idle(t *testing.T) {
	t.Parallel()
	for name, taken := range map[string]error{"all_well": nil, "bus_away": outbox.Down(errors.New("no route"))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &looks{Memory: outbox.NewMemory()}
				relay(t, store, &bus{answer: func(outbox.Row) error { return taken }}, outbox.RelayOptions{})
				store.Record(outboxtest.Events(1)[0])
				time.Sleep(10 * time.Minute)
				require.LessOrEqual(t, store.n.Load(), int32(450), "in 600 s, 0.57 looks and 0.08 others a second")
			})
		})
	}
}
