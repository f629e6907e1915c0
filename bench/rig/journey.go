package rig

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// Journey is one journey's two sides. Each call names the gateway it goes to,
// since none is special. Safe for concurrent use.
type Journey struct {
	ID               sessions.ID
	Home             geo.Point
	Trainer, Student *Caller
}

// NewJourney makes a trainer and a student; nothing is booked yet.
func NewJourney(home geo.Point, client *http.Client) (*Journey, error) {
	trainer, err := NewCaller(sessions.Trainer, client)
	if err != nil {
		return nil, err
	}
	student, err := NewCaller(sessions.Student, client)
	return &Journey{ID: sessions.NewID(), Home: home, Trainer: trainer, Student: student}, err
}

// Book makes the session, as the booking side of the house does.
func (j *Journey) Book(ctx context.Context, base string, admin *Caller) Answer {
	return admin.Do(ctx, http.MethodPost, base, "/admin/sessions", map[string]any{
		"sessionId": j.ID, "trainerId": j.Trainer.ID, "studentId": j.Student.ID,
		"studentHome": map[string]float64{"latitude": j.Home.Lat(), "longitude": j.Home.Lng()},
	})
}

// Start starts the journey.
func (j *Journey) Start(ctx context.Context, base string) Answer {
	return j.Trainer.Do(ctx, http.MethodPost, base, fmt.Sprintf("/admin/sessions/%s/start-journey", j.ID), nil)
}

// Update posts a fix, with the phone's time, as phones are asked to: a store that
// stalls may take it late.
func (j *Journey) Update(ctx context.Context, base string, at geo.Point) Answer {
	return j.Trainer.Do(ctx, http.MethodPost, base, "/admin/location-tracking/journey/updates", map[string]any{
		"sessionId": j.ID, "latitude": at.Lat(), "longitude": at.Lng(), "accuracy": 8.5,
		"recordedAt": time.Now().UTC(),
	})
}

// Live reads, waiting up to wait seconds for something other than etag; both
// may be zero.
func (j *Journey) Live(ctx context.Context, base, etag string, wait int) Answer {
	path := fmt.Sprintf("/admin/location-tracking/journey/live?sessionId=%s", j.ID)
	if wait > 0 {
		path += fmt.Sprintf("&wait=%d", wait)
	}
	if etag == "" {
		return j.Student.Do(ctx, http.MethodGet, base, path, nil)
	}
	return j.Student.Do(ctx, http.MethodGet, base, path, nil, "If-None-Match", etag)
}

// Arrive asks for the code.
func (j *Journey) Arrive(ctx context.Context, base string) Answer {
	return j.Trainer.Do(ctx, http.MethodPost, base, fmt.Sprintf("/admin/sessions/%s/arrived", j.ID), nil)
}

// Stop ends the journey.
func (j *Journey) Stop(ctx context.Context, base string) Answer {
	return j.Trainer.Do(ctx, http.MethodPost, base, fmt.Sprintf("/admin/sessions/%s/stop-journey", j.ID), nil)
}
