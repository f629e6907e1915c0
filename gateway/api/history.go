package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// historyBody is what happened to a session, in order. It has no coordinate and no code.
type historyBody struct {
	SessionID  sessions.ID      `json:"sessionId"`
	Journeys   []historyJourney `json:"journeys"`
	Entries    []historyEntry   `json:"entries"`
	NextCursor *string          `json:"nextCursor"`
}

type historyJourney struct {
	StartedAt *string            `json:"startedAt"`
	EndedAt   *string            `json:"endedAt"`
	Reason    sessions.EndReason `json:"reason,omitempty"`
	LastSeen  *string            `json:"lastSeen"`
	Fixes     historyFixes       `json:"fixes"`
}

// historyFixes counts a journey's fixes by what became of them.
type historyFixes struct {
	Stored      int64 `json:"stored"`
	Implausible int64 `json:"implausible"`
	Stale       int64 `json:"stale"`
	LowAccuracy int64 `json:"lowAccuracy"`
	TooSoon     int64 `json:"tooSoon"`
	Flagged     int64 `json:"flagged"`
}

type historyEntry struct {
	At               *string              `json:"at"`
	Kind             sessions.AuditKind   `json:"kind"`
	By               historyBy            `json:"by"`
	RequestID        string               `json:"requestId,omitempty"`
	JourneyStartedAt *string              `json:"journeyStartedAt"`
	TrainerID        sessions.ID          `json:"trainerId,omitempty"`
	StudentID        sessions.ID          `json:"studentId,omitempty"`
	Detail           sessions.AuditDetail `json:"detail"`
	Events           []historyEvent       `json:"events,omitempty"`
}

type historyBy struct {
	Role sessions.Role `json:"role"`
	ID   sessions.ID   `json:"id,omitempty"`
}

type historyEvent struct {
	EventID  sessions.ID        `json:"eventId"`
	Type     sessions.EventType `json:"type,omitempty"` // empty once the outbox has deleted it
	Outcomes []historyOutcome   `json:"outcomes"`
}

type historyOutcome struct {
	To             string                `json:"to"`
	State          sessions.OutcomeState `json:"state"`
	FailedAttempts int                   `json:"failedAttempts"`
	At             *string               `json:"at"`
}

// history answers with what happened to a session.
func (a *API) history(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	limit, after, err := historyPage(c)
	if err != nil {
		return err
	}
	h, err := a.deps.Sessions.History(ctx, caller, id, after, limit+1)
	if err != nil {
		return err
	}
	body := historyBody{SessionID: id, Journeys: []historyJourney{}, Entries: []historyEntry{}}
	for _, j := range h.Journeys {
		body.Journeys = append(body.Journeys, historyJourney{
			timestamp(j.StartedAt), timestamp(j.EndedAt), j.Reason, timestamp(j.LastSeen),
			historyFixes{j.Accepted, j.Refused, j.Stale, j.Vague, j.TooSoon, j.Flagged},
		})
	}
	for i, e := range h.Entries {
		if i == limit {
			body.NextCursor = new(placeText(h.Entries[i-1].Place()))
			break
		}
		body.Entries = append(body.Entries, entryOf(e, h.Outcomes))
	}
	return succeed(c, http.StatusOK, "History", body)
}

func entryOf(e sessions.AuditEntry, outcomes map[sessions.ID][]sessions.EventOutcome) historyEntry {
	body := historyEntry{
		At: timestamp(e.At), Kind: e.Kind, By: historyBy{e.By.Role, e.By.ID}, RequestID: e.By.RequestID,
		JourneyStartedAt: timestamp(e.JourneyStartedAt), TrainerID: e.TrainerID, StudentID: e.StudentID, Detail: e.Detail,
	}
	if e.By.Role == "" {
		body.By.Role = "system"
	}
	for _, id := range e.EventIDs {
		event := historyEvent{EventID: id, Outcomes: []historyOutcome{}}
		for _, o := range outcomes[id] {
			event.Type = o.Type
			event.Outcomes = append(event.Outcomes, historyOutcome{o.To, o.State, o.Attempts, timestamp(o.At)})
		}
		body.Events = append(body.Events, event)
	}
	return body
}

// historyPage reads limit and cursor.
func historyPage(c *app.RequestContext) (limit int, after sessions.HistoryPlace, err error) {
	if limit, err = limitOf(c); err != nil {
		return 0, after, err
	}
	if text, ok := c.GetQuery("cursor"); ok {
		if after, ok = parsePlace(text); !ok {
			return 0, after, errCursor
		}
	}
	return limit, after, nil
}

// placeText is opaque to callers, like cursorText.
func placeText(p sessions.HistoryPlace) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.At.UnixMilli(), 10) + "." + strconv.FormatInt(p.Seq, 10)))
}

func parsePlace(text string) (p sessions.HistoryPlace, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return p, false
	}
	ms, seq, _ := strings.Cut(string(raw), ".")
	at, err1 := strconv.ParseInt(ms, 10, 64)
	n, err2 := strconv.ParseInt(seq, 10, 64)
	if err1 != nil || err2 != nil || n < 0 {
		return p, false
	}
	p.Seq = n
	p.At, err = sessions.Instant("cursor", time.UnixMilli(at))
	return p, err == nil
}
