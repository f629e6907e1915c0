package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// updateBody is what a phone sends every five seconds.
type updateBody struct {
	SessionID *string `json:"sessionId"`
	coordinates
	Accuracy   *float64   `json:"accuracy"`
	Speed      *float64   `json:"speed"`
	Heading    *float64   `json:"heading"`
	RecordedAt *time.Time `json:"recordedAt"`
	Mock       *bool      `json:"mock"`
}

// receiptBody is the answer to a fix that was not refused. seq is the version
// that a live read would show.
type receiptBody struct {
	SessionID    sessions.ID `json:"sessionId"`
	Timestamp    *string     `json:"timestamp"`
	TTL          int64       `json:"ttl"`
	Seq          int64       `json:"seq"`
	DistanceM    *float64    `json:"distanceMeters"`
	Arriving     bool        `json:"arriving"`
	NextUpdateMS int64       `json:"nextUpdateMs"`
	Ignored      string      `json:"ignored,omitempty"`
	Stale        bool        `json:"stale,omitempty"`
}

// unstoredBody is the answer while the live store is away.
type unstoredBody struct {
	SessionID    sessions.ID `json:"sessionId"`
	Stored       bool        `json:"stored"`
	NextUpdateMS int64       `json:"nextUpdateMs"`
}

// update takes one fix. A phone is never shown a 5xx for a location: what could
// not be stored is answered 202, and the next fix will do.
func (a *API) update(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, fix, err := decodeUpdate(c)
	if err != nil {
		return err
	}
	receipt, err := a.deps.Sessions.Update(ctx, caller, id, fix)
	switch {
	case unavailable(err):
		a.deps.Metrics.Updated("unavailable")
		return succeed(c, http.StatusAccepted, "Location accepted, not stored",
			unstoredBody{SessionID: id, NextUpdateMS: a.deps.RateInterval.Milliseconds()})
	case err != nil:
		a.deps.Metrics.Updated("refused")
		return err
	}
	a.deps.Metrics.Updated(receipt.Verdict.String())
	for _, flag := range sessions.Suspicions(receipt.Flags).Names() {
		a.deps.Metrics.Flagged(flag)
	}
	return answerUpdate(c, id, receipt)
}

func decodeUpdate(c *app.RequestContext) (sessions.ID, sessions.Fix, error) {
	var body updateBody
	if err := decode(c, &body); err != nil {
		return "", sessions.Fix{}, err
	}
	if body.SessionID == nil {
		return "", sessions.Fix{}, invalid("sessionId is required")
	}
	id, err := parseID("sessionId", *body.SessionID)
	if err != nil {
		return "", sessions.Fix{}, err
	}
	fix, err := body.fix()
	return id, fix, err
}

func (b updateBody) fix() (sessions.Fix, error) {
	at, err := b.point("")
	if err != nil {
		return sessions.Fix{}, err
	}
	fix := sessions.Fix{Point: at, SpeedKMH: b.Speed, HeadingDeg: b.Heading}
	if b.Accuracy != nil {
		fix.AccuracyM = *b.Accuracy
	}
	if b.RecordedAt != nil {
		// Not left to NewFix: to it the year 1 is a phone that did not say.
		if fix.RecordedAt, err = sessions.Instant("recordedAt", *b.RecordedAt); err != nil {
			return sessions.Fix{}, err
		}
	}
	fix.Mock = b.Mock != nil && *b.Mock
	return sessions.NewFix(fix)
}

func unavailable(err error) bool {
	code := sessions.CodeOf(err)
	return code == sessions.LiveStoreUnavailable || code == sessions.DatabaseUnavailable || errors.Is(err, sessions.ErrUnavailable)
}

func answerUpdate(c *app.RequestContext, id sessions.ID, r sessions.Receipt) error {
	body := receiptBody{
		SessionID: id, Timestamp: timestamp(r.At), TTL: int64(r.TTL / time.Second), Seq: r.Version,
		Arriving: r.Arriving, NextUpdateMS: r.NextUpdate.Milliseconds(),
	}
	switch r.Verdict {
	case sessions.VerdictStored:
		body.DistanceM = &r.DistanceM
		return succeed(c, http.StatusCreated, "Location updated", body)
	case sessions.VerdictVague:
		body.Ignored = "low_accuracy"
		return succeed(c, http.StatusCreated, "Location too inaccurate to store", body)
	case sessions.VerdictStale:
		body.Stale = true
		return succeed(c, http.StatusOK, "Location is not newer than the live one", body)
	default:
		return refusalOf(r)
	}
}

func refusalOf(r sessions.Receipt) error {
	switch r.Verdict {
	case sessions.VerdictTooSoon:
		return &sessions.Error{Code: sessions.RateLimited, Message: "too soon after the last update", RetryAfter: r.RetryAfter}
	case sessions.VerdictJump:
		return implausible(r, sessions.ImplausibleJump, "too far from the last location for the time between")
	case sessions.VerdictSpeed, sessions.VerdictCeiling:
		return implausible(r, sessions.ImplausibleSpeed, "faster than the travel mode allows")
	default:
		return sessions.Refuse(sessions.NoActiveJourney, "no journey to this session is running")
	}
}

// implausible tells when the next fix may come: a refused one counts against
// the rate, so a phone that waited its own five seconds could be too soon.
func implausible(r sessions.Receipt, code sessions.Code, message string) error {
	return &sessions.Error{Code: code, Message: message, RetryAfter: r.NextUpdate}
}
