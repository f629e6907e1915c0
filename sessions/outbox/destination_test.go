package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/outboxtest"
)

// consumer is a Handler that does as it is told.
type consumer struct {
	mu     sync.Mutex
	calls  int
	done   []sessions.Event
	answer func(sessions.Event) error
}

func (c *consumer) Handle(_ context.Context, e sessions.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.answer != nil {
		if err := c.answer(e); err != nil {
			return err
		}
	}
	c.done = append(c.done, e)
	return nil
}

func (c *consumer) count() (calls, done int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, len(c.done)
}

func (c *consumer) called() int   { n, _ := c.count(); return n }
func (c *consumer) finished() int { _, n := c.count(); return n }

// inProcess is a relay without a bus to these consumers.
func inProcess(t *testing.T, consumers ...*consumer) relaying {
	t.Helper()
	var to []outbox.Destination
	for i, c := range consumers {
		to = append(to, outbox.Destination{Name: fmt.Sprint("consumer_", i), To: outbox.ToHandler(c), MaxAttempts: 3})
	}
	m := outbox.NewMemory()
	r, err := outbox.NewRelay(m, to, outbox.RelayOptions{})
	require.NoError(t, err)
	go func() { _ = r.Run(t.Context()) }()
	return relaying{Relay: r, Memory: m}
}

func TestRelay_in_process(t *testing.T) {
	t.Parallel()
	t.Run("one_that_fails_holds_up_nobody", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			well := &consumer{}
			ill := &consumer{answer: func(sessions.Event) error { return errors.New("no") }}
			mad := &consumer{answer: func(sessions.Event) error { panic("ouch") }}
			h := inProcess(t, ill, well, mad)
			events := outboxtest.Events(25)
			for _, e := range events {
				h.record(e, outboxtest.Event(e.SessionID, 9000))
			}
			h.Nudge()
			time.Sleep(3 * time.Second)
			synctest.Wait()
			require.Equal(t, 50, well.finished())
			require.Equal(t, 50, well.called(), "and none repeats for another's failure")
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(t, 150, ill.called(), "three attempts each, then buried")
			require.Equal(t, 150, mad.called())
			require.Equal(t, 50, well.called())
		})
	})
	t.Run("what_a_consumer_depends_on_is_away", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			away := true
			c := &consumer{answer: func(sessions.Event) error {
				if away {
					return outbox.Down(errors.New("503"))
				}
				return nil
			}}
			h := inProcess(t, c)
			h.record(outboxtest.Events(25)...)
			time.Sleep(time.Hour)
			c.mu.Lock()
			away = false
			c.mu.Unlock()
			time.Sleep(20 * time.Second)
			synctest.Wait()
			require.Equal(t, 25, c.finished())
		})
	})
	t.Run("what_some_events_depend_on_is_away", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			events := outboxtest.Events(60)
			c := &consumer{answer: func(e sessions.Event) error {
				if e.At.Before(events[35].At) {
					return outbox.Down(errors.New("one server of a cluster"))
				}
				return nil
			}}
			h := inProcess(t, c)
			h.record(events[:35]...)
			time.Sleep(time.Minute)
			h.record(events[35:]...)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			require.ElementsMatch(t, events[35:], c.done)
			require.Empty(t, h.DeadLetters())
		})
	})
	t.Run("with_a_bus_consumers_get_what_was_theirs", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			m, c, b := outbox.NewMemory(), &consumer{}, &bus{}
			before, after := outboxtest.Events(3), outboxtest.Events(2)
			for _, e := range before {
				m.Record(e)
			}
			_, err := m.Claim(t.Context(), outbox.Look{FanOut: []string{"notify"}, Limit: 10})
			require.NoError(t, err)
			for _, e := range after {
				m.Record(e)
			}
			r, err := outbox.NewRelay(m, []outbox.Destination{{Name: "notify", To: outbox.ToHandler(c)}, {Name: outbox.Bus, To: b}}, outbox.RelayOptions{})
			require.NoError(t, err)
			go func() { _ = r.Run(t.Context()) }()
			synctest.Wait()
			require.ElementsMatch(t, before, c.done)
			require.ElementsMatch(t, after, b.events())
		})
	})
}

// A destination that was turned off gives what still waits for it a reason, after the time
// in which another gateway may still have it.
func TestRelay_destination_turned_off(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, c := outbox.NewMemory("hook"), &consumer{}
		events := outboxtest.Events(12)
		for _, e := range events {
			m.Record(e)
		}
		r, err := outbox.NewRelay(m, []outbox.Destination{
			{Name: "hook", To: outbox.Nowhere("it is off"), Recorded: true, Older: time.Hour},
			{Name: "notify", To: outbox.ToHandler(c)},
		}, outbox.RelayOptions{})
		require.NoError(t, err)
		go func() { _ = r.Run(t.Context()) }()
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		require.Empty(t, m.DeadLetters())
		require.Equal(t, 12, c.finished())
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		dead := m.DeadLetters()
		require.Len(t, dead, 12, "nothing was fanned out to it besides")
		for _, d := range dead {
			require.Equal(t, []any{"hook", "it is off"}, []any{d.To, d.Reason})
		}
	})
}

func TestMemoryOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		once := outbox.NewMemoryOnce()
		id, n := sessions.NewID(), 0
		do := func(context.Context) error { n++; return nil }
		require.Error(t, once.Once(t.Context(), "notify", id, func(context.Context) error { return errors.New("no") }))
		require.NoError(t, once.Once(t.Context(), "notify", id, func(ctx context.Context) error {
			require.ErrorIs(t, once.Once(ctx, "notify", id, do), outbox.ErrInProgress)
			return do(ctx)
		}))
		require.NoError(t, once.Once(t.Context(), "notify", id, do))
		require.Equal(t, 1, n)
		time.Sleep(61 * time.Minute)
		require.NoError(t, once.Once(t.Context(), "notify", id, do))
		require.Equal(t, 1, n, "remembered for the window at least")
		for range 3 {
			time.Sleep(time.Hour)
			require.NoError(t, once.Once(t.Context(), "notify", sessions.NewID(), do))
		}
		require.NoError(t, once.Once(t.Context(), "notify", id, do))
		require.Equal(t, 5, n, "and not for ever")
	})
}
