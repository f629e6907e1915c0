package aws_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/awstest"
	"doorstep/internal/testlog"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/outbox/outboxtest"
)

const queue = "journey-events-queue"

// consuming is a queue behind a bus, and a consumer of it that runs.
type consuming struct {
	*awstest.Server
	bus  *aws.EventBridge
	stop func() time.Duration
}

func consume(t *testing.T, h outbox.Handler, opts aws.ConsumerOptions) consuming {
	t.Helper()
	bus, s := eventBridge(t, aws.EventBridgeOptions{})
	s.Queue(queue, time.Minute, 4)
	s.Rule(applicationEvents, "admin-service", queue, "TrainerJourneyStarted")
	opts.Name, opts.Queue, opts.Endpoint = "notify", queue, s.URL()
	if opts.RetryBase == 0 {
		opts.RetryBase, opts.RetryCap = time.Nanosecond, time.Second // a whole second on the wire is the least but 0
	}
	c, err := aws.NewConsumer(opts, h)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	stop := func() time.Duration {
		began := time.Now()
		cancel()
		<-done
		return time.Since(began)
	}
	t.Cleanup(func() { stop() })
	return consuming{s, bus, stop}
}

func (c consuming) publish(t *testing.T, events ...sessions.Event) {
	t.Helper()
	for _, err := range c.bus.Publish(t.Context(), rows(events...)) {
		require.NoError(t, err)
	}
}

func (c consuming) drained(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return len(c.Messages(queue)) == 0 }, 20*time.Second, 5*time.Millisecond)
}

// gate is a handler that works until it is told.
type gate struct {
	begun chan sessions.Event
	open  chan struct{}
	cut   atomic.Int32
}

func newGate() *gate { return &gate{begun: make(chan sessions.Event, 100), open: make(chan struct{})} }

func (g *gate) Handle(ctx context.Context, e sessions.Event) error {
	g.begun <- e
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		g.cut.Add(1)
		return ctx.Err()
	}
}

