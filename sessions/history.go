package sessions

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"time"
)

// History is what an admin sees of a session: its journeys, and one page of its entries.
type History struct {
	Journeys []JourneyRecord // the latest 50, oldest first
	Entries  []AuditEntry
	Outcomes map[ID][]EventOutcome // of the entries' events, by event; none once the outbox has deleted them
}

// EventOutcome is what has become of one event on its way to one destination.
type EventOutcome struct {
	EventID ID
	Type    EventType
	// To is "bus", or a consumer in the gateways, or the receiver of webhooks. Without a
	// bus outside of the gateways, done at "bus" means handed to the consumers.
	To       string
	State    OutcomeState
	Attempts int       // that failed, the last one of a dead letter included
	At       time.Time // of Done and Dead
}

// OutcomeState is how far an event has come.
type OutcomeState string

// The states.
const (
	OutcomeWaiting OutcomeState = "waiting"
	OutcomeDone    OutcomeState = "delivered"
	OutcomeDead    OutcomeState = "dead_letter"
)

// Outcomes tells what has become of events.
type Outcomes interface {
	// Outcomes are those of these events that are still kept. Error: DatabaseUnavailable.
	Outcomes(ctx context.Context, events []ID) ([]EventOutcome, error)
}

// journeysShown is how many journeys a history has.
const journeysShown = 50

// History reads a session's history, in the order of time, up to limit entries behind
// the place given. A journey that has fallen silent, and has not been seen since, has
// the beginning of that silence as an entry that is not stored. Errors: Forbidden,
// SessionNotFound, DatabaseUnavailable.
func (s *Service) History(ctx context.Context, c Caller, id ID, after HistoryPlace, limit int) (h History, err error) {
	if !c.Has(Admin) {
		return h, errNotAdmin
	}
	from := s.late
	session, err := from.Session(ctx, id)
	if s.opts.LateReads != nil && CodeOf(err) == SessionNotFound { // booked just now, perhaps
		from = s.repo
		session, err = from.Session(ctx, id)
	}
	if err != nil {
		return h, err
	}
	if h.Journeys, err = from.JourneysOf(ctx, id, journeysShown); err != nil {
		return h, err
	}
	h.Journeys = withLast(h.Journeys, session)
	if h.Entries, err = from.History(ctx, id, after, limit); err != nil {
		return h, err
	}
	h.Entries = append(h.Entries, s.openSilences(h.Journeys, after)...)
	slices.SortStableFunc(h.Entries, func(a, b AuditEntry) int { return a.Place().Compare(b.Place()) })
	h.Entries = h.Entries[:min(len(h.Entries), limit)]
	h.Outcomes, err = s.outcomes(ctx, h.Entries)
	return h, err
}

// withLast completes the record of the session's last journey from the session: the
// consumer that writes records may not run here, or be behind.
func withLast(list []JourneyRecord, session Session) []JourneyRecord {
	if session.JourneyStartedAt.IsZero() {
		return list
	}
	i := slices.IndexFunc(list, func(r JourneyRecord) bool { return r.StartedAt.Equal(session.JourneyStartedAt) })
	if i < 0 {
		list = append(list, JourneyRecord{JourneyKey: JourneyKey{session.ID, session.JourneyStartedAt}})
		i = len(list) - 1
	}
	list[i].EndedAt, list[i].Reason = session.JourneyEndedAt, session.JourneyEndReason
	return list
}

// openSilences are the silences that have not ended: of a journey that runs, or that
// ended while its phone was silent. What was seen lately may not be written yet.
func (s *Service) openSilences(journeys []JourneyRecord, after HistoryPlace) (list []AuditEntry) {
	for _, r := range journeys {
		end, enough := r.EndedAt, longest(s.opts.RateInterval, s.opts.Steer)+silenceAfter
		if end.IsZero() {
			end, enough = s.opts.Now(), enough+flushEvery
		}
		seen := r.StartedAt
		if r.LastSeen.After(seen) {
			seen = r.LastSeen
		}
		place := HistoryPlace{seen, math.MaxInt64} // after the entry of that last fix
		if end.Sub(seen) > enough && place.Compare(after) > 0 {
			list = append(list, AuditEntry{Seq: place.Seq, SessionID: r.SessionID, JourneyStartedAt: r.StartedAt, At: seen, Kind: AuditSilenceBegan})
		}
	}
	return list
}

// rebookedTo reports whether the history says that the session's parties are these: then
// a call has changed them, and this gateway has only found out.
func (s *Service) rebookedTo(ctx context.Context, session Session) bool {
	last, err := s.repo.LastParties(ctx, session.ID)
	return err == nil && last == session.Meta().Parties()
}

func (s *Service) outcomes(ctx context.Context, entries []AuditEntry) (map[ID][]EventOutcome, error) {
	var ids []ID
	for _, e := range entries {
		ids = append(ids, e.EventIDs...)
	}
	if len(ids) == 0 || s.opts.Outcomes == nil {
		return nil, nil //nolint:nilnil // none are known
	}
	list, err := s.opts.Outcomes.Outcomes(ctx, ids)
	if err != nil {
		return nil, err
	}
	by := map[ID][]EventOutcome{}
	for _, o := range list {
		by[o.EventID] = append(by[o.EventID], o)
	}
	for _, list := range by {
		slices.SortFunc(list, func(a, b EventOutcome) int { return cmp.Compare(a.To, b.To) })
	}
	return by, nil
}

// noteFound notes that the reconciler has found a change of another service that is no
// transition. Several gateways find the same one, in the same minute as a rule. It
// delays nothing: where it cannot be written it is lost.
func (s *Service) noteFound(ctx context.Context, session Session, what string) {
	if what == correctedParties && s.rebookedTo(ctx, session) {
		return
	}
	now := ms(s.opts.Now())
	id := journeyEventID(momentSpace, JourneyKey{session.ID, now.Truncate(time.Minute)}, what)
	err := s.repo.Note(context.WithoutCancel(ctx), session.ID, []Moment{{ID: id, Kind: AuditFoundDatabase, At: now, Detail: AuditDetail{Found: what}}})
	if err != nil {
		s.opts.Log.WarnContext(ctx, "change of another service not noted", slog.String("session_id", string(session.ID)), slog.Any("error", err))
	}
}
