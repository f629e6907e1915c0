package valkeyconn

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

// keyOf is a new key whose slot is a server's.
func keyOf(t *testing.T, c *Conn, server *valkeyserver.Server) string {
	t.Helper()
	for {
		if key := newKey(); c.servers.ownerOfKey(key).addr == server.Addr() {
			return key
		}
	}
}

func getKey(ctx context.Context, c *Conn, key string) error {
	_, err := c.Do(ctx, key, func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return c.Do(ctx, c.B().Get().Key(key).Build())
	})
	return err
}

// beginMove has a key's slot on its way from one server to another.
func beginMove(t *testing.T, key string, from, to *valkeyserver.Server) {
	t.Helper()
	slot := strconv.Itoa(int(slotOf(key)))
	for _, s := range []struct {
		at, other *valkeyserver.Server
		how       string
	}{{to, from, "IMPORTING"}, {from, to, "MIGRATING"}} {
		id, err := s.other.Do(t.Context(), "CLUSTER", "MYID")
		require.NoError(t, err)
		_, err = s.at.Do(t.Context(), "CLUSTER", "SETSLOT", slot, s.how, id)
		require.NoError(t, err)
	}
}

// A cluster asks for ASKING before every command, also of several that are sent together.
func TestConn_redirected_with_several_commands(t *testing.T) {
	t.Parallel()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{Replicas: -1})
	c := connected(t, Options{URL: cluster.URL()})
	key := keyOf(t, c, cluster.Servers[0])
	beginMove(t, key, cluster.Servers[0], cluster.Servers[1])
	_, err := c.Do(t.Context(), key, func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return c.Do(ctx, c.B().Set().Key(key).Value("there").Build())
	})
	require.NoError(t, err)
	res, err := c.Do(t.Context(), key, func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		all := c.DoMulti(ctx, c.B().Time().Build(), c.B().Get().Key(key).Build())
		require.Len(t, all, 2)
		return all[1]
	})
	require.NoError(t, err)
	value, err := res.ToString()
	require.NoError(t, err)
	require.Equal(t, "there", value)
}

// A call that is redirected to a silent server counts as unanswered by that one alone. The
// server that redirects has answered it.
func TestConn_redirected_to_a_silent_server(t *testing.T) {
	t.Parallel()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{Replicas: -1})
	first, silent := cluster.Servers[0], cluster.Servers[1]
	c := connected(t, Options{URL: cluster.URL(), Timeout: 500 * time.Millisecond}, shortOpen, longLaps)
	owner, other := c.servers.member(first.Addr()), c.servers.member(silent.Addr())
	answered := keyOf(t, c, first)

	moving := keyOf(t, c, first)
	beginMove(t, moving, first, silent)
	moved := keyOf(t, c, silent)
	for name, key := range map[string]string{"ask": moving, "moved": moved} {
		redirected := func() error {
			(*c.servers.owners.Load())[slotOf(key)].Store(owner) // for MOVED: a survey notes the right one
			return getKey(t.Context(), c, key)
		}
		eventually(t, func() bool { return redirected() == nil && c.Ready() })
		require.NoError(t, silent.Pause())
		eventually(t, func() bool {
			atOnce(25, func() { _ = redirected() })
			return *other.state.Load() != gobreaker.StateClosed
		})
		require.NoError(t, getKey(t.Context(), c, answered), name)
		require.Equal(t, gobreaker.StateClosed, *owner.state.Load(), name)
		require.Zero(t, owner.unanswered.Load(), name)
		require.NoError(t, silent.Resume())
		eventually(t, func() bool { return redirected() == nil && *other.state.Load() == gobreaker.StateClosed })
	}
}

// A server that gets its first slot is named by no survey while the slot's keys are on their way.
// It is kept as long as calls are redirected to it.
func TestTopology_redirected_to_a_server_without_slots(t *testing.T) {
	t.Parallel()
	tp := newTopology(Options{}.withDefaults(), valkey.ClientOption{})
	next := tp.member("next:1")
	for range 3 * forgetAfter {
		tp.adopt(layout{spans: []span{{last: slotCount - 1, addr: "owner:1"}}})
		tp.startNodes(t.Context(), func(context.Context, *node) {})
		require.Same(t, next, tp.member("next:1"))
	}
	require.Len(t, tp.inUse(), 1, "it owns nothing yet")
	for range 2 * forgetAfter {
		tp.adopt(layout{spans: []span{{last: slotCount - 1, addr: "owner:1"}}})
		tp.startNodes(t.Context(), func(context.Context, *node) {})
	}
	require.NotSame(t, next, tp.member("next:1"), "nobody is redirected any more")
}
