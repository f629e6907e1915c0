package sessions

import "fmt"

// Kept is all that the store holds of a journey, for livetest.
func (m *Memory) Kept(ref Ref) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.journeys[ref]
	if t == nil {
		return ""
	}
	if t.ended {
		return fmt.Sprintf("%v %+v %+v", t.home, t.judged, t.last) // all that could hold a coordinate
	}
	return fmt.Sprintf("%+v", *t)
}

// Size is how many journeys and metas the store holds, expired ones included.
func (m *Memory) Size() (journeys, metas, watched int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.journeys), len(m.metas), len(m.watchers)
}

// Journeys is how many journeys the tally counts.
func (t *Tally) Journeys() int { return int(t.counted.Load()) }
