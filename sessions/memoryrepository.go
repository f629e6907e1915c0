package sessions

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// listLimit bounds OfStudent: a page of an app, not an export.
const listLimit = 200

// MemoryRepository is the Repository in one process: the embedded default, and
// what the postgres one must agree with. Nothing outlives the process.
type MemoryRepository struct {
	mu       sync.Mutex
	sessions map[ID]Session
	onEvent  func(Event)
	memoryRecords
}

var _ Repository = (*MemoryRepository)(nil)

// NewMemoryRepository makes an empty one. onEvent, when not nil, is called
// with each event after the change that raised it, in order, and under the
// repository's lock: it must not block or call back. The repository keeps no
// event itself; outbox.Memory.Record does until it is published.
func NewMemoryRepository(onEvent func(Event)) *MemoryRepository {
	return &MemoryRepository{sessions: map[ID]Session{}, onEvent: onEvent, memoryRecords: newMemoryRecords()}
}

// Create keeps the contract of Repository.
func (r *MemoryRepository) Create(_ context.Context, s Session) (Session, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = inMilliseconds(s)
	if old, ok := r.sessions[s.ID]; ok {
		if !SameBooking(old, s) {
			return Session{}, false, Refuse(SessionConflict, "a session with this id is booked otherwise")
		}
		return old, false, nil
	}
	r.sessions[s.ID] = s
	return s, true, nil
}

// Session keeps the contract of Repository.
func (r *MemoryRepository) Session(_ context.Context, id ID) (Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[id]
	if !ok {
		return Session{}, Refuse(SessionNotFound, "no such session")
	}
	return s, nil
}

// OfStudent keeps the contract of Repository.
func (r *MemoryRepository) OfStudent(_ context.Context, studentID ID) ([]Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Session
	for _, s := range r.sessions {
		if s.StudentID == studentID {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Session) int {
		return cmp.Or(b.ScheduledAt.Compare(a.ScheduledAt), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), listLimit)], nil
}

// Change keeps the contract of Repository. What was booked is not f's to
// change: such changes are dropped.
func (r *MemoryRepository) Change(_ context.Context, id ID, f func(*Session) ([]Event, error)) (Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[id]
	if !ok {
		return Session{}, Refuse(SessionNotFound, "no such session")
	}
	changed := s
	events, err := f(&changed)
	if err != nil {
		return s, err
	}
	changed = inMilliseconds(asBooked(changed, s))
	if changed.JourneyActive() && !s.JourneyActive() && r.busy(changed.TrainerID) {
		return s, Refuse(TrainerBusy, "another journey of this trainer is running")
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
func (r *MemoryRepository) busy(trainer ID) bool {
	for _, s := range r.sessions {
		if s.TrainerID == trainer && s.JourneyActive() {
			return true
		}
	}
	return false
}

// inMilliseconds cuts every instant to what a store of record keeps.
func inMilliseconds(s Session) Session {
	for _, t := range []*time.Time{
		&s.ScheduledAt, &s.CreatedAt, &s.JourneyStartedAt, &s.JourneyEndedAt, &s.ArrivedAt,
		&s.OTPExpiresAt, &s.StartedAt, &s.CompletedAt,
	} {
		*t = ms(*t)
	}
	return s
}

// asBooked is changed with the booking of old.
func asBooked(changed, old Session) Session {
	changed.ID, changed.TrainerID, changed.StudentID = old.ID, old.TrainerID, old.StudentID
	changed.ScheduledAt, changed.Home, changed.Mode, changed.CreatedAt = old.ScheduledAt, old.Home, old.Mode, old.CreatedAt
	return changed
}
