package consumers

import (
	"context"
	"slices"
	"time"

	"doorstep/sessions"
)

// Analytics records a journey's start and end in its row and counts them in metrics. The
// row says whether they were recorded before, so a repeat counts once. The gateways add
// the counts of the journey's fixes; see sessions.FixCounter.
type Analytics struct {
	repo    Records
	metrics JourneyMetrics
}

// Records is the part of the repository with the rows.
type Records interface {
	RecordJourney(ctx context.Context, e sessions.Event) (sessions.JourneyRecord, bool, error)
}

// JourneyMetrics counts journeys.
type JourneyMetrics interface {
	JourneyStarted()
	JourneyEnded(reason string, took time.Duration, distanceM float64)
	JourneySuspicious(verdict string)
}

// NewAnalytics makes the consumer.
func NewAnalytics(repo Records, m JourneyMetrics) *Analytics { return &Analytics{repo, m} }

// Handle records the event. The distance in the metric is what the gateways have written
// by then: they write a journey's counts when it ends, before its event comes here.
func (a *Analytics) Handle(ctx context.Context, e sessions.Event) error {
	switch e.Type {
	case sessions.LocationSuspicious:
		// Raised once for a journey and verdict; a repeat on the bus counts twice.
		a.metrics.JourneySuspicious(verdictLabel(e.Verdict))
		return nil
	case sessions.JourneyArriving: // the row has no place for it
		return nil
	}
	record, first, err := a.repo.RecordJourney(ctx, e)
	if err != nil || !first {
		return err
	}
	switch e.Type {
	case sessions.JourneyStarted:
		a.metrics.JourneyStarted()
	case sessions.JourneyEnded:
		a.metrics.JourneyEnded(string(e.Reason), record.Duration(), record.DistanceM)
	}
	return nil
}

// SuspicionVerdicts is the closed list of verdicts of JourneySuspicious.
func SuspicionVerdicts() []string {
	return append(sessions.Suspicions(1<<32-1).Names(), sessions.VerdictSilent, "other")
}

// verdictLabel is the verdict, or "other" for one that is not in the closed list: a
// metric's label must not come from the bus.
func verdictLabel(verdict string) string {
	if slices.Contains(SuspicionVerdicts(), verdict) {
		return verdict
	}
	return "other"
}
