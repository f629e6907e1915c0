package sessions

import (
	"context"
	"time"

	"doorstep/internal/pause"
)

// newsQueue is how much news may wait for Report. A phone has a few in a journey, so
// the queue fills only while the repository is away. Further suspicions are then
// dropped and logged, and the next update offers further arrivings again: the outbox
// guarantees the events about starts and ends, not these.
const newsQueue = 4096

// news is what an update has found out that becomes an event: new suspicions, or
// that the journey is arriving.
type news struct {
	sessionID  ID
	suspicions Suspicions
	arriving   bool
	at         time.Time // the live store's clock
}

// tell hands news to Report. It does not block, because an update waits for it; it
// reports false where there is no room.
func (s *Service) tell(n news) bool {
	select {
	case s.news <- n:
		return true
	default:
		return false
	}
}

// Report records the events about what updates have found out, each once for a
// journey, until ctx ends. Then it reports what is still waiting, for at most two
// seconds. Run one in every gateway.
func (s *Service) Report(ctx context.Context) error {
	for {
		select {
		case n := <-s.news:
			s.reportUntil(ctx, n)
		case <-ctx.Done():
			s.reportRest(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// reportUntil tries again for as long as the repository is away.
func (s *Service) reportUntil(ctx context.Context, n news) {
	for wait := 100 * time.Millisecond; s.report(ctx, n) != nil && ctx.Err() == nil; wait = min(2*wait, 10*time.Second) {
		_ = pause.For(ctx, wait)
	}
}

func (s *Service) reportRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		select {
		case n := <-s.news:
			if s.report(ctx, n) != nil {
				return // the repository is away: the rest would fail too
			}
		default:
			return
		}
	}
}

// report returns an error where the same news must be tried again.
func (s *Service) report(ctx context.Context, n news) error {
	if n.arriving {
		s.reportArriving(ctx, n)
		return nil
	}
	return s.reportSuspicions(ctx, n)
}
