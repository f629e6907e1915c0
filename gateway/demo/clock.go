package demo

import (
	"context"
	"time"

	"doorstep/internal/pause"
)

// Clock is a wall clock that runs faster: it shows start when it is made, and
// speed seconds more for every second since. The service, both its stores and
// the apps read this one clock, so a rate of one fix in five seconds is as
// strict at sixty times the speed as it is at one. Safe for concurrent use.
type Clock struct {
	start, began time.Time
	speed        float64
}

// NewClock makes one. start is virtual, speed above 0.
func NewClock(start time.Time, speed float64) *Clock {
	return &Clock{start: start.Round(0), began: time.Now(), speed: speed}
}

// Now is the virtual time. It never goes back: it is driven by the monotonic
// clock.
func (c *Clock) Now() time.Time { return c.start.Add(c.Elapsed()) }

// Elapsed is how much virtual time has passed.
func (c *Clock) Elapsed() time.Duration {
	return time.Duration(float64(time.Since(c.began)) * c.speed)
}

// Real is how long a virtual duration takes.
func (c *Clock) Real(virtual time.Duration) time.Duration {
	return time.Duration(float64(virtual) / c.speed)
}

// Until waits for a virtual instant; the only error is the context's. An
// instant that has passed costs nothing.
func (c *Clock) Until(ctx context.Context, at time.Time) error { return c.Sleep(ctx, at.Sub(c.Now())) }

// Sleep waits for a virtual duration.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error { return pause.For(ctx, c.Real(d)) }
