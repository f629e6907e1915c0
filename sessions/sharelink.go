package sessions

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"time"
)

const (
	// MaxShareLinks is how many share links a session may have.
	MaxShareLinks = 5
	// ShareLinkWaits is how long a share link waits for a journey to begin.
	ShareLinkWaits = 30 * 24 * time.Hour
)

// SharePath is what stands between a gateway's public URL and a link's token.
const SharePath = "/t#"

// LinkHash is the SHA-256 of a share link's token, and what a repository finds it by.
type LinkHash = [sha256.Size]byte

// HashLinkToken hashes what a reader sends as a share link's token, whatever that is.
func HashLinkToken(token string) LinkHash { return sha256.Sum256([]byte(token)) }

// EventLinkToken is the token of the link of an event. It is made of the link's id, so
// that an event that waits to be published need not hold it.
func EventLinkToken(key []byte, id ID) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("share link " + id))
	return base32.StdEncoding.EncodeToString(mac.Sum(nil))[:26] // as long as rand.Text
}

// ShareLink lets whoever has its token watch one journey: that of JourneyStartedAt, or
// while that is zero the session's next. It ends with the journey, and when the session
// gets another trainer or student.
type ShareLink struct {
	ID        ID
	SessionID ID
	Parties   Meta // of the session when the link was made
	TokenHash LinkHash
	CreatedAt time.Time
	// JourneyStartedAt is set when the journey starts; zero before.
	JourneyStartedAt time.Time
}

// ExpiresAt is when the link ends at the latest. ttl is the longest journey.
func (l ShareLink) ExpiresAt(ttl time.Duration) time.Time {
	if l.JourneyStartedAt.IsZero() {
		return l.CreatedAt.Add(ShareLinkWaits)
	}
	return l.JourneyStartedAt.Add(ttl)
}

// ShareLinks is the part of the Repository that keeps share links. Every change of a
// session, in whichever method, does to its links what LinksAfter says, and stores the
// links of its events (Event.Link), in its own transaction.
type ShareLinks interface {
	// PutShareLink locks the session, calls f once with it, and stores the link that f
	// returns, with its entry (AuditLink). With rotate it deletes the session's other links; in any case those of
	// another journey or of other parties than the new one's. When f fails nothing is
	// stored, and PutShareLink returns f's error as it is. Errors: SessionNotFound;
	// TooManyShareLinks, where the session has MaxShareLinks.
	PutShareLink(ctx context.Context, sessionID ID, rotate bool, f func(Session) (ShareLink, error)) error
	// ShareLinks reads the links with these hashes; one that does not exist has no entry.
	ShareLinks(ctx context.Context, hashes []LinkHash) (map[LinkHash]ShareLink, error)
	// ShareLinksOf lists a session's links, the latest first.
	ShareLinksOf(ctx context.Context, sessionID ID) ([]ShareLink, error)
	// DeleteShareLink deletes a link if it is that session's, and stores the entry.
	DeleteShareLink(ctx context.Context, s Session, id ID) error
}

// LinkChange is what becomes of a session's share links when the session changes.
type LinkChange int

// The changes.
const (
	LinksStay  LinkChange = iota
	LinksBegin            // a journey starts: the links that waited for it are now its own; others end
	LinksEnd
)

// LinksAfter says what becomes of the share links of a session that has changed.
func LinksAfter(before, after Session) LinkChange {
	arrived := before.Status == Scheduled && after.Status == PendingVerification
	switch {
	case before.Meta().Parties() != after.Meta().Parties():
		return LinksEnd
	case arrived: // they open no more, but tell who was between two polls: see OpenLink
		return LinksStay
	case before.Status == Scheduled && after.Status != Scheduled,
		before.Status == PendingVerification && after.Status != PendingVerification,
		before.JourneyActive() && !after.JourneyActive(),
		before.JourneyEndReason == "" && after.JourneyEndReason != "": // the end was another service's
		return LinksEnd
	case after.JourneyActive() && !after.JourneyStartedAt.Equal(before.JourneyStartedAt):
		return LinksBegin
	}
	return LinksStay
}

