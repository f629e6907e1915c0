package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/requiredtest"
)

const unit = "systemd/doorstep.service"

func TestSystemd(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(unit)
	require.NoError(t, err)
	env := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^Environment=(\w+)=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		env[m[1]] = m[2]
		if name, ok := strings.CutPrefix(m[2], "%d/"); ok {
			assert.Contains(t, string(text), "\nLoadCredential="+name+":", m[1])
		}
	}
	kill := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(string(text))
	require.NotNil(t, kill)
	drains(t, env, seconds(t, kill[1]))
	assert.Greater(t, seconds(t, kill[1]), 30*time.Second)
}

// systemd itself reads the unit, where it is installed, and finds it shut tight.
func TestSystemd_analyze(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		requiredtest.Missing(t, err)
	}
	text, err := os.ReadFile(unit)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "doorstep.service")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/gateway", "/bin/true")), 0o600))
	out, err := exec.CommandContext(t.Context(), tool, "verify", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.CommandContext(t.Context(), tool, "security", "--offline=true", "--threshold=20", file).CombinedOutput() // 2.0 of 10
	require.NoError(t, err, "%s", out)
}
