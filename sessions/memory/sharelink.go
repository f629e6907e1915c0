package memory

import (
	"cmp"
	"context"
	"slices"

	"doorstep/sessions"
)

// PutShareLink implements sessions.ShareLinks.
func (r *Repository) PutShareLink(
	ctx context.Context, sessionID sessions.ID, rotate bool, f func(sessions.Session) (sessions.ShareLink, error),
) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[sessionID]
	if !ok {
		return sessions.Refuse(sessions.SessionNotFound, "no such session")
	}
	link, err := f(s)
	if err != nil {
		return err
	}
	link.CreatedAt, link.JourneyStartedAt = ms(link.CreatedAt), ms(link.JourneyStartedAt)
	all := r.linksOf(sessionID)
	kept := slices.DeleteFunc(slices.Clone(all), func(l sessions.ShareLink) bool {
		return rotate || l.Parties != link.Parties || !l.JourneyStartedAt.Equal(link.JourneyStartedAt)
	})
	if len(kept) >= sessions.MaxShareLinks {
		return sessions.Refuse(sessions.TooManyShareLinks, "the session has five share links; delete one, or rotate")
	}
	r.endLinks(sessionID)
	for _, l := range append(kept, link) {
		r.links[l.TokenHash] = l
	}
	r.audit(sessions.AuditLink(s, sessions.AuditLinkMade, len(all)-len(kept), sessions.ActorOf(ctx)))
	return nil
}

// ShareLinks implements sessions.ShareLinks.
func (r *Repository) ShareLinks(_ context.Context, hashes []sessions.LinkHash) (map[sessions.LinkHash]sessions.ShareLink, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return some(r.links, hashes), nil
}

// ShareLinksOf implements sessions.ShareLinks.
func (r *Repository) ShareLinksOf(_ context.Context, sessionID sessions.ID) ([]sessions.ShareLink, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.linksOf(sessionID), nil
}

func (r *Repository) linksOf(sessionID sessions.ID) []sessions.ShareLink {
	return sorted(r.links, func(l sessions.ShareLink) bool { return l.SessionID == sessionID }, func(a, b sessions.ShareLink) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

// DeleteShareLink implements sessions.ShareLinks.
func (r *Repository) DeleteShareLink(ctx context.Context, s sessions.Session, id sessions.ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for hash, l := range r.links {
		if l.ID == id && l.SessionID == s.ID {
			delete(r.links, hash)
			r.audit(sessions.AuditLink(s, sessions.AuditLinkEnded, 0, sessions.ActorOf(ctx)))
		}
	}
	return nil
}

func (r *Repository) endLinks(sessionID sessions.ID) {
	for _, l := range r.linksOf(sessionID) {
		delete(r.links, l.TokenHash)
	}
}

// changeLinks does to the links of a session what its change asks for.
func (r *Repository) changeLinks(before, after sessions.Session, events []sessions.Event) {
	switch sessions.LinksAfter(before, after) {
	case sessions.LinksStay:
	case sessions.LinksEnd:
		r.endLinks(before.ID)
	case sessions.LinksBegin:
		for _, l := range r.linksOf(before.ID) {
			if l.JourneyStartedAt.IsZero() {
				l.JourneyStartedAt = after.JourneyStartedAt
				r.links[l.TokenHash] = l
			} else {
				delete(r.links, l.TokenHash)
			}
		}
	}
	for _, e := range events {
		if e.Link != nil {
			r.links[e.Link.TokenHash] = *e.Link
		}
	}
}
