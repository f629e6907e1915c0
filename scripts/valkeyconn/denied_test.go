package valkeyconn

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/internal/testlog"
)

// rights are those of a Conn that only subscribes and probes.
const rights = "+ping +eval +ssubscribe +sunsubscribe +cluster|slots"

// A right that is missing is told at the start: in the log, and by Denied. With the right
// it is forgotten.
func TestConn_Denied(t *testing.T) {
	t.Parallel()
	cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{Replicas: -1})
	admin := connected(t, Options{URL: "redis://" + cluster.Servers[0].Addr()})
	for user, row := range map[string]struct{ missing, channels, says string }{
		"asker":    {"+cluster|slots", "&test:*", "may not: ask which server owns which slots (+cluster|slots): NOPERM"},
		"watcher":  {"+ssubscribe", "&test:*", "may not: subscribe (+ssubscribe, and its channels): NOPERM"},
		"stranger": {"+nothing", "&foreign:*", "may not: subscribe (+ssubscribe, and its channels): NOPERM"},
	} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			allow := func(rights, channels string) {
				for _, s := range cluster.Servers {
					words := append([]string{"ACL", "SETUSER", user, "on", ">secret", "~*", "resetchannels", channels, "-@all"}, strings.Fields(rights)...)
					_, err := s.Do(t.Context(), words...)
					require.NoError(t, err)
				}
			}
			allow(strings.ReplaceAll(rights, row.missing, ""), row.channels)
			log := &testlog.Buffer{}
			c := running(t, Options{
				URL: "redis://" + user + ":secret@" + cluster.Servers[0].Addr(), Probe: newChannel(),
				Log: slog.New(slog.NewTextHandler(log, nil)),
			})
			eventually(t, c.Denied)
			eventually(t, func() bool { return strings.Contains(log.String(), row.says) })
			require.False(t, c.Ready() && c.Listening())
			allow(rights, "&test:*")
			eventually(t, func() bool { return c.Ready() && c.Listening() && !c.Denied() })
			for range 12 { // on each of the servers, as good as surely
				w := watch(t, c, newChannel())
				_, err := admin.Do(t.Context(), w.channel, func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
					return c.Do(ctx, c.B().Spublish().Channel(w.channel).Message("1").Build())
				})
				require.NoError(t, err)
				w.requireWoken(t, 1)
			}
			c.servers.forbidden.Store(true)
			c.servers.inUse()[0].feed.denied.Store(true)
			require.False(t, c.Denied(), "a right that goes later is an outage, and keeps no traffic away")
		})
	}
}

// A server of a cluster whose command has another name is not taken for a single one.
func TestConn_cluster_with_a_renamed_command(t *testing.T) {
	t.Parallel()
	for _, kind := range valkeyserver.Kinds() {
		server := valkeytest.PrivateWith(t, kind, valkeyserver.Options{Cluster: true, Args: []string{"--rename-command", "CLUSTER", "renamed"}})
		log := &testlog.Buffer{}
		c := running(t, Options{URL: server.URL(), Log: slog.New(slog.NewTextHandler(log, nil))})
		eventually(t, func() bool { return c.Denied() && strings.Contains(log.String(), "+cluster|slots") })
		require.False(t, c.Ready())
	}
}

// A single server need not tell which slots it owns.
func TestConn_single_without_the_right_to_ask(t *testing.T) {
	t.Parallel()
	for _, kind := range valkeyserver.Kinds() {
		server := valkeytest.PrivateWith(t, kind, valkeyserver.Options{})
		require.NoError(t, do(t, rawClient(t, "unix://"+server.Socket()), "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "-@all", "+ping", "+eval", "+ssubscribe", "+sunsubscribe").Error())
		c := connected(t, Options{URL: "unix://app:secret@" + server.Socket(), Probe: newChannel()})
		require.False(t, c.Denied())
	}
}
