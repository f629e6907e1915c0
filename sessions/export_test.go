package sessions

// Journeys is how many journeys the tally counts.
func (t *FixCounter) Journeys() int { return int(t.counted.Load()) }
