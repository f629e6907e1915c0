package memory

import (
	"context"
	"slices"
	"time"

	"doorstep/sessions"
)

// audits are the entries of histories. Repository.mu guards them.
type audits struct {
	seq   int64
	list  map[sessions.ID][]sessions.AuditEntry // by session, in the order of writing
	known map[sessions.ID]bool                  // moments' ids
}

func newAudits() audits {
	return audits{list: map[sessions.ID][]sessions.AuditEntry{}, known: map[sessions.ID]bool{}}
}

// audit stores entries of transitions.
func (r *Repository) audit(entries ...sessions.AuditEntry) {
	for _, e := range entries {
		e.At = ms(r.now())
		r.audits.add(e)
	}
}

func (a *audits) add(e sessions.AuditEntry) {
	a.seq++
	e.Seq = a.seq
	a.list[e.SessionID] = append(a.list[e.SessionID], e)
}

// note stores the moments of a journey for which there is room.
func (r *Repository) note(key sessions.JourneyKey, list []sessions.Moment) {
	if len(list) == 0 {
		return
	}
	kept := 0
	for _, e := range r.audits.list[key.SessionID] {
		if e.ID != "" && e.JourneyStartedAt.Equal(key.StartedAt) {
			kept++
		}
	}
	for _, m := range list {
		id := sessions.MomentID(key, m)
		if kept == sessions.MomentsKept || r.audits.known[id] {
			continue
		}
		kept++
		r.audits.known[id] = true
		r.audits.add(sessions.AuditEntry{ID: id, SessionID: key.SessionID, JourneyStartedAt: key.StartedAt, At: ms(m.At), Kind: m.Kind, Detail: m.Detail})
	}
}

// Note implements sessions.Audit.
func (r *Repository) Note(_ context.Context, id sessions.ID, list []sessions.Moment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.sessions[id]; ok {
		r.note(sessions.JourneyKey{SessionID: id, StartedAt: s.JourneyStartedAt}, list)
	}
	return nil
}

// History implements sessions.Audit.
func (r *Repository) History(_ context.Context, id sessions.ID, after sessions.HistoryPlace, limit int) ([]sessions.AuditEntry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := inOrder(r.audits.list[id])
	after.At = ms(after.At)
	list = slices.DeleteFunc(list, func(e sessions.AuditEntry) bool { return e.Place().Compare(after) <= 0 })
	return list[:min(len(list), limit)], nil
}

// LastParties implements sessions.Audit.
func (r *Repository) LastParties(_ context.Context, id sessions.ID) (last sessions.Meta, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range inOrder(r.audits.list[id]) {
		if e.TrainerID != "" {
			last = sessions.Meta{TrainerID: e.TrainerID, StudentID: e.StudentID}
		}
	}
	return last, nil
}

func inOrder(list []sessions.AuditEntry) []sessions.AuditEntry {
	return slices.SortedFunc(slices.Values(list), func(a, b sessions.AuditEntry) int { return a.Place().Compare(b.Place()) })
}

// JourneysOf implements sessions.Audit.
func (r *Repository) JourneysOf(_ context.Context, id sessions.ID, limit int) ([]sessions.JourneyRecord, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []sessions.JourneyRecord
	for key, record := range r.journeys {
		if key.SessionID == id {
			list = append(list, record)
		}
	}
	slices.SortFunc(list, func(a, b sessions.JourneyRecord) int { return a.StartedAt.Compare(b.StartedAt) })
	return list[max(0, len(list)-limit):], nil
}

// of are the entries of these sessions, and those where the user acted or was a party.
func (a *audits) of(user sessions.ID, of []sessions.Session) (list []sessions.AuditEntry) {
	for id, entries := range a.list {
		all := slices.ContainsFunc(of, func(s sessions.Session) bool { return s.ID == id })
		for _, e := range entries {
			if all || e.By.ID == user || e.TrainerID == user || e.StudentID == user {
				list = append(list, e)
			}
		}
	}
	list = inOrder(list)
	return list[max(0, len(list)-sessions.MaxUserAudit):]
}

// erase replaces a user's id.
func (a *audits) erase(e sessions.Erasure) {
	for _, entries := range a.list {
		for i := range entries {
			replace(e, &entries[i].By.ID, &entries[i].TrainerID, &entries[i].StudentID)
		}
	}
}

func (a *audits) deleteOld(before time.Time, limit int) (n int) {
	for id, entries := range a.list {
		a.list[id] = slices.DeleteFunc(entries, func(e sessions.AuditEntry) bool {
			old := e.At.Before(before) && n < limit
			if old {
				n++
				delete(a.known, e.ID)
			}
			return old
		})
		if len(a.list[id]) == 0 {
			delete(a.list, id)
		}
	}
	return n
}
