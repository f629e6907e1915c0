package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"doorstep/sessions"
)

// listLimit bounds OfStudent: a page of an app, not an export.
const listLimit = 200

// Repository is the Repository in one process: the embedded default, and
// what the postgres one must agree with. Nothing outlives the process.
type Repository struct {
	mu       sync.Mutex
	sessions map[sessions.ID]sessions.Session
	onEvent  func(sessions.Event)
	records
}

var _ sessions.Repository = (*Repository)(nil)

// NewRepository makes an empty one. onEvent, when not nil, is called
// with each event after the change that raised it, in order, and under the
// repository's lock: it must not block or call back. The repository keeps no
// event itself; outbox.Memory.Record does until it is published.
func NewRepository(onEvent func(sessions.Event)) *Repository {
	return &Repository{sessions: map[sessions.ID]sessions.Session{}, onEvent: onEvent, records: newRecords()}
}

// Create keeps the contract of Repository.
func (r *Repository) Create(_ context.Context, s sessions.Session) (sessions.Session, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = inMilliseconds(s)
	if old, ok := r.sessions[s.ID]; ok {
		if !sessions.SameBooking(old, s) {
			return sessions.Session{}, false, sessions.Refuse(sessions.SessionConflict, "a session with this id is booked otherwise")
		}
		return old, false, nil
	}
	r.sessions[s.ID] = s
	return s, true, nil
}

// Session keeps the contract of Repository.
func (r *Repository) Session(_ context.Context, id sessions.ID) (sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[id]
	if !ok {
		return sessions.Session{}, sessions.Refuse(sessions.SessionNotFound, "no such session")
	}
	return s, nil
}

// OfStudent keeps the contract of Repository.
func (r *Repository) OfStudent(_ context.Context, studentID sessions.ID) ([]sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []sessions.Session
	for _, s := range r.sessions {
		if s.StudentID == studentID {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b sessions.Session) int {
		return cmp.Or(b.ScheduledAt.Compare(a.ScheduledAt), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), listLimit)], nil
}

// Change keeps the contract of Repository. What was booked is not f's to
// change: such changes are dropped.
func (r *Repository) Change(_ context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error)) (sessions.Session, error) {
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
	changed = inMilliseconds(asBooked(changed, s))
	if changed.JourneyActive() && !s.JourneyActive() && r.busy(changed.TrainerID) {
		return s, sessions.Refuse(sessions.TrainerBusy, "another journey of this trainer is running")
	}
	r.sessions[id] = changed
	if r.onEvent != nil {
		for _, e := range events {
			r.onEvent(e)
		}
	}
	return changed, nil
}

// busy is a scan, and called once a start: embedded there are few sessions.
func (r *Repository) busy(trainer sessions.ID) bool {
	for _, s := range r.sessions {
		if s.TrainerID == trainer && s.JourneyActive() {
			return true
		}
	}
	return false
}

// inMilliseconds cuts every instant to what a store of record keeps.
func inMilliseconds(s sessions.Session) sessions.Session {
	for _, t := range []*time.Time{
		&s.ScheduledAt, &s.CreatedAt, &s.JourneyStartedAt, &s.JourneyEndedAt, &s.ArrivedAt,
		&s.OTPExpiresAt, &s.StartedAt, &s.CompletedAt,
	} {
		*t = ms(*t)
	}
	return s
}

// asBooked is changed with the booking of old.
func asBooked(changed, old sessions.Session) sessions.Session {
	changed.ID, changed.TrainerID, changed.StudentID = old.ID, old.TrainerID, old.StudentID
	changed.ScheduledAt, changed.Home, changed.Mode, changed.CreatedAt = old.ScheduledAt, old.Home, old.Mode, old.CreatedAt
	return changed
}

func ms(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
