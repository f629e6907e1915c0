package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Journeys has the metrics of journeys besides requests: how they end, which pushes
// are sent, and what sweeps and the fix counter find.
type Journeys struct {
	started    prometheus.Counter
	took       *prometheus.HistogramVec
	distance   *prometheus.HistogramVec
	suspicious *prometheus.CounterVec
	pushes     *prometheus.CounterVec
	pusher     *prometheus.GaugeVec
	timedOut   prometheus.Counter
	silent     prometheus.Counter
	sweeps     *prometheus.CounterVec
	stuck      prometheus.Gauge
	reconciled *prometheus.CounterVec
	corrected  *prometheus.CounterVec
	fixToEye   *prometheus.HistogramVec
	wakeUp     *prometheus.HistogramVec
	etaError   *prometheus.HistogramVec
	counts     *prometheus.CounterVec
	dropped    prometheus.Counter
}

var (
	// journeyTimes covers journeys from a minute to the longest possible, an hour.
	journeyTimes = []float64{60, 180, 300, 600, 900, 1200, 1800, 2700, 3600}
	// journeyWays covers 100 m to 100 km.
	journeyWays = []float64{100, 300, 1000, 3000, 5000, 10_000, 20_000, 50_000, 100_000}
	// eyes are the buckets of fix to eye. They cover a wake-up, a phone that sends
	// late, and one whose clock is up to a minute off.
	eyes = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2, 3, 5, 10, 30, 60}
	// etaErrors covers a good ETA and one that is off by its own length.
	etaErrors = []float64{5, 10, 15, 30, 45, 60, 90, 120, 180, 300, 600}
)

// NewJourneys registers the metrics on reg. It panics when one is registered already.
func NewJourneys(reg prometheus.Registerer) *Journeys {
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	m := &Journeys{
		started:    count("journeys_started_total", "Journeys whose start the analytics have noted."),
		took:       histogram("journey_duration_seconds", "How long journeys took, by the reason of their end.", journeyTimes, "reason"),
		distance:   histogram("journey_distance_meters", "How far journeys went, by the reason of their end.", journeyWays, "reason"),
		suspicious: counter("journeys_suspicious_total", "Suspicions raised, by verdict; one a journey and verdict.", "verdict"),
		pushes: counter("pushes_total", "Pushes by kind and outcome (sent, no_device, late, unregistered, unavailable, failed).",
			"kind", "outcome"),
		pusher:     gaugeVec("push_breaker_state", "1 for the state that the push service's breaker is in.", "state"),
		timedOut:   count("journeys_timed_out_total", "Journeys that this process has timed out."),
		silent:     count("journeys_silent_total", "Silences that this process was the first to report."),
		sweeps:     counter("journey_sweeps_total", "Sweeps for overdue and silent journeys, by result (ok or error).", "result"),
		reconciled: counter("journeys_reconciled_total", "Journeys that the database was asked about because they are served, by result (ok or error).", "result"),
		corrected:  counter("journeys_corrected_total", "Journeys that the live store did not have as the database has them, by what was wrong.", "why"),
		stuck: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "journeys_stuck", Help: "Journeys past their hour that cannot be ended: the log names them.",
		}),
		fixToEye: histogram("fix_to_eye_seconds",
			"From a fix's being taken (clock: phone, where that is sane) or stored (clock: store) to a student's waiting poll being answered with it.", eyes, "clock"),
		wakeUp: histogram("wake_up_seconds",
			"From a fix's being stored to a student's waiting poll being answered with it: publish, wake and look.", fast),
		etaError: histogram("eta_error_seconds",
			"How far the ETA that a student saw four to five minutes out was off when the trainer reached the fence, by direction (early, late).", etaErrors, "direction"),
		counts:  counter("journey_tallies_total", "Journeys whose counts were written, by result (ok or error).", "result"),
		dropped: count("journey_tallies_dropped_total", "Fixes that were not counted because too many journeys are."),
	}
	reg.MustRegister(m.started, m.took, m.distance, m.suspicious, m.pushes, m.pusher, m.timedOut, m.silent, m.sweeps, m.stuck, m.reconciled, m.corrected,
		m.fixToEye, m.wakeUp, m.etaError, m.counts, m.dropped)
	m.PushBreaker("closed")
	return m
}

// JourneyStarted counts a journey that has begun.
func (m *Journeys) JourneyStarted() { m.started.Inc() }

// JourneyEnded counts a journey that has ended.
func (m *Journeys) JourneyEnded(reason string, took time.Duration, distanceM float64) {
	m.took.WithLabelValues(reason).Observe(took.Seconds())
	m.distance.WithLabelValues(reason).Observe(distanceM)
}

// JourneySuspicious counts a suspicion.
func (m *Journeys) JourneySuspicious(verdict string) { m.suspicious.WithLabelValues(verdict).Inc() }

// Pushed counts what became of one push.
func (m *Journeys) Pushed(kind, outcome string) { m.pushes.WithLabelValues(kind, outcome).Inc() }

// PushBreaker sets the breaker's state: closed, half-open or open.
func (m *Journeys) PushBreaker(state string) { setState(m.pusher, state) }

// JourneyTimedOut counts a journey that this process has timed out.
func (m *Journeys) JourneyTimedOut() { m.timedOut.Inc() }

// JourneySilent counts a silence that this process has reported.
func (m *Journeys) JourneySilent() { m.silent.Inc() }

// Swept counts a sweep.
func (m *Journeys) Swept(err error) { m.sweeps.WithLabelValues(result(err == nil)).Inc() }

// JourneysStuck sets how many overdue journeys cannot be ended.
func (m *Journeys) JourneysStuck(n int) { m.stuck.Set(float64(n)) }

// Reconciled counts a question of the reconciler about n journeys.
func (m *Journeys) Reconciled(n int, err error) {
	m.reconciled.WithLabelValues(result(err == nil)).Add(float64(n))
}

// Corrected counts a disagreement between the stores that was removed.
func (m *Journeys) Corrected(why string) { m.corrected.WithLabelValues(why).Inc() }

// FixSeen counts a fix that a student was shown: how long ago it was taken, by which
// clock ("phone", "store"), and how long ago it was stored.
func (m *Journeys) FixSeen(clock string, sinceTaken, sinceStored time.Duration) {
	m.fixToEye.WithLabelValues(clock).Observe(sinceTaken.Seconds())
	m.wakeUp.WithLabelValues().Observe(sinceStored.Seconds())
}

// ETAOff observes one ETA error: the time at which the trainer reached the fence,
// minus the time that the student was shown. Negative: earlier than shown.
func (m *Journeys) ETAOff(by time.Duration) {
	if by < 0 {
		m.etaError.WithLabelValues("early").Observe(-by.Seconds())
		return
	}
	m.etaError.WithLabelValues("late").Observe(by.Seconds())
}

// CountsWritten counts, by its result, one write of counts; journeys is how
// many journeys it covers.
func (m *Journeys) CountsWritten(journeys int, err error) {
	m.counts.WithLabelValues(result(err == nil)).Add(float64(journeys))
}

// CountDropped counts a fix that was not counted.
func (m *Journeys) CountDropped() { m.dropped.Inc() }
