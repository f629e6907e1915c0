package sessions

import (
	"context"
	"log/slog"
	"time"
)

// suspicionQueue is how many updates with new suspicions may wait to be
// reported. A phone raises a few in a journey, so it fills only while the
// repository is away; then more are dropped and counted: what is certain to be
// told is starts and ends, not doubts.
const suspicionQueue = 4096

// sighted is one update's news of what its journey can be suspected of.
type sighted struct {
	sessionID  ID
	suspicions Suspicions
	at         time.Time
}

// suspect hands an update's suspicions to Report. It never blocks: it stands on
// the update's path.
func (s *Service) suspect(id ID, r Receipt) {
	if r.Suspicions == 0 {
		return
	}
	select {
	case s.sighted <- sighted{id, r.Suspicions, r.At}:
	default:
		s.opts.Log.Warn("suspicion dropped", slog.String("session_id", string(id)))
	}
}

// Report raises LocationSuspicious for what updates were suspected of, once a
// journey and verdict, until ctx ends; then for what is still waiting, within a
// bound. Run one in every gateway.
func (s *Service) Report(ctx context.Context) error {
	for {
		select {
		case news := <-s.sighted:
			s.reportUntil(ctx, news)
		case <-ctx.Done():
			s.reportRest(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// reportUntil tries again for as long as the repository is away.
func (s *Service) reportUntil(ctx context.Context, news sighted) {
	for wait := 100 * time.Millisecond; s.report(ctx, news) != nil && ctx.Err() == nil; wait = min(2*wait, 10*time.Second) {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (s *Service) reportRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		select {
		case news := <-s.sighted:
			if s.report(ctx, news) != nil {
				return // away: the rest would fare no better
			}
		default:
			return
		}
	}
}

// report records one event a verdict. The id is made of the journey and the
// verdict, so however often it is seen it is told once.
func (s *Service) report(ctx context.Context, news sighted) error {
	session, err := s.repo.Session(ctx, news.sessionID)
	if err != nil {
		return retryable(err)
	}
	for _, verdict := range news.suspicions.Names() {
		_, err := s.record(ctx, Event{
			ID: SuspicionID(session.ID, session.JourneyStartedAt, verdict), Type: LocationSuspicious,
			SessionID: session.ID, TrainerID: session.TrainerID, StudentID: session.StudentID,
			At: news.at, JourneyStartedAt: session.JourneyStartedAt, Verdict: verdict, Count: 1,
		})
		if err != nil {
			return retryable(err)
		}
	}
	return nil
}

// retryable is err where trying again may help, else nil.
func retryable(err error) error {
	if CodeOf(err) == SessionNotFound {
		return nil
	}
	return err
}
