package haproxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/requiredtest"
)

// gateway stands for one where HAProxy asks /readyz.
type gateway struct {
	checks atomic.Int64 // received so far
	drop   atomic.Int64 // how many of the next checks get no answer
	refuse atomic.Bool  // answer 503
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/readyz" {
		return
	}
	g.checks.Add(1)
	switch {
	case g.refuse.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case g.drop.Add(-1) >= 0:
		panic(http.ErrAbortHandler)
	}
}

// The chaos scenarios rest on this: a lost check changes nothing, a refused one
// takes the gateway out of service within its DRAIN_DELAY of 2 s.
func TestServer(t *testing.T) {
	t.Parallel()
	if _, err := Find(); err != nil {
		requiredtest.Missing(t, err)
	}
	var g gateway
	server := httptest.NewServer(&g)
	t.Cleanup(server.Close)
	failures := make(chan Failure, 100)
	h, err := Start(t.Context(), []Backend{{"gateway1", strings.TrimPrefix(server.URL, "http://")}}, QuickChecks, func(f Failure) {
		if !f.ByCaller() {
			failures <- f
		}
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Stop()) })
	require.NoError(t, h.AwaitAllReady(t.Context()))

	// An HAProxy that has just started drops a server at the first failed check.
	require.Eventually(t, func() bool { return g.checks.Load() > 3 }, 10*time.Second, 10*time.Millisecond)
	for g.drop.Store(1); g.drop.Load() >= 0; time.Sleep(5 * time.Millisecond) {
		assert.True(t, h.AllReady(t.Context()), "one lost check took a ready gateway out of service")
	}
	assert.True(t, h.AllReady(t.Context()), "one lost check took a ready gateway out of service")
	assert.Empty(t, failures)
	for _, url := range []string{h.URL(), h.Via(0)} {
		res, err := http.Get(url + "/x")
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	stats, err := h.Stats(t.Context())
	require.NoError(t, err)
	for _, name := range []string{"gateway1", All} {
		assert.Equal(t, Stats{InService: true, Responses: map[string]int{"1xx": 0, "2xx": 2, "3xx": 0, "4xx": 0, "5xx": 0}}, stats[name])
	}

	g.refuse.Store(true)
	assert.Eventually(t, func() bool { return !h.AllReady(t.Context()) }, 20*time.Second, 10*time.Millisecond)
	for range 3 { // which take 1.3 s by QuickChecks
		select {
		case f := <-failures:
			assert.Equal(t, "gateway1 check 503 after 0s GET /readyz", f.String())
		case <-time.After(20 * time.Second):
			t.Fatal("a refused check was not reported")
		}
	}
	assert.Empty(t, failures, "no more checks were refused before it was out of service")
}

func TestParse(t *testing.T) {
	t.Parallel()
	f, ok := parse("gateway2 SH 502 31 GET /api/v1/x")
	require.True(t, ok)
	assert.Equal(t, "gateway2 SH 502 after 31ms GET /api/v1/x", f.String())
	assert.False(t, f.ByCaller())
	f, ok = parse("<NOSRV> CR 400 0 <BADREQ> <BADREQ>")
	require.True(t, ok)
	assert.True(t, f.ByCaller())
	_, ok = parse("Server gateways/gateway1 is DOWN, reason: Layer4 connection problem")
	assert.False(t, ok)
}
