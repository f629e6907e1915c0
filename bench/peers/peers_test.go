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
	"doorstep/internal/servers/requiredtest"
	"doorstep/internal/servers/valkeyserver"
)

func TestMain(m *testing.M) {
	drive.Child()
	os.Exit(m.Run())
}

// Each peer that can be had here takes updates. Which is faster is for a quiet
// machine to say.
func TestCompare(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out strings.Builder
	err := compare(ctx, []string{
		"-rounds", "1", "-journeys", "100", "-conns", "4", "-warmup", "1500ms", "-duration", "1s",
		"-database=false", "-node", "express", "-out", t.TempDir(),
	}, &out, io.Discard)
	if errors.Is(err, valkeyserver.ErrNotFound) {
		requiredtest.Missing(t, err)
	}
	require.NoError(t, err)
	names := []string{"Doorstep", "(c) floor", "(e) script's floor"}
	if note := withoutNode("express"); note == "" {
		names = append(names, "(a) Express ×2")
	} else {
		assert.Contains(t, out.String(), note)
	}
	for _, name := range names {
		_, rest, found := strings.Cut(out.String(), "| "+name+" |")
		require.True(t, found, name)
		line, _, _ := strings.Cut(rest, "\n")
		assert.NotContains(t, line, " 0 (0–0) | 0 (0–0) |", "%s accepted no updates", name)
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	got := facts([]*peer{{key: "doorstep", floods: []flood{{800, 125}}}, {key: "express", floods: []flood{{100, 1000}}}})
	assert.InDelta(t, 8, got["updates_by_express"], 1e-9)
	assert.InDelta(t, 1.0/8, got["cpu_by_express"], 1e-9)
	assert.NotContains(t, got, "updates_by_scripted_floor", "it did not run")
}
