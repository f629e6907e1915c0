package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// userDataBody is all that is kept of a user.
type userDataBody struct {
	UserID   sessions.ID      `json:"userId"`
	Sessions []sessionBody    `json:"sessions"`
	Reviews  []keptReview     `json:"reviews"`
	Rating   *ratingBody      `json:"rating"`
	Devices  []keptDevice     `json:"devices"` // that get pushes
	Phones   []deviceBody     `json:"phones"`  // that report by a stock app
	Links    []keptLink       `json:"shareLinks"`
	Journeys []keptJourneyRow `json:"journeys"`
	History  []keptEntry      `json:"history"`
}

// keptEntry is an entry of the history of a session.
type keptEntry struct {
	SessionID sessions.ID `json:"sessionId"`
	historyEntry
}

type keptLink struct {
	SessionID sessions.ID `json:"sessionId"`
	linkBody
}

type keptReview struct {
	SessionID  sessions.ID `json:"sessionId"`
	TrainerID  sessions.ID `json:"trainerId"`
	StudentID  sessions.ID `json:"studentId"`
	Rating     int         `json:"rating"`
	Comment    string      `json:"comment"`
	ReviewedAt *string     `json:"reviewedAt"`
}

type keptDevice struct {
	Token        string            `json:"token"`
	Platform     sessions.Platform `json:"platform"`
	Language     string            `json:"language"`
	RegisteredAt *string           `json:"registeredAt"`
	LiveActivity *liveActivityBody `json:"liveActivity,omitempty"`
}

type keptJourneyRow struct {
	SessionID sessions.ID        `json:"sessionId"`
	StartedAt *string            `json:"startedAt"`
	EndedAt   *string            `json:"endedAt"`
	Reason    sessions.EndReason `json:"reason,omitempty"`
	DistanceM float64            `json:"distanceMeters"`
	Accepted  int64              `json:"fixesStored"`
	Refused   int64              `json:"fixesRefused"`
	LastSeen  *string            `json:"lastSeen"`
}

// userData answers with all that is kept of a user.
func (a *API) userData(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := parseID("userId", c.Param("userId"))
	if err != nil {
		return err
	}
	data, err := a.deps.Sessions.UserData(ctx, caller, id)
	if err != nil {
		return err
	}
	body := userDataBody{UserID: id, Sessions: []sessionBody{}, Reviews: []keptReview{}, Devices: []keptDevice{}, Phones: []deviceBody{}, Links: []keptLink{}, Journeys: []keptJourneyRow{}, History: []keptEntry{}}
	for _, s := range data.Sessions {
		body.Sessions = append(body.Sessions, a.listed(c, s))
	}
	for _, v := range data.Reviews {
		body.Reviews = append(body.Reviews, keptReview{v.SessionID, v.TrainerID, v.StudentID, v.Stars, v.Comment, timestamp(v.At)})
	}
	if data.Rating.Count > 0 {
		body.Rating = &ratingBody{data.Rating.Average(), data.Rating.Count}
	}
	for _, d := range data.PushTokens {
		body.Devices = append(body.Devices, keptDevice{d.Token, d.Platform, d.Language, timestamp(d.RegisteredAt), liveActivityOf(d.LiveActivity)})
	}
	for _, d := range data.Devices {
		body.Phones = append(body.Phones, deviceOf(d))
	}
	for _, l := range data.ShareLinks {
		body.Links = append(body.Links, keptLink{l.SessionID, a.linkOf(l)})
	}
	for _, j := range data.Journeys {
		body.Journeys = append(body.Journeys, keptJourneyRow{
			j.SessionID, timestamp(j.StartedAt), timestamp(j.EndedAt), j.Reason, j.DistanceM, j.Accepted, j.Refused, timestamp(j.LastSeen),
		})
	}
	for _, e := range data.Audit {
		body.History = append(body.History, keptEntry{e.SessionID, entryOf(e, nil)})
	}
	return succeed(c, http.StatusOK, "All that is kept of the user", body)
}

// eraseUser answers 204 when the user is erased, and 202 while events are still under
// way: the caller repeats it then.
func (a *API) eraseUser(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := parseID("userId", c.Param("userId"))
	if err != nil {
		return err
	}
	pending, err := a.deps.Sessions.EraseUser(ctx, caller, id)
	if err != nil {
		return err
	}
	if pending > 0 {
		return succeed(c, http.StatusAccepted, "Events are still under way; repeat the call", map[string]int{"pendingEvents": pending})
	}
	c.SetStatusCode(http.StatusNoContent)
	return nil
}
