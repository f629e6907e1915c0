package metrics_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"doorstep/metrics"
)

// Every series of Journeys, read back with its labels.
func TestJourneys(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := metrics.NewJourneys(reg)
	m.JourneyStarted()
	m.JourneyEnded("arrived", 20*time.Minute, 4200)
	m.JourneySuspicious("silent")
	m.Pushed("arrived", "sent")
	m.PushBreaker("open")
	m.JourneyTimedOut()
	m.JourneySilent()
	m.Swept(nil)
	m.Swept(errors.New("away"))
	m.FixSeen("phone", 1180*time.Millisecond, 180*time.Millisecond)
	m.ETAOff(-20 * time.Second)
	m.ETAOff(0)
	m.ETAOff(30 * time.Second)
	m.CountsWritten(3, nil)
	m.CountsWritten(2, errors.New("away"))
	m.CountDropped()

	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			var labels []string
			for _, l := range series.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			name := strings.TrimPrefix(f.GetName(), "doorstep_") + " " + strings.Join(labels, " ")
			got[name] = series.GetCounter().GetValue() + series.GetGauge().GetValue() + series.GetHistogram().GetSampleSum()
		}
	}
	require.Equal(t, map[string]float64{
		"journeys_started_total ": 1, "journey_duration_seconds arrived": 1200, "journey_distance_meters arrived": 4200,
		"journeys_stuck ":                  0,
		"journeys_suspicious_total silent": 1, "pushes_total arrived sent": 1, "push_breaker_state open": 1,
		"push_breaker_state closed": 0, "push_breaker_state half-open": 0, "journeys_timed_out_total ": 1,
		"journeys_silent_total ": 1, "journey_sweeps_total ok": 1, "journey_sweeps_total error": 1, "fix_to_eye_seconds phone": 1.18,
		"wake_up_seconds ": 0.18, "eta_error_seconds early": 20, "eta_error_seconds late": 30,
		"journey_tallies_total ok": 3, "journey_tallies_total error": 2, "journey_tallies_dropped_total ": 1,
	}, got)
}
