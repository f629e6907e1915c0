package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"doorstep/sessions"
)

// Repository is the store of record in process memory. postgres.Repository must agree
// with it. Nothing outlives the process. Safe for concurrent use.
type Repository struct {
	mu       sync.Mutex
	now      func() time.Time // of entries of histories
	sessions map[sessions.ID]sessions.Session
	onEvent  func(sessions.Event)
	records
}

var _ sessions.Repository = (*Repository)(nil)

// NewRepository makes an empty repository. onEvent, when not nil, is called with each
// event after the change that raised it, in order, and under the repository's lock:
// it must not block, and must not call the repository. The repository keeps no event
// itself; outbox.Memory.Record keeps it until it is published.
func NewRepository(onEvent func(sessions.Event)) *Repository {
	return NewRepositoryAt(time.Now, onEvent)
}

// NewRepositoryAt is NewRepository with a clock of the repository's own.
func NewRepositoryAt(now func() time.Time, onEvent func(sessions.Event)) *Repository {
	return &Repository{now: now, sessions: map[sessions.ID]sessions.Session{}, onEvent: onEvent, records: newRecords()}
}

// Create implements sessions.Repository.
func (r *Repository) Create(ctx context.Context, s sessions.Session) (sessions.Session, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.create(ctx, s)
}

func (r *Repository) create(ctx context.Context, s sessions.Session) (sessions.Session, bool, error) {
	s = inMilliseconds(s)
	if old, ok := r.sessions[s.ID]; ok {
		if !sessions.BookedAgain(old, s) {
			return sessions.Session{}, false, sessions.Refuse(sessions.SessionConflict, "a session with this id is booked otherwise")
		}
		return old, false, nil
	}
	r.sessions[s.ID] = s
	r.audit(sessions.AuditOf(sessions.Session{}, s, nil, sessions.ActorOf(ctx))...)
	return s, true, nil
}

// CreateOnce implements sessions.Repository.
func (r *Repository) CreateOnce(ctx context.Context, key sessions.BookingKey, s sessions.Session) (sessions.Session, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, used := range r.keys {
		if key.At.Sub(used.at) >= sessions.KeysFor {
			delete(r.keys, k)
		}
	}
	name := [2]string{string(key.CallerID), key.Key}
	if used, ok := r.keys[name]; ok {
		old, ok := r.sessions[used.session]
		if !ok || used.bodyHash != key.BodyHash {
			return sessions.Session{}, false, sessions.Refuse(sessions.SessionConflict, "the key was used for another booking")
		}
		return old, false, nil
	}
	stored, created, err := r.create(ctx, s)
	if err == nil {
		r.keys[name] = usedKey{key.BodyHash, stored.ID, ms(key.At)}
	}
	return stored, created, err
}

// Session implements sessions.Repository.
func (r *Repository) Session(_ context.Context, id sessions.ID) (sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[id]
	if !ok {
		return sessions.Session{}, sessions.Refuse(sessions.SessionNotFound, "no such session")
	}
	return s, nil
}

// Sessions implements sessions.Repository.
func (r *Repository) Sessions(_ context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[sessions.ID]sessions.Session{}
	for _, id := range ids {
		if s, ok := r.sessions[id]; ok {
			found[id] = s
		}
	}
	return found, nil
}

// EndedSince implements sessions.Repository.
func (r *Repository) EndedSince(_ context.Context, at time.Time, after sessions.ID, limit int) ([]sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []sessions.Session
	for _, s := range r.sessions {
		if !s.JourneyEndedAt.IsZero() && cmp.Or(s.JourneyEndedAt.Compare(at), cmp.Compare(s.ID, after)) > 0 {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b sessions.Session) int {
		return cmp.Or(a.JourneyEndedAt.Compare(b.JourneyEndedAt), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), limit)], nil
}

// List implements sessions.Repository.
func (r *Repository) List(_ context.Context, q sessions.SessionQuery) ([]sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	latestFirst := func(a, b sessions.Session) int {
		return cmp.Or(b.ScheduledAt.Compare(a.ScheduledAt), cmp.Compare(b.ID, a.ID))
	}
	last := sessions.Session{ScheduledAt: q.After.At, ID: q.After.ID}
	return r.page(q.Limit, latestFirst, func(s sessions.Session) bool {
		return q.Matches(s) && (last.ID == "" || latestFirst(s, last) > 0)
	}), nil
}

