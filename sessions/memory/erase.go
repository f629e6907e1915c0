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
	data := sessions.UserData{Rating: r.ratings[userID], PushTokens: r.pushTokensOf(userID), Devices: r.devicesOf(userID), Sessions: r.sessionsOf(userID)}
	of := map[sessions.ID]bool{}
	for _, s := range data.Sessions {
		of[s.ID] = true
		data.ShareLinks = append(data.ShareLinks, r.linksOf(s.ID)...)
	}
	for _, review := range r.reviews {
		if review.TrainerID == userID || review.StudentID == userID {
			data.Reviews = append(data.Reviews, review)
		}
	}
	for key, record := range r.journeys {
		if record.TrainerID == userID || record.StudentID == userID || of[key.SessionID] {
			data.Journeys = append(data.Journeys, record)
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
		if s.StudentID == e.UserID {
			s.Home = geo.Point{}
		}
		r.sessions[s.ID] = inMilliseconds(s)
	}
	for id, s := range r.sessions { // all: a former trainer and an admin may have ended it
		replace(e, &s.TrainerID, &s.StudentID, &s.JourneyEndedBy, &s.ClosedBy)
		r.sessions[id] = s
	}
	for _, token := range r.pushTokensOf(e.UserID) {
		delete(r.pushTokens, token.Token)
	}
	r.eraseRecords(e)
	for _, device := range r.devicesOf(e.UserID) {
		delete(r.devices, device.ID)
	}
	for hash, link := range r.links {
		if link.Parties.TrainerID == e.UserID || link.Parties.StudentID == e.UserID {
			delete(r.links, hash)
		}
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

// eraseRecords replaces the user's id in reviews and records of journeys.
func (r *Repository) eraseRecords(e sessions.Erasure) {
	for id, review := range r.reviews {
		if review.TrainerID == e.UserID || review.StudentID == e.UserID {
			review.Comment = ""
		}
		replace(e, &review.TrainerID, &review.StudentID)
		r.reviews[id] = review
	}
	for key, record := range r.journeys {
		replace(e, &record.TrainerID, &record.StudentID)
		r.journeys[key] = record
	}
}

// replace puts the alias in the user's place.
func replace(e sessions.Erasure, ids ...*sessions.ID) {
	for _, id := range ids {
		if *id == e.UserID {
			*id = e.Alias
		}
	}
}
