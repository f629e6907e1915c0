package valkeytest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeytest"
)

func TestMain(m *testing.M) { valkeytest.Main(m) }

// A missing server skips a test on a laptop and fails it in CI.
func TestMissing(t *testing.T) {
	if os.Getenv("DOORSTEP_TEST_MISSING") != "" {
		valkeytest.Valkey(t)
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
