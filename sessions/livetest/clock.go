package livetest

import (
	"sync"
	"time"
)

// Clock is a clock that only moves when told. Safe for concurrent use.
type Clock struct {
	mu    sync.Mutex
	now   time.Time
	moved []func(now time.Time)
}

// NewClock stands at an instant whose milliseconds are not round: a store that
// keeps only seconds, or prints 1.7e12, must not pass.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 3, 14, 9, 26, 53, 589e6, time.UTC)}
}

// Now is the clock's instant.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock, back if d is negative, and then lets the fixture
// expire what is due.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for _, f := range c.moved {
		f(c.now)
	}
}

// OnMove has f called after every move, before Advance returns. It must not
// read the clock.
func (c *Clock) OnMove(f func(now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = append(c.moved, f)
}
