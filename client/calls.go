package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	updatePath = "/admin/location-tracking/journey/updates"
	livePath   = "/admin/location-tracking/journey/live"
	sharedPath = "/share/live"
)

// instantLayout is RFC 3339 in UTC with milliseconds, as the API has it.
const instantLayout = "2006-01-02T15:04:05.000Z"

// instant is nil for the zero time, which is then left out of a body.
func instant(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC().Format(instantLayout))
}

func sessionPath(id, verb string) string { return "/admin/sessions/" + url.PathEscape(id) + verb }

func post[T any](ctx context.Context, c *Client, call, session, path string, body any) (T, error) {
	var into T
	err := c.call(ctx, Request{Method: http.MethodPost, Path: path, Body: body, Session: session}, &into)
	return into, describe(call, err)
}

// Book creates a session, as an admin. Codes: InvalidRequest, SessionConflict
// for the same id with another booking.
func (c *Client) Book(ctx context.Context, b Booking) (Session, error) {
	return post[Session](ctx, c, "book", "", "/admin/sessions", struct {
		SessionID   string     `json:"sessionId,omitempty"`
		TrainerID   string     `json:"trainerId"`
		StudentID   string     `json:"studentId"`
		ScheduledAt *string    `json:"scheduledAt,omitempty"`
		StudentHome Point      `json:"studentHome"`
		TravelMode  TravelMode `json:"travelMode,omitempty"`
		Region      string     `json:"region,omitempty"`
	}{b.SessionID, b.TrainerID, b.StudentID, instant(b.ScheduledAt), b.StudentHome, b.TravelMode, b.Region})
}

// Session reads a session, as one of its parties or an admin. Codes:
// SessionNotFound, Forbidden.
func (c *Client) Session(ctx context.Context, sessionID string) (Session, error) {
	var s Session
	err := c.call(ctx, Request{Method: http.MethodGet, Path: sessionPath(sessionID, "")}, &s)
	return s, describe("session", err)
}

// MySessions lists a student's own sessions, the latest booking first.
func (c *Client) MySessions(ctx context.Context) ([]Session, error) {
	var list struct {
		Sessions []Session `json:"sessions"`
	}
	err := c.call(ctx, Request{Method: http.MethodGet, Path: "/students/me/sessions"}, &list)
	return list.Sessions, describe("my sessions", err)
}

// StartJourney starts the journey to a session, as its trainer. An empty mode
// is the booked one. Codes: SessionNotFound, Forbidden, NotScheduled,
// TrainerBusy, and JourneyAlreadyStarted with the running journey, which is
// also what a repeat after a lost answer gets.
func (c *Client) StartJourney(ctx context.Context, sessionID string, mode TravelMode) (Journey, error) {
	var body any
	if mode != "" {
		body = map[string]TravelMode{"travelMode": mode}
	}
	return post[Journey](ctx, c, "start journey", sessionID, sessionPath(sessionID, "/start-journey"), body)
}

// position is a fix in a body.
type position struct {
	Point
	Accuracy   *float64 `json:"accuracy,omitempty"`
	Speed      *float64 `json:"speed,omitempty"`
	Heading    *float64 `json:"heading,omitempty"`
	RecordedAt *string  `json:"recordedAt,omitempty"`
	Mock       bool     `json:"mock,omitempty"`
}

func positionOf(f Fix) *position {
	return &position{f.Point, f.AccuracyM, f.SpeedKMH, f.HeadingDeg, instant(f.RecordedAt), f.Mock}
}

// fixBody is the body of an update and of an arrival.
type fixBody struct {
	SessionID string `json:"sessionId,omitempty"`
	*position
	SentAt *string     `json:"sentAt,omitempty"`
	Fixes  []*position `json:"fixes,omitempty"`
}

// Update reports one fix, as the session's trainer. A refusal is an *Error:
// RateLimited, ImplausibleSpeed and ImplausibleJump with RetryAfter;
// NoActiveJourney; InvalidRequest. With Fix.RecordedAt a repeat after a lost
// answer is harmless. Reporter does the repeating and keeps the pace.
func (c *Client) Update(ctx context.Context, sessionID string, f Fix) (Receipt, error) {
	return c.update(ctx, fixBody{SessionID: sessionID, position: positionOf(f), SentAt: instant(f.SentAt)})
}

// UpdateBatch reports up to MaxBatch fixes that waited for the network, in any
// order; each needs its RecordedAt. SentAt of the last one is the request's. The
// receipt is that of the newest fix, with the Counts of all. Errors as Update, but
// for implausible fixes, which the Counts tell. RateLimited: none was stored. The
// batch may be sent again after a lost answer and after NotStored.
func (c *Client) UpdateBatch(ctx context.Context, sessionID string, fixes []Fix) (Receipt, error) {
	body := fixBody{SessionID: sessionID}
	for _, f := range fixes {
		body.Fixes, body.SentAt = append(body.Fixes, positionOf(f)), instant(f.SentAt)
	}
	return c.update(ctx, body)
}

