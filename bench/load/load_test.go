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
	"doorstep/bench/rig"
	"doorstep/internal/servers/requiredtest"
	"doorstep/internal/servers/valkeyserver"
)

func TestMain(m *testing.M) {
	drive.Child()
	os.Exit(m.Run())
}

// run plays a mode for a moment and returns its report.
func run(t *testing.T, program *rig.Program, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	o, err := parse(append(args, "-database=false", "-warmup", "1s", "-out", t.TempDir()), io.Discard)
	require.NoError(t, err)
	o.program = program
	var out strings.Builder
	err = play(ctx, o, &out, io.Discard)
	if errors.Is(err, valkeyserver.ErrNotFound) {
		requiredtest.Missing(t, err)
	}
	require.NoError(t, err)
	facts, err := figures.ReadFacts(o.out, o.mode)
	require.NoError(t, err)
	assert.NotEmpty(t, facts)
	return out.String()
}

// Each mode works and is answered; how fast is for a quiet machine to say. The test of bench/targets plays the modes
// that are not here. Not parallel: each has servers of its own.
func TestLoad(t *testing.T) {
	program, err := rig.Build(t.Context())
	require.NoError(t, err)
	t.Cleanup(program.Remove)
	t.Run("pace", func(t *testing.T) {
		out := run(t, program, "-journeys", "30", "-duration", "22s", "-every", "2s", "-life", "6s", "-conns", "4")
		assert.Contains(t, out, "| update 201 |")
		assert.Contains(t, out, "| fix to eye |")
		assert.Contains(t, out, "| arrived 200 |")
		assert.NotContains(t, out, "| arrived 4", "none is too soon")
		assert.Contains(t, out, "The events of the starts were waited for")
	})
	t.Run("flood", func(t *testing.T) {
		out := run(t, program, "-mode", "flood", "-journeys", "200", "-duration", "1s", "-conns", "8")
		assert.Contains(t, out, "Failures: 0.")
		assert.Contains(t, out, "| update 201 |")
	})
	t.Run("wake", func(t *testing.T) {
		out := run(t, program, "-mode", "wake", "-journeys", "2", "-students", "100", "-duration", "3s", "-opened", "-gateways", "2")
		assert.Contains(t, out, "100 of 100 students saw the change.")
	})
}

func TestClimb(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []int{100}, climb(100))
	assert.Equal(t, []int{100, 100_000, 1000, 10_000, 100_000, 100, 100, 100_000, 100_000, 100, 100, 100_000}, climb(100_000), "five pairs")
}

// One bad step of three does not make an end.
func TestGrowth(t *testing.T) {
	t.Parallel()
	at := func(journeys int, us float64) step {
		return step{journeys: journeys, gateway: us - 10, valkey: 10, failures: 1}
	}
	facts, bars := growth([]step{at(100, 50), at(1000, 55), at(200, 52), at(1000, 120), at(100, 100), at(100, 90), at(1000, 20)})
	assert.InDelta(t, 10, facts["growth_percent"], 1e-9, "of +10, +20 and -78 %: half as fast a machine in between is no growth")
	assert.InDelta(t, 20, facts["growth_most"], 1e-9)
	assert.InDelta(t, 7, facts[figures.Failures], 0)
	assert.InDelta(t, 1000, facts["most_journeys"], 0)
	require.Len(t, bars, 3)
	assert.Equal(t, figures.Bar{Name: "1,000", Value: 55, Least: 20, Most: 120}, bars[2])
}

func TestHolds(t *testing.T) {
	t.Parallel()
	assert.True(t, holds(figures.Facts{figures.UpdateP99MS: 100}))
	assert.False(t, holds(figures.Facts{figures.UpdateP99MS: 100.1}))
	assert.False(t, holds(figures.Facts{figures.Failures: 1}))
}

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-journeys", "7"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, 7, o.students, "one each")
	o, err = parse([]string{"-mode", "flood"}, io.Discard)
	require.NoError(t, err)
	assert.Zero(t, o.students)
	_, err = parse([]string{"-gateways", "2", "-database=false"}, io.Discard)
	require.Error(t, err)
	o, err = parse([]string{"-gateways", "2", "-database=false", "-opened"}, io.Discard)
	require.NoError(t, err)
	assert.Zero(t, o.life, "what was not booked cannot end")
	require.ErrorContains(t, load(t.Context(), []string{"-mode", "x", "-out", ""}, io.Discard, io.Discard), `no mode "x"`)
	for _, args := range [][]string{{"-shards", "0", "-opened"}, {"-shards", "0", "-gateways", "2"}} {
		_, err = parse(args, io.Discard)
		require.ErrorContains(t, err, "in a gateway's memory", args)
	}
}