// CreateShareLink makes a share link of a session, and with rotate ends the others. The
// token is told here and never again. Errors: Forbidden, SessionNotFound, NotScheduled,
// TooManyShareLinks, DatabaseUnavailable.
func (s *Service) CreateShareLink(ctx context.Context, c Caller, id ID, rotate bool) (link ShareLink, token string, err error) {
	token = rand.Text() // at least 128 bits, as letters and digits
	err = s.repo.PutShareLink(actingFor(context.WithoutCancel(ctx), c), id, rotate, func(session Session) (ShareLink, error) {
		switch {
		case !session.sharedBy(c):
			return ShareLink{}, errNotSharer
		case session.Status != Scheduled:
			return ShareLink{}, Refuse(NotScheduled, "the session is "+string(session.Status)+", not scheduled")
		case session.JourneyActive() && !s.running(session):
			return ShareLink{}, Refuse(NotScheduled, "the journey has lasted too long and is being ended")
		}
		link = s.newLink(session)
		link.TokenHash = HashLinkToken(token)
		return link, nil
	})
	if rotate {
		s.links.changed(id)
	}
	return link, token, err
}

func (s *Service) newLink(session Session) ShareLink {
	l := ShareLink{ID: NewID(), SessionID: session.ID, Parties: session.Meta().Parties(), CreatedAt: ms(s.opts.Now())}
	if session.JourneyActive() {
		l.JourneyStartedAt = session.JourneyStartedAt
	}
	return l
}

// withLink gives the event of a start its link, where events have one.
func (s *Service) withLink(session Session, events []Event) {
	for i := range events {
		if events[i].Type == JourneyStarted && len(s.opts.EventLinks) > 0 {
			link := s.newLink(session)
			link.TokenHash = HashLinkToken(EventLinkToken(s.opts.EventLinks, link.ID))
			events[i].Link = &link
		}
	}
}

// ShareLinksOf lists the share links of a session that open, the latest first. Errors:
// Forbidden, SessionNotFound, DatabaseUnavailable.
func (s *Service) ShareLinksOf(ctx context.Context, c Caller, id ID) ([]ShareLink, error) {
	session, err := s.shareable(ctx, c, id)
	if err != nil {
		return nil, err
	}
	list, err := s.repo.ShareLinksOf(ctx, id)
	var open []ShareLink
	for _, link := range list {
		if s.opens(sharing{link, session}) {
			open = append(open, link)
		}
	}
	return open, err
}

// DeleteShareLink ends a share link: at once on this gateway, on others within
// linkCheckEvery. For a link that is not the session's it does nothing and returns no
// error. Errors: Forbidden, SessionNotFound, DatabaseUnavailable.
func (s *Service) DeleteShareLink(ctx context.Context, c Caller, id, link ID) error {
	session, err := s.shareable(ctx, c, id)
	if err != nil {
		return err
	}
	err = s.repo.DeleteShareLink(actingFor(context.WithoutCancel(ctx), c), session, link)
	s.links.changed(id)
	return err
}

func (s *Service) shareable(ctx context.Context, c Caller, id ID) (Session, error) {
	session, err := s.repo.Session(ctx, id)
	if err == nil && !session.sharedBy(c) {
		err = errNotSharer
	}
	return session, err
}

// sharedBy reports whether c may share the session's journey: its student, or an admin.
func (s Session) sharedBy(c Caller) bool {
	return c.Has(Admin) || c.Has(Student) && c.ID == s.StudentID
}

var errNotSharer = Refuse(Forbidden, "only the session's student or an admin may share its journey")

// LinkExpiry is when a link ends at the latest.
func (s *Service) LinkExpiry(l ShareLink) time.Time { return l.ExpiresAt(s.opts.JourneyTTL) }
