package valkeyserver_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

func TestMain(m *testing.M) { valkeytest.Main(m) }

func TestStart(t *testing.T) {
	t.Parallel()
	for _, kind := range valkeyserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := start(t, kind, valkeyserver.Options{})
			assert.Equal(t, "unix://"+server.Socket(), server.URL())
			assert.Empty(t, server.Addr(), "no TCP unless asked for")
			assert.Less(t, len(server.Socket()), 104)
			assert.Equal(t, "+PONG", ask(t, "unix", server.Socket(), "PING"))
			assert.Equal(t, "*2 $4 save $0", ask(t, "unix", server.Socket(), "CONFIG GET save"), "nothing is ever written to disk")

			pid := server.Process().Pid
			require.NoError(t, server.Stop())
			require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
			assert.NoDirExists(t, filepath.Dir(server.Socket()))
			require.NoError(t, server.Stop(), "twice")
			require.Error(t, server.Restart(t.Context()), "a stopped server has no folder to start in")
		})
	}

	t.Run("on TCP too", func(t *testing.T) {
		t.Parallel()
		server := start(t, valkeyserver.Valkey, valkeyserver.Options{TCP: true})
		assert.Equal(t, "redis://"+server.Addr(), server.URL())
		assert.Equal(t, "+PONG", ask(t, "tcp", server.Addr(), "PING"))
		assert.Equal(t, "+PONG", ask(t, "unix", server.Socket(), "PING"))
	})

	t.Run("a cluster node", func(t *testing.T) {
		t.Parallel()
		server := start(t, valkeyserver.Valkey, valkeyserver.Options{Cluster: true})
		assert.Contains(t, ask(t, "tcp", server.Addr(), "CLUSTER INFO"), "cluster_state:fail", "no slots yet")
	})

	for i := range 8 {
		t.Run("many at once/"+strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			server := start(t, valkeyserver.Valkey, valkeyserver.Options{TCP: true})
			assert.Equal(t, "+PONG", ask(t, "tcp", server.Addr(), "PING"))
		})
	}
}

func TestStart_refused(t *testing.T) {
	t.Parallel()

	t.Run("a setting that the server does not know", func(t *testing.T) {
		t.Parallel()
		temp := t.TempDir()
		_, err := valkeyserver.Start(t.Context(), valkeyserver.Options{Path: program(t, valkeyserver.Valkey), Args: []string{"--nonsense", "1"}, TempDir: temp})
		require.ErrorContains(t, err, "nonsense", "the server's own words")
		assert.Empty(t, entries(t, temp))
	})

	t.Run("a program that never answers", func(t *testing.T) {
		t.Parallel()
		temp := t.TempDir()
		mute := filepath.Join(t.TempDir(), "mute")
		require.NoError(t, os.WriteFile(mute, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700))
		_, err := valkeyserver.Start(t.Context(), valkeyserver.Options{Path: mute, ReadyIn: 20 * time.Millisecond, TempDir: temp})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Empty(t, entries(t, temp))
	})

	t.Run("a caller who has gone", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := valkeyserver.Start(ctx, valkeyserver.Options{Path: program(t, valkeyserver.Valkey)})
		assert.ErrorIs(t, err, context.Canceled)
	})

	t.Run("a path too long for a socket", func(t *testing.T) {
		t.Parallel()
		long := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
		require.NoError(t, os.Mkdir(long, 0o700))
		_, err := valkeyserver.Start(t.Context(), valkeyserver.Options{Path: program(t, valkeyserver.Valkey), TempDir: long})
		require.ErrorContains(t, err, "socket path")
		assert.Empty(t, entries(t, long))
	})
}

func TestServer_Pause(t *testing.T) {
	t.Parallel()
	server := valkeytest.Private(t, valkeyserver.Valkey)
	require.NoError(t, server.Pause())
	conn := dial(t, "unix", server.Socket())
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Millisecond)))
	_, err := conn.Write([]byte("PING\r\n"))
	require.NoError(t, err, "a stalled server still takes bytes")
	_, err = bufio.NewReader(conn).ReadString('\n')
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	require.NoError(t, server.Resume())
	assert.Equal(t, "+PONG", ask(t, "unix", server.Socket(), "PING"))
	require.NoError(t, server.Pause(), "and Stop, at the test's end, works on a paused one")
}

func TestServer_Restart(t *testing.T) {
	t.Parallel()
	server := valkeytest.PrivateWith(t, valkeyserver.Valkey, valkeyserver.Options{TCP: true})
	url, before := server.URL(), server.Done()
	assert.Equal(t, "+OK", ask(t, "tcp", server.Addr(), "SET k v"))

	require.NoError(t, server.Kill())
	<-before
	_, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)

	require.NoError(t, server.Restart(t.Context()))
	assert.Equal(t, url, server.URL())
	assert.Equal(t, "$-1", ask(t, "tcp", server.Addr(), "GET k"), "its memory is empty")
	require.NoError(t, server.Restart(t.Context()), "of a running one")
	assert.Equal(t, "+PONG", ask(t, "unix", server.Socket(), "PING"))
}

func TestFind(t *testing.T) { // not parallel: it sets the PATH
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	_, _, ok := valkeyserver.Find()
	require.False(t, ok)
	_, err := valkeyserver.Start(t.Context(), valkeyserver.Options{})
	require.ErrorIs(t, err, valkeyserver.ErrNotFound)

	for _, kind := range []valkeyserver.Kind{valkeyserver.Redis, valkeyserver.Valkey} { // the preferred one last: it must win
		want := filepath.Join(bin, kind.Program())
		require.NoError(t, os.WriteFile(want, []byte("#!/bin/sh\n"), 0o700))
		path, found, ok := valkeyserver.Find()
		assert.True(t, ok)
		assert.Equal(t, kind, found)
		assert.Equal(t, want, path)
	}
}

// BenchmarkStart: what the demo and a Private server cost.
func BenchmarkStart(b *testing.B) {
	path, _, ok := valkeyserver.Find()
	if !ok {
		b.Skip("no server on the PATH")
	}
	for b.Loop() {
		server, err := valkeyserver.Start(b.Context(), valkeyserver.Options{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		if err := server.Stop(); err != nil {
			b.Fatal(err)
		}
	}
}

func start(t *testing.T, kind valkeyserver.Kind, options valkeyserver.Options) *valkeyserver.Server {
	t.Helper()
	return valkeytest.PrivateWith(t, kind, options)
}

func program(t *testing.T, kind valkeyserver.Kind) string {
	t.Helper()
	path, ok := kind.Find()
	if !ok {
		t.Skip(kind.Program() + " is not on the PATH")
	}
	return path
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), network, address)
	if !assert.NoError(t, err) {
		t.FailNow()
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends an inline command and returns the answer's first packet, in which
// all these answers fit, on one line.
func ask(t *testing.T, network, address, command string) string {
	t.Helper()
	conn := dial(t, network, address)
	assert.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := conn.Write([]byte(command + "\r\n"))
	assert.NoError(t, err)
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	assert.NoError(t, err)
	return strings.Join(strings.Fields(string(answer[:n])), " ")
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := make([]string, 0, len(found))
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}
