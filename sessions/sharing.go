package sessions

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"doorstep/geo"
)

const (
	// linkCheckEvery is how often the links are asked about by which somebody waits, and
	// linkHolds how long an answer counts. After that a reader is shown nothing without
	// another question: there is no link while the database is away.
	linkCheckEvery = 400 * time.Millisecond
	linkHolds      = time.Second
	// betweenPolls is how long after the arrival a reader who was between two polls is still told
	// of it. A trainer's app arrives as soon as a fix lets it, which is when its readers have
	// just been answered.
	betweenPolls = 10 * time.Second
	// maxLinkLookUp is how many links one query asks for.
	maxLinkLookUp = 1000
	// linksRoom is how many links are remembered that have opened lately.
	linksRoom = 65_536
)

// errLinkGone is the one answer for every token that shows nothing: of a link that has
// ended, and of what was never a link.
var errLinkGone = Refuse(LinkGone, "this link shows nothing any more")

// sharing is a link with its session.
type sharing struct {
	link    ShareLink
	session Session
}

// opens reports whether a link shows its journey, or waits for it.
func (s *Service) opens(l sharing) bool {
	if l.link.Parties != l.session.Meta().Parties() || l.session.Status != Scheduled {
		return false
	}
	if l.link.JourneyStartedAt.IsZero() {
		return !l.session.JourneyActive() && s.opts.Now().Before(l.link.ExpiresAt(s.opts.JourneyTTL))
	}
	return s.running(l.session) && l.session.JourneyStartedAt.Equal(l.link.JourneyStartedAt)
}

// lastPhase is how the journey of a link has ended that does not open any more. It reports
// false where that is not the reader's to know.
func (s *Service) lastPhase(l sharing) (Phase, bool) {
	j, scheduled := l.link.JourneyStartedAt, l.session.Status == Scheduled
	switch {
	case l.link.Parties != l.session.Meta().Parties(), scheduled && s.running(l.session):
		return "", false
	case j.IsZero() && scheduled, !j.IsZero() && !j.Equal(l.session.JourneyStartedAt):
		return "", false
	case l.session.JourneyActive(): // another service has cancelled the session, or the hour is over
		return Ended, true
	}
	return l.session.Phase(), true
}

// links are the share links by which this process is asked. Safe for concurrent use.
type links struct {
	repo    Repository
	now     func() time.Time // monotonic
	lookUps *lookUps[LinkHash, sharing]
	nudged  chan struct{}

	mu      sync.Mutex
	lately  *simplelru.LRU[LinkHash, struct{}]
	watches map[*LinkWatch]struct{}
}

func newLinks(repo Repository) *links {
	l := &links{repo: repo, now: time.Now, nudged: make(chan struct{}, 1), watches: map[*LinkWatch]struct{}{}}
	l.lookUps = &lookUps[LinkHash, sharing]{max: maxLinkLookUp, look: l.look}
	l.lately, _ = simplelru.NewLRU[LinkHash, struct{}](linksRoom, nil) // fails only for a size of 0 or less
	return l
}

// look asks for links, and then for their sessions: two queries. A journey may start
// between them. Its link, which was read as one that waits, is then read again.
func (l *links) look(ctx context.Context, hashes []LinkHash) (map[LinkHash]sharing, error) {
	found := map[LinkHash]sharing{}
	for range 2 {
		rows, err := l.repo.ShareLinks(ctx, hashes)
		if err != nil || len(rows) == 0 {
			return found, err
		}
		ids := make([]ID, 0, len(rows))
		for _, link := range rows {
			ids = append(ids, link.SessionID)
		}
		list, err := l.repo.Sessions(ctx, ids)
		if err != nil {
			return nil, err
		}
		hashes = nil
		for hash, link := range rows {
			session, ok := list[link.SessionID]
			if !ok {
				continue
			}
			found[hash] = sharing{link, session}
			if link.JourneyStartedAt.IsZero() && session.JourneyActive() {
				hashes = append(hashes, hash)
			}
		}
		if len(hashes) == 0 {
			break
		}
	}
	return found, nil
}

// KnownLink reports, without a query, whether a token has opened a link here lately. Such
// a reader need not wait for the guesses of others.
func (s *Service) KnownLink(token string) bool {
	s.links.mu.Lock()
	defer s.links.mu.Unlock()
	return s.links.lately.Contains(HashLinkToken(token))
}

// Shared is a journey as a link shows it.
type Shared struct {
	sharing
	at time.Time // of the look-up

	elsewhere bool // the session belongs to another region
	// View is the journey when the link was opened.
	View View
}

