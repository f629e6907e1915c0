package aws_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/outbox/outboxtest"
)

const applicationEvents = "application-events"

// eventBridge is a publisher on an endpoint of the test's own.
func eventBridge(t *testing.T, opts aws.EventBridgeOptions) (*aws.EventBridge, *awstest.Server) {
	t.Helper()
	s := endpoint(t)
	s.Bus(applicationEvents)
	opts.Bus, opts.Endpoint = applicationEvents, s.URL()
	b, err := aws.NewEventBridge(opts)
	require.NoError(t, err)
	return b, s
}

func rows(events ...sessions.Event) []outbox.Row {
	list := make([]outbox.Row, len(events))
	for i, e := range events {
		list[i] = outbox.Row{Seq: int64(i + 1), Event: e, Attempts: 1}
	}
	return list
}

func TestEventBridge_Publish(t *testing.T) {
	t.Parallel()
	t.Run("as_the_contract_says", func(t *testing.T) {
		t.Parallel()
		b, s := eventBridge(t, aws.EventBridgeOptions{})
		e := outboxtest.Events(1)[0]
		require.Equal(t, []error{nil}, b.Publish(t.Context(), rows(e)))
		got := s.Events()
		require.Len(t, got, 1)
		assert.Equal(t, "application-events", got[0].EventBusName)
		assert.Equal(t, "admin-service", got[0].Source)
		assert.Equal(t, "TrainerJourneyStarted", got[0].DetailType)
		assert.InDelta(t, float64(e.At.UnixMilli())/1000, got[0].Time, 1)
		assert.JSONEq(t, fmt.Sprintf(`{"eventId": %q, "schemaVersion": 1, "trainerId": %q, "studentId": %q, "sessionId": %q,
			"startTime": "2026-03-14T12:00:00.000Z"}`, e.ID, e.TrainerID, e.StudentID, e.SessionID), got[0].Detail)
		back, err := sessions.ParseEvent(sessions.EventType(got[0].DetailType), []byte(got[0].Detail))
		require.NoError(t, err)
		assert.Equal(t, e, back)
	})
	t.Run("with_the_trace_of_its_call", func(t *testing.T) {
		t.Parallel()
		b, s := eventBridge(t, aws.EventBridgeOptions{})
		s.Queue("notify", time.Minute, 5)
		s.Rule("application-events", "admin-service", "notify", "TrainerJourneyStarted")
		e := outboxtest.Events(1)[0]
		e.Trace = "1-67891233-abcdef012345678912345678"
		require.Equal(t, []error{nil}, b.Publish(t.Context(), rows(e)))
		assert.Equal(t, "Root="+e.Trace, s.Events()[0].TraceHeader)
		assert.Equal(t, "Root="+e.Trace, s.Messages("notify")[0].Trace)
	})
	t.Run("ten_a_call", func(t *testing.T) {
		t.Parallel()
		b, s := eventBridge(t, aws.EventBridgeOptions{})
		require.Equal(t, make([]error, 23), b.Publish(t.Context(), rows(outboxtest.Events(23)...)))
		require.Equal(t, 3, s.Calls("PutEvents"))
		require.Len(t, s.Events(), 23)
		require.Empty(t, b.Publish(t.Context(), nil))
	})
	t.Run("entry_by_entry", func(t *testing.T) {
		t.Parallel()
		b, s := eventBridge(t, aws.EventBridgeOptions{})
		events := outboxtest.Events(6)
		codes := map[sessions.ID]string{
			events[1].ID: "ThrottlingException", events[2].ID: "InternalFailure", events[3].ID: "MalformedDetail",
			events[4].ID: "NotAuthorizedForDetailTypeException",
		}
		s.Reject(func(e awstest.Entry) string {
			got, _ := sessions.ParseEvent(sessions.EventType(e.DetailType), []byte(e.Detail))
			return codes[got.ID]
		})
		errs := b.Publish(t.Context(), rows(events...))
		require.Equal(t, 1, s.Calls("PutEvents"))
		require.NoError(t, errs[0])
		require.True(t, outbox.IsDown(errs[1]), errs[1])
		require.EqualError(t, errs[2], "refused: InternalFailure")
		require.False(t, outbox.IsDown(errs[2]), "beside entries that were taken it is the entry's own")
		require.True(t, outbox.IsPermanent(errs[3]))
		require.True(t, outbox.IsDown(errs[4]), "a right that is missing is for an operator, and no event's fault")
		require.NoError(t, errs[5])
	})
	t.Run("internal_failure_of_all_is_the_bus's", func(t *testing.T) {
		t.Parallel()
		b, s := eventBridge(t, aws.EventBridgeOptions{})
		s.Reject(func(awstest.Entry) string { return "InternalFailure" })
		for _, err := range b.Publish(t.Context(), rows(outboxtest.Events(3)...)) {
			require.True(t, outbox.IsDown(err))
		}
	})
	t.Run("too_large", func(t *testing.T) {
		t.Parallel()
		b, s := eventBridge(t, aws.EventBridgeOptions{})
		events := outboxtest.Events(3)
		events[1].Verdict = strings.Repeat("x", 70<<10)
		errs := b.Publish(t.Context(), rows(events...))
		require.NoError(t, errs[0])
		require.True(t, outbox.IsPermanent(errs[1]), errs[1])
		require.NoError(t, errs[2])
		require.Len(t, s.Events(), 2)
	})
	t.Run("ten_of_the_largest", func(t *testing.T) {
		t.Parallel()
		b, _ := eventBridge(t, aws.EventBridgeOptions{})
		events := outboxtest.Events(10)
		for i := range events {
			events[i].Verdict = strings.Repeat("x", 64<<10-400)
		}
		require.Equal(t, make([]error, 10), b.Publish(t.Context(), rows(events...)))
	})
}

