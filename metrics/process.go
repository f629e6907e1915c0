package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// NewProcess registers the metrics of a process itself: its build, and whether it
// should get traffic. ready is called at every scrape; nil for a process that serves
// no requests.
func NewProcess(reg prometheus.Registerer, version string, ready func() bool) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, with the version that runs.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	}, func() float64 { return 1 }))
	if ready != nil {
		reg.MustRegister(gaugeFunc("ready", "1 when /readyz says that this process should get traffic, else 0.", func() float64 {
			if ready() {
				return 1
			}
			return 0
		}))
	}
}

// NewInFlight registers how many calls to the live store are in flight, and how many
// may be. read is called at every scrape.
func NewInFlight(reg prometheus.Registerer, read func() (calls, limit int)) {
	reg.MustRegister(
		gaugeFunc("live_store_calls_in_flight", "Calls to the live store that are on their way.", func() float64 {
			calls, _ := read()
			return float64(calls)
		}),
		gaugeFunc("live_store_calls_limit", "How many calls to the live store may be on their way; one more fails at once.", func() float64 {
			_, limit := read()
			return float64(limit)
		}))
}

// NewLoad registers the load of the API: requests in flight, and open connections.
// Both functions are called at every scrape.
func NewLoad(reg prometheus.Registerer, inFlight, conns func() int) {
	reg.MustRegister(
		gaugeFunc("requests_in_flight", "Requests being worked on; long polls that wait are not.", func() float64 { return float64(inFlight()) }),
		gaugeFunc("connections_open", "Open connections: idle, waiting or working.", func() float64 { return float64(conns()) }))
}

// NewClock registers how far the process's own clock is behind the database's. offset
// is called at every scrape.
func NewClock(reg prometheus.Registerer, offset func() time.Duration) {
	reg.MustRegister(gaugeFunc("clock_offset_seconds", "How far this process's clock is behind the database's; negative: ahead.",
		func() float64 { return offset().Seconds() }))
}

// NewLease registers how old the lease of the region is. age is called at every scrape.
func NewLease(reg prometheus.Registerer, age func() time.Duration) {
	reg.MustRegister(gaugeFunc("region_lease_age_seconds", "Time since this process last renewed the lease of its region; over 120 it serves no journey. Only with DOORSTEP_REGION.",
		func() float64 { return age().Seconds() }))
}

// NewCertificate registers how long the certificate of the public API is still valid.
// notAfter is called at every scrape.
func NewCertificate(reg prometheus.Registerer, notAfter func() time.Time) {
	reg.MustRegister(gaugeFunc("tls_certificate_valid_seconds", "Time until the certificate of the public API ends; negative: it has ended. Only with DOORSTEP_TLS_CERT.",
		func() float64 { return time.Until(notAfter()).Seconds() }))
}

// PoolState is the state of a pool of database connections at one moment. The counts
// are since the start of the process.
type PoolState struct {
	InUse, Idle, Max int
	Acquired         int64         // how often a caller got a connection
	Waited           int64         // of those, how often none was free
	Left             int64         // how often the caller gave up waiting
	WaitedFor        time.Duration // in all
}

// NewPool registers the metrics of a pool of database connections. read is called once
// at every scrape.
func NewPool(reg prometheus.Registerer, read func() PoolState) { reg.MustRegister(&pool{read}) }

// pool is a collector, so that all its series show the same moment.
type pool struct{ read func() PoolState }

var (
	poolConns    = desc("database_connections", "Connections to the database, by state (in_use, idle).", "state")
	poolMax      = desc("database_connections_max", "How many connections to the database there may be.")
	poolAcquired = desc("database_acquires_total", "Connections handed out, by how (free, waited) or not at all (left).", "how")
	poolWaited   = desc("database_acquire_wait_seconds_total", "Time that callers waited for a connection.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (p *pool) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolConns, poolMax, poolAcquired, poolWaited} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (p *pool) Collect(to chan<- prometheus.Metric) {
	s := p.read()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(poolConns, float64(s.InUse), "in_use")
	gauge(poolConns, float64(s.Idle), "idle")
	gauge(poolMax, float64(s.Max))
	count(poolAcquired, float64(s.Acquired-s.Waited), "free")
	count(poolAcquired, float64(s.Waited), "waited")
	count(poolAcquired, float64(s.Left), "left")
	count(poolWaited, s.WaitedFor.Seconds())
}

// NewReader registers the reads for which the database's reader was asked, with a series at
// 0 for each of the outcomes. It returns what counts one.
func NewReader(reg prometheus.Registerer, outcomes ...string) func(outcome string) {
	reads := counter("database_reader_reads_total", "Reads for which the database's reader was asked, by outcome (answered; behind, failed and breaker_open went to the primary). Only with DOORSTEP_DATABASE_READER_URL.", "outcome")
	reg.MustRegister(reads)
	each(outcomes, func(v string) { reads.WithLabelValues(v) })
	return func(outcome string) { reads.WithLabelValues(outcome).Inc() }
}

func gaugeFunc(name, help string, read func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, read)
}

// NewScripts registers what the live store's servers report about their scripts: how
// many they have run, and their time on the server, without the network. Every process
// reports the same about the same servers: use the largest value, not the sum. read is
// called at every scrape. Where it does not know there is no series.
func NewScripts(reg prometheus.Registerer, read func() (ran int64, took time.Duration, known bool)) {
	reg.MustRegister(&scripts{read})
}

type scripts struct {
	read func() (int64, time.Duration, bool)
}

var (
	scriptsRan  = desc("live_store_scripts_total", "Scripts that the live store's servers have run since they started; the same from every process.")
	scriptsTook = desc("live_store_script_seconds_total", "Their time on the servers, in all.")
)

// Describe implements prometheus.Collector.
func (s *scripts) Describe(to chan<- *prometheus.Desc) {
	to <- scriptsRan
	to <- scriptsTook
}

// Collect implements prometheus.Collector.
func (s *scripts) Collect(to chan<- prometheus.Metric) {
	if ran, took, known := s.read(); known {
		to <- prometheus.MustNewConstMetric(scriptsRan, prometheus.CounterValue, float64(ran))
		to <- prometheus.MustNewConstMetric(scriptsTook, prometheus.CounterValue, took.Seconds())
	}
}
