package scripts

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// Any number of fixes is one round trip, also of a server that does not have the script
// any more.
func TestStore_UpdateAll_one_call(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	s, c := connected(t, Options{URL: server.URL()}), rawClient(t, server.URL())
	send := func() {
		t.Helper()
		j := journeyNow()
		j.StartedAt = j.StartedAt.Add(-10 * time.Minute)
		_, err := s.Open(t.Context(), j)
		require.NoError(t, err)
		receipts, err := s.UpdateAll(t.Context(), j.Ref, queueOf(60))
		require.NoError(t, err)
		for _, r := range receipts {
			require.Equal(t, sessions.VerdictStored, r.Verdict)
		}
	}
	send()
	before, spent, err := s.ScriptTime(t.Context())
	require.NoError(t, err)
	send()
	after, spentThen, err := s.ScriptTime(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, after-before, "one of open.lua, and one")
	one := journeyNow()
	one.StartedAt = one.StartedAt.Add(-10 * time.Minute)
	_, err = s.Open(t.Context(), one)
	require.NoError(t, err)
	for _, fix := range queueOf(60) {
		_, err := s.Update(t.Context(), one.Ref, fix)
		require.NoError(t, err)
	}
	_, spentOnes, err := s.ScriptTime(t.Context())
	require.NoError(t, err)
	t.Logf("60 fixes take the store %v; one at a time %v", spentThen-spent, spentOnes-spentThen)
	require.NoError(t, do(t, c, "SCRIPT", "FLUSH").Error())
	send()
}

// queueOf is a phone's queue at one fix in 5 s, the newest now.
func queueOf(n int) []sessions.Fix {
	fixes := make([]sessions.Fix, n)
	for i := range fixes {
		ago := time.Duration(n-1-i) * 5 * time.Second
		fixes[i] = fixAt(home)
		fixes[i].RecordedAt = time.Now().Add(-ago).Truncate(time.Millisecond)
	}
	return fixes
}

// The words of updateall.lua are those of update.lua.
func TestUpdateAll_header(t *testing.T) {
	t.Parallel()
	one, body := readHeader(t, updateLua)
	all, _ := readHeader(t, updateAllLua)
	require.Equal(t, []int{1}, all.keys)
	require.Equal(t, []int{1, 2}, all.argv)
	require.Len(t, one.argv, 2+fixWords)
	require.Contains(t, body, "marks, cell, sent_text, clock = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]")
	require.Contains(t, updateAllLua, fmt.Sprintf("local WORDS, MARKS, CLOCK = %d, 8, 11\n", fixWords))
	require.NotContains(t, inUpdateAll(updateLua), "--[[")
}

func TestStore_UpdateAll_refused(t *testing.T) {
	t.Parallel()
	url := valkeytest.Valkey(t)
	s, c := connected(t, Options{URL: url}), rawClient(t, url)
	j := journeyNow()
	requireTakesFix(t, s, j)
	require.NoError(t, do(t, c, "HSET", journeyKey(j.Ref), "to", inLayout("3", j.StartedAt.UnixMilli())).Error())
	_, err := s.UpdateAll(t.Context(), j.Ref, queueOf(2))
	require.ErrorIs(t, err, sessions.ErrUnavailable)
	require.ErrorContains(t, err, "LAYOUT")
}

// A receipt tells of the subscribers of the server that runs the script, and of no
// other. The gateways subscribe there; a subscriber of a replica gets the messages and is
// not counted. So is an idle subscription, for as long as it lingers.
func TestStore_Watched_beside_replicas(t *testing.T) {
	t.Parallel()
	watched := func(t *testing.T, url string, replica *valkeyserver.Server) {
		s, other := connected(t, Options{URL: url, Live: brisk}), connected(t, Options{URL: url})
		j := journeyNow()
		_, err := s.Open(t.Context(), j)
		require.NoError(t, err)
		update := func() bool {
			t.Helper()
			time.Sleep(2 * time.Millisecond) // of the brisk rate
			receipt, err := s.Update(t.Context(), j.Ref, fixAt(home))
			require.NoError(t, err)
			require.Equal(t, sessions.VerdictStored, receipt.Verdict)
			return receipt.Watched
		}
		messages := subscribeTo(t, replica, liveChannel(j.Ref))
		require.False(t, update())
		require.Contains(t, <-messages, " 12.97", "the replica passes the message on")
		stop, err := other.Watch(t.Context(), j.Ref, func() {})
		require.NoError(t, err)
		require.True(t, update())
		stop()
		require.True(t, update(), "it lingers")
	}
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		set := valkeytest.Watched(t, time.Minute)
		watched(t, set.URL(), set.Servers[1])
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cluster := valkeytest.Cluster(t, valkeyserver.ClusterOptions{Primaries: 1})
		watched(t, cluster.URL(), cluster.Servers[1])
	})
}

// subscribeTo subscribes on one server, whatever its role, and returns the messages.
func subscribeTo(t *testing.T, server *valkeyserver.Server, channel string) <-chan string {
	t.Helper()
	conn, err := net.Dial("unix", server.Socket())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "READONLY\r\nSSUBSCRIBE %s\r\n", channel)
	require.NoError(t, err)
	lines, subscribed, messages := bufio.NewScanner(conn), make(chan struct{}), make(chan string, 10)
	go func() {
		for lines.Scan() {
			switch line := lines.Text(); {
			case line == ":1":
				close(subscribed)
			case strings.Contains(line, " "): // of a message the one with words
				messages <- line
			}
		}
	}()
	select {
	case <-subscribed:
	case <-time.After(10 * time.Second):
		require.Fail(t, "not subscribed")
	}
	return messages
}
