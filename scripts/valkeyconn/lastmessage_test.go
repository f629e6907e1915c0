package valkeyconn

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

// watchedWithMessage is a watched channel that has had the message "1".
func watchedWithMessage(t *testing.T, c *Conn, url string) watched {
	t.Helper()
	w := watch(t, c, newChannel())
	w.publish(t, rawClient(t, url))
	w.requireWoken(t, 1)
	return w
}

func requireNoMessage(t *testing.T, c *Conn, w watched, why string) {
	t.Helper()
	m, ok := c.LastMessage(w.channel)
	require.False(t, ok, why)
	require.Zero(t, m)
}

func TestConn_LastMessage(t *testing.T) {
	t.Parallel()
	t.Run("published", func(t *testing.T) {
		t.Parallel()
		valkeytest.Each(t, func(t *testing.T, url string) {
			t.Parallel()
			c := connected(t, Options{URL: url})
			requireNoMessage(t, c, watch(t, c, newChannel()), "none yet")
			w := watchedWithMessage(t, c, url)
			m, ok := c.LastMessage(w.channel)
			require.True(t, ok)
			require.Equal(t, "1", m.Value)
			require.WithinDuration(t, time.Now(), m.Received, 10*time.Second)
		})
	})
	t.Run("not_of_a_lost_connection", func(t *testing.T) {
		t.Parallel()
		server := valkeytest.Private(t, valkeyserver.Valkey)
		c := connected(t, Options{URL: server.URL()}, longLinger)
		w := watchedWithMessage(t, c, server.URL())
		before := c.watch.current()
		killSubscriber(t, rawClient(t, server.URL()))
		eventually(t, func() bool { l := c.watch.current(); return l != nil && l != before })
		requireNoMessage(t, c, w, "what was published meanwhile was missed")

		c.watch.deliver(before, w.channel, "2")
		requireNoMessage(t, c, w, "a late message of the old connection does not count")
	})
	t.Run("not_of_another_server", func(t *testing.T) {
		t.Parallel()
		url := valkeytest.Valkey(t)
		c := connected(t, Options{URL: url})
		w := watchedWithMessage(t, c, url)
		f := c.servers.ownerOf(0).feed
		other := &link{node: f.node, useless: make(chan error, 1)}
		mine := f.link.Swap(other)
		defer f.link.Store(mine)
		c.watch.mu.Lock()
		sub := c.watch.subs[w.channel]
		c.watch.mu.Unlock()
		require.True(t, c.watch.settle(f, other, w.channel, sub, nil))
		requireNoMessage(t, c, w, "the slot has moved, and what was published there meanwhile did not reach us")
		c.watch.deliver(other, w.channel, "2")
		c.watch.deliver(mine, w.channel, "3")
		m, ok := c.LastMessage(w.channel)
		require.True(t, ok)
		require.Equal(t, "2", m.Value, "a message of the old server does not count")
	})
	t.Run("not_after_unsubscribing", func(t *testing.T) {
		t.Parallel()
		url := valkeytest.Valkey(t)
		c := connected(t, Options{URL: url}, shortLinger)
		w := watchedWithMessage(t, c, url)
		w.stop()
		eventually(t, func() bool { _, ok := c.LastMessage(w.channel); return !ok })
	})
}

// Everything that wake-ups need is allowed by the ACL file that we ship: a
// subscription, an unsubscription, and what a lost connection and the end of a
// Conn cause.
func TestWatch_under_the_acl(t *testing.T) {
	t.Parallel()
	for _, kind := range valkeyserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("../../deploy/valkey/users.acl")
			require.NoError(t, err)
			hash := sha256.Sum256([]byte("secret"))
			users := strings.ReplaceAll(string(text), "SHA256-OF-THE-PASSWORD", hex.EncodeToString(hash[:])) +
				"user admin on nopass ~* &* +@all\n"
			acl := filepath.Join(t.TempDir(), "users.acl")
			require.NoError(t, os.WriteFile(acl, []byte(users), 0o600))
			server := valkeytest.PrivateWith(t, kind, valkeyserver.Options{Args: []string{"--aclfile", acl}})
			admin := rawClient(t, "unix://admin:any@"+server.Socket())

			t.Run("wake_ups", func(t *testing.T) {
				c := connected(t, Options{URL: "unix://doorstep:secret@" + server.Socket()}, shortLinger)
				first, second := watch(t, c, liveChannel()), watch(t, c, liveChannel())
				second.publish(t, admin)
				second.requireWoken(t, 1)
				first.stop()
				eventually(t, func() bool { return subscribers(t, admin, first.channel) == 0 })
				killSubscriber(t, admin)
				second.requireWoken(t, 2)
			})
			denied, err := do(t, admin, "ACL", "LOG").ToArray()
			require.NoError(t, err)
			require.Empty(t, denied)
		})
	}
}

// liveChannel is a channel of the pattern that the ACL file allows.
func liveChannel() string { return "location:" + strings.TrimPrefix(newChannel(), "test:") }
