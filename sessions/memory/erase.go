package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"doorstep/geo"
	"doorstep/sessions"
)

// UserData implements sessions.Repository.
func (r *Repository) UserData(_ context.Context, userID sessions.ID) (sessions.UserData, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data := sessions.UserData{Rating: r.ratings[userID], Devices: r.devicesOf(userID), Sessions: r.sessionsOf(userID)}
	for _, s := range data.Sessions {
		if review, ok := r.reviews[s.ID]; ok {
			data.Reviews = append(data.Reviews, review)
		}
		for key, record := range r.journeys {
			if key.SessionID == s.ID {
				data.Journeys = append(data.Journeys, record)
			}
		}
	}
	data.Audit = r.audits.of(userID, data.Sessions)
	slices.SortFunc(data.Journeys, func(a, b sessions.JourneyRecord) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), strings.Compare(string(a.SessionID), string(b.SessionID)))
	})
	return data, nil
}

func (r *Repository) sessionsOf(userID sessions.ID) []sessions.Session {
	var list []sessions.Session
	for _, s := range r.sessions {
		if s.TrainerID == userID || s.StudentID == userID {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b sessions.Session) int {
		return cmp.Or(a.ScheduledAt.Compare(b.ScheduledAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// EraseUser implements sessions.Repository. Events are not kept here, so none waits.
func (r *Repository) EraseUser(ctx context.Context, e sessions.Erasure) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var raised []sessions.Event
	list := r.sessionsOf(e.UserID)
	var entries []sessions.AuditEntry
	for i, before := range list {
		events, err := list[i].CloseForErasure(e)
		if err != nil {
			return 0, err
		}
		raised = append(raised, events...)
		if list[i] != before {
			entries = append(entries, sessions.AuditOf(before, list[i], events, sessions.ActorOf(ctx))...)
		}
	}
	r.audit(entries...)
	if r.onEvent != nil {
		for _, event := range raised {
			r.onEvent(event)
		}
	}
	for _, s := range list {
		r.eraseSession(s, e)
	}
	for _, device := range r.devicesOf(e.UserID) {
		delete(r.devices, device.Token)
	}
	for name := range r.keys {
		if name[0] == string(e.UserID) {
			delete(r.keys, name)
		}
	}
	r.audits.erase(e)
	if rating, ok := r.ratings[e.UserID]; ok {
		r.ratings[e.Alias] = rating
		delete(r.ratings, e.UserID)
	}
	return 0, nil
}

// eraseSession replaces the user's id in all that is kept of one session.
func (r *Repository) eraseSession(s sessions.Session, e sessions.Erasure) {
	replace := func(ids ...*sessions.ID) {
		for _, id := range ids {
			if *id == e.UserID {
				*id = e.Alias
			}
		}
	}
	if s.StudentID == e.UserID {
		s.Home = geo.Point{}
	}
	replace(&s.TrainerID, &s.StudentID, &s.JourneyEndedBy, &s.ClosedBy)
	r.sessions[s.ID] = inMilliseconds(s)
	if review, ok := r.reviews[s.ID]; ok {
		review.Comment = ""
		replace(&review.TrainerID, &review.StudentID)
		r.reviews[s.ID] = review
	}
	for key, record := range r.journeys {
		if key.SessionID == s.ID {
			replace(&record.TrainerID, &record.StudentID)
			r.journeys[key] = record
		}
	}
}
