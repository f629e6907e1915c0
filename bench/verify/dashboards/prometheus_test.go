package dashboards

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/internal/servers/process"
)

// prometheus is a real one on a free loopback port, which scrapes every second.
type prometheus struct{ url string }

// startPrometheus scrapes the jobs' addresses. It skips on a laptop without one
// and fails in CI.
func startPrometheus(t *testing.T, jobs map[string][]net.Addr, rules string) *prometheus {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil && os.Getenv("DOORSTEP_REQUIRE_SERVERS") == "" {
		t.Skip("prometheus is not installed: .ci/install")
	}
	require.NoError(t, err, "prometheus: .ci/install")
	dir := t.TempDir()
	rules, err = filepath.Abs(rules)
	require.NoError(t, err)
	var config strings.Builder
	fmt.Fprintf(&config, "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n", rules)
	for job, addrs := range jobs {
		var targets []string
		for _, a := range addrs {
			targets = append(targets, strconv.Quote(a.String()))
		}
		fmt.Fprintf(&config, "  - {job_name: %s, static_configs: [{targets: [%s]}]}\n", job, strings.Join(targets, ", "))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config.String()), 0o600))
	listen, err := rig.FreeAddr()
	require.NoError(t, err)
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := process.Start(cmd)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, process.Kill())
		assert.NoError(t, log.Close())
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("prometheus said: %s", text)
		}
	})
	p := &prometheus{url: "http://" + listen}
	require.Eventually(t, func() bool {
		n := 0
		for _, s := range p.samples(t, "query", url.Values{"query": {"up == 1"}}) {
			n += len(s.numbers())
		}
		want := 0
		for _, addrs := range jobs {
			want += len(addrs)
		}
		return n == want
	}, patience, 50*time.Millisecond, "everything is scraped")
	return p
}

// series is one answer's: of an instant a value, of a range values.
type series struct {
	Metric map[string]string
	Value  sample
	Values []sample
}

type sample []any // seconds, and the value as text

// numbers are the values that are some.
func (s series) numbers() []string {
	var list []string
	for _, v := range append(s.Values, s.Value) {
		if len(v) == 2 && v[1] != "NaN" {
			list = append(list, v[1].(string))
		}
	}
	return list
}

// samples asks the query API; nil while it is not up, and on an error, which it
// logs.
func (p *prometheus) samples(t *testing.T, path string, args url.Values) []series {
	t.Helper()
	var answer struct{ Result []series }
	if err := p.get(t.Context(), path+"?"+args.Encode(), &answer); err != nil {
		t.Log(err)
		return nil
	}
	return answer.Result
}

func (p *prometheus) get(ctx context.Context, path string, into any) error {
	res, err := rig.Get(ctx, p.url+"/api/v1/"+path)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("prometheus: %s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}
