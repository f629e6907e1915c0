package app

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A storm says the same thing again and again: the first hundred lines of a
// second tell all that there is to know of it, and every hundredth after them
// that it goes on. At 250 bytes a line and 10,000 faults a second that is
// 50 kB a second instead of 2.5 MB.
const (
	firstLines = 100
	everyLine  = 100
)

// Sampled passes on the first 100 lines a second of each level and message, and
// then every 100th. The next line that passes says how many were suppressed
// since the last one. Messages are constants, so what it remembers is bounded.
// Safe for concurrent use.
func Sampled(to slog.Handler) slog.Handler {
	return sampled{to, &counts{of: map[lineKind]*count{}}}
}

type sampled struct {
	slog.Handler
	counts *counts
}

type counts struct {
	mu sync.Mutex
	of map[lineKind]*count
}

type lineKind struct {
	level   slog.Level
	message string
}

// count is of one kind of line: those of the second that began then, and those
// suppressed since the last one that passed.
type count struct {
	began             time.Time
	lines, suppressed int
}

// Handle keeps the contract of slog.Handler.
func (s sampled) Handle(ctx context.Context, r slog.Record) error {
	passes, suppressed := s.counts.add(lineKind{r.Level, r.Message}, r.Time)
	if !passes {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("suppressed", suppressed))
	}
	return s.Handler.Handle(ctx, r)
}

func (c *counts) add(kind lineKind, at time.Time) (passes bool, suppressed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[kind]
	if n == nil {
		n = &count{began: at}
		c.of[kind] = n
	}
	if since := at.Sub(n.began); since >= time.Second || since < 0 { // a clock may be put back
		n.began, n.lines = at, 0
	}
	n.lines++
	if n.lines > firstLines && (n.lines-firstLines)%everyLine != 0 {
		n.suppressed++
		return false, 0
	}
	suppressed, n.suppressed = n.suppressed, 0
	return true, suppressed
}

// WithAttrs keeps the contract of slog.Handler; the counts are shared.
func (s sampled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sampled{s.Handler.WithAttrs(attrs), s.counts}
}

// WithGroup is as WithAttrs.
func (s sampled) WithGroup(name string) slog.Handler {
	return sampled{s.Handler.WithGroup(name), s.counts}
}
