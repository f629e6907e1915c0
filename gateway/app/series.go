package app

import (
	"doorstep/gateway/api"
	"doorstep/gateway/auth"
	"doorstep/gateway/consumers"
	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/gateway/regions"
	"doorstep/geo"
	"doorstep/metrics"
	"doorstep/sessions"
)

// Here the closed lists of the labels meet the metrics, which know none of them.

func expectServed(m *metrics.Metrics, handlers *api.API, verifier *auth.Verifier, others *regions.Regions) {
	m.ExpectServed(metrics.Served{
		Routes: handlers.Routes(), Codes: texts(api.Codes()), Verdicts: api.UpdateVerdicts(),
		Flags: flagNames(), Arrivals: api.ArrivalOutcomes(), Tries: api.CodeOutcomes(), Reasons: append(auth.Reasons(), api.UnauthenticatedReasons()...),
		Shed: httpserver.ShedReasons(), Waits: texts(hub.Outcomes()),
		Malformed: httpserver.RefusedStatuses(), Refused: api.ShedReasons(),
		Formats: texts(sessions.Formats()), Outcomes: api.ReportOutcomes(), Issuers: verifier.Publishers(),
		Regions: others.Others(), Forwards: regions.Outcomes(),
	})
}

// newJourneyMetrics registers the metrics of journeys, and makes a series at 0
// for every value that their labels can have.
func newJourneyMetrics(p *process) *metrics.Journeys {
	m := metrics.NewJourneys(p.registry)
	m.ExpectWays(metrics.Ways{
		Ends:     texts([]sessions.EndReason{sessions.EndArrived, sessions.EndCancelled, sessions.EndTimeout}),
		Verdicts: consumers.SuspicionVerdicts(), Kinds: consumers.PushKinds(), Outcomes: consumers.PushOutcomes(),
		Corrections: sessions.Corrections(),
	})
	return m
}

// tables are those with a retention.
func tables() []string {
	var names []string
	for _, kind := range sessions.AllKept() {
		names = append(names, kind.Table())
	}
	return names
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

func flagNames() []string {
	var names []string
	for _, f := range geo.AllFlags() {
		names = append(names, f.String())
	}
	return names
}
