package rig

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

// built builds the gateway, and returns a context that bounds the test.
func built(t *testing.T) (context.Context, *Program) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	program, err := Build(ctx)
	require.NoError(t, err)
	t.Cleanup(program.Remove)
	return ctx, program
}

func TestGateway(t *testing.T) {
	t.Parallel()
	ctx, program := built(t)
	g, err := program.Start(ctx)
	require.NoError(t, err)
	admin, err := NewCaller(sessions.Admin, nil)
	require.NoError(t, err)
	home := geo.MustPoint(52, 5)
	j, err := NewJourney(home, nil)
	require.NoError(t, err)

	assert.Equal(t, "201", j.Book(ctx, g.URL(), admin).Label())
	assert.Equal(t, "201", j.Start(ctx, g.URL()).Label())
	assert.Equal(t, "201", j.Update(ctx, g.URL(), geo.Offset(home, 0, 1000)).Label())
	assert.Equal(t, "429 RATE_LIMITED", j.Update(ctx, g.URL(), geo.Offset(home, 0, 990)).Label())
	live := j.Live(ctx, g.URL(), "", 0)
	assert.Equal(t, http.StatusOK, live.Status)
	assert.Positive(t, live.Version())
	assert.Equal(t, live.ETag, ETag(live.Version()))
	assert.Equal(t, "304", j.Live(ctx, g.URL(), live.ETag, 1).Label())
	assert.Equal(t, "400 NOT_WITHIN_RADIUS", j.Arrive(ctx, g.URL()).Label())
	assert.Equal(t, "400 SUSPICIOUS_LOCATION", j.Arrive(ctx, g.URL(), home).Label(), "the fix is judged")
	assert.Equal(t, "200", j.Stop(ctx, g.URL()).Label())
	stored, err := g.Metric(ctx, `doorstep_updates_total{verdict="stored"}`)
	require.NoError(t, err)
	assert.InDelta(t, 1, stored, 0)

	carried, err := AwaitCarried(ctx, g)
	require.NoError(t, err)
	assert.True(t, carried)
	text, err := g.Metrics(ctx)
	require.NoError(t, err)
	assert.Positive(t, sum(text, "doorstep_event_publish_delay_seconds_count"), "otherwise there was nothing to wait for")

	require.NoError(t, g.Stop(ctx), "exit code 0")
	assert.Contains(t, g.Log(), "serving")
	assert.Equal(t, "no answer", j.Stop(ctx, g.URL()).Label())
}

func TestProgram_Start_refused(t *testing.T) {
	t.Parallel()
	ctx, program := built(t)
	_, err := program.Start(ctx, "NO_SUCH_SETTING=1")
	assert.ErrorContains(t, err, "unknown settings: DOORSTEP_NO_SUCH_SETTING")
}

// The wait for a gateway whose events are never delivered ends with the context.
func TestAwaitCarried_stuck(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(out, "doorstep_outbox_waiting{relay=\"bus\"} 1\n")
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	carried, err := AwaitCarried(ctx, &Gateway{MetricsURL: server.URL})
	require.NoError(t, err)
	assert.False(t, carried)
	server.Close()
	_, err = AwaitCarried(t.Context(), &Gateway{MetricsURL: server.URL})
	require.Error(t, err, "the gateway is gone")
}

func TestVersionOf(t *testing.T) {
	t.Parallel()
	for etag, want := range map[string]int64{`W/"17"`: 17, `"17"`: 17, "": 0, `"x"`: 0} {
		assert.Equal(t, want, VersionOf(etag), etag)
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	text := "# HELP a b\na{x=\"1 2\"} 1\na{x=\"3\"} 2.5\na_more 7\nb 9\na\n"
	assert.InDelta(t, 3.5, sum(text, "a"), 0)
	assert.InDelta(t, 9, sum(text, "b"), 0)
	assert.Zero(t, sum(text, "c"))
}
