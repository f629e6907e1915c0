package metrics

import "github.com/prometheus/client_golang/prometheus"

// Retention has the metrics of the sweep of old rows.
type Retention struct {
	rows   *prometheus.CounterVec
	sweeps *prometheus.CounterVec
}

// NewRetention registers the metrics on reg, with a series at 0 for each of the tables. It
// panics when one is registered already.
func NewRetention(reg prometheus.Registerer, tables ...string) *Retention {
	m := &Retention{
		rows:   counter("rows_deleted_total", "Rows that this process has deleted because they were old, by table.", "table"),
		sweeps: counter("retention_sweeps_total", "Sweeps for old rows, by result (ok or error).", "result"),
	}
	reg.MustRegister(m.rows, m.sweeps)
	each(tables, func(v string) { m.rows.WithLabelValues(v) })
	each([]string{"ok", "error"}, func(v string) { m.sweeps.WithLabelValues(v) })
	return m
}

// RowsDeleted counts rows of a table.
func (m *Retention) RowsDeleted(table string, n int) { m.rows.WithLabelValues(table).Add(float64(n)) }

// RetentionSwept counts a sweep.
func (m *Retention) RetentionSwept(err error) { m.sweeps.WithLabelValues(result(err == nil)).Inc() }
