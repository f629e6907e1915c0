package valkeyserver_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

func TestServer_Do(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	do := func(words ...string) string {
		said, err := server.Do(t.Context(), words...)
		require.NoError(t, err)
		return said
	}
	assert.Equal(t, "OK", do("SET", "a key", "two\r\nlines"))
	assert.Equal(t, "two\r\nlines", do("GET", "a key"))
	assert.Empty(t, do("GET", "none"))
	assert.Equal(t, "1", do("DEL", "a key"))
	assert.Equal(t, "x\n\ny", do("EVAL", "return {'x', '', 'y'}", "0"))
	_, err := server.Do(t.Context(), "NONSENSE")
	require.ErrorContains(t, err, "unknown command")
	primary, err := server.Primary(t.Context())
	require.NoError(t, err)
	assert.True(t, primary)
	require.NoError(t, server.Kill())
	_, err = server.Do(t.Context(), "PING")
	require.Error(t, err)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := valkeytest.Cluster(t, valkeyserver.ClusterOptions{})
	require.Len(t, c.Servers, 6)
	for _, replica := range c.Servers[3:] {
		said, err := replica.Do(t.Context(), "INFO", "replication")
		require.NoError(t, err)
		require.Regexp(t, `\nslave_repl_offset:[1-9]`, said, "not only a copy, but a write has arrived")
	}
	owner := func(slot int) *valkeyserver.Server {
		s, err := c.Owner(t.Context(), slot)
		require.NoError(t, err)
		return s
	}
	require.Same(t, c.Servers[0], owner(0))
	require.Same(t, c.Servers[2], owner(16383))

	// CRC-16 of "foo" is slot 12182, the third primary's.
	_, err := owner(12182).Do(t.Context(), "SET", "foo", "bar")
	require.NoError(t, err)
	require.NoError(t, c.Move(t.Context(), 12182, owner(12182), c.Servers[0]))
	require.Same(t, c.Servers[0], owner(12182))
	said, err := c.Servers[0].Do(t.Context(), "GET", "foo")
	require.NoError(t, err)
	require.Equal(t, "bar", said)

	require.NoError(t, c.Servers[0].Kill())
	began := time.Now()
	next, err := c.Successor(t.Context(), c.Servers[0], 0)
	require.NoError(t, err)
	t.Logf("failover took %v", time.Since(began).Round(time.Millisecond))
	require.Same(t, c.Servers[3], next)
}

func TestWatched(t *testing.T) {
	t.Parallel()
	w := valkeytest.Watched(t, time.Second)
	require.NoError(t, w.Servers[0].Kill())
	began := time.Now()
	next, err := w.Successor(t.Context())
	require.NoError(t, err)
	t.Logf("failover took %v", time.Since(began).Round(time.Millisecond))
	require.Same(t, w.Servers[1], next)
}