func TestConsumer(t *testing.T) {
	t.Parallel()
	t.Run("handles_and_deletes", func(t *testing.T) {
		t.Parallel()
		h := &consumer{}
		c := consume(t, h, aws.ConsumerOptions{})
		events := outboxtest.Events(25)
		c.publish(t, events...)
		c.drained(t)
		require.ElementsMatch(t, events, h.done)
		require.Empty(t, c.Messages(queue+"-dlq"))
	})
	t.Run("failure_comes_again", func(t *testing.T) {
		t.Parallel()
		failed := map[sessions.ID]bool{}
		h := &consumer{answer: func(e sessions.Event) error {
			if !failed[e.ID] {
				failed[e.ID] = true
				return errors.New("not now")
			}
			return nil
		}}
		log := &testlog.Buffer{}
		c := consume(t, h, aws.ConsumerOptions{Log: slog.New(slog.NewTextHandler(log, nil))})
		events := outboxtest.Events(3)
		events[0].Trace = "1-67891233-abcdef012345678912345678"
		c.publish(t, events...)
		c.drained(t)
		calls, done := h.count()
		require.Equal(t, []int{6, 3}, []int{calls, done})
		require.Equal(t, 1, strings.Count(log.String(), "amzn_trace_id="+events[0].Trace), "the load balancer's log names the call")
	})
	t.Run("poison_goes_by_the_redrive", func(t *testing.T) {
		t.Parallel()
		h := &consumer{answer: func(sessions.Event) error { panic("ouch") }}
		c := consume(t, h, aws.ConsumerOptions{})
		c.publish(t, outboxtest.Events(1)...)
		c.drained(t)
		calls, _ := h.count()
		require.Equal(t, 4, calls, "maxReceiveCount")
		require.Len(t, c.Messages(queue+"-dlq"), 1)
	})
	t.Run("permanent_failure_goes_at_once_with_its_reason", func(t *testing.T) {
		t.Parallel()
		h := &consumer{answer: func(sessions.Event) error { return outbox.Permanent(errors.New("no such student")) }}
		c := consume(t, h, aws.ConsumerOptions{DeadLetters: queue + "-dlq"})
		c.publish(t, outboxtest.Events(1)...)
		c.drained(t)
		calls, _ := h.count()
		require.Equal(t, 1, calls)
		require.Equal(t, "no such student", c.Messages(queue + "-dlq")[0].Attributes["Reason"].StringValue)
	})
	t.Run("malformed_goes_at_once_with_its_reason_and_stops_nothing", func(t *testing.T) {
		t.Parallel()
		h := &consumer{}
		c := consume(t, h, aws.ConsumerOptions{DeadLetters: queue + "-dlq"})
		wrong := map[string]string{
			`not json`: "the message is not EventBridge's JSON",
			`{}`:       "the message is not from EventBridge",
			`{"detail-type": "TrainerJourneyStarted", "detail": {"schemaVersion": 1, "eventId": "secret"}}`: "event eventId is not a UUID",
			`{"detail-type": "TrainerJourneyStarted", "detail": {"schemaVersion": 0}}`:                      "event schema version 0 is not known",
		}
		for body := range wrong {
			c.Send(queue, body)
		}
		c.publish(t, outboxtest.Events(5)...)
		c.drained(t)
		_, done := h.count()
		require.Equal(t, 5, done)
		dead := c.Messages(queue + "-dlq")
		require.Len(t, dead, len(wrong))
		for _, m := range dead {
			require.Equal(t, wrong[m.Body], m.Attributes["Reason"].StringValue)
			require.Equal(t, "notify", m.Attributes["Consumer"].StringValue)
		}
	})
	t.Run("newer_event_comes_again_and_is_for_a_newer_worker", func(t *testing.T) {
		t.Parallel()
		h := &consumer{}
		results := &results{}
		c := consume(t, h, aws.ConsumerOptions{DeadLetters: queue + "-dlq", Metrics: results, RetryBase: 3 * time.Second, RetryCap: time.Minute})
		newer := []string{
			`{"detail-type": "TrainerTeleported", "detail": {"schemaVersion": 1, "to": 4}}`,
			`{"detail-type": "TrainerJourneyStarted", "detail": {"schemaVersion": 2, "startTime": 4}}`,
		}
		for _, body := range newer {
			c.Send(queue, body)
		}
		c.publish(t, outboxtest.Events(5)...)
		require.Eventually(t, func() bool { return results.of("newer") >= 4 && results.of("done") == 5 }, 20*time.Second, 5*time.Millisecond)
		left := c.Messages(queue)
		require.Len(t, left, 2, "they stay")
		for _, m := range left {
			require.Contains(t, newer, m.Body)
		}
		require.Empty(t, c.Messages(queue+"-dlq"))
		require.Zero(t, results.of("malformed")+results.of("failed"))
		require.Less(t, results.of("newer"), 7, "each again after some seconds, and later each time")
	})
	t.Run("malformed_without_a_queue_for_it_goes_by_the_redrive", func(t *testing.T) {
		t.Parallel()
		c := consume(t, &consumer{}, aws.ConsumerOptions{})
		c.Send(queue, "not json")
		c.drained(t)
		require.Len(t, c.Messages(queue+"-dlq"), 1)
	})
	t.Run("long_work_stays_hidden", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		c := consume(t, g, aws.ConsumerOptions{Visibility: 2 * time.Second})
		c.publish(t, outboxtest.Events(1)...)
		<-g.begun
		// Each is for 2 s from then: the fifth comes after what it was hidden for at first.
		require.Eventually(t, func() bool { return c.Calls("ChangeMessageVisibility") >= 5 }, 20*time.Second, 5*time.Millisecond)
		close(g.open)
		c.drained(t)
		require.Empty(t, g.begun, "nobody else had it")
	})
	t.Run("no_more_in_hand_than_hands", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		c := consume(t, g, aws.ConsumerOptions{Concurrency: 3})
		c.publish(t, outboxtest.Events(9)...)
		for range 3 {
			<-g.begun
		}
		<-time.After(100 * time.Millisecond)
		require.Empty(t, g.begun)
		hidden := 0
		for _, m := range c.Messages(queue) {
			if m.Receives > 0 {
				hidden++
			}
		}
		require.Equal(t, 3, hidden, "the others are there for other workers")
		close(g.open)
		c.drained(t)
	})
}

