package outbox

// Held is how many rows a Memory keeps, those that are done included.
func (m *Memory) Held() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, q := range m.queues {
		n += len(q.waiting)
	}
	return n
}
