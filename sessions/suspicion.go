package sessions

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"doorstep/geo"
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
	return journeyEventID(suspicionSpace, JourneyKey{session, startedAt}, verdict)
}

// journeyEventID is the id of an event that a journey has once, by its name in a
// namespace.
func journeyEventID(space uuid.UUID, key JourneyKey, name string) ID {
	text := fmt.Sprintf("%s %d %s", key.SessionID, key.StartedAt.UnixMilli(), name)
	return ID(uuid.NewSHA1(space, []byte(text)).String())
}

// silenceID is the event id of one silence. A phone that sends again and then falls
// silent again is reported again.
func silenceID(key JourneyKey, since time.Time) ID {
	return SuspicionID(key.SessionID, key.StartedAt, fmt.Sprintf("%s %d", VerdictSilent, since.UnixMilli()))
}

// suspect hands an update's suspicions to Report.
func (s *Service) suspect(id ID, r Receipt) {
	if r.Suspicions != 0 && !s.tell(news{sessionID: id, suspicions: r.Suspicions, at: r.At}) {
		s.opts.Log.Warn("suspicion dropped", slog.String("session_id", string(id)))
	}
}

// reportSuspicions records one event for each verdict. The event's id is made of the
// journey and the verdict, so a repeated suspicion is stored once.
func (s *Service) reportSuspicions(ctx context.Context, n news) error {
	session, err := s.repo.Session(ctx, n.sessionID)
	if err != nil {
		return retryable(err)
	}
	for _, verdict := range n.suspicions.Names() {
		e := session.event(LocationSuspicious, n.at)
		e.ID = SuspicionID(session.ID, session.JourneyStartedAt, verdict)
		e.Verdict, e.Count = verdict, 1
		if _, err := s.record(ctx, e); err != nil {
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
