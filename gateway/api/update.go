package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// updateBody is one fix, as a phone sends it every five seconds.
type updateBody struct {
	SessionID *string `json:"sessionId"`
	coordinates
	Accuracy   *float64   `json:"accuracy"`
	Speed      *float64   `json:"speed"`
	Heading    *float64   `json:"heading"`
	RecordedAt *time.Time `json:"recordedAt"`
	Mock       *bool      `json:"mock"`
}

// unstoredBody is the data of the 202 answer to an update that could not be
// stored, because the live store or the database is away.
type unstoredBody struct {
	SessionID    sessions.ID `json:"sessionId"`
	Stored       bool        `json:"stored"`
	NextUpdateMS int64       `json:"nextUpdateMs"`
}

// update takes one fix of a phone. While a store is away it answers 202 and never
// 5xx: the phone has done nothing wrong, and its next fix replaces the lost one.
func (a *API) update(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, fix, err := decodeUpdate(c)
	if err != nil {
		return err
	}
	receipt, err := a.deps.Sessions.Update(ctx, caller, id, fix)
	switch {
	case sessions.Unavailable(err):
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
		// Checked here, because NewFix takes the year 1 for "the phone did not say".
		if fix.RecordedAt, err = sessions.Instant("recordedAt", *b.RecordedAt); err != nil {
			return sessions.Fix{}, err
		}
	}
	fix.Mock = b.Mock != nil && *b.Mock
	return sessions.NewFix(fix)
}

func answerUpdate(c *app.RequestContext, id sessions.ID, r sessions.Receipt) error {
	switch r.Verdict {
	case sessions.VerdictStored:
		answerReceipt(c, http.StatusCreated, "Location updated", id, r)
	case sessions.VerdictVague:
		answerReceipt(c, http.StatusCreated, "Location too inaccurate to store", id, r)
	case sessions.VerdictStale:
		answerReceipt(c, http.StatusOK, "Location is not newer than the live one", id, r)
	default:
		return refusalOf(r)
	}
	return nil
}

// answerReceipt answers a fix that was not refused. seq is the version that a
// live read shows in its ETag.
func answerReceipt(c *app.RequestContext, status int, message string, id sessions.ID, r sessions.Receipt) {
	b := beginSuccess(c, status, message)
	b = appendID(b, "sessionId", id)
	b = appendTime(b, "timestamp", r.At)
	b = appendInt(b, "ttl", int64(r.TTL/time.Second))
	b = appendInt(b, "seq", r.Version)
	if r.Verdict == sessions.VerdictStored {
		b = appendFloat(b, "distanceMeters", r.DistanceM)
	} else {
		b = appendNull(b, "distanceMeters")
	}
	b = appendBool(b, "arriving", r.Arriving)
	b = appendInt(b, "nextUpdateMs", r.NextUpdate.Milliseconds())
	if r.Verdict == sessions.VerdictVague {
		b = append(b, `,"ignored":"low_accuracy"`...)
	}
	if r.Verdict == sessions.VerdictStale {
		b = append(b, `,"stale":true`...)
	}
	endSuccess(c, b)
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

// implausible refuses a fix and says when the next one may come. A refused fix
// counts against the rate, so a phone that only waits its usual five seconds
// could be too soon.
func implausible(r sessions.Receipt, code sessions.Code, message string) error {
	return &sessions.Error{Code: code, Message: message, RetryAfter: r.NextUpdate}
}
