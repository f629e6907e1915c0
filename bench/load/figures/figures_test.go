package figures

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/load/drive"
	"doorstep/bench/rig"
)

func TestSample_Since(t *testing.T) {
	t.Parallel()
	now := time.Now()
	before := Sample{At: now, Parts: map[string]rig.Usage{"a": {CPU: time.Second}, "b": {}}}
	after := Sample{At: now.Add(2 * time.Second), Parts: map[string]rig.Usage{"a": {CPU: 2 * time.Second, RSS: 7}, "b": {CPU: time.Second}}}
	costs := after.Since(before)
	assert.Equal(t, []Cost{{Name: "a", CPU: time.Second, Core: 0.5, RSS: 7}, {Name: "b", CPU: time.Second, Core: 0.5}}, costs)
	assert.Equal(t, time.Second, CPU(costs, "b"))
	assert.Equal(t, 2*time.Second, CPU(costs, "a", "b"))
}

func TestDescendants(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 60 & echo; wait")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = stdout.Read(make([]byte, 1)) // the sleep has been forked
	require.NoError(t, err)
	defer func() {
		for _, pid := range Descendants(cmd.Process.Pid, "") {
			process, _ := os.FindProcess(pid)
			_ = process.Kill()
		}
		_ = cmd.Wait()
	}()
	assert.Len(t, Descendants(cmd.Process.Pid, ""), 2)
	assert.Equal(t, []int{cmd.Process.Pid}, Descendants(cmd.Process.Pid, "sh")[:1])
	assert.Empty(t, Descendants(cmd.Process.Pid, "no such program"))
	assert.Subset(t, Descendants(os.Getpid(), ""), Descendants(cmd.Process.Pid, ""))

	sample, err := Processes{"here": {os.Getpid()}, "gone": {1 << 30}}.Sample()
	require.NoError(t, err)
	assert.Positive(t, sample.Parts["here"].RSS)
	assert.Zero(t, sample.Parts["gone"].RSS)
}

func TestLatencies(t *testing.T) {
	t.Parallel()
	h := drive.NewHistogram()
	for _, us := range []int64{1000, 1000, 1000, 20_000} {
		require.NoError(t, h.RecordValue(us))
	}
	var out strings.Builder
	Latencies(&out, map[string]*drive.Histogram{drive.Update: h, "never": drive.NewHistogram()})
	assert.Contains(t, out.String(), "| update | 4 | 1.00 | 20")
	assert.NotContains(t, out.String(), "never")
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 0.5: "0.5", 3.14159: "3.14", 99.94: "99.9", 314.159: "314", 31_415.9: "31,416", 1_234_567: "1,234,567"} {
		assert.Equal(t, want, Number(v))
	}
}

func TestDraw(t *testing.T) {
	t.Parallel()
	h := drive.NewHistogram()
	require.NoError(t, h.RecordValue(1000))
	dir := t.TempDir()
	for name, err := range map[string]error{
		"latency.svg": DrawLatencies(filepath.Join(dir, "latency.svg"), "t", []Line{{"one", h}, {"none", nil}}),
		"seconds.svg": DrawSeconds(filepath.Join(dir, "seconds.svg"), "t", []drive.Second{{At: 0, P99: time.Second}, {At: 1}}),
		"bars.svg":    DrawBars(filepath.Join(dir, "bars.svg"), "t", "1/s", []Bar{{"a", 2, 1, 3}, {"b", 1, 1, 1}}),
	} {
		require.NoError(t, err, name)
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Contains(t, string(text), "</svg>")
	}
}
