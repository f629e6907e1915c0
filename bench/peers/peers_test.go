package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/internal/servers/valkeyserver"
)

func TestMain(m *testing.M) {
	drive.Child()
	os.Exit(m.Run())
}

// Each peer that can be had here takes updates, and shows them to students
// where it has any; who is faster is for a quiet machine to say.
func TestCompare(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out strings.Builder
	err := compare(ctx, []string{
		"-rounds", "1", "-journeys", "100", "-conns", "4", "-paced", "20", "-warmup", "1500ms", "-duration", "1s", "-paced-for", "2s",
		"-database=false", "-node", "express", "-out", t.TempDir(),
	}, &out, io.Discard)
	if errors.Is(err, valkeyserver.ErrNotFound) && os.Getenv("DOORSTEP_REQUIRE_SERVERS") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	names := []string{doorstep, inGo, floor, scripted}
	if why := (&bench{nodeDir: "express"}).withoutNode(); why == "" {
		names = append(names, reviewed, reviewed+" ×2", "(d) WebSocket")
	} else {
		t.Log(why)
		assert.Contains(t, out.String(), why)
	}
	for _, name := range names {
		rows := rowsOf(out.String(), name)
		require.Len(t, rows, 2, "%s: a flood and a paced round\n%s", name, out.String())
		assert.NotContains(t, rows[0], " 0 (0–0) | 0 (0–0) |", "no updates were accepted")
		assert.NotContains(t, rows[1], " 0.0 % ", "no paced updates were accepted")
		if name != floor && name != scripted {
			assert.NotContains(t, rows[1], " – ", "no student has seen a fix")
		}
	}
}

// rowsOf are a report's table rows of one peer.
func rowsOf(report, name string) (rows []string) {
	for line := range strings.Lines(report) {
		if strings.HasPrefix(line, "| "+name+" |") {
			rows = append(rows, line)
		}
	}
	return rows
}

func TestFindings_facts(t *testing.T) {
	t.Parallel()
	flooded := func(name string, accepted int64, cpu time.Duration) *row {
		return &row{peer: peer{name: name}, floods: []turn{{
			result: drive.Result{Accepted: accepted}, took: time.Second, costs: []figures.Cost{{Name: "server", CPU: cpu}},
		}}}
	}
	f := findings{rows: []*row{
		flooded(doorstep, 800, time.Second), flooded(floor, 1000, time.Second), flooded(scripted, 900, time.Second),
		flooded(reviewed, 90, time.Second), flooded(reviewed+" ×2", 100, time.Second),
	}}
	facts := f.facts()
	assert.InDelta(t, 8, facts["updates_by_express"], 1e-9, "the better of the two")
	assert.InDelta(t, 1.0/8, facts["cpu_by_express"], 1e-9)
	assert.InDelta(t, 0.8, facts["updates_by_floor"], 1e-9)
	assert.InDelta(t, 8.0/9, facts["updates_by_scripted_floor"], 1e-9)
	assert.NotContains(t, facts, "updates_by_go", "it did not run")
	var out strings.Builder
	f.writeRatios(&out)
	assert.Contains(t, out.String(), "| beside (a) Express ×2 | 8.00 | 0.125 |")
}
