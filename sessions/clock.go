package sessions

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/internal/pause"
)

// Clock is the clock of the repository's server as this process knows it: what the server
// said last, and how long ago that was. The starts and ends of journeys are by this clock,
// so a process whose own clock is wrong, or is set right, ends no journey early and refuses
// no arrival. Until the first Sync it is the process's own clock. Safe for concurrent use.
type Clock struct {
	own     func() time.Time
	elapsed func() time.Duration // since the clock was made; by the monotonic clock, which nobody sets
	said    atomic.Pointer[said]
	once    sync.Once
	known   chan struct{}
}

// said is an answer of the server.
type said struct {
	now time.Time
	at  time.Duration // Clock.elapsed
}

// NewClock makes a clock of the process's own; nil is time.Now.
func NewClock(own func() time.Time) *Clock {
	if own == nil {
		own = time.Now
	}
	began := own()
	return &Clock{own: own, elapsed: func() time.Duration { return own().Sub(began) }, known: make(chan struct{})}
}

// Known is closed once the repository has said its time. What ends journeys by the clock
// waits for that: the first answer may come after the first sweep that would succeed.
func (c *Clock) Known() <-chan struct{} { return c.known }

// Now is the time of the repository's server.
func (c *Clock) Now() time.Time {
	last := c.said.Load()
	if last == nil {
		return c.own()
	}
	return last.now.Add(c.elapsed() - last.at)
}

// Offset is how far the process's own clock is behind.
func (c *Clock) Offset() time.Duration {
	if c.said.Load() == nil {
		return 0
	}
	return c.Now().Sub(c.own())
}

const (
	// syncEvery is the time between two questions. In it two clocks drift apart by
	// less than a millisecond.
	syncEvery = 15 * time.Second
	// syncTimeout bounds one question.
	syncTimeout = time.Second
)

// Sync asks once. The server has read its clock between the question and the
// answer, so its time is known to half of that, and the clock is set only if it is off
// by more.
func (c *Clock) Sync(ctx context.Context, ask func(context.Context) (time.Time, error)) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	before := c.elapsed()
	now, err := ask(ctx)
	if err != nil {
		return err
	}
	half := (c.elapsed() - before) / 2
	last, next := c.said.Load(), &said{now, before + half}
	if last == nil || next.now.Sub(last.now.Add(next.at-last.at)).Abs() > half {
		c.said.Store(next)
	}
	c.once.Do(func() { close(c.known) })
	return nil
}

// Run asks every 15 s until ctx ends, and each second until the first answer. While the
// repository does not answer the last answer holds.
func (c *Clock) Run(ctx context.Context, ask func(context.Context) (time.Time, error), log *slog.Logger) error {
	for {
		if err := c.Sync(ctx, ask); err != nil && ctx.Err() == nil {
			log.DebugContext(ctx, "the database's clock is not known", slog.Any("error", err))
		}
		wait := syncEvery
		select {
		case <-c.known:
		default:
			wait = syncTimeout
		}
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
	}
}