// RunningPage implements sessions.Repository.
func (r *Repository) RunningPage(_ context.Context, trainerID sessions.ID, after sessions.Cursor, limit int) ([]sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := sessions.Session{JourneyStartedAt: after.At, ID: after.ID}
	return r.page(limit, longestFirst, func(s sessions.Session) bool {
		return s.JourneyActive() && (trainerID == "" || s.TrainerID == trainerID) && (last.ID == "" || longestFirst(s, last) > 0)
	}), nil
}

func longestFirst(a, b sessions.Session) int {
	return cmp.Or(a.JourneyStartedAt.Compare(b.JourneyStartedAt), cmp.Compare(a.ID, b.ID))
}

// page is the first sessions of those asked for, in an order.
func (r *Repository) page(limit int, order func(a, b sessions.Session) int, asked func(sessions.Session) bool) []sessions.Session {
	var list []sessions.Session
	for _, s := range r.sessions {
		if asked(s) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, order)
	return list[:min(len(list), limit)]
}

// Change implements sessions.Repository. Changes that f makes to
// the booking are dropped.
func (r *Repository) Change(ctx context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error)) (sessions.Session, error) {
	return r.change(ctx, id, f, sessions.AsBooked)
}

// Rebook implements sessions.Repository.
func (r *Repository) Rebook(ctx context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error)) (sessions.Session, error) {
	return r.change(ctx, id, f, func(changed, old sessions.Session) sessions.Session {
		changed.ID, changed.CreatedAt = old.ID, old.CreatedAt
		return changed
	})
}

func (r *Repository) change(
	ctx context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error), kept func(changed, old sessions.Session) sessions.Session,
) (sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[id]
	if !ok {
		return sessions.Session{}, sessions.Refuse(sessions.SessionNotFound, "no such session")
	}
	changed := s
	events, err := f(&changed)
	if err != nil {
		return s, err
	}
	changed = inMilliseconds(kept(changed, s))
	if _, busy := r.running(changed.TrainerID); busy && changed.JourneyActive() && !s.JourneyActive() {
		return s, sessions.Refuse(sessions.TrainerBusy, "another journey of this trainer is running")
	}
	r.sessions[id] = changed
	r.changeLinks(s, changed, events)
	if changed != s || len(events) > 0 {
		r.audit(sessions.AuditOf(s, changed, events, sessions.ActorOf(ctx))...)
	}
	if r.onEvent != nil {
		for _, e := range events {
			r.onEvent(e)
		}
	}
	return changed, nil
}

// running scans all sessions, once for each start: an embedded repository has few.
func (r *Repository) running(trainer sessions.ID) (sessions.Session, bool) {
	for _, s := range r.sessions {
		if s.TrainerID == trainer && s.JourneyActive() {
			return s, true
		}
	}
	return sessions.Session{}, false
}

// RunningOf implements sessions.Repository.
func (r *Repository) RunningOf(_ context.Context, trainerID sessions.ID) (sessions.Session, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.running(trainerID)
	return s, ok, nil
}

// inMilliseconds truncates every instant to what a store of record keeps.
func inMilliseconds(s sessions.Session) sessions.Session {
	for _, t := range []*time.Time{
		&s.ScheduledAt, &s.CreatedAt, &s.JourneyStartedAt, &s.JourneyEndedAt, &s.ArrivedAt,
		&s.OTPExpiresAt, &s.Codes.ResentAt, &s.StartedAt, &s.CompletedAt, &s.ClosedAt, &s.StartsSince, &s.HomeMovedAt,
	} {
		*t = ms(*t)
	}
	return s
}

// maxPushTokens is how many devices a user may have. A further one replaces the one
// that was registered longest ago.
const maxPushTokens = 10

