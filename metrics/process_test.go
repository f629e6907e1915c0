package metrics_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/metrics"
)

func TestNewProcess(t *testing.T) {
	t.Parallel()
	reg, ready := prometheus.NewRegistry(), false
	metrics.NewProcess(reg, "v1.2.3", func() bool { return ready })
	build := "doorstep_build_info " + runtime.Version() + " v1.2.3"
	require.Equal(t, map[string]float64{build: 1, "doorstep_ready": 0}, read(t, reg))
	ready = true
	require.Equal(t, map[string]float64{build: 1, "doorstep_ready": 1}, read(t, reg))
	worker := prometheus.NewRegistry()
	metrics.NewProcess(worker, "v1.2.3", nil)
	require.Equal(t, map[string]float64{build: 1}, read(t, worker), "a process that serves no requests has no series")
}

func TestNewInFlight(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	metrics.NewInFlight(reg, func() (int, int) { return 7, 4096 })
	require.Equal(t, map[string]float64{"doorstep_live_store_calls_in_flight": 7, "doorstep_live_store_calls_limit": 4096}, read(t, reg))
}

func TestNewPool(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	metrics.NewPool(reg, func() metrics.PoolState {
		return metrics.PoolState{InUse: 3, Idle: 2, Max: 10, Acquired: 100, Waited: 20, Left: 5, WaitedFor: 1500 * time.Millisecond}
	})
	require.Equal(t, map[string]float64{
		"doorstep_database_connections in_use": 3, "doorstep_database_connections idle": 2, "doorstep_database_connections_max": 10,
		"doorstep_database_acquires_total free": 80, "doorstep_database_acquires_total waited": 20,
		"doorstep_database_acquires_total left": 5, "doorstep_database_acquire_wait_seconds_total": 1.5,
	}, read(t, reg))
}

func TestNewReader(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	count := metrics.NewReader(reg, "answered", "behind")
	count("behind")
	require.Equal(t, map[string]float64{"doorstep_database_reader_reads_total answered": 0, "doorstep_database_reader_reads_total behind": 1}, read(t, reg))
}

func TestNewScripts(t *testing.T) {
	t.Parallel()
	reg, known := prometheus.NewRegistry(), false
	metrics.NewScripts(reg, func() (int64, time.Duration, bool) { return 12, 3 * time.Second, known })
	require.Empty(t, read(t, reg), "an unknown value has no series")
	known = true
	require.Equal(t, map[string]float64{"doorstep_live_store_scripts_total": 12, "doorstep_live_store_script_seconds_total": 3}, read(t, reg))
}

// The series of the closed lists are there at once, at zero, and an event with one of
// their values makes no new series.
func TestExpect(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, o, j := metrics.New(reg), metrics.NewOutbox(reg), metrics.NewJourneys(reg)
	m.ExpectServed(metrics.Served{
		Routes: [][2]string{{"GET", "/healthz"}}, Codes: []string{"INTERNAL"}, Verdicts: []string{"stored"}, Flags: []string{"mock"},
		Arrivals: []string{"arrived"}, Issuers: []string{"idp"}, Reasons: []string{"expired"}, Shed: []string{"max_conns"}, Waits: []string{"changed"},
	})
	m.ExpectStored([]string{"update"}, []string{"ok"})
	o.ExpectRelays("bus")
	o.ExpectConsumers([]string{"done", "failed", "malformed"}, "notify")
	j.ExpectWays(metrics.Ways{Ends: []string{"arrived"}, Verdicts: []string{"silent"}, Kinds: []string{"started"}, Outcomes: []string{"sent"}})
	before := read(t, reg)
	for name, v := range before {
		if !strings.HasSuffix(name, "breaker_state closed") {
			assert.Zero(t, v, name)
		}
	}
	m.Answered("/healthz", "GET", 200, "INTERNAL", time.Millisecond, "", "")
	m.Updated("stored")
	m.Flagged("mock")
	m.Arrived("arrived")
	m.Unauthenticated("expired")
	m.ConnShed("max_conns")
	m.Waited("changed", time.Second)
	m.KeysRefreshed("idp", true, 1)
	m.KeysRefreshed("idp", false, 1)
	m.StoreCall("update", "ok", time.Millisecond)
	o.EventPublished("bus", time.Second)
	for _, why := range []string{"rejected", "down", "store"} {
		o.EventFailed("bus", why)
	}
	o.EventBuried("bus")
	o.OutboxState("bus", 1, 1, time.Second, 0)
	for _, result := range []string{"done", "failed", "malformed"} {
		o.MessageHandled("notify", result, time.Second)
	}
	j.JourneyEnded("arrived", time.Minute, 100)
	j.JourneySuspicious("silent")
	j.Pushed("started", "sent")
	j.FixSeen("phone", time.Second, time.Second)
	j.FixSeen("store", time.Second, time.Second)
	j.ETAOff(time.Second)
	j.ETAOff(-time.Second)
	after := read(t, reg)
	assert.Len(t, after, len(before), "no series is new")
	assert.InDelta(t, 1, after["doorstep_http_requests_total GET /healthz 200"], 0)
}

func TestNewCertificate(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	metrics.NewCertificate(reg, func() time.Time { return time.Now().Add(time.Hour) })
	assert.InDelta(t, 3600, read(t, reg)["doorstep_tls_certificate_valid_seconds"], 600)
}
