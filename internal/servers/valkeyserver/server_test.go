package valkeyserver_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/requiredtest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

func TestMain(m *testing.M) { valkeytest.Main(m) }

func do(t *testing.T, server *valkeyserver.Server, words ...string) string {
	t.Helper()
	reply, err := server.Do(t.Context(), words...)
	require.NoError(t, err)
	return reply
}

func TestStart(t *testing.T) {
	t.Parallel()
	for _, kind := range valkeyserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := valkeytest.Private(t, kind)
			assert.Equal(t, "unix://"+server.Socket(), server.URL())
			assert.Empty(t, server.Addr(), "no TCP unless asked for")
			assert.Less(t, len(server.Socket()), 104)
			assert.Equal(t, "save\n", do(t, server, "CONFIG", "GET", "save"), "nothing is ever written to disk")
			assert.Equal(t, "x\n\ny", do(t, server, "EVAL", "return {'x', '', 'y'}", "0"))
			_, err := server.Do(t.Context(), "NONSENSE")
			require.ErrorContains(t, err, "unknown command")

			pid := server.Process().Pid
			require.NoError(t, server.Stop())
			require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
			assert.NoDirExists(t, filepath.Dir(server.Socket()))
			require.NoError(t, server.Stop(), "twice")
			require.Error(t, server.Restart(t.Context()), "a stopped server has no folder to start in")
		})
	}
}

func TestStart_refused(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	mute := filepath.Join(t.TempDir(), "mute")
	require.NoError(t, os.WriteFile(mute, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700))
	valkey, ok := valkeyserver.Valkey.Find()
	if !ok {
		requiredtest.Missing(t, "valkey-server is not on the PATH")
	}
	for name, row := range map[string]struct {
		options valkeyserver.Options
		within  time.Duration
		want    string
	}{
		"unknown setting": {valkeyserver.Options{Path: valkey, Args: []string{"--nonsense", "1"}}, 20 * time.Second, "nonsense"},
		"no answer":       {valkeyserver.Options{Path: mute}, 500 * time.Millisecond, "not answering"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), row.within)
		_, err := valkeyserver.Start(ctx, row.options)
		cancel()
		require.ErrorContains(t, err, row.want, name)
		left, err := os.ReadDir(os.TempDir())
		require.NoError(t, err)
		assert.Empty(t, left, name)
	}
}

func TestFind(t *testing.T) { // not parallel: it sets the PATH
	bin := t.TempDir()
	t.Setenv("PATH", bin)
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
