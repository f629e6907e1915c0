// Package metrics has the Prometheus metrics of a process, with one method for each
// event. New and its siblings register them on a given registry. The package imports
// nothing of this module. A package that reports declares an interface of the one to
// three methods that it needs, and the types here have them.
//
// Units are base units. Labels come from closed lists, and are never an id. Only the
// exemplars of a latency are, where requests are traced.
package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is what a gateway serves: its requests, its waits and its calls to the
// stores. Safe for concurrent use.
type Metrics struct {
	answers       *prometheus.CounterVec
	took          *prometheus.HistogramVec
	refusals      *prometheus.CounterVec
	updates       *prometheus.CounterVec
	flags         *prometheus.CounterVec
	arrivals      *prometheus.CounterVec
	codeTries     *prometheus.CounterVec
	unauthentic   *prometheus.CounterVec
	connsShed     *prometheus.CounterVec
	shed          *prometheus.CounterVec
	refused       *prometheus.CounterVec
	reported      *prometheus.CounterVec
	forwarded     *prometheus.CounterVec
	panics        prometheus.Counter
	waiting       prometheus.Gauge
	waits         *prometheus.HistogramVec
	storeCalls    *prometheus.CounterVec
	storeTook     *prometheus.HistogramVec
	storeBreaker  *prometheus.GaugeVec
	storeChanges  *prometheus.CounterVec
	dbBreaker     *prometheus.GaugeVec
	keysRefreshed *prometheus.CounterVec
	keys          *prometheus.GaugeVec
}

// The buckets: answer is for answers from half a millisecond to a long poll's 30 s,
// fast for calls from a tenth of a millisecond to five seconds, long for long polls.
var (
	answer = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 35}
	fast   = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	long   = []float64{.01, .05, .1, .5, 1, 2, 5, 10, 15, 20, 25, 30, 35}
)

// New registers the metrics on reg. It panics when one is registered already, which is
// a bug in the wiring.
func New(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		answers: counter("http_requests_total", "Answers, by route, method and status.", "route", "method", "status"),
		took: histogram("http_request_duration_seconds", "Time to answer, by route and method; reads that waited have their own route, which ends in ?wait.",
			answer, "route", "method"),
		refusals: counter("http_refusals_total", "Refusals by code of the closed list.", "code"),
		updates:  counter("updates_total", "Location updates by verdict.", "verdict"),
		flags:    counter("fix_flags_total", "Oddities of fixes that were not refused for them, by flag.", "flag"),
		arrivals: counter("arrivals_total", "Requests to arrive, by outcome; a repeat of one that did is one more that did.", "outcome"),
		codeTries: counter("code_tries_total",
			"Tries of a one-time code, by outcome (right, wrong, locks: the wrong one by which the code is locked; locked, expired, refused).", "outcome"),
		unauthentic: counter("unauthenticated_total", "Tokens refused, by reason.", "reason"),
		connsShed:   counter("connections_shed_total", "Connections closed on arrival, by reason.", "reason"),
		shed: counter("requests_shed_total",
			"Requests refused to keep the service for the rest, by reason (in_flight, waits, caller_rate, caller_waits, caller_lookups, large_bodies).", "reason"),
		reported: counter("device_points_total",
			"Points that stock apps reported, by format and outcome; flooded, unreadable, too_large and nothing count reports.", "format", "outcome"),
		forwarded: counter("forwarded_calls_total",
			"Calls sent on to another region, by region and outcome (answered, away, breaker_open, busy, left).", "region", "outcome"),
		refused: counter("requests_malformed_total", "Requests refused before any handler, by status.", "status"),
		panics:  prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "panics_total", Help: "Panics that were caught."}),
		waiting: gauge("waits_open", "Long polls that are waiting."),
		waits:   histogram("wait_duration_seconds", "How long polls waited, by outcome.", long, "outcome"),
		storeCalls: counter("live_store_calls_total",
			"Calls to the live store, by verb and result (ok, timeout, error, left; busy, breaker_open and not_connected were not sent).", "verb", "result"),
		storeTook:     histogram("live_store_call_duration_seconds", "Round trips to the live store, script included, by verb.", fast, "verb"),
		storeBreaker:  gaugeVec("live_store_breaker_state", "1 for the state that the live store's breaker is in.", "state"),
		storeChanges:  counter("live_store_breaker_changes_total", "Changes of the live store's breaker, by the state it went to.", "state"),
		dbBreaker:     gaugeVec("database_breaker_state", "1 for the state that the database's breaker is in.", "state"),
		keysRefreshed: counter("jwks_fetches_total", "Fetches of the JWKS, by issuer and result (ok or error).", "issuer", "result"),
		keys:          gaugeVec("jwks_keys", "Signing keys in use, by issuer.", "issuer"),
	}
	reg.MustRegister(m.answers, m.took, m.refusals, m.updates, m.flags, m.arrivals, m.codeTries, m.unauthentic, m.connsShed, m.shed, m.forwarded, m.refused, m.reported, m.panics,
		m.waiting, m.waits, m.storeCalls, m.storeTook, m.storeBreaker, m.storeChanges, m.dbBreaker, m.keysRefreshed, m.keys)
	setState(m.storeBreaker, "closed")
	setState(m.dbBreaker, "closed")
	return m
}