func TestConsumer_stop(t *testing.T) {
	t.Parallel()
	t.Run("from_a_long_poll_at_once", func(t *testing.T) {
		t.Parallel()
		c := consume(t, &consumer{}, aws.ConsumerOptions{})
		require.Eventually(t, func() bool { return c.Calls("ReceiveMessage") > 0 }, 10*time.Second, time.Millisecond)
		require.Less(t, c.stop(), 15*time.Second, "a long poll takes 20 s")
	})
	t.Run("what_is_in_hand_ends", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		c := consume(t, g, aws.ConsumerOptions{})
		c.publish(t, outboxtest.Events(1)...)
		<-g.begun
		go func() {
			<-time.After(200 * time.Millisecond)
			close(g.open)
		}()
		c.stop()
		require.Empty(t, c.Messages(queue), "and is deleted")
	})
	t.Run("what_takes_too_long_is_given_back", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		c := consume(t, g, aws.ConsumerOptions{Drain: 100 * time.Millisecond, RetryBase: time.Minute})
		c.publish(t, outboxtest.Events(1)...)
		<-g.begun
		require.Less(t, c.stop(), 20*time.Second, "it would take for ever")
		require.EqualValues(t, 1, g.cut.Load())
		require.WithinDuration(t, time.Now(), c.Messages(queue)[0].VisibleAt, 20*time.Second, "for another worker, at once")
	})
}

func TestConsumer_queue_away(t *testing.T) {
	t.Parallel()
	g := newGate()
	c := consume(t, g, aws.ConsumerOptions{CallTimeout: 300 * time.Millisecond, Concurrency: 1, Visibility: 2 * time.Second})
	c.publish(t, outboxtest.Events(1)...)
	<-g.begun // its one hand is full: it asks for no more, and no long poll outlasts a fault
	asked := func() int { return c.Calls("ReceiveMessage") + c.Calls("DeleteMessage") }
	for i, fault := range []awstest.Fault{awstest.Drop, awstest.Internal, awstest.Deny, awstest.Throttle} {
		c.Fail(fault)
		before := asked()
		if i == 0 {
			close(g.open)
		}
		require.Eventually(t, func() bool { return asked() > before }, 20*time.Second, time.Millisecond, "it felt the fault")
	}
	c.Fail(awstest.None)
	c.publish(t, outboxtest.Events(3)...)
	c.drained(t)
	require.GreaterOrEqual(t, len(g.begun), 3)
}

// The delete was lost: the event comes again, and Once keeps its effect one.
func TestConsumer_repeat_has_one_effect(t *testing.T) {
	t.Parallel()
	once, effects, calls := outbox.NewMemoryOnce(), atomic.Int32{}, atomic.Int32{}
	first := make(chan func(), 1)
	c := consume(t, handlerFunc(func(ctx context.Context, e sessions.Event) error {
		if calls.Add(1) == 1 {
			(<-first)()
		}
		return once.Once(ctx, "notify", e.ID, func(context.Context) error { effects.Add(1); return nil })
	}), aws.ConsumerOptions{Visibility: 2 * time.Second, CallTimeout: 20 * time.Second})
	c.publish(t, outboxtest.Events(1)...)
	first <- func() { c.Fail(awstest.Drop) }
	require.Eventually(t, func() bool { return c.Calls("DeleteMessage") == 2 }, 20*time.Second, time.Millisecond, "the delete, and its repeat by the SDK")
	c.Fail(awstest.None)
	c.drained(t)
	require.EqualValues(t, 2, calls.Load())
	require.EqualValues(t, 1, effects.Load())
}

type handlerFunc func(context.Context, sessions.Event) error

func (f handlerFunc) Handle(ctx context.Context, e sessions.Event) error { return f(ctx, e) }

func TestNewConsumer_refuses(t *testing.T) {
	t.Parallel()
	for field, opts := range map[string]aws.ConsumerOptions{
		"Name": {Queue: "q"}, "Queue": {Name: "n"}, "Concurrency": {Name: "n", Queue: "q", Concurrency: -1},
		"Visibility": {Name: "n", Queue: "q", Visibility: time.Second},
	} {
		_, err := aws.NewConsumer(opts, &consumer{})
		require.ErrorContains(t, err, field)
	}
}

// results counts messages by their result.
type results struct{ counts sync.Map }

func (r *results) MessageHandled(_, result string, _ time.Duration) {
	n, _ := r.counts.LoadOrStore(result, new(atomic.Int32))
	n.(*atomic.Int32).Add(1)
}

func (r *results) of(result string) int {
	n, ok := r.counts.Load(result)
	if !ok {
		return 0
	}
	return int(n.(*atomic.Int32).Load())
}