// Caller is whom the waits by this link count for.
func (s Shared) Caller() Caller { return Caller{ID: s.link.ID, Role: LinkReader} }

// Ref is where the journey is in the live store.
func (s Shared) Ref() Ref { return s.session.Journey().Ref }

// Home is where the journey leads; not valid where it has none.
func (s Shared) Home() geo.Point { return s.session.Home }

// OpenLink opens a share link by its token. A token that opens nothing costs the same
// work, so that it takes as long and fails like one that does while a store is away.
// follows says that the reader has been shown the journey and waits for what is next: for
// some seconds after the arrival that is the arrival.
// Errors: LinkGone, *JourneyOverError where follows, WrongRegion with what WatchLink needs, DatabaseUnavailable, LiveStoreUnavailable.
func (s *Service) OpenLink(ctx context.Context, token string, follows bool) (Shared, error) {
	hash, at := HashLinkToken(token), s.links.now()
	found, ok, err := s.links.lookUps.ask(ctx, hash)
	if err != nil {
		return Shared{}, err
	}
	if !ok || !s.opens(found) {
		s.links.forget(hash)
		_, err := s.live.Latest(ctx, Ref{TrainerID: madeUpID(hash[:16]), SessionID: madeUpID(hash[16:])})
		if err != nil {
			return Shared{}, liveDown(err)
		}
		if follows && ok && s.opts.Now().Sub(found.session.ArrivedAt) < betweenPolls {
			return Shared{}, s.endOf(found)
		}
		return Shared{}, errLinkGone
	}
	shared := Shared{sharing: found, at: at, elsewhere: !found.session.In(s.opts.Region)}
	if err := s.hereLive(ctx, found.session); err != nil {
		s.links.remember(hash)
		return shared, err
	}
	s.served.use(shared.Ref(), found.session.Meta())
	view, err := s.Read(ctx, shared.Ref())
	if err != nil {
		return Shared{}, err
	}
	if shared.View, err = shared.Sees(view); err == nil {
		s.links.remember(hash)
	}
	return shared, err
}

func (l *links) remember(hash LinkHash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lately.Add(hash, struct{}{})
}

func (l *links) forget(hash LinkHash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lately.Remove(hash)
}

// Sees is what the link shows of a view: its own journey, and nothing of one before or
// after it. Errors: LinkGone; LiveStoreUnavailable where the live store does not have that
// journey yet.
func (s sharing) Sees(v View) (View, error) {
	j := s.link.JourneyStartedAt
	switch {
	case v.Degraded, !j.IsZero() && v.Active && v.StartedAt.Before(j):
		return View{}, liveDown(ErrUnavailable)
	case j.IsZero() && v.Active && !v.StartedAt.After(s.session.JourneyStartedAt), // it has ended, and the live store was away
		j.IsZero() && !v.Active && !s.session.JourneyStartedAt.IsZero(): // that was an earlier one
		return View{Ref: v.Ref, Snapshot: Snapshot{Known: true, Version: v.Version, Over: NotStarted, Now: v.Now}}, nil
	case !j.IsZero() && v.Active && v.StartedAt.After(j):
		return View{}, errLinkGone
	}
	return v, nil
}

// LinkWatch is a link while its reader waits.
type LinkWatch struct {
	service *Service
	gone    func(error)

	hash      LinkHash
	sessionID ID

	// Guarded by links.mu.
	sharing
	at time.Time // of the look-up that said so; zero: it must be asked again

	elsewhere bool // the session belonged to another region from the beginning
}

// JourneyOverError is why a link shows nothing any more when its journey has ended.
type JourneyOverError struct{ Phase Phase }

// Error implements error.
func (o *JourneyOverError) Error() string { return "the journey has ended: " + string(o.Phase) }

// WatchLink calls gone, at most once and soon after, when the link does not open any more:
// with a *JourneyOverError where its journey has ended, with WrongRegion where it has started
// in another region, else with LinkGone. gone must not block.
// Close the watch in the end.
func (s *Service) WatchLink(shared Shared, gone func(error)) *LinkWatch {
	w := &LinkWatch{service: s, gone: gone, hash: shared.link.TokenHash, sessionID: shared.link.SessionID, sharing: shared.sharing, at: shared.at, elsewhere: shared.elsewhere}
	s.links.mu.Lock()
	defer s.links.mu.Unlock()
	s.links.watches[w] = struct{}{}
	return w
}

