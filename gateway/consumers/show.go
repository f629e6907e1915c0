package consumers

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"doorstep/sessions"
)

// Shown is a push as a device would have shown it.
type Shown struct {
	Push
	At       time.Time
	UserID   sessions.ID
	Platform sessions.Platform // empty: the user has no device
}

// Show is the Pusher without a push service. It logs that there was a push, never its
// text, and keeps the last pushes for a program that embeds the gateway. Safe for
// concurrent use.
type Show struct {
	now func() time.Time
	log *slog.Logger

	mu   sync.Mutex
	last []Shown
}

// shownMax is how many pushes a Show keeps.
const shownMax = 256

// NewShow makes an empty one.
func NewShow(now func() time.Time, log *slog.Logger) *Show { return &Show{now: now, log: log} }

// Push implements Pusher.
func (s *Show) Push(ctx context.Context, to sessions.PushToken, p Push) error {
	s.log.InfoContext(ctx, "push not sent: no push service is set", slog.String("kind", string(p.Kind)),
		slog.String("session_id", string(p.SessionID)), slog.String("platform", string(to.Platform)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) == shownMax {
		s.last = slices.Delete(s.last, 0, 1)
	}
	s.last = append(s.last, Shown{Push: p, At: s.now(), UserID: to.UserID, Platform: to.Platform})
	return nil
}

// Last lists the last pushes, oldest first, at most 256.
func (s *Show) Last() []Shown {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.last)
}
