package aws_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/outbox/outboxtest"
)

// located counts by result.
type located struct {
	mu sync.Mutex
	n  map[string]int
}

func (l *located) LocationEvents(result string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == nil {
		l.n = map[string]int{}
	}
	l.n[result] += n
}

func (l *located) of(result string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n[result]
}

func (l *located) all() (n int) {
	for _, result := range aws.LocationResults() {
		n += l.of(result)
	}
	return n
}

func places(n int) []sessions.LocationEvent {
	events := make([]sessions.LocationEvent, n)
	for i := range events {
		events[i] = sessions.LocationEvent{
			ID: sessions.NewID(), TrainerID: sessions.NewID(), SessionID: sessions.NewID(),
			Point: geo.MustPoint(12.9716345, 77.5945678), At: time.Date(2026, 3, 14, 12, 0, 0, i*1e6, time.UTC),
		}
	}
	return events
}

// locations is a sender on an endpoint of the test's own; stop ends it and says how long
// that took.
func locations(t *testing.T, timeout time.Duration) (*aws.Locations, *located, *aws.EventBridge, *awstest.Server, func() (stop func() time.Duration)) {
	t.Helper()
	bus, s := eventBridge(t, aws.EventBridgeOptions{Timeout: timeout})
	counted := &located{}
	l := aws.NewLocations(bus, counted)
	return l, counted, bus, s, func() func() time.Duration {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan struct{})
		go func() { defer close(done); _ = l.Run(ctx) }()
		stop := sync.OnceValue(func() time.Duration {
			began := time.Now()
			cancel()
			<-done
			return time.Since(began)
		})
		t.Cleanup(func() { stop() })
		return stop
	}
}

func TestLocations(t *testing.T) {
	t.Parallel()
	t.Run("as_the_contract_says", func(t *testing.T) {
		t.Parallel()
		l, counted, _, s, run := locations(t, 5*time.Second)
		e := places(1)[0]
		l.Offer(e)
		run()
		require.Eventually(t, func() bool { return counted.of("sent") == 1 }, 20*time.Second, time.Millisecond)
		got := s.Events()[0]
		assert.Equal(t, []string{applicationEvents, "admin-service", "TrainerLocationUpdated"}, []string{got.EventBusName, got.Source, got.DetailType})
		assert.InDelta(t, float64(e.At.UnixMilli())/1000, got.Time, 1)
		assert.JSONEq(t, fmt.Sprintf(`{"eventId": %q, "schemaVersion": 1, "trainerId": %q, "sessionId": %q,
			"latitude": 12.9716345, "longitude": 77.5945678, "timestamp": "2026-03-14T12:00:00.000Z"}`, e.ID, e.TrainerID, e.SessionID), got.Detail)
	})
	t.Run("ten_a_call", func(t *testing.T) {
		t.Parallel()
		l, counted, _, s, run := locations(t, 5*time.Second)
		for _, e := range places(25) {
			l.Offer(e)
		}
		run()
		require.Eventually(t, func() bool { return counted.of("sent") == 25 }, 20*time.Second, time.Millisecond)
		require.Equal(t, 3, s.Calls("PutEvents"))
	})
	t.Run("the_stop_sends_the_rest", func(t *testing.T) {
		t.Parallel()
		l, counted, _, s, run := locations(t, 5*time.Second)
		for _, e := range places(500) {
			l.Offer(e)
		}
		run()()
		require.Equal(t, 500, counted.of("sent"))
		require.Len(t, s.Events(), 500)
	})
	t.Run("some_are_not_taken", func(t *testing.T) {
		t.Parallel()
		l, counted, _, s, run := locations(t, 5*time.Second)
		events := places(10)
		s.Reject(func(e awstest.Entry) string {
			if strings.Contains(e.Detail, string(events[3].ID)) {
				return "ThrottlingException"
			}
			return ""
		})
		for _, e := range events {
			l.Offer(e)
		}
		run()()
		require.Equal(t, []int{9, 1}, []int{counted.of("sent"), counted.of("failed")})
		require.Equal(t, 1, s.Calls("PutEvents"), "and not tried again")
	})
}

// A bus that does not answer costs events, but neither the caller's time nor the stop's.
func TestLocations_slow_bus(t *testing.T) {
	t.Parallel()
	l, counted, _, s, run := locations(t, time.Minute)
	s.Fail(awstest.Stall)
	stop := run()
	for _, e := range places(6000) {
		l.Offer(e)
	}
	require.GreaterOrEqual(t, counted.of("full"), 6000-4096-8*10-2*10, "Offer has returned 6,000 times, and the queue is bounded")
	require.Less(t, stop(), 20*time.Second, "two seconds, and what the machine is slow by")
	require.Equal(t, 6000, counted.all(), "each is counted once")
	require.Zero(t, counted.of("sent"))
}

// Where locations are refused, the outbox's events go on; where the breaker is open,
// locations do not call the bus.
func TestLocations_and_the_breaker(t *testing.T) {
	t.Parallel()
	l, counted, bus, s, run := locations(t, 5*time.Second)
	s.Fail(awstest.Deny)
	stop := run()
	for _, e := range places(100) {
		l.Offer(e)
	}
	require.Eventually(t, func() bool { return counted.of("failed") == 100 }, 20*time.Second, time.Millisecond)
	s.Fail(awstest.None)
	require.NoError(t, bus.Publish(t.Context(), rows(outboxtest.Events(1)...))[0], "ten refused calls have not opened it")

	s.Fail(awstest.Deny)
	for range 5 {
		require.Error(t, bus.Publish(t.Context(), rows(outboxtest.Events(1)...))[0])
	}
	calls := s.Calls("PutEvents")
	for _, e := range places(100) {
		l.Offer(e)
	}
	stop()
	require.Equal(t, 200, counted.of("failed"))
	require.Equal(t, calls, s.Calls("PutEvents"))
}

// A location that a rule has brought into a consumer's queue goes, and nothing of it stays.
func TestConsumer_deletes_locations(t *testing.T) {
	t.Parallel()
	h, counted := &consumer{}, &results{}
	c := consume(t, h, aws.ConsumerOptions{DeadLetters: queue + "-dlq", Metrics: counted})
	c.Send(queue, `{"detail-type": "TrainerLocationUpdated", "detail": `+string(places(1)[0].Detail())+`}`)
	c.drained(t)
	calls, _ := h.count()
	require.Zero(t, calls)
	require.Empty(t, c.Messages(queue+"-dlq"))
	require.Eventually(t, func() bool { return counted.of("done") == 1 }, 20*time.Second, time.Millisecond)
}
