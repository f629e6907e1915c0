package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"doorstep/metrics"
)

// Every method moves its own series, under its own labels: read back.
func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := metrics.New(reg)
	m.Answered("/healthz", "GET", 200, "", time.Millisecond, "", "")
	m.Answered("none", "other", 404, "ROUTE_NOT_FOUND", time.Millisecond, "", "")
	m.Updated("stored")
	m.Flagged("mock")
	m.Unauthenticated("expired")
	m.ConnShed("max_conns")
	m.Shed("in_flight")
	metrics.NewLoad(reg, func() int { return 7 }, func() int { return 9 })
	m.RequestRefused(431)
	m.Panicked()
	m.Waiting(1)
	m.Waited("changed", time.Second)
	m.Arrived("not_within_radius")
	m.StoreCall("update", "ok", time.Millisecond)
	m.StoreCall("update", "timeout", time.Millisecond)
	for _, notSent := range []string{"busy", "breaker_open", "not_connected"} {
		m.StoreCall("update", notSent, time.Microsecond)
	}
	m.StoreBreaker("open")
	m.DatabaseBreaker("half-open")
	m.KeysRefreshed("idp", false, 3)
	require.Equal(t, map[string]float64{
		"doorstep_http_requests_total GET /healthz 200":        1,
		"doorstep_http_requests_total other none 404":          1,
		"doorstep_http_request_duration_seconds GET /healthz":  1,
		"doorstep_http_request_duration_seconds other none":    1,
		"doorstep_arrivals_total not_within_radius":            1,
		"doorstep_http_refusals_total ROUTE_NOT_FOUND":         1,
		"doorstep_updates_total stored":                        1,
		"doorstep_fix_flags_total mock":                        1,
		"doorstep_unauthenticated_total expired":               1,
		"doorstep_requests_shed_total in_flight":               1,
		"doorstep_requests_in_flight":                          7,
		"doorstep_connections_open":                            9,
		"doorstep_connections_shed_total max_conns":            1,
		"doorstep_requests_malformed_total 431":                1,
		"doorstep_panics_total":                                1,
		"doorstep_waits_open":                                  1,
		"doorstep_wait_duration_seconds changed":               1,
		"doorstep_live_store_calls_total ok update":            1,
		"doorstep_live_store_calls_total timeout update":       1,
		"doorstep_live_store_calls_total busy update":          1,
		"doorstep_live_store_calls_total breaker_open update":  1,
		"doorstep_live_store_calls_total not_connected update": 1,
		"doorstep_live_store_call_duration_seconds update":     2,
		"doorstep_live_store_breaker_state closed":             0,
		"doorstep_live_store_breaker_state half-open":          0,
		"doorstep_live_store_breaker_state open":               1,
		"doorstep_live_store_breaker_changes_total open":       1,
		"doorstep_jwks_fetches_total idp error":                1,
		"doorstep_database_breaker_state closed":               0,
		"doorstep_database_breaker_state half-open":            1,
		"doorstep_database_breaker_state open":                 0,
		"doorstep_jwks_keys idp":                               3,
	}, read(t, reg))
}

// read is every series by name and label values, and what it has: a count.
func read(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, s := range f.GetMetric() {
			words := []string{f.GetName()}
			for _, l := range s.GetLabel() {
				words = append(words, l.GetValue())
			}
			value := s.GetCounter().GetValue() + s.GetGauge().GetValue() + float64(s.GetHistogram().GetSampleCount())
			got[strings.Join(words, " ")] = value
		}
	}
	return got
}
