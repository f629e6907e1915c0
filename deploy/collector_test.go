package deploy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"doorstep/internal/servers/process"
	"doorstep/internal/servers/requiredtest"
)

// observed is what the collector's observer writes of a gateway and of a worker: the job is
// in a label of its own.
const observed = `
- {targets: ["127.0.0.1:1"], labels: {__metrics_path__: /metrics, prometheus_job: doorstep-gateway, __meta_ecs_cluster_name: doorstep}}
- {targets: ["127.0.0.1:2"], labels: {__metrics_path__: /metrics, prometheus_job: doorstep-worker, __meta_ecs_cluster_name: doorstep}}
`

// The collector names the jobs as dashboards and alerts do, says Prometheus, whose scrape
// configuration it is.
func TestCollector(t *testing.T) {
	t.Parallel()
	text, _ := at(template(t, stack)["Resources"], "CollectorTask", "Properties", "ContainerDefinitions", 0, "Environment", 0, "Value").(string)
	var config map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &config))
	observer := at(config, "extensions", "ecs_observer")
	assert.Equal(t, "/etc/ecs_sd_targets.yaml", at(observer, "result_file"), "the image has no other folder to write to")
	for i, job := range []string{"doorstep-gateway", "doorstep-worker"} {
		assert.Equal(t, job, at(observer, "task_definitions", i, "job_name"))
		assert.Contains(t, at(observer, "task_definitions", i, "arn_pattern"), "/"+job+":")
	}
	scraped, _ := at(config, "receivers", "prometheus", "config").(map[string]any)
	files, _ := at(scraped, "scrape_configs", 0, "file_sd_configs", 0).(map[string]any)
	require.Equal(t, []any{at(observer, "result_file")}, files["files"])
	targets := filepath.Join(t.TempDir(), "targets.yaml")
	require.NoError(t, os.WriteFile(targets, []byte(observed), 0o600))
	files["files"] = []any{targets}
	list := prometheus(t, scraped)
	var labels []map[string]string
	require.Eventually(t, func() bool {
		labels = nil
		for _, target := range list() {
			labels = append(labels, target.Labels)
		}
		return len(labels) == 2
	}, 30*time.Second, 100*time.Millisecond)
	slices.SortFunc(labels, func(a, b map[string]string) int { return len(a["job"]) - len(b["job"]) })
	assert.Equal(t, []map[string]string{
		{"instance": "127.0.0.1:2", "job": "doorstep-worker"}, {"instance": "127.0.0.1:1", "job": "doorstep-gateway"},
	}, labels)
}

type target struct{ Labels map[string]string }

// prometheus starts one with that configuration, and returns what lists its targets.
func prometheus(t *testing.T, config map[string]any) func() []target {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		requiredtest.Missing(t, err)
	}
	dir := t.TempDir()
	text, err := yaml.Marshal(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), text, 0o600))
	addr, err := process.FreeAddr()
	require.NoError(t, err)
	running, err := process.Start(exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr))
	require.NoError(t, err)
	t.Cleanup(func() { _ = running.Kill() })
	return func() []target {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/api/v1/targets?state=active", addr), nil)
		require.NoError(t, err)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil // it is still starting
		}
		defer func() { _ = res.Body.Close() }()
		var found struct {
			Data struct{ ActiveTargets []target }
		}
		if json.NewDecoder(res.Body).Decode(&found) != nil {
			return nil
		}
		return found.Data.ActiveTargets
	}
}
