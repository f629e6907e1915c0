package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type sessionsBody struct {
	Sessions   []sessionBody `json:"sessions"`
	NextCursor *string       `json:"nextCursor"`
}

type journeysBody struct {
	Journeys   []runningBody `json:"journeys"`
	NextCursor *string       `json:"nextCursor"`
}

const (
	defaultPage = 50
	maxPage     = 200
)

// ownSessions answers with the caller's own sessions, latest booking first.
func (a *API) ownSessions(as sessions.Role) func(context.Context, *app.RequestContext, sessions.Caller) error {
	return func(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
		q, err := pageOf(c)
		if err != nil {
			return err
		}
		list, err := a.deps.Sessions.Own(ctx, caller, as, more(q))
		if err != nil {
			return err
		}
		return a.answerSessions(c, list, q.Limit)
	}
}

// listSessions answers with the sessions that an admin asks for.
func (a *API) listSessions(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	q, err := queryOf(c)
	if err != nil {
		return err
	}
	list, err := a.deps.Sessions.List(ctx, caller, more(q))
	if err != nil {
		return err
	}
	return a.answerSessions(c, list, q.Limit)
}

// more asks for one entry more than the page, to know whether there is another page.
func more(q sessions.SessionQuery) sessions.SessionQuery {
	q.Limit++
	return q
}

func (a *API) answerSessions(c *app.RequestContext, list []sessions.Session, limit int) error {
	page, next := cut(list, limit, func(s sessions.Session) sessions.Cursor { return sessions.Cursor{At: s.ScheduledAt, ID: s.ID} })
	bodies := make([]sessionBody, len(page))
	for i, s := range page {
		bodies[i] = a.listed(c, s)
	}
	return succeed(c, http.StatusOK, "Sessions", sessionsBody{bodies, next})
}

// listed is a session among others.
func (a *API) listed(c *app.RequestContext, s sessions.Session) sessionBody {
	body := sessionOf(s, a.deps.Now())
	if body.OTP != "" {
		recordOf(c).secret = true
	}
	return body
}

// cut is the first entries of a list that has one more than the page if there is another
// page, and the cursor of that page; nil where there is none.
func cut[T any](list []T, limit int, cursorOf func(T) sessions.Cursor) ([]T, *string) {
	if len(list) <= limit {
		return list, nil
	}
	next := cursorText(cursorOf(list[limit-1]))
	return list[:limit], &next
}

// queryOf reads the query of an admin's list.
func queryOf(c *app.RequestContext) (q sessions.SessionQuery, err error) {
	if q, err = pageOf(c); err != nil {
		return q, err
	}
	if text, ok := c.GetQuery("status"); ok {
		if q.Status = sessions.Status(text); !slices.Contains(sessions.Statuses(), q.Status) {
			return q, invalid("status", "status must be one of the statuses of a session")
		}
	}
	for name, into := range map[string]*sessions.ID{"trainerId": &q.TrainerID, "studentId": &q.StudentID} {
		if err := queryID(c, name, into); err != nil {
			return q, err
		}
	}
	for name, into := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		if text, ok := c.GetQuery(name); ok {
			if *into, err = instant(name, text); err != nil {
				return q, err
			}
		}
	}
	return q, nil
}

func queryID(c *app.RequestContext, name string, into *sessions.ID) (err error) {
	if text, ok := c.GetQuery(name); ok {
		*into, err = parseID(name, text)
	}
	return err
}

// pageOf reads limit and cursor.
func pageOf(c *app.RequestContext) (q sessions.SessionQuery, err error) {
	if q.Limit, err = limitOf(c); err != nil {
		return q, err
	}
	if text, ok := c.GetQuery("cursor"); ok {
		if q.After, ok = parseCursor(text); !ok {
			return q, errCursor
		}
	}
	return q, nil
}

var errCursor = invalid("cursor", "cursor must be a nextCursor of this list")

func limitOf(c *app.RequestContext) (int, error) {
	text, ok := c.GetQuery("limit")
	if !ok {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, invalid("limit", "limit must be a whole number from 1 to 200")
	}
	return limit, nil
}

