package hub

// Readers is how many readers are remembered.
func (h *Hub) Readers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.places)
}
