package scripts

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// busy keeps every processor busy with twenty goroutines each, which the
// runtime lets run for 10 ms at a time: whoever is woken waits for 200 ms.
func busy(t *testing.T) (stop func()) {
	t.Helper()
	var enough atomic.Bool
	var spinning sync.WaitGroup
	for range 20 * runtime.GOMAXPROCS(0) {
		spinning.Go(func() {
			for !enough.Load() {
			}
		})
	}
	stop = func() { enough.Store(true); spinning.Wait() }
	t.Cleanup(stop)
	return stop
}

// lenient waits for laps however long they take on a busy machine.
func lenient(s *Store) { s.laps.atMost = time.Minute }

// A process that has no time to read replies does not take that for a store
// that gives none. Not parallel: it makes all others slow.
func TestStore_busy_process(t *testing.T) { //nolint:paralleltest // see above
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	s := connected(t, Options{URL: server.URL(), Timeout: 80 * time.Millisecond, Metrics: calls}, lenient, func(s *Store) {
		s.watch.askEvery = 80 * time.Millisecond
	})
	journeys := make([]sessions.Journey, 50)
	for i := range journeys {
		journeys[i] = journeyNow()
		eventually(t, func() bool { _, err := s.Open(t.Context(), journeys[i]); return err == nil })
	}
	link, failed := s.nodes.at(0).feed.link.Load(), calls.failed()

	stop := busy(t)
	var phones sync.WaitGroup
	for _, j := range journeys {
		phones.Go(func() {
			receipt, err := s.Update(t.Context(), j.Ref, fixAt(home))
			assert.NoError(t, err)
			assert.Equal(t, sessions.VerdictStored, receipt.Verdict)
		})
	}
	phones.Wait()
	stop()
	require.Greater(t, calls.longest(), 80*time.Millisecond, "else it was not busy")
	require.Equal(t, failed, calls.failed())
	require.Zero(t, s.breaker().Counts().TotalFailures)
	require.Same(t, link, s.nodes.at(0).feed.link.Load(), "and the wake-ups' connection stands")
}

// A connection that breaks and leads nowhere when it is made anew, as behind a
// load balancer or to a server that is stopped: whoever makes it anew waits no
// longer for that than for a reply.
func TestStore_redialled_in_vain(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	s := connected(t, Options{URL: server.URL(), Timeout: callTimeout, Metrics: calls})
	raw := rawClient(t, server.URL())
	eventually(t, func() bool { return latest(t.Context(), s) == nil })

	socket := strings.TrimPrefix(server.URL(), "unix://")
	require.NoError(t, os.Rename(socket, socket+".away"))
	silent, err := net.Listen("unix", socket) // which takes connections, and says nothing
	require.NoError(t, err)
	defer silent.Close()
	require.NoError(t, do(t, raw, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Error())
	for range 5 {
		_ = latest(t.Context(), s)
	}
	require.Less(t, calls.longest(), callTimeout+slack)
}

// A call that is under way when the store's run ends has its time and no more,
// though a connection to a stalled server takes a second to close.
func TestStore_ended_under_a_call(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s, err := New(Options{URL: server.URL(), Timeout: callTimeout})
	require.NoError(t, err)
	lenient(s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	eventually(t, func() bool { return s.Ready() && s.watch.connected() })
	require.NoError(t, server.Pause())
	called, before := make(chan error), s.breaker().Counts().Requests
	go func() { called <- latest(context.WithoutCancel(ctx), s) }()
	eventually(t, func() bool { return s.breaker().Counts().Requests > before })
	cancel()
	require.ErrorIs(t, <-called, errOurDeadline)
	require.NoError(t, server.Resume())
	require.NoError(t, <-done)
}

// A call that ends because the laps take too long says nothing about the store.
func TestStore_behind(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s := connected(t, Options{URL: server.URL(), Timeout: time.Millisecond})
	s.laps = newLaps() // which nobody runs
	s.laps.atMost = time.Millisecond
	before := s.breaker().Counts()
	require.NoError(t, server.Pause())
	atOnce(30, func() {
		err := latest(t.Context(), s)
		assert.ErrorIs(t, err, sessions.ErrUnavailable)
		assert.ErrorIs(t, err, errBehind)
	})
	require.Equal(t, before.TotalFailures, s.breaker().Counts().TotalFailures)
	require.Equal(t, gobreaker.StateClosed, s.breaker().State())
	require.NoError(t, server.Resume())
}

func TestLaps_within(t *testing.T) {
	t.Parallel()
	t.Run("time_up", func(t *testing.T) {
		t.Parallel()
		ctx, stop := connected(t, Options{URL: valkeytest.Valkey(t)}, lenient).laps.within(t.Context(), time.Millisecond)
		defer stop()
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), errOurDeadline)
	})
	t.Run("behind", func(t *testing.T) {
		t.Parallel()
		l := newLaps() // which nobody runs
		l.atMost = time.Millisecond
		ctx, stop := l.within(t.Context(), time.Millisecond)
		defer stop()
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), errBehind)
	})
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		l, caller := newLaps(), time.Now().Add(time.Minute)
		ctx, cancel := context.WithDeadline(t.Context(), caller)
		defer cancel()
		for timeout, want := range map[time.Duration]time.Time{time.Second: time.Now().Add(time.Second), time.Hour: caller} {
			ctx, stop := l.within(ctx, timeout)
			defer stop()
			up, ok := ctx.Deadline()
			require.True(t, ok)
			require.WithinDuration(t, want, up, time.Second)
		}
	})
	t.Run("over_before", func(t *testing.T) {
		t.Parallel()
		l := newLaps() // which nobody runs
		ctx, stop := l.within(t.Context(), time.Minute)
		stop()
		require.ErrorIs(t, context.Cause(ctx), context.Canceled)
		require.NoError(t, l.timeUp(ctx, time.Minute))
	})
}

// A lap that has begun is not one for those who come later.
func TestLaps_over(t *testing.T) {
	t.Parallel()
	l := newLaps()
	first := l.over()
	require.Equal(t, first, l.over(), "one lap for all who wait")
	<-l.asked
	l.next = nil // as run does when it begins
	require.NotEqual(t, first, l.over())
}
