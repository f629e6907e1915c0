package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"doorstep/sessions"
)

// maxPushTokens is how many devices a user has at most; the one that was
// registered longest ago makes way.
const maxPushTokens = 10

// records is what a Repository keeps besides the sessions. Guarded
// by its lock.
type records struct {
	recorded map[sessions.ID]bool
	reviews  map[sessions.ID]sessions.Review
	ratings  map[sessions.ID]sessions.Rating
	devices  map[string]sessions.PushToken
	journeys map[sessions.JourneyKey]sessions.JourneyRecord
}

func newRecords() records {
	return records{
		recorded: map[sessions.ID]bool{}, reviews: map[sessions.ID]sessions.Review{}, ratings: map[sessions.ID]sessions.Rating{},
		devices: map[string]sessions.PushToken{}, journeys: map[sessions.JourneyKey]sessions.JourneyRecord{},
	}
}

// Record keeps the contract of Repository.
func (r *Repository) Record(_ context.Context, e sessions.Event) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.sessions[e.SessionID]; !ok {
		return false, sessions.Refuse(sessions.SessionNotFound, "no such session")
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
func (r *Repository) Running(_ context.Context, startedBy time.Time, limit int) ([]sessions.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []sessions.Session
	for _, s := range r.sessions {
		if s.JourneyActive() && !s.JourneyStartedAt.After(startedBy) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b sessions.Session) int {
		return cmp.Or(a.JourneyStartedAt.Compare(b.JourneyStartedAt), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), limit)], nil
}

// Review keeps the contract of Repository.
func (r *Repository) Review(_ context.Context, id sessions.ID, f func(sessions.Session) (sessions.Review, error)) (sessions.Rating, error) {
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
	r.reviews[id] = review
	rating := r.ratings[review.TrainerID]
	rating.Sum, rating.Count = rating.Sum+int64(review.Stars), rating.Count+1
	r.ratings[review.TrainerID] = rating
	return rating, nil
}

// Rating keeps the contract of Repository.
func (r *Repository) Rating(_ context.Context, trainerID sessions.ID) (sessions.Rating, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ratings[trainerID], nil
}

// PutPushToken keeps the contract of PushTokens.
func (r *Repository) PutPushToken(_ context.Context, t sessions.PushToken) error {
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
func (r *Repository) DeletePushToken(_ context.Context, userID sessions.ID, token string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.devices[token].UserID == userID {
		delete(r.devices, token)
	}
	return nil
}

// PushTokensOf keeps the contract of PushTokens.
func (r *Repository) PushTokensOf(_ context.Context, userID sessions.ID) ([]sessions.PushToken, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.devicesOf(userID), nil
}

func (r *Repository) devicesOf(userID sessions.ID) []sessions.PushToken {
	var list []sessions.PushToken
	for _, t := range r.devices {
		if t.UserID == userID {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b sessions.PushToken) int {
		return cmp.Or(b.RegisteredAt.Compare(a.RegisteredAt), cmp.Compare(a.Token, b.Token))
	})
	return list
}

// RecordJourney keeps the contract of Analytics.
func (r *Repository) RecordJourney(_ context.Context, e sessions.Event) (sessions.JourneyRecord, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := sessions.JourneyKey{SessionID: e.SessionID, StartedAt: ms(e.JourneyStartedAt)}
	record := r.journeys[key]
	switch {
	case e.Type == sessions.JourneyStarted && record.TrainerID == "":
	case e.Type == sessions.JourneyEnded && record.EndedAt.IsZero():
		record.EndedAt, record.Reason = ms(e.At), e.Reason
	default:
		return record, false, nil
	}
	record.JourneyKey, record.TrainerID, record.StudentID = key, e.TrainerID, e.StudentID
	r.journeys[key] = record
	return record, true, nil
}

// AddCounts keeps the contract of Analytics.
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
		r.journeys[key] = record
	}
	return nil
}

// JourneyRecord keeps the contract of Analytics.
func (r *Repository) JourneyRecord(_ context.Context, key sessions.JourneyKey) (sessions.JourneyRecord, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key.StartedAt = ms(key.StartedAt)
	record, ok := r.journeys[key]
	return record, ok, nil
}

// LastSeen keeps the contract of Analytics.
func (r *Repository) LastSeen(_ context.Context, keys []sessions.JourneyKey) (map[sessions.JourneyKey]time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard := map[sessions.JourneyKey]time.Time{}
	for _, key := range keys {
		if at := r.journeys[key].LastSeen; !at.IsZero() {
			heard[key] = at
		}
	}
	return heard, nil
}