func (c *Client) update(ctx context.Context, body fixBody) (Receipt, error) {
	var data struct {
		At         time.Time       `json:"timestamp"`
		TTLSeconds int64           `json:"ttl"`
		Seq        int64           `json:"seq"`
		DistanceM  *float64        `json:"distanceMeters"`
		Arriving   bool            `json:"arriving"`
		NextMS     int64           `json:"nextUpdateMs"`
		Ignored    Verdict         `json:"ignored"`
		Stale      bool            `json:"stale"`
		Counts     map[Verdict]int `json:"counts"`
	}
	request := Request{Method: http.MethodPost, Path: updatePath, Body: body, Session: body.SessionID}
	if c.minimal {
		request.Header = http.Header{"Prefer": {"return=minimal"}}
	}
	a, err := c.Do(ctx, request)
	if err == nil && a.Status == http.StatusNoContent {
		if r, ok := receiptOf(a.Header); ok {
			if body.Fixes != nil {
				r.Counts = map[Verdict]int{Stored: len(body.Fixes)}
			}
			return r, nil
		}
	}
	if err == nil {
		err = a.into(&data)
	}
	if err != nil {
		return Receipt{}, describe("update", err)
	}
	r := Receipt{
		Verdict: Stored, At: data.At, TTL: time.Duration(data.TTLSeconds) * time.Second, Seq: data.Seq, Counts: data.Counts,
		DistanceM: data.DistanceM, Arriving: data.Arriving, NextUpdate: time.Duration(data.NextMS) * time.Millisecond,
	}
	switch {
	case a.Status == http.StatusAccepted:
		r.Verdict = NotStored
	case data.Stale:
		r.Verdict = Stale
	case data.Ignored != "":
		r.Verdict = data.Ignored
	case data.Counts != nil && data.DistanceM == nil:
		r.Verdict = Implausible
	}
	return r, nil
}

// receiptOf reads the receipt of an answer without a body: all is stored. It reports false
// where the answer is not the gateway's: captive portals know 204, too.
func receiptOf(h http.Header) (r Receipt, ok bool) {
	next, err := strconv.ParseInt(h.Get("Next-Update-Ms"), 10, 64)
	seq, _ := strconv.ParseInt(strings.Trim(h.Get("ETag"), `W/"`), 10, 64) // 0 where a proxy has rewritten it
	return Receipt{Verdict: Stored, Seq: seq, NextUpdate: time.Duration(next) * time.Millisecond}, err == nil
}

// ReadOptions are the conditions of a live read.
type ReadOptions struct {
	// ETag is what the reader knows already: View.ETag of an earlier read. Empty:
	// nothing.
	ETag string
	// Wait is how long the gateway may hold the read until there is something
	// newer than ETag; whole seconds, 30 s at most. 0: it answers at once. With a
	// Wait and no ETag it waits for the next change from now.
	Wait time.Duration
}

// Live reads the live location, as the session's student, its trainer or an
// admin. Codes: SessionNotFound, Forbidden, TooManyWaits. Follower repeats it.
func (c *Client) Live(ctx context.Context, sessionID string, o ReadOptions) (View, error) {
	return c.live(ctx, sessionID, livePath+"?sessionId="+url.QueryEscape(sessionID), "&", o)
}

// ShareLink is a share link as the LiveReader of a Follower, which then needs no SessionID:
// the token of Client is what follows # in the link's URL. Safe for concurrent use.
type ShareLink struct{ Client *Client }

// Live reads the live location by the link; it has no ids. The session id is not looked at.
// Codes: LinkGone, which no repeat mends, TooManyWaits, RateLimited, DatabaseUnavailable,
// LiveStoreUnavailable.
func (l ShareLink) Live(ctx context.Context, _ string, o ReadOptions) (View, error) {
	return l.Client.live(ctx, sharedPath, sharedPath, "?", o)
}

// live reads at path; before is what stands before a further parameter. session is the one
// that is read, or the path of a link's, whose token shows but one.
func (c *Client) live(ctx context.Context, session, path, before string, o ReadOptions) (View, error) {
	r := Request{Method: http.MethodGet, Path: path, Wait: o.Wait, Session: session}
	if s := int(o.Wait / time.Second); s > 0 {
		r.Path += before + "wait=" + strconv.Itoa(s)
	}
	if o.ETag != "" {
		r.Header = http.Header{"If-None-Match": {o.ETag}}
	}
	a, err := c.Do(ctx, r)
	if err == nil && a.Status == http.StatusNotModified {
		return View{NotModified: true, ETag: o.ETag}, nil
	}
	var v View
	if err == nil {
		err = a.into(&v)
	}
	if err != nil {
		return View{}, describe("live", err)
	}
	v.ETag = a.Header.Get("ETag")
	return v, nil
}

