package api

import (
	"bytes"
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/geo"
	"doorstep/sessions"
)

// journeyBody is a running journey, in the answer to a start and in the refusal
// of a second start.
type journeyBody struct {
	SessionID sessions.ID `json:"sessionId"`
	TrainerID sessions.ID `json:"trainerId"`
	StudentID sessions.ID `json:"studentId"`
	StartedAt *string     `json:"startedAt"`
}

func journeyOf(s sessions.Session) journeyBody {
	return journeyBody{s.ID, s.TrainerID, s.StudentID, timestamp(s.JourneyStartedAt)}
}

// start begins the journey to a session. The body may be empty.
func (a *API) start(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body struct {
		TravelMode *sessions.Mode `json:"travelMode"`
	}
	if len(bytes.TrimSpace(c.Request.Body())) > 0 {
		if err := decode(c, &body); err != nil {
			return err
		}
	}
	mode, err := travelMode(body.TravelMode)
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.Start(ctx, caller, id, mode)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusCreated, "Journey started", journeyOf(session))
}

func travelMode(m *sessions.Mode) (sessions.Mode, error) {
	if m == nil {
		return "", nil
	}
	if _, err := geo.ParseMode(string(*m)); err != nil || *m == "" {
		return "", invalid("travelMode", "travelMode must be car, bike or walk")
	}
	return *m, nil
}
