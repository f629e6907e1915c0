package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
)

// pretender stands for a gateway where HAProxy asks /readyz.
type pretender struct {
	checks atomic.Int64 // that came
	drop   atomic.Int64 // so many checks get no answer
	refuse atomic.Bool  // 503
}

func (p *pretender) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/readyz" {
		return
	}
	p.checks.Add(1)
	switch {
	case p.refuse.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case p.drop.Add(-1) >= 0:
		panic(http.ErrAbortHandler)
	}
}

func TestHAProxy(t *testing.T) {
	t.Parallel()
	if _, err := findHAProxy(); err != nil && os.Getenv("DOORSTEP_REQUIRE_SERVERS") == "" {
		t.Skip(err)
	}
	var p pretender
	server := httptest.NewServer(&p)
	t.Cleanup(server.Close)
	s := &stage{}
	t.Cleanup(func() { assert.NoError(t, s.close()) })
	heard := make(chan mishap, 100)
	h, err := s.haproxy(t.Context(), [][2]string{{"gateway1", strings.TrimPrefix(server.URL, "http://")}}, func(m mishap) {
		if !m.byCaller() {
			heard <- m
		}
	})
	require.NoError(t, err)
	require.NoError(t, h.awaitWhole(t.Context()))

	whole := func() bool {
		res, err := rig.Get(t.Context(), h.URL()+"/whole")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}
	// One that has just been started leaves a server at the first failed check.
	require.Eventually(t, func() bool { return p.checks.Load() > 3 }, 10*time.Second, 10*time.Millisecond)
	p.drop.Store(1)
	for p.drop.Load() >= 0 {
		assert.True(t, whole(), "one lost check took a ready gateway away")
		time.Sleep(5 * time.Millisecond)
	}
	assert.True(t, whole(), "one lost check took a ready gateway away")
	assert.Empty(t, heard)

	p.refuse.Store(true)
	assert.Eventually(t, func() bool { return !whole() }, fleetDelay, 10*time.Millisecond, "a gateway that asks to go is not left in time")
	select {
	case m := <-heard:
		assert.Equal(t, "gateway1 check 503 after 0s GET /readyz", m.String())
	case <-time.After(time.Second):
		t.Error("a refused check is not heard of")
	}
}