// Whatever happens to a whole call, no row is at fault.
func TestEventBridge_down(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]awstest.Fault{
		"throttled": awstest.Throttle, "internal": awstest.Internal, "silent": awstest.Stall,
		"cut": awstest.Drop, "answer_lost": awstest.Lose, "denied": awstest.Deny,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, s := eventBridge(t, aws.EventBridgeOptions{Timeout: 300 * time.Millisecond})
			s.Fail(fault)
			began := time.Now()
			errs := b.Publish(t.Context(), rows(outboxtest.Events(3)...))
			require.Less(t, time.Since(began), 20*time.Second, "a silent bus would hold it for ever")
			require.Len(t, errs, 3)
			for _, err := range errs {
				require.True(t, outbox.IsDown(err), err)
			}
			require.LessOrEqual(t, s.Calls("PutEvents"), 2, "the SDK tries twice, the relay does the rest")
			s.Fail(awstest.None)
			require.Eventually(t, func() bool {
				return slices.Equal(make([]error, 3), b.Publish(t.Context(), rows(outboxtest.Events(3)...)))
			}, 20*time.Second, 20*time.Millisecond)
		})
	}
	t.Run("no_such_bus", func(t *testing.T) {
		t.Parallel()
		s := endpoint(t)
		b, err := aws.NewEventBridge(aws.EventBridgeOptions{Bus: "deleted", Endpoint: s.URL()})
		require.NoError(t, err)
		require.True(t, outbox.IsDown(b.Publish(t.Context(), rows(outboxtest.Events(1)...))[0]))
	})
	t.Run("nobody_there", func(t *testing.T) {
		t.Parallel()
		b, s := eventBridge(t, aws.EventBridgeOptions{Timeout: 300 * time.Millisecond})
		s.Close()
		require.True(t, outbox.IsDown(b.Publish(t.Context(), rows(outboxtest.Events(1)...))[0]))
	})
}

func TestEventBridge_breaker(t *testing.T) {
	t.Parallel()
	var (
		mu     sync.Mutex
		states []string
	)
	b, s := eventBridge(t, aws.EventBridgeOptions{
		Timeout: 20 * time.Second, BreakerTimeout: time.Second, // longer than three refusals take
		OnBreaker: func(state string) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, state)
		},
	})
	s.Fail(awstest.Deny) // which the SDK does not try twice
	one := rows(outboxtest.Events(1)...)
	for range 8 {
		require.True(t, outbox.IsDown(b.Publish(t.Context(), one)[0]))
	}
	require.Equal(t, 5, s.Calls("PutEvents"), "then it is open and nobody is called")
	s.Fail(awstest.None)
	require.Eventually(t, func() bool { return b.Publish(t.Context(), one)[0] == nil }, 20*time.Second, 20*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"closed", "open", "half-open", "closed"}, states)
}

func TestNewEventBridge_refuses(t *testing.T) {
	t.Parallel()
	for _, bus := range []string{"", "two words", strings.Repeat("x", 300), "arn:aws:sns:eu-central-1:1:x"} {
		_, err := aws.NewEventBridge(aws.EventBridgeOptions{Bus: bus})
		require.ErrorContains(t, err, "event bus", bus)
	}
	_, err := aws.NewEventBridge(aws.EventBridgeOptions{Bus: "arn:aws:events:eu-central-1:000000000000:event-bus/application-events"})
	require.NoError(t, err)
}

// The whole way: what happened while the bus was away arrives, in order.
func TestRelay_to_EventBridge(t *testing.T) {
	t.Parallel()
	b, s := eventBridge(t, aws.EventBridgeOptions{Timeout: 300 * time.Millisecond, BreakerTimeout: 100 * time.Millisecond})
	m := outbox.NewMemory()
	r, err := outbox.NewRelay(m, []outbox.Destination{{Name: outbox.Bus, To: b}}, outbox.RelayOptions{DownBase: 10 * time.Millisecond, DownCap: 100 * time.Millisecond})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	want := map[sessions.ID][]sessions.ID{}
	for i, fault := range []awstest.Fault{awstest.Drop, awstest.Throttle, awstest.None, awstest.Internal, awstest.Deny, awstest.None} {
		s.Fail(fault)
		asked := s.Calls("PutEvents")
		for range 20 {
			session := sessions.NewID()
			for n := range 2 {
				e := outboxtest.Event(session, 10*i+n)
				want[session] = append(want[session], e.ID)
				m.Record(e)
			}
			r.Nudge()
		}
		require.Eventually(t, func() bool { return s.Calls("PutEvents") > asked }, 20*time.Second, time.Millisecond, "it felt the fault")
	}
	require.Eventually(t, func() bool {
		list, err := m.Backlog(t.Context(), nil)
		return err == nil && list[0].Waiting == 0
	}, 20*time.Second, 10*time.Millisecond)
	stop()
	require.ErrorIs(t, <-done, context.Canceled)
	got, seen := map[sessions.ID][]sessions.ID{}, map[sessions.ID]bool{}
	for _, entry := range s.Events() {
		e, err := sessions.ParseEvent(sessions.EventType(entry.DetailType), []byte(entry.Detail))
		require.NoError(t, err)
		if !seen[e.ID] {
			got[e.SessionID] = append(got[e.SessionID], e.ID)
		}
		seen[e.ID] = true
	}
	require.Equal(t, want, got)
	require.Empty(t, m.DeadLetters())
}
