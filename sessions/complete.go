package sessions

import "context"

// Complete ends the lesson. Errors: SessionNotFound, Forbidden, NotInProgress,
// DatabaseUnavailable.
func (s *Service) Complete(ctx context.Context, c Caller, id ID) (Session, error) {
	if c.Role != Trainer && c.Role != Admin {
		return Session{}, errNotTrainer
	}
	return s.change(ctx, id, func(session *Session) ([]Event, error) {
		if !session.isTrainer(c) && c.Role != Admin {
			return nil, errNotTrainer
		}
		return nil, session.Complete(s.opts.Now())
	})
}
