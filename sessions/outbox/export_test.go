package outbox

// Held is how many rows a Memory keeps, those that are done with included.
func (m *Memory) Held() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting)
}
