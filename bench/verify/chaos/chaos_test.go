package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
)

// TestChaos_short plays every scenario in its short form.
func TestChaos_short(t *testing.T) {
	if _, _, ok := valkeyserver.Find(); !ok && os.Getenv("DOORSTEP_REQUIRE_SERVERS") == "" {
		t.Skip("no live store on this machine: run .ci/install")
	}
	t.Parallel()
	var out bytes.Buffer
	err := run(t.Context(), options{short: true, only: regexp.MustCompile("")}, &out, testWriter{t})
	t.Log("\n" + out.String())
	require.NoError(t, err)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// A promise that does not hold must end the run badly.
func TestRow_verdict(t *testing.T) {
	t.Parallel()
	var r row
	r.check(true, "this holds")
	assert.Equal(t, "as promised", r.verdict())
	r.check(false, "%d of 3 were lost", 2)
	assert.Equal(t, "BROKEN: 2 of 3 were lost", r.verdict())
	_, err := playOne(context.Background(), scenario{play: func(context.Context, *stage) (row, error) { return r, nil }}, &stage{})
	assert.NoError(t, err)
}