// cursorText is opaque to callers. It holds no secret.
func cursorText(at sessions.Cursor) string {
	ms := ""
	if !at.At.IsZero() {
		ms = strconv.FormatInt(at.At.UnixMilli(), 10)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(ms + "." + string(at.ID)))
}

func parseCursor(text string) (at sessions.Cursor, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return at, false
	}
	ms, id, _ := strings.Cut(string(raw), ".")
	if ms != "" {
		n, err := strconv.ParseInt(ms, 10, 64)
		if err != nil {
			return at, false
		}
		if at.At, err = sessions.Instant("cursor", time.UnixMilli(n)); err != nil {
			return at, false
		}
	}
	at.ID, ok = sessions.ParseID(id)
	return at, ok
}

// runningBody is a journey in the list of those that run.
type runningBody struct {
	journeyBody
	TravelMode    sessions.Mode  `json:"travelMode"`
	Phase         sessions.Phase `json:"phase"`
	Location      *locationBody  `json:"location"`
	FixAgeMS      *int64         `json:"fixAgeMs"`
	DistanceM     *float64       `json:"distanceMeters"`
	ETASeconds    *int64         `json:"etaSeconds"`
	SilentSeconds int64          `json:"silentSeconds"`
	Flags         []string       `json:"flags"`
	Degraded      bool           `json:"degraded,omitempty"`
}

type locationBody struct {
	homeBody
	Accuracy  *float64 `json:"accuracy,omitempty"`
	Speed     *float64 `json:"speed,omitempty"`
	Heading   *float64 `json:"heading,omitempty"`
	Timestamp *string  `json:"timestamp"`
}

func runningOf(j sessions.RunningJourney) runningBody {
	body := runningBody{
		journeyBody: journeyOf(j.Session), TravelMode: j.Session.JourneyMode, Phase: j.View.Phase(),
		ETASeconds: j.View.ETASeconds(), SilentSeconds: int64(j.Silent / time.Second), Flags: []string{}, Degraded: j.View.Degraded,
	}
	body.Flags = append(body.Flags, j.View.Suspicions.Names()...)
	if at := j.View.Location; at != nil {
		age := j.View.FixAge().Milliseconds()
		body.Location = &locationBody{
			homeBody: homeBody{at.Point.Lat(), at.Point.Lng()}, Speed: at.SpeedKMH, Heading: at.HeadingDeg, Timestamp: timestamp(at.RecordedAt),
		}
		if at.AccuracyM > 0 {
			body.Location.Accuracy = &at.AccuracyM
		}
		body.FixAgeMS, body.DistanceM = &age, &j.View.DistanceM
	}
	return body
}

// listJourneys answers with the journeys that run, the longest running first.
func (a *API) listJourneys(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	q, err := pageOf(c)
	if err != nil {
		return err
	}
	if err := queryID(c, "trainerId", &q.TrainerID); err != nil {
		return err
	}
	list, err := a.deps.Sessions.Journeys(ctx, caller, q.TrainerID, q.After, q.Limit+1)
	if err != nil {
		return err
	}
	page, next := cut(list, q.Limit, func(j sessions.RunningJourney) sessions.Cursor {
		return sessions.Cursor{At: j.Session.JourneyStartedAt, ID: j.Session.ID}
	})
	bodies := make([]runningBody, len(page))
	for i, j := range page {
		bodies[i] = runningOf(j)
	}
	return succeed(c, http.StatusOK, "Running journeys", journeysBody{bodies, next})
}

// rating answers with a trainer's rating. Every caller may read it.
func (a *API) rating(ctx context.Context, c *app.RequestContext, _ sessions.Caller) error {
	id, err := parseID("trainerId", c.Param("trainerId"))
	if err != nil {
		return err
	}
	rating, err := a.deps.Sessions.Rating(ctx, id)
	if err != nil {
		return err
	}
	var average *float64
	if rating.Count > 0 {
		average = new(rating.Average())
	}
	return succeed(c, http.StatusOK, "Rating", map[string]any{"average": average, "count": rating.Count})
}
