package consumers

import (
	"context"

	"doorstep/sessions"
)

// CleanUp removes a journey's coordinates from the live store once it has ended. The
// gateway that ended it has tried that already; this is for when it could not, or died.
//
// Repeats and late events change nothing: the handler reads which journey is the
// session's last, and the end of an older journey does not end that one.
type CleanUp struct {
	sessions Sessions
	live     Ends
	region   string
}

// Sessions is the part of the repository where a handler reads the session as it is now.
type Sessions interface {
	Session(ctx context.Context, id sessions.ID) (sessions.Session, error)
}

// Ends is the part of sessions.Live that the clean-up calls.
type Ends interface {
	End(ctx context.Context, j sessions.Journey) error
	Open(ctx context.Context, j sessions.Journey) (bool, error)
}

// NewCleanUp makes the consumer for the live store of a region; empty without regions.
func NewCleanUp(s Sessions, live Ends, region string) *CleanUp { return &CleanUp{s, live, region} }

// Handle ends the event's journey. When a newer journey of the session is running, it opens
// that one instead: in a live store that has lost it, the tombstone of the old journey
// would refuse its fixes. A journey of another region is left to that one's Reconciler.
func (c *CleanUp) Handle(ctx context.Context, e sessions.Event) error {
	if e.Type != sessions.JourneyEnded {
		return nil
	}
	ended := sessions.Journey{
		Ref: sessions.Ref{TrainerID: e.TrainerID, SessionID: e.SessionID}, StartedAt: e.JourneyStartedAt, Phase: sessions.Ended,
	}
	session, err := c.sessions.Session(ctx, e.SessionID)
	switch {
	case sessions.CodeOf(err) == sessions.SessionNotFound: // an operator may delete rows
		return c.live.End(ctx, ended)
	case err != nil:
		return err
	case !session.In(c.region):
		return nil
	case session.JourneyStartedAt.Before(e.JourneyStartedAt):
		return c.live.End(ctx, ended)
	case session.JourneyStartedAt.Equal(e.JourneyStartedAt):
		ended.Phase = session.Phase()
		return c.live.End(ctx, ended)
	case session.JourneyActive():
		newer := session.Journey()
		newer.Restored = true
		_, err = c.live.Open(ctx, newer)
		return err
	default:
		return c.live.End(ctx, session.Journey())
	}
}
