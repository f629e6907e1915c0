package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outbox has the metrics of the relays and of the queues' consumers. Their names
// ("bus", "notify", …) are constants of the program.
type Outbox struct {
	published *prometheus.HistogramVec
	failed    *prometheus.CounterVec
	buried    *prometheus.CounterVec
	waiting   *prometheus.GaugeVec
	dead      *prometheus.GaugeVec
	lag       *prometheus.GaugeVec
	newer     *prometheus.GaugeVec
	breaker   *prometheus.GaugeVec
	consumed  *prometheus.HistogramVec
	locations *prometheus.CounterVec
	webhooks  *prometheus.HistogramVec
	receiver  *prometheus.GaugeVec // the breaker before it
	gone      prometheus.Gauge
}

// delays are the buckets for an event's way to the bus: milliseconds as a rule, hours
// in an outage.
var delays = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60, 300, 1800, 7200}

// NewOutbox registers the metrics on reg. It panics when one is registered already.
func NewOutbox(reg prometheus.Registerer) *Outbox {
	m := &Outbox{
		published: histogram("event_publish_delay_seconds", "From an event to its acceptance by the bus, by relay.", delays, "relay"),
		failed:    counter("event_failures_total", "Attempts that failed, by relay and why (rejected, down, store).", "relay", "why"),
		buried:    counter("events_buried_total", "New dead letters, by relay.", "relay"),
		waiting:   gaugeVec("outbox_waiting", "Events that wait, by relay.", "relay"),
		dead:      gaugeVec("outbox_dead_letters", "Dead letters, by relay.", "relay"),
		lag:       gaugeVec("outbox_lag_seconds", "Age of the oldest event that waits and that this binary can read, by relay.", "relay"),
		newer:     gaugeVec("outbox_newer_event_seconds", "Age of the oldest event that waits for a newer binary, by relay; 0 for none.", "relay"),
		breaker:   gaugeVec("event_bus_breaker_state", "1 for the state that the event bus's breaker is in.", "state"),
		consumed: histogram("message_handling_duration_seconds",
			"Handling of queue messages, by consumer and result (done, failed, malformed, newer).", delays, "consumer", "result"),
		locations: counter("location_events_total", "Location events by result (sent, full, late, failed); all but sent are lost.", "result"),
	}
	m.webhooks = histogram("webhook_duration_seconds", "Webhooks that were tried, by outcome: docs/operate.md lists them.", delays, "outcome")
	m.receiver = gaugeVec("webhook_breaker_state", "1 for the state that the breaker before the receiver of webhooks is in.", "state")
	m.gone = gauge("webhook_gone", "1 when the receiver of webhooks has answered 410 Gone: nothing is sent to it until a restart.")
	reg.MustRegister(m.webhooks, m.receiver, m.gone)
	reg.MustRegister(m.published, m.failed, m.buried, m.waiting, m.dead, m.lag, m.newer, m.breaker, m.consumed, m.locations)
	m.BusBreaker("closed")
	m.WebhookBreaker("closed")
	return m
}

// EventPublished counts an event that the bus has accepted, and how long after it
// happened.
func (m *Outbox) EventPublished(relay string, after time.Duration) {
	m.published.WithLabelValues(relay).Observe(after.Seconds())
}

// EventFailed counts an attempt that failed.
func (m *Outbox) EventFailed(relay, why string) { m.failed.WithLabelValues(relay, why).Inc() }

// EventBuried counts a new dead letter.
func (m *Outbox) EventBuried(relay string) { m.buried.WithLabelValues(relay).Inc() }

// OutboxState sets how many events wait, how many are dead, and two ages: of the oldest
// event that this binary can read, and of the oldest one that waits for a newer binary.
func (m *Outbox) OutboxState(relay string, waiting, dead int, lag, newer time.Duration) {
	m.waiting.WithLabelValues(relay).Set(float64(waiting))
	m.dead.WithLabelValues(relay).Set(float64(dead))
	m.lag.WithLabelValues(relay).Set(lag.Seconds())
	m.newer.WithLabelValues(relay).Set(newer.Seconds())
}

// BusBreaker sets the breaker's state: closed, half-open or open.
func (m *Outbox) BusBreaker(state string) { setState(m.breaker, state) }

// WebhookAnswered counts one webhook that was tried, by its outcome.
func (m *Outbox) WebhookAnswered(outcome string, took time.Duration) {
	m.webhooks.WithLabelValues(outcome).Observe(took.Seconds())
}

// WebhookBreaker sets the state of the breaker before the receiver of webhooks.
func (m *Outbox) WebhookBreaker(state string) { setState(m.receiver, state) }

// WebhookGone says that the receiver of webhooks wants no more of them.
func (m *Outbox) WebhookGone() { m.gone.Set(1) }

// MessageHandled counts one queue message by its result.
func (m *Outbox) MessageHandled(consumer, result string, took time.Duration) {
	m.consumed.WithLabelValues(consumer, result).Observe(took.Seconds())
}

// LocationEvents counts n location events by their result.
func (m *Outbox) LocationEvents(result string, n int) {
	m.locations.WithLabelValues(result).Add(float64(n))
}
