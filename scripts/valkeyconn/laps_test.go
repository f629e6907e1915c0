package valkeyconn

import (
	"context"
	"errors"
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
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

// keepBusy keeps every processor busy with twenty goroutines each, which the
// runtime lets run for 10 ms at a time: a goroutine that becomes ready waits for
// 200 ms.
func keepBusy(t *testing.T) (stop func()) {
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

// A process that has no time to read replies does not take that for a store that
// gives none. Not parallel: it makes all other tests slow.
func TestConn_busy_process(t *testing.T) { //nolint:paralleltest // see above
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	c := connected(t, Options{URL: server.URL(), Timeout: 80 * time.Millisecond}, longLaps, func(c *Conn) {
		c.watch.pingEvery = 80 * time.Millisecond
	})
	for range 50 {
		eventually(t, func() bool { return set(t.Context(), c) == nil })
	}
	link := c.servers.ownerOf(0).feed.link.Load()

	stop := keepBusy(t)
	atOnce(50, func() { assert.NoError(t, calls.record(func() error { return set(t.Context(), c) })) })
	stop()
	require.Greater(t, calls.longest(), 80*time.Millisecond, "otherwise it was not busy")
	require.Zero(t, calls.failed())
	require.Zero(t, c.breaker().Counts().TotalFailures)
	require.Same(t, link, c.servers.ownerOf(0).feed.link.Load(), "the wake-ups' connection was kept, too")
}

// A connection breaks, and the new one leads nowhere, as behind a load balancer or
// to a server that is stopped. The caller that dials waits no longer for that than
// for a reply.
func TestConn_redialled_in_vain(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	c := connected(t, Options{URL: server.URL(), Timeout: callTimeout})
	raw := rawClient(t, server.URL())
	eventually(t, func() bool { return get(t.Context(), c) == nil })

	socket := strings.TrimPrefix(server.URL(), "unix://")
	require.NoError(t, os.Rename(socket, socket+".away"))
	silent, err := net.Listen("unix", socket) // takes connections, and says nothing
	require.NoError(t, err)
	defer silent.Close()
	require.NoError(t, do(t, raw, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Error())
	for range 5 {
		_ = calls.record(func() error { return get(t.Context(), c) })
	}
	require.Less(t, calls.longest(), callTimeout+slack)
}

// A call that is running when Run ends gets its time-out and no more, though a
// connection to a stalled server takes a second to close. Or the connection was closed
// before: to its caller both say that there was no answer.
func TestConn_ended_under_a_call(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c, err := New(Options{URL: server.URL(), Timeout: callTimeout})
	require.NoError(t, err)
	longLaps(c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	eventually(t, func() bool { return c.Ready() && c.Listening() })
	require.NoError(t, server.Pause())
	called, before := make(chan error), c.breaker().Counts().Requests
	go func() { called <- get(context.WithoutCancel(ctx), c) }()
	eventually(t, func() bool { return c.breaker().Counts().Requests > before })
	cancel()
	err = <-called
	require.True(t, errors.Is(err, errTimeUp) || errors.Is(err, valkey.ErrClosing), err)
	require.NoError(t, server.Resume())
	require.NoError(t, <-done)
}

// A call that ends because the laps take too long says nothing about the store.
func TestConn_behind(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL(), Timeout: time.Millisecond})
	c.laps = newLaps() // nothing runs them
	c.laps.atMost = time.Millisecond
	before := c.breaker().Counts()
	require.NoError(t, server.Pause())
	atOnce(30, func() { assert.ErrorIs(t, get(t.Context(), c), ErrBehind) })
	require.Equal(t, before.TotalFailures, c.breaker().Counts().TotalFailures)
	require.Equal(t, gobreaker.StateClosed, c.breaker().State())
	require.NoError(t, server.Resume())
}

// Calls that come at one instant share a connection, and the time of them all is up
// together. While the store answers others it is slow, and not away: the breaker stays
// closed. Otherwise one moment in which the store is late would refuse all the calls of the
// next half second.
func TestConn_slow(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL(), Timeout: 500 * time.Millisecond}, longLaps, longOpen)
	late := func() error {
		_, err := c.Do(t.Context(), "k", func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
			return c.Do(ctx, c.B().Blpop().Key("nothing").Timeout(0).Build()) // on a connection of its own
		})
		return err
	}
	var over atomic.Bool
	others := make(chan struct{})
	go func() {
		defer close(others)
		for !over.Load() {
			assert.NoError(t, get(t.Context(), c))
		}
	}()
	atOnce(30, func() { assert.ErrorIs(t, late(), errTimeUp) })
	over.Store(true)
	<-others
	require.Equal(t, gobreaker.StateClosed, c.breaker().State())
	atOnce(30, func() { assert.Error(t, late()) })
	require.Equal(t, gobreaker.StateOpen, c.breaker().State(), "nobody was answered")
}

// A server that answers next to nothing is given up, too.
func TestConn_slow_for_nearly_all(t *testing.T) {
	t.Parallel()
	n := &node{}
	b := gobreaker.NewCircuitBreaker[valkey.ValkeyResult](breakerSettings(time.Hour, &n.unanswered, func(gobreaker.State) {}))
	for i := range 40 {
		_, _ = b.Execute(func() (valkey.ValkeyResult, error) {
			if i%4 == 0 {
				return valkey.ValkeyResult{}, nil
			}
			return valkey.ValkeyResult{}, errTimeUp
		})
	}
	require.Equal(t, gobreaker.StateOpen, b.State())
}

func TestLaps_within(t *testing.T) {
	t.Parallel()
	t.Run("time_up", func(t *testing.T) {
		t.Parallel()
		ctx, stop := connected(t, Options{URL: valkeytest.Valkey(t)}, longLaps).laps.within(t.Context(), time.Millisecond)
		defer stop()
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), errTimeUp)
	})
	t.Run("behind", func(t *testing.T) {
		t.Parallel()
		l := newLaps() // nothing runs them
		l.atMost = time.Millisecond
		ctx, stop := l.within(t.Context(), time.Millisecond)
		defer stop()
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), ErrBehind)
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
		l := newLaps() // nothing runs them
		ctx, stop := l.within(t.Context(), time.Minute)
		stop()
		require.ErrorIs(t, context.Cause(ctx), context.Canceled)
		require.NoError(t, l.timeUp(ctx, time.Minute))
	})
}

// A call that comes after a lap has begun waits for the next one.
func TestLaps_over(t *testing.T) {
	t.Parallel()
	l := newLaps()
	first := l.over()
	require.Equal(t, first, l.over(), "all who wait share one lap")
	<-l.asked
	l.next = nil // as run does at the beginning of a lap
	require.NotEqual(t, first, l.over())
}