// records is what a Repository keeps besides the sessions. Repository.mu guards it.
type records struct {
	recorded   map[sessions.ID]time.Time // events' ids, and when they were recorded
	reviews    map[sessions.ID]sessions.Review
	ratings    map[sessions.ID]sessions.Rating
	pushTokens map[string]sessions.PushToken
	devices    map[sessions.ID]sessions.Device
	links      map[sessions.LinkHash]sessions.ShareLink
	journeys   map[sessions.JourneyKey]sessions.JourneyRecord
	keys       map[[2]string]usedKey // by caller and key
	audits     audits
}

type usedKey struct {
	bodyHash string
	session  sessions.ID
	at       time.Time
}

func newRecords() records {
	return records{
		recorded: map[sessions.ID]time.Time{}, reviews: map[sessions.ID]sessions.Review{}, ratings: map[sessions.ID]sessions.Rating{},
		pushTokens: map[string]sessions.PushToken{}, devices: map[sessions.ID]sessions.Device{}, links: map[sessions.LinkHash]sessions.ShareLink{}, journeys: map[sessions.JourneyKey]sessions.JourneyRecord{},
		keys: map[[2]string]usedKey{}, audits: newAudits(),
	}
}

// Record implements sessions.Repository.
func (r *Repository) Record(ctx context.Context, e sessions.Event) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	session, ok := r.sessions[e.SessionID]
	if !ok {
		return false, sessions.Refuse(sessions.SessionNotFound, "no such session")
	}
	if _, ok := r.recorded[e.ID]; ok || !e.RecordedFor(session) {
		return false, nil
	}
	r.recorded[e.ID] = time.Now()
	r.audit(sessions.AuditEvent(e, sessions.ActorOf(ctx)))
	if r.onEvent != nil {
		r.onEvent(e)
	}
	return true, nil
}

// Running implements sessions.Repository.
func (r *Repository) Running(_ context.Context, startedBy time.Time, after sessions.JourneyKey, limit int) ([]sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := sessions.Session{JourneyStartedAt: after.StartedAt, ID: after.SessionID}
	return r.page(limit, longestFirst, func(s sessions.Session) bool {
		return s.JourneyActive() && !s.JourneyStartedAt.After(startedBy) && longestFirst(s, last) > 0
	}), nil
}

// Review implements sessions.Repository.
func (r *Repository) Review(ctx context.Context, id sessions.ID, f func(sessions.Session) (sessions.Review, error)) (sessions.Rating, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[id]
	if !ok {
		return sessions.Rating{}, sessions.Refuse(sessions.SessionNotFound, "no such session")
	}
	review, err := f(s)
	if err != nil {
		return sessions.Rating{}, err
	}
	if _, ok := r.reviews[id]; ok {
		return sessions.Rating{}, sessions.Refuse(sessions.AlreadyReviewed, "the session has been reviewed already")
	}
	review.At = ms(review.At)
	r.reviews[id] = review
	r.audit(sessions.AuditReview(s, review, sessions.ActorOf(ctx)))
	rating := r.ratings[review.TrainerID]
	rating.Sum, rating.Count = rating.Sum+int64(review.Stars), rating.Count+1
	r.ratings[review.TrainerID] = rating
	return rating, nil
}

// ReviewOf implements sessions.Repository.
func (r *Repository) ReviewOf(_ context.Context, id sessions.ID) (sessions.Review, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	review, ok := r.reviews[id]
	return review, ok, nil
}

// Rating implements sessions.Repository.
func (r *Repository) Rating(_ context.Context, trainerID sessions.ID) (sessions.Rating, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ratings[trainerID], nil
}

// PutPushToken implements sessions.PushTokens.
func (r *Repository) PutPushToken(_ context.Context, t sessions.PushToken) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.RegisteredAt = ms(t.RegisteredAt)
	t.LastUsedAt = t.RegisteredAt
	// The token that is registered now stays, whatever the times of the others are.
	delete(r.pushTokens, t.Token)
	if others := r.pushTokensOf(t.UserID); len(others) >= maxPushTokens {
		for _, old := range others[maxPushTokens-1:] {
			delete(r.pushTokens, old.Token)
		}
	}
	r.pushTokens[t.Token] = t
	return nil
}

// PushTokenUsed implements sessions.PushTokens.
func (r *Repository) PushTokenUsed(_ context.Context, userID sessions.ID, token string, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.pushTokens[token]; t.UserID == userID && ms(at).After(t.LastUsedAt) {
		t.LastUsedAt = ms(at)
		r.pushTokens[token] = t
	}
	return nil
}

