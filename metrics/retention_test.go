package metrics_test

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"doorstep/metrics"
)

func TestNewRetention(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := metrics.NewRetention(reg, "outbox", "push_tokens", "outbox")
	m.RowsDeleted("outbox", 1000)
	m.RowsDeleted("outbox", 7)
	m.RetentionSwept(nil)
	require.Equal(t, map[string]float64{
		"doorstep_rows_deleted_total outbox": 1007, "doorstep_rows_deleted_total push_tokens": 0,
		"doorstep_retention_sweeps_total ok": 1, "doorstep_retention_sweeps_total error": 0,
	}, read(t, reg))
	m.RetentionSwept(errors.New("away"))
	require.InDelta(t, 1, read(t, reg)["doorstep_retention_sweeps_total error"], 0)
}