// Close ends the watch.
func (w *LinkWatch) Close() {
	w.service.links.mu.Lock()
	defer w.service.links.mu.Unlock()
	delete(w.service.links.watches, w)
}

// Check is what the reader may be shown of a view after a wait, and the home to which it
// leads now. As a rule it costs no query. Errors: *JourneyOverError, LinkGone, WrongRegion, DatabaseUnavailable,
// LiveStoreUnavailable.
func (w *LinkWatch) Check(ctx context.Context, v View) (View, geo.Point, error) {
	l := w.service.links
	l.mu.Lock()
	now, fresh := w.sharing, !w.at.IsZero() && l.now().Sub(w.at) < linkHolds
	l.mu.Unlock()
	if !fresh {
		found, _, err := l.lookUps.ask(ctx, w.hash)
		if err != nil {
			return View{}, geo.Point{}, err
		}
		if !w.service.opens(found) {
			return View{}, geo.Point{}, w.service.end(ctx, now)
		}
		now = found
	}
	if err := w.service.hereLive(ctx, now.session); err != nil && !w.elsewhere {
		return View{}, geo.Point{}, err
	}
	v, err := now.Sees(v)
	return v, now.session.Home, err
}

// end is why a link does not open any more.
func (s *Service) end(ctx context.Context, last sharing) error {
	session, err := s.repo.Session(ctx, last.link.SessionID)
	switch {
	case CodeOf(err) == DatabaseUnavailable:
		return err
	case err != nil:
		return errLinkGone
	}
	return s.endOf(sharing{last.link, session})
}

func (s *Service) endOf(l sharing) error {
	if phase, over := s.lastPhase(l); over {
		return &JourneyOverError{phase}
	}
	return errLinkGone
}

// changed has the links of a session asked about at once.
func (l *links) changed(session ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.watches {
		if w.sessionID == session {
			w.at = time.Time{}
			select {
			case l.nudged <- struct{}{}:
			default:
			}
		}
	}
}

// KeepLinks asks about the links by which somebody waits, until ctx ends: so a link that
// was ended by way of another gateway, or by a change of the session in the database,
// ends here, too.
func (s *Service) KeepLinks(ctx context.Context) error {
	every := time.NewTicker(linkCheckEvery)
	defer every.Stop()
	failing := false
	for {
		select {
		case <-every.C:
		case <-s.links.nudged:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := s.checkLinks(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			s.opts.Log.WarnContext(ctx, "share links not checked", slog.Any("error", err))
		}
		failing = err != nil
	}
}

func (s *Service) checkLinks(ctx context.Context) error {
	for batch := range slices.Chunk(s.links.watched(), maxLinkLookUp) {
		at := s.links.now()
		hashes := make([]LinkHash, len(batch))
		for i, w := range batch {
			hashes[i] = w.hash
		}
		found, err := s.links.look(ctx, hashes)
		if err != nil {
			return err
		}
		var ended []*LinkWatch
		for _, w := range batch {
			now, ok := found[w.hash]
			switch {
			case !ok || !s.opens(now):
				ended = append(ended, w)
			case !now.session.In(s.opts.Region) && !w.elsewhere:
				s.links.leave(w, s.here(ctx, now.session))
			default:
				s.links.confirm(w, now, at)
			}
		}
		if err := s.endWatches(ctx, ended); err != nil {
			return err
		}
	}
	return nil
}

func (l *links) watched() []*LinkWatch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.watches))
}

func (l *links) confirm(w *LinkWatch, now sharing, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.sharing, w.at = now, at
}

// endWatches ends the watches of links that do not open any more.
func (s *Service) endWatches(ctx context.Context, ended []*LinkWatch) error {
	if len(ended) == 0 {
		return nil
	}
	ids := make([]ID, len(ended))
	for i, w := range ended {
		ids[i] = w.sessionID
	}
	list, err := s.repo.Sessions(ctx, ids)
	if err != nil {
		return err
	}
	for _, w := range ended {
		s.links.mu.Lock()
		last := sharing{w.link, list[w.sessionID]}
		s.links.mu.Unlock()
		s.links.leave(w, s.endOf(last))
	}
	return nil
}

// leave ends a watch.
func (l *links) leave(w *LinkWatch, why error) {
	l.mu.Lock()
	_, open := l.watches[w]
	delete(l.watches, w)
	l.mu.Unlock()
	if open {
		w.gone(why)
	}
}

// madeUpID is an id of bytes that nobody chose.
func madeUpID(b []byte) ID {
	var id uuid.UUID
	copy(id[:], b)
	return ID(id.String())
}
