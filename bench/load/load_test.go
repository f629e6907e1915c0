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
	"doorstep/bench/rig"
	"doorstep/scripts/spawn"
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
	if errors.Is(err, spawn.ErrNotFound) && os.Getenv("DOORSTEP_REQUIRE_SERVERS") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	return out.String()
}

// Each mode works and is answered; how fast is for a quiet machine to say. Not
// parallel: each has servers of its own.
func TestLoad(t *testing.T) {
	program, err := rig.Build(t.Context())
	require.NoError(t, err)
	t.Cleanup(program.Remove)
	t.Run("pace", func(t *testing.T) {
		out := run(t, program, "-journeys", "30", "-duration", "4s", "-every", "2s", "-life", "6s", "-conns", "4")
		assert.Contains(t, out, "| update 201 |")
		assert.Contains(t, out, "| fix to eye |")
	})
	t.Run("flood", func(t *testing.T) {
		out := run(t, program, "-mode", "flood", "-journeys", "200", "-duration", "1s", "-conns", "8")
		assert.Contains(t, out, "Failures: 0.")
		assert.Contains(t, out, "| update 201 |")
	})
	t.Run("wake", func(t *testing.T) {
		out := run(t, program, "-mode", "wake", "-journeys", "2", "-students", "100", "-duration", "3s")
		assert.Contains(t, out, "100 of 100 students saw the change.")
	})
	t.Run("idle", func(t *testing.T) {
		assert.Contains(t, run(t, program, "-mode", "idle", "-journeys", "50", "-duration", "1s"), "for each of 50 waiting students")
	})
	t.Run("flat", func(t *testing.T) {
		assert.Contains(t, run(t, program, "-mode", "flat", "-journeys", "100", "-duration", "1s"), "| 100 |")
	})
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
	require.ErrorContains(t, load(t.Context(), []string{"-mode", "x", "-out", ""}, io.Discard, io.Discard), `no mode "x"`)
}
