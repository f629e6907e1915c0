package spawntest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/scripts/spawn"
	"doorstep/scripts/spawn/spawntest"
)

func TestMain(m *testing.M) { spawntest.Main(m) }

func TestEach(t *testing.T) {
	seen := map[string]string{}
	spawntest.Each(t, func(t *testing.T, url string) { seen[t.Name()] = url })
	assert.Equal(t, map[string]string{
		"TestEach/valkey": spawntest.Valkey(t),
		"TestEach/redis":  spawntest.Redis(t),
	}, seen)
	assert.NotEqual(t, spawntest.Valkey(t), spawntest.Redis(t))
}

func TestPrivate(t *testing.T) {
	var private *spawn.Server
	t.Run("is one's own", func(t *testing.T) {
		private = spawntest.Private(t, spawn.Valkey, "--maxmemory", "4mb")
		assert.NotEqual(t, spawntest.Valkey(t), private.URL())
	})
	require.NotNil(t, private)
	<-private.Done() // gone with its test
}

// A missing server skips a test on a laptop and fails it in CI.
func TestMissing(t *testing.T) {
	if os.Getenv("DOORSTEP_TEST_MISSING") != "" {
		spawntest.Valkey(t)
		return
	}
	run := func(require string) (string, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMissing$", "-test.v")
		cmd.Env = []string{"DOORSTEP_TEST_MISSING=1", "PATH=" + t.TempDir(), "DOORSTEP_REQUIRE_SERVERS=" + require}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run("")
	require.NoError(t, err, out)
	assert.Contains(t, out, "--- SKIP: TestMissing")
	out, err = run("1")
	require.Error(t, err)
	assert.Contains(t, out, "--- FAIL: TestMissing")
}
