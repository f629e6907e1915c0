package postgrestest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFindBin(t *testing.T) { // not parallel: it sets the PATH
	root := t.TempDir()
	install := func(dir string, programs ...string) string {
		dir = filepath.Join(root, dir)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		for _, program := range programs {
			require.NoError(t, os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"), 0o700))
		}
		return dir
	}
	onPath, debian := filepath.Join(root, "path"), filepath.Join(root, "lib", "*", "bin")
	t.Setenv("PATH", onPath)

	_, err := findBin(debian)
	require.ErrorIs(t, err, errNotFound)

	install("lib/18/bin", "initdb") // a client's, without the server
	install("lib/15/bin", "initdb", "postgres")
	newest := install("lib/17/bin", "initdb", "postgres")
	bin, err := findBin(debian)
	require.NoError(t, err)
	assert.Equal(t, newest, bin)

	linked := install("opt", "initdb", "postgres")
	install("path")
	require.NoError(t, os.Symlink(filepath.Join(linked, "initdb"), filepath.Join(onPath, "initdb")))
	bin, err = findBin(debian)
	require.NoError(t, err)
	assert.Equal(t, linked, bin, "the PATH wins, and a link on it is followed")
}
