package memory

import (
	"fmt"

	"doorstep/sessions"
)

// Kept is all that the store holds of a journey, for livetest.
func (m *Live) Kept(ref sessions.Ref) string {
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
func (m *Live) Size() (journeys, metas, watched int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.journeys), len(m.metas), len(m.watchers)
}
