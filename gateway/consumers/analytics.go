package consumers

import (
	"context"
	"slices"
	"time"

	"doorstep/sessions"
)

// Analytics notes a journey's start and end in its row, and counts them. The
// row says whether it had been noted, so a repeat is counted once, too. What
// the gateways have counted of its fixes is added by them; see sessions.FixCounter.
type Analytics struct {
	repo    Records
	metrics JourneyMetrics
}

// Records is the part of the repository that holds the rows.
type Records interface {
	RecordJourney(ctx context.Context, e sessions.Event) (sessions.JourneyRecord, bool, error)
}

// JourneyMetrics is told of journeys.
type JourneyMetrics interface {
	JourneyStarted()
	JourneyEnded(reason string, took time.Duration, distanceM float64)
	JourneySuspicious(verdict string)
}

// NewAnalytics makes one.
func NewAnalytics(repo Records, m JourneyMetrics) *Analytics { return &Analytics{repo, m} }

// Handle notes the event. The distance that is counted is what the gateways
// have said by then: they are asked to when a journey ends, a second before
// its event comes here.
func (a *Analytics) Handle(ctx context.Context, e sessions.Event) error {
	if e.Type == sessions.LocationSuspicious {
		// Raised once a journey and verdict; a repeat on the bus counts twice.
		a.metrics.JourneySuspicious(verdictLabel(e.Verdict))
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

// SuspicionVerdicts is the closed list of JourneySuspicious.
func SuspicionVerdicts() []string {
	return append(sessions.Suspicions(1<<32-1).Names(), sessions.VerdictSilent, "other")
}

// verdictLabel is the verdict from the closed list of suspicions: what is on
// the bus is not ours to choose.
func verdictLabel(verdict string) string {
	if slices.Contains(SuspicionVerdicts(), verdict) {
		return verdict
	}
	return "other"
}
