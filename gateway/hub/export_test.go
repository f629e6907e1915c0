package hub

import (
	"context"
	"time"

	"doorstep/sessions"
)

// Wait is Begin and Await.
func (h *Hub) Wait(ctx context.Context, caller sessions.Caller, ref sessions.Ref, timeout time.Duration,
	news func(sessions.View) bool,
) Result {
	w, over := h.Begin(ctx, caller, ref, timeout, news)
	if w == nil {
		return over
	}
	return w.Await()
}

// Waiting is the number of open waits.
func (h *Hub) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// Readers is how many readers are remembered.
func (h *Hub) Readers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.places)
}