// DeletePushToken implements sessions.PushTokens.
func (r *Repository) DeletePushToken(_ context.Context, userID sessions.ID, token string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pushTokens[token].UserID == userID {
		delete(r.pushTokens, token)
	}
	return nil
}

// DropLiveActivity implements sessions.PushTokens.
func (r *Repository) DropLiveActivity(_ context.Context, userID sessions.ID, token, activity string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.pushTokens[token]; t.UserID == userID && t.LiveActivity.Token == activity {
		t.LiveActivity = sessions.LiveActivity{}
		r.pushTokens[token] = t
	}
	return nil
}

// PushTokensOf implements sessions.PushTokens.
func (r *Repository) PushTokensOf(_ context.Context, userID sessions.ID) ([]sessions.PushToken, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pushTokensOf(userID), nil
}

func (r *Repository) pushTokensOf(userID sessions.ID) []sessions.PushToken {
	return sorted(r.pushTokens, func(t sessions.PushToken) bool { return t.UserID == userID }, func(a, b sessions.PushToken) int {
		return cmp.Or(b.RegisteredAt.Compare(a.RegisteredAt), cmp.Compare(a.Token, b.Token))
	})
}

// sorted are the values that belong, in order; nil for none.
func sorted[K comparable, V any](all map[K]V, belongs func(V) bool, order func(a, b V) int) (list []V) {
	for _, v := range all {
		if belongs(v) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, order)
	return list
}

// some are the values of those keys that are there.
func some[K comparable, V any](all map[K]V, keys []K) map[K]V {
	found := map[K]V{}
	for _, key := range keys {
		if v, ok := all[key]; ok {
			found[key] = v
		}
	}
	return found
}

// RecordJourney implements sessions.Analytics.
func (r *Repository) RecordJourney(_ context.Context, e sessions.Event) (sessions.JourneyRecord, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := sessions.JourneyKey{SessionID: e.SessionID, StartedAt: ms(e.JourneyStartedAt)}
	record := r.journeys[key]
	switch {
	case e.Type == sessions.JourneyStarted && record.TrainerID == "":
	case e.Type == sessions.JourneyEnded && record.EndedAt.IsZero():
		record.EndedAt, record.Reason, record.Last = ms(e.At), e.Reason, sessions.LastFix{}
	default:
		return record, false, nil
	}
	record.JourneyKey, record.TrainerID, record.StudentID = key, e.TrainerID, e.StudentID
	r.journeys[key] = record
	return record, true, nil
}

// AddCounts implements sessions.Analytics.
func (r *Repository) AddCounts(_ context.Context, list []sessions.JourneyCounts) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range list {
		s, ok := r.sessions[t.SessionID]
		if !ok || s.TrainerID != t.TrainerID || s.JourneyStartedAt.IsZero() {
			continue
		}
		key := sessions.JourneyKey{SessionID: s.ID, StartedAt: s.JourneyStartedAt}
		record := r.journeys[key]
		record.JourneyKey, record.Counts = key, record.Add(t.Counts)
		if !record.EndedAt.IsZero() {
			record.Last = sessions.LastFix{}
		}
		r.journeys[key] = record
		r.note(key, t.Moments)
	}
	return nil
}

// JourneyRecord implements sessions.Analytics.
func (r *Repository) JourneyRecord(_ context.Context, key sessions.JourneyKey) (sessions.JourneyRecord, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key.StartedAt = ms(key.StartedAt)
	record, ok := r.journeys[key]
	return record, ok, nil
}

// LastSeen implements sessions.Analytics.
func (r *Repository) LastSeen(_ context.Context, keys []sessions.JourneyKey) (map[sessions.JourneyKey]time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lastSeen := map[sessions.JourneyKey]time.Time{}
	for _, key := range keys {
		if at := r.journeys[key].LastSeen; !at.IsZero() {
			lastSeen[key] = at
		}
	}
	return lastSeen, nil
}

// RenewLease implements sessions.Leases: in this process there is nobody else to tell.
func (r *Repository) RenewLease(context.Context, string) error { return nil }

func ms(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
