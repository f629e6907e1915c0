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
	return j.change(ctx, base, "start-journey", nil)
}

// Ride is how long a journey takes at least, by the store's clock: none arrives
// sooner.
const Ride = 10 * time.Second

// Street is a place near the home, but outside the fence: where a journey's first fix
// is, so that one more fix at the door lets it in after a Ride.
func (j *Journey) Street() geo.Point { return geo.Offset(j.Home, 0, 200) }

// Arrive ends the journey at the door and asks for the code. at is where the phone
// is; without it the last update decides.
func (j *Journey) Arrive(ctx context.Context, base string, at ...geo.Point) Answer {
	var body any
	if len(at) > 0 {
		body = j.Fix(at[0], time.Now())
	}
	return j.change(ctx, base, "arrived", body)
}

// Stop ends the journey without an arrival.
func (j *Journey) Stop(ctx context.Context, base string) Answer {
	return j.change(ctx, base, "stop-journey", nil)
}

func (j *Journey) change(ctx context.Context, base, verb string, body any) Answer {
	return j.Trainer.Do(ctx, http.MethodPost, base, "/admin/sessions/"+string(j.ID)+"/"+verb, body)
}

// Update reports a fix that was taken now.
func (j *Journey) Update(ctx context.Context, base string, at geo.Point) Answer {
	return j.Report(ctx, base, j.Fix(at, time.Now()))
}

// Fix is a fix as a phone sends it at once, with both times of its clock.
func (j *Journey) Fix(at geo.Point, now time.Time) map[string]any {
	instant := now.UTC().Format("2006-01-02T15:04:05.000Z")
	return map[string]any{
		"sessionId": j.ID, "latitude": at.Lat(), "longitude": at.Lng(), "accuracy": 8.5, "recordedAt": instant, "sentAt": instant,
	}
}

// Report sends a Fix.
func (j *Journey) Report(ctx context.Context, base string, fix map[string]any) Answer {
	return j.Trainer.Do(ctx, http.MethodPost, base, "/admin/location-tracking/journey/updates", fix)
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
