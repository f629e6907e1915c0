package valkeyconn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := New(Options{URL: "http://nowhere"})
	require.ErrorContains(t, err, "live store url")
	c, err := New(Options{URL: "redis://127.0.0.1:1"})
	require.NoError(t, err, "it connects to nothing")
	require.False(t, c.Ready())
	require.ErrorIs(t, get(t.Context(), c), ErrNotConnected)
}

// A password that was not encoded is taken for other parts of the URL.
func TestNew_repeats_no_password(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://user:hunter2@host:port", "redis://user:hun/ter2@host:1", "redis://user:hun%zzter2@host:1", "redis://user:hun ter2@host:1",
		"user:hunter2@host", "redis://user:hunter2@host:1/ter2",
	} {
		_, err := New(Options{URL: url})
		require.ErrorContains(t, err, "live store url", url)
		require.NotContains(t, err.Error(), "hun", url)
		require.NotContains(t, err.Error(), "ter2", url)
	}
}

// The password is changed while the gateway runs, and all connections are lost.
func TestConn_password_changed(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	run := func(words ...string) {
		_, err := server.Do(t.Context(), words...)
		require.NoError(t, err)
	}
	run("ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all")
	as := func(password string) string { return strings.Replace(server.URL(), "://", "://app:"+password+"@", 1) }
	file := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(file, []byte(as("first")+"\n"), 0o600))
	c := connected(t, Options{URL: as("first"), URLFile: file})
	require.NoError(t, set(t.Context(), c))
	var password atomic.Value
	password.Store("first")
	made := connected(t, Options{URL: as("none"), Password: func(_ context.Context, user string) (string, error) {
		return map[string]string{"app": password.Load().(string)}[user], nil
	}})

	run("ACL", "SETUSER", "app", "resetpass", ">second")
	password.Store("second")
	run("CLIENT", "KILL", "USER", "app")
	eventually(t, func() bool { return get(t.Context(), c) != nil })
	require.NoError(t, os.WriteFile(file, []byte(as("second")), 0o600))
	requireHealed(t, c)
	requireHealed(t, made)
	require.NoError(t, set(t.Context(), c))
}

// ElastiCache ends a connection that has signed in by IAM after 12 hours, unless it is sent
// a new password.
func TestOptions_made_password_is_sent_again(t *testing.T) {
	t.Parallel()
	at := func(o Options) time.Time {
		option, err := clientOption(o.withDefaults())
		require.NoError(t, err)
		c, err := option.AuthCredentialsFn(valkey.AuthCredentialsContext{})
		require.NoError(t, err)
		return c.RefreshAfter
	}
	made := func(context.Context, string) (string, error) { return "made", nil }
	require.WithinDuration(t, time.Now().Add(6*time.Hour), at(Options{URL: "rediss://app@h", Password: made}), time.Hour)
	require.Zero(t, at(Options{URL: "rediss://app:p@h", URLFile: "none"}))
}

func TestConn_killed_and_restarted(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL()}, shortOpen)
	require.NoError(t, set(t.Context(), c))
	require.NoError(t, server.Kill())
	require.Error(t, get(t.Context(), c))
	require.NoError(t, server.Restart(t.Context()))
	requireHealed(t, c)
	require.NoError(t, set(t.Context(), c))
}

// A server that takes no writes is away for reads, too: what cannot be ended there
// must not be shown.
func TestConn_no_writes(t *testing.T) {
	t.Parallel()
	for name, commands := range map[string]struct{ refuse, allow [][]string }{
		"replicas_missing": {[][]string{{"CONFIG", "SET", "min-replicas-to-write", "1"}}, [][]string{{"CONFIG", "SET", "min-replicas-to-write", "0"}}},
		"a_replica":        {[][]string{{"REPLICAOF", "127.0.0.1", "1"}}, [][]string{{"REPLICAOF", "NO", "ONE"}}},
		"cannot_save": {
			[][]string{{"CONFIG", "SET", "save", "3600 1"}, {"SET", "dirty", "1"}, {"BGSAVE"}},
			[][]string{{"CONFIG", "SET", "stop-writes-on-bgsave-error", "no"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := valkeytest.Private(t, valkeyserver.Valkey)
			if name == "cannot_save" { // a folder where the dump should go
				require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(server.Socket()), "dump.rdb"), 0o700))
			}
			c := connected(t, Options{URL: server.URL()})
			require.NoError(t, set(t.Context(), c))
			run := func(list [][]string) {
				for _, words := range list {
					_, err := server.Do(t.Context(), words...)
					require.NoError(t, err)
				}
			}
			run(commands.refuse)
			eventually(t, func() bool { return errors.Is(get(t.Context(), c), ErrNoWrites) })
			require.False(t, c.Ready())
			run(commands.allow)
			eventually(t, func() bool { return get(t.Context(), c) == nil && c.Ready() })
			require.NoError(t, set(t.Context(), c))
		})
	}
}

