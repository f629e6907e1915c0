package metrics

// A metric with labels has no series before its first event. A query over no series
// has no result, so a panel stays empty; and a counter whose first value is 1 has not
// risen. So the series of the closed lists are made in advance, at zero.

// Served has the closed lists of label values of Metrics.
type Served struct {
	Routes   [][2]string // method and pattern
	Codes    []string    // of refusals
	Verdicts []string    // of updates
	Flags    []string    // of fixes
	Arrivals []string    // outcomes
	Tries    []string    // outcomes of tries of a code
	Reasons  []string    // why tokens are refused
	Shed     []string    // why connections are
	Waits    []string    // outcomes

	Malformed []string // statuses of requests that no handler saw
	Refused   []string // why requests are refused for load

	Formats, Outcomes []string // of points that stock apps report

	Issuers []string // of tokens, that publish keys

	Regions, Forwards []string // the other regions, and the outcomes of calls to them
}

// ExpectServed makes those series. Of a route's statuses it makes the success and the
// two that alerts use.
func (m *Metrics) ExpectServed(s Served) {
	for _, route := range s.Routes {
		for _, status := range []string{"200", "500", "503"} {
			m.answers.WithLabelValues(route[1], route[0], status)
		}
		m.took.WithLabelValues(route[1], route[0])
	}
	each(s.Codes, func(v string) { m.refusals.WithLabelValues(v) })
	each(s.Verdicts, func(v string) { m.updates.WithLabelValues(v) })
	each(s.Flags, func(v string) { m.flags.WithLabelValues(v) })
	each(s.Arrivals, func(v string) { m.arrivals.WithLabelValues(v) })
	each(s.Tries, func(v string) { m.codeTries.WithLabelValues(v) })
	each(s.Reasons, func(v string) { m.unauthentic.WithLabelValues(v) })
	each(s.Shed, func(v string) { m.connsShed.WithLabelValues(v) })
	each(s.Waits, func(v string) { m.waits.WithLabelValues(v) })
	each(s.Refused, func(v string) { m.shed.WithLabelValues(v) })
	each(s.Malformed, func(v string) { m.refused.WithLabelValues(v) })
	each(s.Formats, func(f string) { each(s.Outcomes, func(v string) { m.reported.WithLabelValues(f, v) }) })
	each(s.Regions, func(r string) { each(s.Forwards, func(v string) { m.forwarded.WithLabelValues(r, v) }) })
	for _, issuer := range s.Issuers {
		each([]string{"ok", "error"}, func(v string) { m.keysRefreshed.WithLabelValues(issuer, v) })
		m.keys.WithLabelValues(issuer)
	}
}

// ExpectStored makes the series of the calls to the live store.
func (m *Metrics) ExpectStored(verbs, results []string) {
	for _, verb := range verbs {
		each(results, func(v string) { m.storeCalls.WithLabelValues(verb, v) })
		m.storeTook.WithLabelValues(verb)
	}
}

// ExpectRelays makes the series of the named relays.
func (m *Outbox) ExpectRelays(relays ...string) {
	for _, relay := range relays {
		m.published.WithLabelValues(relay)
		each([]string{"rejected", "down", "store"}, func(v string) { m.failed.WithLabelValues(relay, v) })
		m.buried.WithLabelValues(relay)
		m.OutboxState(relay, 0, 0, 0, 0)
	}
}

// ExpectConsumers makes the series of the queues' consumers by their names and the
// results of a message.
func (m *Outbox) ExpectConsumers(results []string, consumers ...string) {
	for _, consumer := range consumers {
		each(results, func(v string) { m.consumed.WithLabelValues(consumer, v) })
	}
}

// ExpectWebhooks makes the series of the webhooks by their outcomes.
func (m *Outbox) ExpectWebhooks(outcomes []string) {
	each(outcomes, func(v string) { m.webhooks.WithLabelValues(v) })
}

// ExpectLocations makes the series of the location events by their results.
func (m *Outbox) ExpectLocations(results []string) {
	each(results, func(v string) { m.locations.WithLabelValues(v) })
}

// Ways has the closed lists of label values of Journeys.
type Ways struct {
	Ends        []string // reasons
	Verdicts    []string // of suspicions
	Corrections []string // of the reconciler
	Kinds       []string // of pushes
	Outcomes    []string // of pushes
}

// ExpectWays makes those series.
func (m *Journeys) ExpectWays(w Ways) {
	each(w.Ends, func(v string) { m.took.WithLabelValues(v); m.distance.WithLabelValues(v) })
	each(w.Verdicts, func(v string) { m.suspicious.WithLabelValues(v) })
	for _, kind := range w.Kinds {
		each(w.Outcomes, func(v string) { m.pushes.WithLabelValues(kind, v) })
	}
	each([]string{"ok", "error"}, func(v string) {
		m.sweeps.WithLabelValues(v)
		m.counts.WithLabelValues(v)
		m.reconciled.WithLabelValues(v)
	})
	each(w.Corrections, func(v string) { m.corrected.WithLabelValues(v) })
	each([]string{"phone", "store"}, func(v string) { m.fixToEye.WithLabelValues(v) })
	each([]string{"early", "late"}, func(v string) { m.etaError.WithLabelValues(v) })
	m.wakeUp.WithLabelValues()
}

func each(values []string, do func(string)) {
	for _, v := range values {
		do(v)
	}
}
