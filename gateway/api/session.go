package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/geo"
	"doorstep/sessions"
)

type bookingBody struct {
	SessionID   *string        `json:"sessionId"`
	TrainerID   *string        `json:"trainerId"`
	StudentID   *string        `json:"studentId"`
	ScheduledAt *scalar        `json:"scheduledAt"`
	StudentHome *coordinates   `json:"studentHome"`
	TravelMode  *sessions.Mode `json:"travelMode"`
	Region      *string        `json:"region"`
}

type sessionBody struct {
	SessionID        sessions.ID        `json:"sessionId"`
	TrainerID        sessions.ID        `json:"trainerId"`
	StudentID        sessions.ID        `json:"studentId"`
	Status           sessions.Status    `json:"status"`
	ScheduledAt      *string            `json:"scheduledAt"`
	StudentHome      *homeBody          `json:"studentHome"`
	TravelMode       sessions.Mode      `json:"travelMode"`
	Region           string             `json:"region,omitempty"`
	JourneyStartedAt *string            `json:"journeyStartedAt"`
	JourneyEndedAt   *string            `json:"journeyEndedAt"`
	JourneyEndReason sessions.EndReason `json:"journeyEndReason,omitempty"`
	ArrivedAt        *string            `json:"arrivedAt"`
	OTP              string             `json:"otp,omitempty"`
	OTPState         sessions.CodeState `json:"otpState,omitempty"`
	OTPExpiresAt     *string            `json:"otpExpiresAt,omitempty"`
	StartedAt        *string            `json:"startedAt"`
	CompletedAt      *string            `json:"completedAt"`
	ClosedAt         *string            `json:"closedAt,omitempty"`
	CloseReason      string             `json:"closeReason,omitempty"`
	CreatedAt        *string            `json:"createdAt"`
}

type homeBody struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

// homeOf is nil for a home that is not shown, or that another service wrote and that
// cannot be read.
func homeOf(p geo.Point) *homeBody {
	if !p.Valid() {
		return nil
	}
	return &homeBody{p.Lat(), p.Lng()}
}

func sessionOf(s sessions.Session, now time.Time) sessionBody {
	body := sessionBody{
		SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID, Status: s.Status,
		ScheduledAt: timestamp(s.ScheduledAt), StudentHome: homeOf(s.Home), TravelMode: s.Mode, Region: s.Region,
		JourneyStartedAt: timestamp(s.JourneyStartedAt), JourneyEndedAt: timestamp(s.JourneyEndedAt),
		JourneyEndReason: s.JourneyEndReason, ArrivedAt: timestamp(s.ArrivedAt),
		StartedAt: timestamp(s.StartedAt), CompletedAt: timestamp(s.CompletedAt), CreatedAt: timestamp(s.CreatedAt),
		ClosedAt: timestamp(s.ClosedAt), CloseReason: s.CloseReason,
	}
	if state := s.CodeState(now); state != "" {
		body.OTP, body.OTPState, body.OTPExpiresAt = s.OTP, state, timestamp(s.OTPExpiresAt)
	}
	return body
}

// createSession books a session. The same booking again answers 200 and changes
// nothing.
func (a *API) createSession(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	var body bookingBody
	if err := decode(c, &body); err != nil {
		return err
	}
	booking, err := body.booking()
	if err != nil {
		return err
	}
	if booking.Key, err = idempotencyKey(c); err != nil {
		return err
	}
	hash := sha256.Sum256(bytes.TrimSpace(c.Request.Body()))
	booking.BodyHash = hex.EncodeToString(hash[:])
	session, created, err := a.deps.Sessions.Create(ctx, caller, booking)
	if err != nil {
		return err
	}
	if !created {
		return succeed(c, http.StatusOK, "Session was booked already", sessionOf(session, a.deps.Now()))
	}
	return succeed(c, http.StatusCreated, "Session booked", sessionOf(session, a.deps.Now()))
}

// idempotencyKey is the request's Idempotency-Key: 1 to 255 visible ASCII characters;
// empty where there is none.
func idempotencyKey(c *app.RequestContext) (string, error) {
	const name = "Idempotency-Key"
	all := c.Request.Header.PeekAll(name)
	if len(all) == 0 {
		return "", nil
	}
	key := string(all[0])
	visible := func(r rune) bool { return r > ' ' && r <= '~' }
	if len(all) > 1 || key == "" || len(key) > 255 || strings.ContainsFunc(key, func(r rune) bool { return !visible(r) }) {
		return "", invalid(name, name+" must be 1 to 255 visible ASCII characters, once")
	}
	return key, nil
}

func (b bookingBody) booking() (sessions.Booking, error) {
	var out sessions.Booking
	var err error
	if b.SessionID != nil {
		if out.ID, err = parseID("sessionId", *b.SessionID); err != nil {
			return out, err
		}
	}
	if out.TrainerID, err = requiredID("trainerId", b.TrainerID); err != nil {
		return out, err
	}
	if out.StudentID, err = requiredID("studentId", b.StudentID); err != nil {
		return out, err
	}
	if out.TrainerID == out.StudentID {
		return out, invalid("studentId", "trainerId and studentId must differ")
	}
	if b.StudentHome == nil {
		return out, invalid("studentHome", "studentHome is required")
	}
	if out.Home, err = b.StudentHome.point("studentHome."); err != nil {
		return out, err
	}
	if b.ScheduledAt != nil {
		if out.ScheduledAt, err = instant("scheduledAt", string(*b.ScheduledAt)); err != nil {
			return out, err
		}
	}
	if b.Region != nil {
		if out.Region, err = regionName(*b.Region); err != nil {
			return out, err
		}
	}
	out.Mode, err = travelMode(b.TravelMode)
	return out, err
}

// regionName checks the form of a region; the service knows which there are.
func regionName(text string) (string, error) {
	if !sessions.ValidRegion(text) {
		return "", invalid("region", "region must be 1 to 32 lower-case letters, digits and hyphens")
	}
	return text, nil
}

// instant reads an instant of the back office, which has no phone's excuses.
func instant(field, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, invalid(field, field+" must be an instant of RFC 3339")
	}
	return sessions.Instant(field, t)
}

func requiredID(field string, text *string) (sessions.ID, error) {
	if text == nil {
		return "", invalid(field, field+" is required")
	}
	return parseID(field, *text)
}

// readSession answers with one session. Its parties and admins may read it.
func (a *API) readSession(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.Session(ctx, caller, id)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Session", sessionOf(session, a.deps.Now()))
}
