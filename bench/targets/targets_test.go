package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/internal/servers/requiredtest"
	"doorstep/internal/servers/valkeyserver"
)

func TestMain(m *testing.M) {
	drive.Child()
	os.Exit(m.Run())
}

// A moment of every run, but of the Go benchmarks, whose build is slow, measures all
// that the targets need.
func TestMeasure(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	dir := t.TempDir()
	into := filepath.Join(dir, "docs", "performance.md")
	require.NoError(t, os.Mkdir(filepath.Dir(into), 0o755))
	require.NoError(t, os.WriteFile(into, []byte("above\n"+markerBegin+"old\n"+markerEnd+"below\n"), 0o600))
	if _, _, found := valkeyserver.Find(); !found {
		requiredtest.Missing(t, valkeyserver.ErrNotFound)
	}
	var out strings.Builder
	require.NoError(t, measure(ctx, []string{"-short", "-run", "^[^b]", "-out", filepath.Join(dir, "out"), "-into", into}, &out, io.Discard))

	if _, err := exec.LookPath("node"); err == nil && strings.Contains(out.String(), "| (a) Express ×2 |") {
		assert.NotContains(t, out.String(), notMeasured)
	} else {
		assert.Equal(t, 4, strings.Count(out.String(), notMeasured), "two rows, and a part in each, are of Express alone")
	}
	assert.NotContains(t, out.String(), "failed")
	for _, want := range []string{
		"its figures mean nothing", "Commit `", "| start | nine gateways", "## Beside its peers", "<summary>flat: ", "](img/peers-rates.svg)",
	} {
		assert.Contains(t, out.String(), want)
	}
	for name, parts := range map[string][]string{
		"idle": {"for each of 20 waiting students", "| valkey |"}, "idle-embedded": {"for each of 20 waiting students"},
		"waiters": {"20 of 20 students saw the change.", "| RSS of its gateway |"}, "flat": {"| 100 |", "From 100 to 200 journeys"},
		"held": {"| 20 |", "| 24 |"},
	} {
		_, report, _ := strings.Cut(out.String(), "<details><summary>"+name+": ")
		report, _, _ = strings.Cut(report, "</details>")
		for _, part := range parts {
			assert.Contains(t, report, part, name)
		}
		if name == "idle-embedded" {
			assert.NotContains(t, report, "| valkey |")
		}
	}
	published, err := os.ReadFile(into)
	require.NoError(t, err)
	assert.Contains(t, string(published), out.String())
	assert.NotContains(t, string(published), "old\n")
	assert.FileExists(t, filepath.Join(dir, "docs", "img", "peers-rates.svg"))
	for _, p := range pictures {
		assert.FileExists(t, filepath.Join(dir, "out", "img", p.name()))
	}
}

func TestTarget_judge(t *testing.T) {
	t.Parallel()
	two := target{parts: []part{
		atLeast(7, "peers", "rate", "%.1f × (a)"), atMost(25, "pace", "p99", "p99 %.0f ms"), reported("pace", "p50", "p50 %.0f ms"),
	}}
	for name, row := range map[string]struct {
		peers, pace       figures.Facts
		measured, verdict string
	}{
		"met, at the limits": {figures.Facts{"rate": 7}, figures.Facts{"p99": 25, "p50": 3}, "7.0 × (a); p99 25 ms; p50 3 ms", met},
		"one missed":         {figures.Facts{"rate": 7.5}, figures.Facts{"p99": 26}, "7.5 × (a); p99 26 ms (missed)", missed},
		"too little":         {figures.Facts{"rate": 6.9}, figures.Facts{"p99": 20}, "6.9 × (a) (missed); p99 20 ms", missed},
		"not measured":       {figures.Facts{"rate": 9}, nil, "9.0 × (a); pace: not measured", notMeasured},
		"neither measured":   {nil, nil, "peers: not measured; pace: not measured", notMeasured},
		"unknown, not met":   {nil, figures.Facts{"p99": 26}, "peers: not measured; p99 26 ms (missed)", notMeasured},
	} {
		measured, verdict := two.judge(map[string]figures.Facts{"peers": row.peers, "pace": row.pace})
		assert.Equal(t, row.measured, measured, name)
		assert.Equal(t, row.verdict, verdict, name)
	}
}

