package released

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
)

// releaseLine is the one line of .ci/released that is no comment: the version and the full
// hash of its commit.
var releaseLine = regexp.MustCompile(`^(v\d+\.\d+\.\d+) ([0-9a-f]{40})$`)

// missingf ends a test that cannot have the released binary. It fails where the servers are
// required, as in CI, because nobody would notice a skipped test there.
func missingf(t *testing.T, format string, args ...any) {
	t.Helper()
	why := "no release to test beside: " + fmt.Sprintf(format, args...)
	if os.Getenv("DOORSTEP_REQUIRE_SERVERS") != "" {
		t.Fatal(why + ", and DOORSTEP_REQUIRE_SERVERS is set")
	}
	t.Skip(why)
}

// buildReleased builds the gateway of the commit in .ci/released, from git archive in a
// temporary folder, with the flags of rig.Build: so the two builds share what they depend on
// in Go's cache. With the Makefile's -trimpath, Go compiles all of that once more: over eight
// minutes on two busy cores.
func buildReleased(ctx context.Context, t *testing.T) *rig.Program {
	t.Helper()
	run := func(dir, program string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s %s: %w: %s", program, args[0], err, bytes.TrimSpace(out))
		}
		return strings.TrimSpace(string(out)), err
	}
	root, err := run("", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		missingf(t, "%v", err)
	}
	text, err := os.ReadFile(filepath.Join(root, ".ci", "released"))
	if err != nil {
		missingf(t, "%v", err)
	}
	var found [][]string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			found = append(found, releaseLine.FindStringSubmatch(line))
		}
	}
	require.Len(t, found, 1, "the lines of .ci/released that are no comments")
	require.NotNil(t, found[0], `.ci/released must hold "v0.1.0 <full commit hash>"`)
	version, commit := found[0][1], found[0][2]
	if _, err := run(root, "git", "cat-file", "-e", commit+"^{commit}"); err != nil {
		shallow, _ := run(root, "git", "rev-parse", "--is-shallow-repository")
		missingf(t, "the history of this clone does not have %s (shallow clone: %s): %v", version, shallow, err)
	}
	// The same name each time, because the cache also goes by the folder; another one while it is taken.
	dir := filepath.Join(os.TempDir(), "doorstep-released-"+commit)
	if os.Mkdir(dir, 0o755) != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	_, err = run(root, "git", "archive", "--output="+filepath.Join(dir, "released.tar"), commit)
	require.NoError(t, err)
	_, err = run(dir, "tar", "-xf", "released.tar")
	require.NoError(t, err)
	_, err = run(dir, "go", "build", "-tags", "grpcnotrace", "-buildvcs=false", "-o", "released", "./gateway")
	require.NoError(t, err)
	program, err := rig.Built(ctx, filepath.Join(dir, "released"))
	require.NoError(t, err)
	t.Logf("built %s, commit %.12s", version, commit)
	return program
}
