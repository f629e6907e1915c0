package sessions

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/internal/pause"
)

// Clock is the clock of the repository's server as this process knows it: its own
// clock, and how far that is off. The starts and ends of journeys are by this clock,
// so a process whose own clock is wrong ends no journey early and refuses no
// arrival. Until the first Sync it is the process's own clock. Safe for concurrent
// use.
type Clock struct {
	own    func() time.Time
	offset atomic.Int64 // nanoseconds to add
	once   sync.Once
	known  chan struct{}
}

// NewClock makes a clock of the process's own; nil is time.Now.
func NewClock(own func() time.Time) *Clock {
	if own == nil {
		own = time.Now
	}
	return &Clock{own: own, known: make(chan struct{})}
}

// Known is closed once the repository has said its time. What ends journeys by the clock
// waits for that: the first answer may come after the first sweep that would succeed.
func (c *Clock) Known() <-chan struct{} { return c.known }

// Now is the time of the repository's server.
func (c *Clock) Now() time.Time { return c.own().Add(c.Offset()) }

// Offset is how far the process's own clock is behind.
func (c *Clock) Offset() time.Duration { return time.Duration(c.offset.Load()) }

const (
	// syncEvery is the time between two questions. In it two clocks drift apart by
	// less than a millisecond.
	syncEvery = 15 * time.Second
	// syncTimeout bounds one question.
	syncTimeout = time.Second
)

// Sync asks once. The server has read its clock between the question and the
// answer, so the offset is known to half of that time, and changes only if it is off
// by more.
func (c *Clock) Sync(ctx context.Context, ask func(context.Context) (time.Time, error)) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	before := c.own()
	said, err := ask(ctx)
	if err != nil {
		return err
	}
	half := c.own().Sub(before) / 2
	if offset := said.Sub(before.Add(half)); (offset - c.Offset()).Abs() > half {
		c.offset.Store(int64(offset))
	}
	c.once.Do(func() { close(c.known) })
	return nil
}

// Run asks every 15 s until ctx ends, and each second until the first answer. While the
// repository does not answer the last offset holds.
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