// Answered counts one answer; code is empty for a success. A read that waited
// has its own route: its half minute would hide every other latency. trace is the id of
// the request's trace, empty for none; then the duration has an exemplar that names it,
// and the session where that is not empty.
func (m *Metrics) Answered(route, method string, status int, code string, took time.Duration, trace, session string) {
	m.answers.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	observe(m.took.WithLabelValues(route, method), took, trace, session)
	if code != "" {
		m.refusals.WithLabelValues(code).Inc()
	}
}

// observe adds an exemplar where there is a trace. Two UUIDs and their names are 85 of
// the 128 characters that OpenMetrics allows.
func observe(to prometheus.Observer, took time.Duration, trace, session string) {
	with, ok := to.(prometheus.ExemplarObserver)
	if trace == "" || !ok {
		to.Observe(took.Seconds())
		return
	}
	labels := prometheus.Labels{"trace_id": trace}
	if session != "" {
		labels["session_id"] = session
	}
	with.ObserveWithExemplar(took.Seconds(), labels)
}

// Updated counts one location update by its verdict.
func (m *Metrics) Updated(verdict string) { m.updates.WithLabelValues(verdict).Inc() }

// Flagged counts one flag of a fix that was not refused for it.
func (m *Metrics) Flagged(flag string) { m.flags.WithLabelValues(flag).Inc() }

// Arrived counts one request to arrive.
func (m *Metrics) Arrived(outcome string) { m.arrivals.WithLabelValues(outcome).Inc() }

// CodeTried counts one try of a code.
func (m *Metrics) CodeTried(outcome string) { m.codeTries.WithLabelValues(outcome).Inc() }

// Unauthenticated counts one refused token.
func (m *Metrics) Unauthenticated(reason string) { m.unauthentic.WithLabelValues(reason).Inc() }

// Reported counts points that a stock app reported.
func (m *Metrics) Reported(format, outcome string, points int) {
	m.reported.WithLabelValues(format, outcome).Add(float64(points))
}

// Forwarded counts one call that belongs to another region.
func (m *Metrics) Forwarded(region, outcome string) {
	m.forwarded.WithLabelValues(region, outcome).Inc()
}

// ConnShed counts one connection that was closed on arrival.
func (m *Metrics) ConnShed(why string) { m.connsShed.WithLabelValues(why).Inc() }

// Shed counts one request that was refused to keep the service for the rest.
func (m *Metrics) Shed(why string) { m.shed.WithLabelValues(why).Inc() }

// RequestRefused counts one request that was refused before any handler.
func (m *Metrics) RequestRefused(status int) { m.refused.WithLabelValues(strconv.Itoa(status)).Inc() }

// Panicked counts one panic.
func (m *Metrics) Panicked() { m.panics.Inc() }

// Waiting adds delta to the number of open waits.
func (m *Metrics) Waiting(delta int) { m.waiting.Add(float64(delta)) }

// Waited counts the end of a wait.
func (m *Metrics) Waited(outcome string, took time.Duration) {
	m.waits.WithLabelValues(outcome).Observe(took.Seconds())
}

// StoreCall counts one call to the live store. It observes the duration only of a call
// that was sent: the microsecond of a refused call says nothing about the store.
func (m *Metrics) StoreCall(verb, result string, took time.Duration) {
	m.storeCalls.WithLabelValues(verb, result).Inc()
	if result != "busy" && result != "breaker_open" && result != "not_connected" {
		m.storeTook.WithLabelValues(verb).Observe(took.Seconds())
	}
}

// StoreBreaker sets the state of the live store's breaker (closed, half-open or open)
// and counts the change: half open lasts for milliseconds, which no scrape sees.
func (m *Metrics) StoreBreaker(state string) {
	m.storeChanges.WithLabelValues(state).Inc()
	setState(m.storeBreaker, state)
}

// DatabaseBreaker sets the breaker's state: closed, half-open or open.
func (m *Metrics) DatabaseBreaker(state string) { setState(m.dbBreaker, state) }

// KeysRefreshed counts one fetch of an issuer's JWKS.
func (m *Metrics) KeysRefreshed(issuer string, ok bool, keys int) {
	m.keysRefreshed.WithLabelValues(issuer, result(ok)).Inc()
	m.keys.WithLabelValues(issuer).Set(float64(keys))
}

// setState sets the given state of a breaker to 1 and the others to 0.
func setState(breaker *prometheus.GaugeVec, state string) {
	for _, s := range []string{"closed", "half-open", "open"} {
		v := 0.0
		if s == state {
			v = 1
		}
		breaker.WithLabelValues(s).Set(v)
	}
}

func result(ok bool) string {
	if ok {
		return "ok"
	}
	return "error"
}

const namespace = "doorstep"

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
}

func gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
	}, labels)
}