// A target of a run that does not exist would never be measured.
func TestTargets(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, r := range runs {
		assert.False(t, names[r.name], "%s twice", r.name)
		names[r.name] = true
		assert.Positive(t, r.bound, r.name)
	}
	for _, target := range targets {
		judged := 0
		for _, p := range target.parts {
			assert.True(t, names[p.run], "%s: there is no run %s", target.measure, p.run)
			if p.judged() {
				judged++
			}
		}
		assert.Positive(t, judged, target.measure)
	}
	for _, p := range pictures {
		assert.True(t, names[p.run], p.run)
	}
}

func TestBenchmarked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "output.txt")
	require.NoError(t, os.WriteFile(path, []byte(`goos: linux
BenchmarkUpdate_server-2     10	 320923357 ns/op	       368.0 B/journey	         2.844 update/hset
BenchmarkStages/token/hit    5  1.5 ns/op
--- FAIL: BenchmarkUpdate_server
    cost_test.go:62: an update costs the store 7.0 HSETs, budget 6.0
ok  	doorstep/scripts	4.540s
`), 0o600))
	facts, err := benchmarked(path)
	require.NoError(t, err)
	assert.Equal(t, figures.Facts{
		"Update_server ns/op": 320923357, "Update_server B/journey": 368, "Update_server update/hset": 2.844, "Stages/token/hit ns/op": 1.5,
	}, facts)

	assert.Equal(t, "--- FAIL: BenchmarkUpdate_server; cost_test.go:62: an update costs the store 7.0 HSETs, budget 6.0", complaints(path))
}

// A run that fails is reported as failed, and its targets are not met.
func TestDocument_failed(t *testing.T) {
	t.Parallel()
	d := document{runs: []played{{run: runs[0], err: errors.New("broken"), dir: t.TempDir(), took: time.Second}}}
	var out strings.Builder
	d.write(&out)
	assert.Contains(t, out.String(), "`go run ./bench/load -mode start` | 1s | **failed**: broken |")
	assert.NotContains(t, out.String(), "| "+met+" |")
	require.ErrorContains(t, d.failures(), "start: broken")
	require.NoError(t, document{}.failures())
}

func TestStand_one(t *testing.T) {
	t.Parallel()
	s := stand{out: t.TempDir(), bin: t.TempDir(), stderr: io.Discard}
	left := filepath.Join(s.out, "x", "start.json")
	require.NoError(t, os.Mkdir(filepath.Dir(left), 0o755))
	require.NoError(t, os.WriteFile(left, []byte(`{"start_ms": 1}`), 0o600))
	p := s.one(t.Context(), run{name: "x", program: "no-such-program", args: []string{"-mode", "start"}, bound: time.Minute})
	require.Error(t, p.err)
	assert.Nil(t, p.facts, "of an earlier run")
	assert.NoFileExists(t, left)

	require.NoError(t, os.WriteFile(filepath.Join(s.bin, "slow"), []byte("#!/bin/sh\nexec sleep 60\n"), 0o700))
	p = s.one(t.Context(), run{name: "y", program: "slow", bound: 50 * time.Millisecond})
	require.ErrorContains(t, p.err, "not within 50ms")
	assert.Less(t, p.took, 30*time.Second, "an interrupt ended it")
}

// The insertion replaces the text between the markers. docs/performance.md has
// them.
func TestInsert(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/performance.md")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "doc.md")
	for _, text := range []string{string(page), "a\n" + markerBegin + "b\n" + markerEnd + "c\n"} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		for range 2 {
			require.NoError(t, insert(path, "x\n"))
		}
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "a\n"+markerBegin+"\nx\n\n"+markerEnd+"c\n", string(text))
	require.NoError(t, os.WriteFile(path, []byte("no markers"), 0o600))
	require.ErrorContains(t, insert(path, "x"), "has no two lines")
}

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-run", "^(pace|wake)$"}, io.Discard)
	require.NoError(t, err)
	chosen := plan(o)
	require.Len(t, chosen, 2)
	assert.Equal(t, "pace", chosen[0].name)
	assert.Equal(t, "go test -run '^$'", strings.Join(strings.Fields(runs[1].command())[:4], " "))
	_, err = parse([]string{"-run", "("}, io.Discard)
	require.Error(t, err)
	require.ErrorContains(t, measure(t.Context(), []string{"-run", "^$"}, io.Discard, io.Discard), "no run has such a name")
}
