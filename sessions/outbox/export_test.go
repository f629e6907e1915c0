package outbox

// IsDown reports whether err is marked so.
func IsDown(err error) bool { return classOf(err) == down }

// IsPermanent reports whether err is marked so.
func IsPermanent(err error) bool { return classOf(err) == permanent }

// Held is how many rows a Memory keeps, those that are done with included.
func (m *Memory) Held() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting)
}
