package app

import (
	"context"
	"time"

	"doorstep/gateway/api"
	"doorstep/gateway/auth"
	"doorstep/gateway/consumers"
	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/geo"
	"doorstep/metrics"
	"doorstep/scripts"
	"doorstep/sessions"
)

// Here the closed lists of the labels meet the metrics, which know none of them.

func expectServed(m *metrics.Metrics, handlers *api.API) {
	m.ExpectServed(metrics.Served{
		Routes: handlers.Routes(), Codes: texts(api.Codes()), Verdicts: api.UpdateVerdicts(),
		Flags: flagNames(), Arrivals: api.ArrivalOutcomes(), Reasons: auth.Reasons(),
		Shed: httpserver.ShedReasons(), Waits: texts(hub.Outcomes()),
		Malformed: httpserver.RefusedStatuses(), Refused: api.ShedReasons(),
	})
}

// observeStores registers what is read from the stores themselves.
func (a *App) observeStores(m *metrics.Metrics) {
	if a.store != nil {
		m.ExpectStored(scripts.Verbs(), scripts.Results())
		metrics.NewInFlight(a.registry, a.store.InFlight)
		metrics.NewScripts(a.registry, func() (int64, time.Duration, bool) {
			// A collector gets no context; the store bounds the call.
			ran, took, err := a.store.ScriptTime(context.Background())
			return ran, took, err == nil
		})
	}
	if a.database != nil {
		metrics.NewPool(a.registry, func() metrics.PoolState { return metrics.PoolState(a.database.Pool()) })
	}
}

func expectWays(m *metrics.Journeys) {
	m.ExpectWays(metrics.Ways{
		Ends:     texts([]sessions.EndReason{sessions.EndArrived, sessions.EndCancelled, sessions.EndTimeout}),
		Verdicts: consumers.SuspicionVerdicts(), Kinds: consumers.PushKinds(), Outcomes: consumers.PushOutcomes(),
	})
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
