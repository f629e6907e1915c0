package sessions

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// In reports whether the session's journeys are in the live store of a region: of the one
// given, the empty one of an installation without regions. A session whose region is not
// decided yet is in each.
func (s Session) In(region string) bool {
	return region == "" || s.Region == "" || s.Region == region
}

// ValidRegion reports whether a text can name a region: 1 to 32 lower-case letters, digits
// and hyphens.
func ValidRegion(name string) bool {
	return name != "" && len(name) <= 32 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// checkPin checks the region of a booking; empty for none.
func (s *Service) checkPin(region string) error {
	switch {
	case region == "" || slices.Contains(s.opts.Regions, region):
		return nil
	case len(s.opts.Regions) == 0:
		return InvalidField("region", "region cannot be said here: this installation has no regions")
	}
	return InvalidField("region", "region must be one of "+strings.Join(s.opts.Regions, ", "))
}

type awayKey struct{}

// WithRegionAway marks calls for sessions of a region that cannot be reached from here. The
// service then answers as if their live store were away: updates are ErrUnavailable, reads
// are degraded, and transitions change the repository alone. Their own region brings its
// live store to agree.
func WithRegionAway(ctx context.Context) context.Context {
	return context.WithValue(ctx, awayKey{}, true)
}

// RegionAway reports whether WithRegionAway was called.
func RegionAway(ctx context.Context) bool { return ctx.Value(awayKey{}) != nil }

// here refuses a call for a session of another region, unless that is away: WrongRegion. It notes
// where the session, which has just been read, belongs.
func (s *Service) here(ctx context.Context, session Session) error {
	if session.In(s.opts.Region) {
		if _, known := s.Elsewhere(session.ID); known {
			s.elsewhere.forget(session.ID)
		}
		return nil
	}
	s.elsewhere.put(session.ID, session.Region, s.opts.Now())
	if RegionAway(ctx) {
		return nil
	}
	return wrongRegion(session.Region)
}

// hereLive is here for a call that needs the live store.
func (s *Service) hereLive(ctx context.Context, session Session) error {
	if err := s.here(ctx, session); err != nil || session.In(s.opts.Region) {
		return err
	}
	return liveDown(errElsewhere)
}

// Here checks that the running journey of a device's trainer, if there is one, belongs to
// this region. It asks no store. Errors: WrongRegion, LiveStoreUnavailable.
func (s *Service) Here(ctx context.Context, r Reporter) error {
	return s.hereLive(ctx, Session{ID: r.SessionID, Region: r.Region})
}

// hereByID is hereLive for a session that has not been read: it refuses where the session
// was found in another region lately, at the cost of one look-up in a map.
func (s *Service) hereByID(ctx context.Context, id ID) error {
	region, elsewhere := s.Elsewhere(id)
	switch {
	case !elsewhere:
		return nil
	case RegionAway(ctx):
		return liveDown(errElsewhere)
	}
	return wrongRegion(region)
}

// Elsewhere is the other region to which a session was found to belong, less than a minute
// ago. It costs one look-up in a map, and nothing without regions.
func (s *Service) Elsewhere(id ID) (region string, known bool) {
	if s.opts.Region == "" {
		return "", false
	}
	return s.elsewhere.get(id, s.opts.Now)
}

// BackHere reports whether a session belongs to this region that is remembered to belong to
// another one: its booking has been moved. It asks the repository, where anything is remembered.
func (s *Service) BackHere(ctx context.Context, id ID) bool {
	if _, known := s.Elsewhere(id); !known {
		return false
	}
	session, err := s.repo.Session(ctx, id)
	return err == nil && s.here(ctx, session) == nil
}

var errElsewhere = unavailableError("the session belongs to another region, which is away")

type unavailableError string

func (e unavailableError) Error() string { return string(e) }
func (unavailableError) Unwrap() error   { return ErrUnavailable }

func wrongRegion(region string) error {
	return &Error{Code: WrongRegion, Message: "the session belongs to region " + region, Region: region}
}

// moved notes that a session, whose journey was looked for here, belongs to another region.
// Those who wait for it here are told.
func (s *Service) moved(ctx context.Context, session Session) error {
	s.elsewhere.put(session.ID, session.Region, s.opts.Now())
	s.parties.put(session.ID, session.Meta(), s.opts.Now())
	s.links.changed(session.ID)
	ref := session.Journey().Ref
	if s.opts.OnElsewhere != nil {
		s.opts.OnElsewhere(ref)
	}
	return s.live.SetMeta(ctx, session.ID, session.Meta())
}

const (
	// elsewhereFor is how long it is remembered that a session belongs to another region.
	// Only a change of the booking's region, before the first start, makes that wrong.
	elsewhereFor = time.Minute
	// elsewhereRoom is the largest number of sessions remembered: some 20 MB. When it is
	// full all are forgotten, and asked for anew.
	elsewhereRoom = 131_072
)

// elsewhere remembers the sessions that were found to belong to other regions. Safe for
// concurrent use.
type elsewhere struct {
	mu       sync.RWMutex
	sessions map[ID]elsewhereSeen
}

type elsewhereSeen struct {
	region string
	at     time.Time
}

func newElsewhere() *elsewhere { return &elsewhere{sessions: map[ID]elsewhereSeen{}} }

func (e *elsewhere) get(id ID, now func() time.Time) (string, bool) {
	e.mu.RLock()
	seen, ok := e.sessions[id]
	e.mu.RUnlock()
	if !ok || age(seen.at, now()) >= elsewhereFor {
		return "", false
	}
	return seen.region, true
}

func (e *elsewhere) put(id ID, region string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sessions) >= elsewhereRoom {
		clear(e.sessions)
	}
	e.sessions[id] = elsewhereSeen{region, now}
}

func (e *elsewhere) forget(id ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, id)
}
