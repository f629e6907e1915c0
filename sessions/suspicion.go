package sessions

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"doorstep/geo"
	"doorstep/internal/pause"
)

// Suspicions is a set of what a journey can be suspected of: the flags of its
// fixes, and the kinds of refusal. It is stored as the sum of its members.
type Suspicions uint32

// The refusals among the suspicions. The other members are geo.Flags.
const (
	SuspectSpeed   Suspicions = 512
	SuspectCeiling Suspicions = 1024
	SuspectJump    Suspicions = 2048
	// SuspectNoApproach: a journey arrived that was never seen outside the fence.
	// Arrive raises it, and no fix.
	SuspectNoApproach Suspicions = 8192
)

// Names lists the members by the name that they have as an event's verdict.
func (s Suspicions) Names() []string {
	if s == 0 {
		return nil // the usual case, once for each update
	}
	var names []string
	for _, f := range geo.AllFlags() {
		if s&Suspicions(f) != 0 {
			names = append(names, f.String())
		}
	}
	for _, r := range []struct {
		bit     Suspicions
		verdict Verdict
	}{{SuspectSpeed, VerdictSpeed}, {SuspectCeiling, VerdictCeiling}, {SuspectJump, VerdictJump}} {
		if s&r.bit != 0 {
			names = append(names, r.verdict.String())
		}
	}
	if s&SuspectNoApproach != 0 {
		names = append(names, "no_approach")
	}
	return names
}

// VerdictSilent is the verdict of a LocationSuspicious event that no fix raised:
// the journey's phone has sent nothing for too long.
const VerdictSilent = "silent"

// suspicionSpace is the namespace of the ids below. It was drawn once, at random.
var suspicionSpace = uuid.MustParse("6f1b0d1e-5c1f-4a63-9a53-2f1d7a0c9b54")

// SuspicionID is the event id of a suspicion. It is the same whichever process
// raises it, so the repository and every consumer accept one event for each journey
// and verdict.
func SuspicionID(session ID, startedAt time.Time, verdict string) ID {
	name := fmt.Sprintf("%s %d %s", session, startedAt.UnixMilli(), verdict)
	return ID(uuid.NewSHA1(suspicionSpace, []byte(name)).String())
}

// silenceID is the event id of one silence. A phone that sends again and then falls
// silent again is reported again.
func silenceID(key JourneyKey, since time.Time) ID {
	return SuspicionID(key.SessionID, key.StartedAt, fmt.Sprintf("%s %d", VerdictSilent, since.UnixMilli()))
}

// suspicionQueue is how many updates with new suspicions may wait for their report.
// A phone raises a few in a journey, so the queue fills only while the repository
// is away. Further suspicions are then dropped and logged: the outbox guarantees
// the events about starts and ends, not those about suspicions.
const suspicionQueue = 4096

// suspected is the new suspicions that one update has raised.
type suspected struct {
	sessionID  ID
	suspicions Suspicions
	at         time.Time
}

// suspect hands an update's suspicions to Report. It does not block, because the
// update waits for it.
func (s *Service) suspect(id ID, r Receipt) {
	if r.Suspicions == 0 {
		return
	}
	select {
	case s.suspected <- suspected{id, r.Suspicions, r.At}:
	default:
		s.opts.Log.Warn("suspicion dropped", slog.String("session_id", string(id)))
	}
}

// Report raises LocationSuspicious for the suspicions of updates, once for each
// journey and verdict, until ctx ends. Then it reports what is still waiting, for at
// most two seconds. Run one in every gateway.
func (s *Service) Report(ctx context.Context) error {
	for {
		select {
		case news := <-s.suspected:
			s.reportUntil(ctx, news)
		case <-ctx.Done():
			s.reportRest(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// reportUntil tries again for as long as the repository is away.
func (s *Service) reportUntil(ctx context.Context, news suspected) {
	for wait := 100 * time.Millisecond; s.report(ctx, news) != nil && ctx.Err() == nil; wait = min(2*wait, 10*time.Second) {
		_ = pause.For(ctx, wait)
	}
}

func (s *Service) reportRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		select {
		case news := <-s.suspected:
			if s.report(ctx, news) != nil {
				return // the repository is away: the rest would fail too
			}
		default:
			return
		}
	}
}

// report records one event for each verdict. The event's id is made of the journey
// and the verdict, so a repeated suspicion is stored once.
func (s *Service) report(ctx context.Context, news suspected) error {
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

// retryable is err where another try may help, otherwise nil.
func retryable(err error) error {
	if CodeOf(err) == SessionNotFound {
		return nil
	}
	return err
}