// A stalled store costs each caller the time-out at first, soon nothing, and
// never a goroutine that stays.
func TestConn_stalled(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	c := connected(t, Options{URL: server.URL(), Timeout: callTimeout, OnBreaker: calls.onBreaker}, shortOpen)
	requireHealed(t, c)

	require.NoError(t, server.Pause())
	atOnce(200, func() { assert.Error(t, calls.record(func() error { return get(t.Context(), c) })) })
	require.Less(t, calls.longest(), callTimeout+slack, "by its own deadline")
	trip(t, c)
	require.Contains(t, calls.breaker(), "open")
	require.False(t, c.Ready())

	// For longer than the breaker stays open: the calls that it lets through may
	// wait, the others must not.
	began, refused := time.Now(), 0
	for time.Since(began) < 5*callTimeout {
		if errors.Is(get(t.Context(), c), ErrBreakerOpen) {
			refused++
		}
	}
	require.Greater(t, refused, 100, "at once")

	require.NoError(t, server.Resume())
	requireHealed(t, c)
	require.Zero(t, callsInFlight(c))
}

// When valkey-go has given up a connection and dials anew, to a server that takes
// the connection and says nothing, callers do not wait for that.
func TestConn_stalled_dial(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	calls := &recorder{}
	c := connected(t, Options{URL: server.URL(), Timeout: callTimeout}, shortOpen)
	requireHealed(t, c)
	require.NoError(t, server.Pause())
	began := time.Now()
	atOnce(4, func() {
		for time.Since(began) < 4*time.Second { // a second to give up, and a second for each dial
			assert.Error(t, calls.record(func() error { return get(t.Context(), c) }))
			time.Sleep(5 * time.Millisecond)
		}
	})
	require.Less(t, calls.longest(), callTimeout+slack)
	require.NoError(t, server.Resume())
	requireHealed(t, c)
	require.Zero(t, callsInFlight(c))
}

func callsInFlight(c *Conn) int {
	calls, _ := c.InFlight()
	return calls
}

// A caller that leaves says nothing about the store, nor does one whose own
// deadline comes before ours.
func TestConn_caller_leaves(t *testing.T) {
	t.Parallel()
	for name, leaving := range map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		want    error
	}{
		"gone": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
		"out_of_time": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 20*time.Millisecond)
		}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := valkeytest.Private(t, valkeyserver.Valkey)
			c := connected(t, Options{URL: server.URL()})
			require.NoError(t, server.Pause())
			ctx, cancel := leaving.context(t.Context())
			defer cancel()
			atOnce(100, func() {
				err := get(ctx, c)
				assert.ErrorIs(t, err, leaving.want)
				assert.ErrorIs(t, err, ErrCallerLeft)
			})
			require.Zero(t, c.breaker().Counts().TotalFailures)
			require.Equal(t, gobreaker.StateClosed, c.breaker().State())
			require.NoError(t, server.Resume())
			requireHealed(t, c)
		})
	}
}

// Twenty failures in a row open the breaker, whatever went well before.
func TestConn_breaker_opens_on_a_row(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL(), Timeout: callTimeout})
	for good := 0; good < 200; { // on a busy machine one may be late
		if get(t.Context(), c) == nil {
			good++
		}
	}
	require.NoError(t, server.Pause())
	atOnce(19, func() { assert.Error(t, get(t.Context(), c)) })
	require.Equal(t, gobreaker.StateClosed, c.breaker().State())
	require.Error(t, get(t.Context(), c))
	require.Equal(t, gobreaker.StateOpen, c.breaker().State())
	require.ErrorIs(t, get(t.Context(), c), ErrBreakerOpen)
}