// Arrive ends the journey at the student's door, as the trainer. at is where the
// phone is now; nil: the last update decides. A repeat gives the same answer while
// the code lives. Codes: NotWithinRadius with DistanceM and RadiusM,
// NoFreshLocation, SuspiciousLocation, ImplausibleSpeed, ImplausibleJump,
// NoActiveJourney, LiveStoreUnavailable.
//
// A journey needs some seconds and some fixes to be believed. The refusal is then
// Temporary: continue to report fixes, and call again after RetryAfter, as Repeat
// does.
func (c *Client) Arrive(ctx context.Context, sessionID string, at *Fix) (Arrival, error) {
	var body any
	if at != nil {
		body = fixBody{position: positionOf(*at), SentAt: instant(at.SentAt)}
	}
	return post[Arrival](ctx, c, "arrived", sessionID, sessionPath(sessionID, "/arrived"), body)
}

// StopJourney ends the journey without an arrival, as the trainer or an admin,
// and returns when that was. Codes: NoActiveJourney, also for a repeat.
func (c *Client) StopJourney(ctx context.Context, sessionID string) (time.Time, error) {
	data, err := post[struct {
		StoppedAt time.Time `json:"stoppedAt"`
	}](ctx, c, "stop journey", sessionID, sessionPath(sessionID, "/stop-journey"), nil)
	return data.StoppedAt, err
}

// Verify checks the code that the student read out, as the trainer, and returns
// when the lesson began. A repeat of a call that succeeded is refused with
// NotPendingVerification: read the session after a lost answer. Codes: OTPWrong
// with AttemptsLeft, OTPExpired, OTPLocked.
func (c *Client) Verify(ctx context.Context, sessionID, otp string) (time.Time, error) {
	data, err := post[struct {
		StartedAt time.Time `json:"startedAt"`
	}](ctx, c, "verify", "", sessionPath(sessionID, "/verify-otp"), map[string]string{"otp": otp})
	return data.StartedAt, err
}

// Complete ends the lesson, as the trainer or an admin, and returns when that
// was. Code: NotInProgress, also for a repeat.
func (c *Client) Complete(ctx context.Context, sessionID string) (time.Time, error) {
	data, err := post[struct {
		CompletedAt time.Time `json:"completedAt"`
	}](ctx, c, "complete", sessionID, sessionPath(sessionID, "/complete"), nil)
	return data.CompletedAt, err
}

// Review rates a completed session, as its student: 1 to 5, and a comment that
// may be empty. Codes: NotCompleted, AlreadyReviewed.
func (c *Client) Review(ctx context.Context, sessionID string, rating int, comment string) (Review, error) {
	return post[Review](ctx, c, "review", "", "/students/sessions/"+url.PathEscape(sessionID)+"/review", struct {
		Rating  int    `json:"rating"`
		Comment string `json:"comment,omitempty"`
	}{rating, comment})
}

// PutPushToken registers this device of the user. language is a BCP 47 tag for
// the texts of the pushes; empty: the gateway's default.
func (c *Client) PutPushToken(ctx context.Context, token string, platform Platform, language string) error {
	err := c.call(ctx, Request{Method: http.MethodPut, Path: "/me/push-tokens", Body: struct {
		Token    string   `json:"token"`
		Platform Platform `json:"platform"`
		Language string   `json:"language,omitempty"`
	}{token, platform, language}}, nil)
	return describe("put push token", err)
}

// DeletePushToken removes a device of the user. A token that is not the user's
// gives no error either.
func (c *Client) DeletePushToken(ctx context.Context, token string) error {
	err := c.call(ctx, Request{Method: http.MethodDelete, Path: "/me/push-tokens", Body: map[string]string{"token": token}}, nil)
	return describe("delete push token", err)
}

// Alive reports whether the gateway's process answers. No token is sent.
func (c *Client) Alive(ctx context.Context) error {
	a, err := c.health(ctx, "/healthz")
	if err == nil {
		err = a.into(nil)
	}
	return describe("alive", err)
}

// Ready reports whether the gateway should get traffic. Not ready is an answer,
// not an error. No token is sent.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	a, err := c.health(ctx, "/readyz")
	if err != nil {
		return Readiness{}, describe("ready", err)
	}
	r := Readiness{Ready: a.Status == http.StatusOK}
	if json.Unmarshal(a.Data, &r.Parts) != nil {
		return Readiness{}, describe("ready", a.into(&r.Parts))
	}
	return r, nil
}

func (c *Client) health(ctx context.Context, path string) (Answer, error) {
	anonymous := *c
	anonymous.token = nil
	return anonymous.do(ctx, Request{Method: http.MethodGet, Path: path})
}
