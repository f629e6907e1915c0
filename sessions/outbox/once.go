package outbox

import (
	"context"
	"sync"
	"time"

	"doorstep/sessions"
)

// MemoryOnce is the Once of the embedded default. It remembers for at least
// window, in two halves, and at most as many events as happened in twice that.
type MemoryOnce struct {
	window time.Duration
	now    func() time.Time

	mu         sync.Mutex
	turned     time.Time
	young, old map[consumed]bool // true: done
}

type consumed struct {
	consumer string
	event    sessions.ID
}

var _ Once = (*MemoryOnce)(nil)

// NewMemoryOnce makes one. Zero window is an hour: in process, repeats come
// within minutes. A nil now is the wall clock.
func NewMemoryOnce(window time.Duration, now func() time.Time) *MemoryOnce {
	if window == 0 {
		window = time.Hour
	}
	if now == nil {
		now = time.Now
	}
	return &MemoryOnce{window: window, now: now, turned: now(), young: map[consumed]bool{}, old: map[consumed]bool{}}
}

// Once keeps the contract of Once.
func (m *MemoryOnce) Once(ctx context.Context, consumer string, event sessions.ID, do func(context.Context) error) error {
	key := consumed{consumer, event}
	switch known, done := m.begin(key); {
	case done:
		return nil
	case known:
		return ErrInProgress
	}
	err := ErrInProgress // a panic in do leaves the key free
	defer func() { m.end(key, err == nil) }()
	err = do(ctx)
	return err
}

func (m *MemoryOnce) begin(key consumed) (known, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	for _, generation := range []map[consumed]bool{m.young, m.old} {
		if done, known = generation[key]; known {
			return known, done
		}
	}
	m.young[key] = false
	return false, false
}

func (m *MemoryOnce) end(key consumed, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.old, key)
	delete(m.young, key)
	if ok {
		m.young[key] = true
	}
}

// turn forgets what is older than the window.
func (m *MemoryOnce) turn() {
	if now := m.now(); now.Sub(m.turned) >= m.window {
		m.old, m.young, m.turned = m.young, map[consumed]bool{}, now
	}
}
