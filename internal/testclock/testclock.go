// Package testclock has the clock that tests inject.
package testclock

import (
	"sync"
	"time"
)

// Clock stands still until a test moves it. Safe for concurrent use.
type Clock struct {
	mu    sync.Mutex
	now   time.Time
	moved []func(now time.Time)
}

// New makes a clock at an instant whose milliseconds are not round: a store that
// keeps only seconds, or prints 1.7e12, must not pass.
func New() *Clock { return At(time.Date(2026, 3, 14, 9, 26, 53, 589e6, time.UTC)) }

// At makes a clock at an instant.
func At(now time.Time) *Clock { return &Clock{now: now} }

// Now is the clock's instant.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock, back if d is negative, and then calls the functions of
// OnMove.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for _, f := range c.moved {
		f(c.now)
	}
}

// OnMove registers f to be called after every move, before Advance returns. f must
// not read the clock.
func (c *Clock) OnMove(f func(now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = append(c.moved, f)
}