func TestConn_bulkhead(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL()}, bulkheadOf2)
	require.NoError(t, server.Pause())
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() { assert.NoError(t, get(t.Context(), c)) })
	}
	eventually(t, func() bool { return callsInFlight(c) == 2 })
	require.NoError(t, server.Resume())
	calls.Wait()
}

// A full bulkhead is not a failure of the store: a call that finds no place in
// time gets an error of its own, and the breaker counts only calls that were made.
func TestConn_bulkhead_full(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL(), Timeout: 300 * time.Millisecond}, bulkheadOf2)
	require.NoError(t, server.Pause())
	var full atomic.Int64
	atOnce(100, func() {
		err := get(t.Context(), c)
		assert.Error(t, err)
		if errors.Is(err, ErrTooManyCalls) {
			full.Add(1)
		}
	})
	require.Positive(t, full.Load())
	require.LessOrEqual(t, int64(c.breaker().Counts().TotalFailures), 100-full.Load())
	require.NoError(t, server.Resume())
}

// After a failover the server behind an open connection may be a replica. It
// answers pings; only a new connection can reach the new primary.
func TestConn_demoted_server(t *testing.T) {
	t.Parallel()
	spawnEach(t, func(t *testing.T, server *valkeyserver.Server) {
		c := connected(t, Options{URL: server.URL()}, shortOpen)
		raw := rawClient(t, server.URL())
		before := connectionsOf(t, raw)
		require.NoError(t, do(t, raw, "REPLICAOF", "127.0.0.1", "1").Error())
		require.ErrorContains(t, set(t.Context(), c), "READONLY")
		eventually(t, func() bool {
			return slices.ContainsFunc(connectionsOf(t, raw), func(id int64) bool { return !slices.Contains(before, id) })
		})
		require.NoError(t, do(t, raw, "REPLICAOF", "NO", "ONE").Error())
		requireHealed(t, c)
		require.NoError(t, set(t.Context(), c))
	})
}

// A new connection to a server that is still a replica changes nothing: no read in between is
// answered by it.
func TestConn_replica_for_long(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	c := connected(t, Options{URL: server.URL()})
	raw := rawClient(t, server.URL())
	require.NoError(t, do(t, raw, "REPLICAOF", "127.0.0.1", "1").Error())
	eventually(t, func() bool { return errors.Is(get(t.Context(), c), ErrNoWrites) })
	made := map[int64]bool{}
	eventually(t, func() bool {
		require.Error(t, get(t.Context(), c))
		require.False(t, c.Ready())
		for _, id := range connectionsOf(t, raw) {
			made[id] = true
		}
		return len(made) >= 5 // two at first, and three for calls since
	})
}

// connectionsOf lists the ids of a Conn's connections.
func connectionsOf(t *testing.T, raw valkey.Client) []int64 {
	t.Helper()
	list, err := do(t, raw, "CLIENT", "LIST").ToString()
	require.NoError(t, err)
	var ids []int64
	for line := range strings.SplitSeq(list, "\n") {
		var id int64
		if _, err := fmt.Sscanf(line, "id=%d", &id); err == nil && strings.Contains(line, "name=doorstep") {
			ids = append(ids, id)
		}
	}
	return ids
}

// A store that is full refuses writes. That is an answer and does not open the
// breaker.
func TestConn_full(t *testing.T) {
	t.Parallel()
	spawnEach(t, func(t *testing.T, server *valkeyserver.Server) {
		c := connected(t, Options{URL: server.URL()})
		require.NoError(t, do(t, rawClient(t, server.URL()), "CONFIG", "SET", "maxmemory", "1").Error())
		for range 30 { // as many failures would open the breaker
			require.ErrorContains(t, set(t.Context(), c), "OOM")
		}
		require.NoError(t, get(t.Context(), c))
	})
}

// Every primary of a cluster gets its share of the connections.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{})
	for name, test := range watchTests {
		t.Run("Watch/"+name, func(t *testing.T) { test(t, cluster.URL(), rawClient(t, cluster.URL())) })
	}
	t.Run("every_primary_is_in_use", func(t *testing.T) {
		c := connected(t, Options{URL: cluster.Servers[1].URL()}) // the other servers are found through one
		require.Len(t, c.servers.inUse(), 3)
		served := 0
		require.NoError(t, c.EachServer(t.Context(), func(context.Context, valkey.Client) error { served++; return nil }))
		require.Equal(t, 3, served)
	})
}
