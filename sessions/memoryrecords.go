package sessions

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// memoryRecords is what a MemoryRepository keeps besides the sessions. Guarded
// by its lock.
type memoryRecords struct {
	recorded map[ID]bool
	reviews  map[ID]Review
	ratings  map[ID]Rating
	devices  map[string]PushToken
	journeys map[JourneyKey]JourneyRecord
}

func newMemoryRecords() memoryRecords {
	return memoryRecords{
		recorded: map[ID]bool{}, reviews: map[ID]Review{}, ratings: map[ID]Rating{},
		devices: map[string]PushToken{}, journeys: map[JourneyKey]JourneyRecord{},
	}
}

// Record keeps the contract of Repository.
func (r *MemoryRepository) Record(_ context.Context, e Event) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.sessions[e.SessionID]; !ok {
		return false, Refuse(SessionNotFound, "no such session")
	}
	if r.recorded[e.ID] {
		return false, nil
	}
	r.recorded[e.ID] = true
	if r.onEvent != nil {
		r.onEvent(e)
	}
	return true, nil
}

// Running keeps the contract of Repository.
func (r *MemoryRepository) Running(_ context.Context, startedBy time.Time, limit int) ([]Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Session
	for _, s := range r.sessions {
		if s.JourneyActive() && !s.JourneyStartedAt.After(startedBy) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Session) int {
		return cmp.Or(a.JourneyStartedAt.Compare(b.JourneyStartedAt), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), limit)], nil
}

// Review keeps the contract of Repository.
func (r *MemoryRepository) Review(_ context.Context, id ID, f func(Session) (Review, error)) (Rating, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[id]
	if !ok {
		return Rating{}, Refuse(SessionNotFound, "no such session")
	}
	review, err := f(s)
	if err != nil {
		return Rating{}, err
	}
	if _, ok := r.reviews[id]; ok {
		return Rating{}, errReviewed
	}
	r.reviews[id] = review
	rating := r.ratings[review.TrainerID]
	rating.Sum, rating.Count = rating.Sum+int64(review.Stars), rating.Count+1
	r.ratings[review.TrainerID] = rating
	return rating, nil
}

// Rating keeps the contract of Repository.
func (r *MemoryRepository) Rating(_ context.Context, trainerID ID) (Rating, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ratings[trainerID], nil
}

// PutPushToken keeps the contract of PushTokens.
func (r *MemoryRepository) PutPushToken(_ context.Context, t PushToken) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.RegisteredAt = ms(t.RegisteredAt)
	// The one just registered stays, whatever the clock says of the others.
	delete(r.devices, t.Token)
	if others := r.devicesOf(t.UserID); len(others) >= maxPushTokens {
		for _, old := range others[maxPushTokens-1:] {
			delete(r.devices, old.Token)
		}
	}
	r.devices[t.Token] = t
	return nil
}

// DeletePushToken keeps the contract of PushTokens.
func (r *MemoryRepository) DeletePushToken(_ context.Context, userID ID, token string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.devices[token].UserID == userID {
		delete(r.devices, token)
	}
	return nil
}

// PushTokensOf keeps the contract of PushTokens.
func (r *MemoryRepository) PushTokensOf(_ context.Context, userID ID) ([]PushToken, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.devicesOf(userID), nil
}

func (r *MemoryRepository) devicesOf(userID ID) []PushToken {
	var list []PushToken
	for _, t := range r.devices {
		if t.UserID == userID {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b PushToken) int {
		return cmp.Or(b.RegisteredAt.Compare(a.RegisteredAt), cmp.Compare(a.Token, b.Token))
	})
	return list
}

// RecordJourney keeps the contract of Analytics.
func (r *MemoryRepository) RecordJourney(_ context.Context, e Event) (JourneyRecord, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := JourneyKey{e.SessionID, ms(e.JourneyStartedAt)}
	record := r.journeys[key]
	switch {
	case e.Type == JourneyStarted && record.TrainerID == "":
	case e.Type == JourneyEnded && record.EndedAt.IsZero():
		record.EndedAt, record.Reason = ms(e.At), e.Reason
	default:
		return record, false, nil
	}
	record.JourneyKey, record.TrainerID, record.StudentID = key, e.TrainerID, e.StudentID
	r.journeys[key] = record
	return record, true, nil
}

// AddTallies keeps the contract of Analytics.
func (r *MemoryRepository) AddTallies(_ context.Context, list []Tallied) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range list {
		s, ok := r.sessions[t.SessionID]
		if !ok || s.TrainerID != t.TrainerID || s.JourneyStartedAt.IsZero() {
			continue
		}
		key := JourneyKey{s.ID, s.JourneyStartedAt}
		record := r.journeys[key]
		record.JourneyKey, record.Counts = key, record.add(t.Counts)
		r.journeys[key] = record
	}
	return nil
}

// JourneyRecord keeps the contract of Analytics.
func (r *MemoryRepository) JourneyRecord(_ context.Context, key JourneyKey) (JourneyRecord, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key.StartedAt = ms(key.StartedAt)
	record, ok := r.journeys[key]
	return record, ok, nil
}

// HeardAt keeps the contract of Analytics.
func (r *MemoryRepository) HeardAt(_ context.Context, keys []JourneyKey) (map[JourneyKey]time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard := map[JourneyKey]time.Time{}
	for _, key := range keys {
		if at := r.journeys[key].HeardAt; !at.IsZero() {
			heard[key] = at
		}
	}
	return heard, nil
}
