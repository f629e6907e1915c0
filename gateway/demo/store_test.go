package demo

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/requiredtest"
)

// requireServer skips a test without a server on the PATH; in CI it fails.
func requireServer(t *testing.T) {
	t.Helper()
	if _, _, err := findServer(t.Context()); err != nil {
		requiredtest.Missing(t, err)
	}
}

func TestStartStore(t *testing.T) {
	t.Parallel()
	requireServer(t)
	s, err := startStore(t.Context())
	require.NoError(t, err)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", s.socket())
	require.NoError(t, err, "it listens")
	require.NoError(t, conn.Close())
	group, err := syscall.Getpgid(s.cmd.Process.Pid)
	require.NoError(t, err)
	assert.Equal(t, s.cmd.Process.Pid, group, "Ctrl-C does not reach it")

	require.NoError(t, s.stop())
	require.ErrorIs(t, syscall.Kill(s.cmd.Process.Pid, 0), syscall.ESRCH)
	assert.NoDirExists(t, s.dir)
}

func TestStartStore_a_server_that_ends(t *testing.T) { // not parallel: it sets the PATH
	bin, temp := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv("TMPDIR", temp)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "valkey-server"), []byte("#!/bin/sh\necho v=8.0.1\n"), 0o700))
	_, err := startStore(t.Context())
	require.ErrorContains(t, err, "valkey-server 8.0.1 ended at once")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestStartStore_ends_with_its_parent(t *testing.T) {
	t.Parallel()
	attr := &syscall.SysProcAttr{}
	dieWithParent(attr)
	cmd := exec.CommandContext(t.Context(), "true")
	cmd.SysProcAttr = attr
	assert.NoError(t, cmd.Run(), "the attribute is one that this system knows")
}

func TestFindServer(t *testing.T) { // not parallel: it sets the PATH
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	_, _, err := findServer(t.Context())
	require.ErrorIs(t, err, errNoServer)

	write := func(program, prints string) {
		require.NoError(t, os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\necho \""+prints+"\"\n"), 0o700))
	}
	write("redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64")
	_, _, err = findServer(t.Context())
	require.ErrorContains(t, err, "redis-server 6.0.16 is too old")
	write("redis-server", "Redis server v=7.0.15 sha=00000000:0")
	_, name, err := findServer(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "redis-server 7.0.15", name)
	write("valkey-server", "Valkey server v=8.0.1 sha=00000000:0 bits=64")
	path, name, err := findServer(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(bin, "valkey-server"), "valkey-server 8.0.1"}, []string{path, name})
	write("valkey-server", "hello")
	_, name, err = findServer(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "redis-server 7.0.15", name, "the next best")
}
