package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"doorstep/internal/servers/requiredtest"
)

// compose is as much of the compose file as one service can break another by.
type compose struct {
	Services map[string]service
	Volumes  map[string]any
}

type service struct {
	Image, Build any
	Environment  map[string]string
	Volumes      []string
	Ports        []string
	Healthcheck  map[string]any
	DependsOn    any `yaml:"depends_on"` //nolint:tagliatelle // compose's own
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into), file)
}

// No engine runs here, so what can be told from the file is checked: every
// mount, volume, dependency and setting is one that there is.
func TestCompose(t *testing.T) {
	t.Parallel()
	var c compose
	read(t, "compose.yml", &c)
	require.Len(t, c.Services, 7)
	settings := declared(t)
	for name, s := range c.Services {
		assert.NotEqual(t, s.Image == nil, s.Build == nil, "%s: an image or a build", name)
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, ".") {
				assert.FileExists(t, onDisk(from), "%s: %s", name, v)
			} else {
				assert.Contains(t, c.Volumes, from, name)
			}
		}
		for _, p := range s.Ports {
			assert.Regexp(t, `^127\.0\.0\.1:`, p, "%s: nothing is published beyond this machine", name)
		}
		for key := range s.Environment {
			if strings.HasPrefix(key, "DOORSTEP_") {
				assert.Contains(t, settings, key, "%s: no such setting", name)
			}
		}
		for on, condition := range dependencies(s.DependsOn) {
			require.Contains(t, c.Services, on, name)
			if condition == "service_healthy" {
				assert.Contains(t, c.Services[on].Healthcheck, "test", "%s waits for %s's health", name, on)
			}
		}
	}
}

// onDisk is a file of a mount: a folder's first.
func onDisk(path string) string {
	inside, _ := filepath.Glob(filepath.Join(path, "*.json"))
	return append(inside, path)[0]
}

func dependencies(on any) map[string]string {
	list := map[string]string{}
	switch on := on.(type) {
	case []any:
		for _, name := range on {
			list[name.(string)] = ""
		}
	case map[string]any:
		for name, how := range on {
			list[name], _ = how.(map[string]any)["condition"].(string)
		}
	}
	return list
}

// declared reads the settings' names from their one home.
func declared(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, file := range []string{"../gateway/app/options.go", "../gateway/app/tokens.go", "../gateway/app/worker.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`env:"(DOORSTEP_\w+)"`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	require.NotEmpty(t, names)
	return names
}

// The paths that one file writes into a container are those that another reads.
func TestProvisioning(t *testing.T) {
	t.Parallel()
	var c compose
	read(t, "compose.yml", &c)
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	read(t, "grafana/provisioning/dashboards/doorstep.yml", &dashboards)
	mounts := strings.Join(c.Services["grafana"].Volumes, "\n")
	assert.Contains(t, mounts, ":"+dashboards.Providers[0].Options.Path+":ro")
	assert.Contains(t, c.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"], dashboards.Providers[0].Options.Path)
	var sources struct{ Datasources []struct{ Type, URL string } }
	read(t, "grafana/provisioning/datasources/prometheus.yml", &sources)
	assert.Equal(t, "http://prometheus:9090", sources.Datasources[0].URL)
	assert.Equal(t, "prometheus", sources.Datasources[0].Type)
}

// Prometheus itself reads its configuration, laid out as in its container.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		requiredtest.Missing(t, err)
	}
	var c compose
	read(t, "compose.yml", &c)
	root := t.TempDir()
	for _, v := range c.Services["prometheus"].Volumes {
		if from, to, _ := strings.Cut(v, ":"); strings.HasPrefix(from, ".") {
			text, err := os.ReadFile(from)
			require.NoError(t, err)
			file := filepath.Join(root, strings.TrimSuffix(to, ":ro"))
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
			require.NoError(t, os.WriteFile(file, text, 0o600))
		}
	}
	out, err := exec.CommandContext(t.Context(), tool, "check", "config", filepath.Join(root, "etc/prometheus/prometheus.yml")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "25 rules found")
}
