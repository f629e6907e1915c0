package consumers

import (
	"context"

	"doorstep/sessions"
)

// CleanUp takes a journey's coordinates out of the live store once it has
// ended. The gateway that ended it has tried that already; this is for when it
// could not, or died.
//
// Repeats, and events that come late, change nothing: which journey is the
// session's last is asked, and an older one's end is none of that one's.
type CleanUp struct {
	sessions Sessions
	live     Ends
}

// Sessions is where a handler reads what is so.
type Sessions interface {
	Session(ctx context.Context, id sessions.ID) (sessions.Session, error)
}

// Ends is the part of sessions.Live that the clean-up calls.
type Ends interface {
	End(ctx context.Context, j sessions.Journey) error
	Open(ctx context.Context, j sessions.Journey) (bool, error)
}

// NewCleanUp makes one.
func NewCleanUp(s Sessions, live Ends) *CleanUp { return &CleanUp{s, live} }

// Handle ends the journey that the event tells of. When a newer one of the
// session is running, it makes sure of that one instead: in a live store that
// has lost it, the mark of the old journey's end would turn its fixes away.
func (c *CleanUp) Handle(ctx context.Context, e sessions.Event) error {
	if e.Type != sessions.JourneyEnded {
		return nil
	}
	ended := sessions.Journey{
		Ref: sessions.Ref{TrainerID: e.TrainerID, SessionID: e.SessionID}, StartedAt: e.JourneyStartedAt,
	}
	session, err := c.sessions.Session(ctx, e.SessionID)
	switch {
	case sessions.CodeOf(err) == sessions.SessionNotFound: // the house deletes its rows
		return c.live.End(ctx, ended)
	case err != nil:
		return err
	case !session.JourneyStartedAt.After(e.JourneyStartedAt):
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
