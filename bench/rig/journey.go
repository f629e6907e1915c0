package rig

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// Journey is the two users of one session. Each call names the gateway that it
// goes to, since the state is in none. Safe for concurrent use.
type Journey struct {
	ID               sessions.ID
	Home             geo.Point
	Trainer, Student *Caller
}

// NewJourney makes a trainer and a student; nothing is booked yet.
func NewJourney(home geo.Point, connections *http.Client) (*Journey, error) {
	trainer, err := NewCaller(sessions.Trainer, connections)
	if err != nil {
		return nil, err
	}
	student, err := NewCaller(sessions.Student, connections)
	return &Journey{ID: sessions.NewID(), Home: home, Trainer: trainer, Student: student}, err
}

// Book creates the session, as an admin.
func (j *Journey) Book(ctx context.Context, base string, admin *Caller) Answer {
	return admin.Do(ctx, http.MethodPost, base, "/admin/sessions", map[string]any{
		"sessionId": j.ID, "trainerId": j.Trainer.ID, "studentId": j.Student.ID,
		"studentHome": map[string]float64{"latitude": j.Home.Lat(), "longitude": j.Home.Lng()},
	})
}

// Start starts the journey.
func (j *Journey) Start(ctx context.Context, base string) Answer {
	return j.change(ctx, base, "start-journey")
}

// Arrive ends the journey at the door and asks for the code.
func (j *Journey) Arrive(ctx context.Context, base string) Answer {
	return j.change(ctx, base, "arrived")
}

// Stop ends the journey without an arrival.
func (j *Journey) Stop(ctx context.Context, base string) Answer {
	return j.change(ctx, base, "stop-journey")
}

func (j *Journey) change(ctx context.Context, base, verb string) Answer {
	return j.Trainer.Do(ctx, http.MethodPost, base, "/admin/sessions/"+string(j.ID)+"/"+verb, nil)
}

// Update reports a fix with the phone's time, as phones should: a store that
// stalls may take it late.
func (j *Journey) Update(ctx context.Context, base string, at geo.Point) Answer {
	return j.Trainer.Do(ctx, http.MethodPost, base, "/admin/location-tracking/journey/updates", map[string]any{
		"sessionId": j.ID, "latitude": at.Lat(), "longitude": at.Lng(), "accuracy": 8.5,
		"recordedAt": time.Now().UTC(),
	})
}

// Live reads the live location, as the student. It waits up to wait seconds for
// another version than etag; both may be zero.
func (j *Journey) Live(ctx context.Context, base, etag string, wait int) Answer {
	path, header := "/admin/location-tracking/journey/live?sessionId="+string(j.ID), []string{}
	if wait > 0 {
		path += "&wait=" + strconv.Itoa(wait)
	}
	if etag != "" {
		header = []string{"If-None-Match", etag}
	}
	return j.Student.Do(ctx, http.MethodGet, base, path, nil, header...)
}
