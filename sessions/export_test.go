package sessions

import "context"

// Journeys is how many journeys the counter counts.
func (t *FixCounter) Journeys() int { return int(t.counted.Load()) }

// SetLimit bounds how many journeys are counted, and how many ETAs are kept.
func (t *FixCounter) SetLimit(journeys int) { t.limit, t.etas.limit = journeys, journeys }

// CheckLinks is one turn of KeepLinks.
func (s *Service) CheckLinks(ctx context.Context) error { return s.checkLinks(ctx) }
