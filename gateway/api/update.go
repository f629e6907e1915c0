package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// updateBody is one fix, as a phone sends it every five seconds, or the fixes
// that it kept while it was offline.
type updateBody struct {
	SessionID *string `json:"sessionId"`
	fixBody
	Fixes fixList `json:"fixes"`
}

// unstoredBody is the data of the 202 answer to an update that could not be
// stored, because the live store or the database is away.
type unstoredBody struct {
	SessionID    sessions.ID `json:"sessionId"`
	Stored       bool        `json:"stored"`
	NextUpdateMS int64       `json:"nextUpdateMs"`
}

// reported is what an update's body holds: one fix, or a batch of 1 to
// sessions.MaxBatch.
type reported struct {
	id        sessions.ID
	fixes     []sessions.Fix
	batch     bool
	malformed []int // indices of the batch's members that are no fix
}

// batchUnit is how many fixes of a batch cost as much of the caller's rate as one
// request.
const batchUnit = 10

// update takes one fix of a phone, or a batch. While a store is away it answers 202
// and never 5xx: the phone has done nothing wrong, and its next fix replaces the
// lost one.
func (a *API) update(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	report, err := decodeUpdate(c, a.deps.Now())
	if err != nil {
		return err
	}
	recordOf(c).session = report.id
	if report.batch {
		return a.updateBatch(ctx, c, caller, report)
	}
	receipt, err := a.deps.Sessions.Update(ctx, caller, report.id, report.fixes[0])
	if err != nil {
		return a.notUpdated(c, report.id, err)
	}
	a.countUpdate(receipt)
	return answerUpdate(c, report.id, receipt)
}

// updateBatch takes a batch. This request has been paid for; each ten fixes cost
// one.
func (a *API) updateBatch(ctx context.Context, c *app.RequestContext, caller sessions.Caller, report reported) error {
	members := len(report.fixes) + len(report.malformed)
	if err := a.charge(caller, (members+batchUnit-1)/batchUnit-1); err != nil {
		return err
	}
	var counts verdictCounts
	newest, err := a.deps.Sessions.UpdateBatch(ctx, caller, report.id, report.fixes, func(r sessions.Receipt) {
		counts[countedAs(r.Verdict)]++
		a.countUpdate(r)
	})
	if err != nil {
		return a.notUpdated(c, report.id, err)
	}
	if newest.Version == 0 { // all that the store was asked came too soon
		return newest.Refusal()
	}
	if counts[countedAs(sessions.VerdictStored)] == members && prefers(c, "return", "minimal") {
		return answerStored(c, newest)
	}
	answerBatch(c, report, newest, counts)
	return nil
}

// notUpdated answers an update that the stores did not judge.
func (a *API) notUpdated(c *app.RequestContext, id sessions.ID, err error) error {
	if sessions.Unavailable(err) {
		a.deps.Metrics.Updated("unavailable")
		return succeed(c, http.StatusAccepted, "Location accepted, not stored",
			unstoredBody{SessionID: id, NextUpdateMS: nextUpdateMS(a.deps.RateInterval)})
	}
	if _, is := otherRegion(err); is { // where it is counted
		return err
	}
	a.deps.Metrics.Updated("refused")
	if e, ok := errors.AsType[*sessions.Error](err); ok && e.Code == sessions.NoActiveJourney && a.deps.Steer {
		stop := *e
		stop.Stop = true
		return &stop
	}
	return err
}

// storedLate is the verdict, in metrics, of a stored fix that a phone had to keep.
const storedLate = "stored_late"

func (a *API) countUpdate(r sessions.Receipt) {
	verdict := r.Verdict.String()
	if r.Late {
		verdict = storedLate
	}
	a.deps.Metrics.Updated(verdict)
	for _, flag := range sessions.Suspicions(r.Flags).Names() {
		a.deps.Metrics.Flagged(flag)
	}
}

// decodeUpdate reads the body of an update. now is the gateway's clock; see
// phoneInstant. Only a batch may be larger than maxBody.
func decodeUpdate(c *app.RequestContext, now time.Time) (reported, error) {
	var body updateBody
	err := decode(c, &body)
	if len(c.Request.Body()) > maxBody && (err != nil || !body.Fixes.said) {
		return reported{}, errTooLarge
	}
	if err != nil {
		return reported{}, err
	}
	var r reported
	if r.id, err = requiredID("sessionId", body.SessionID); err != nil {
		return reported{}, err
	}
	sentAt := phoneInstant(string(body.SentAt), now)
	if r.batch = body.Fixes.said; r.batch {
		r.fixes, r.malformed, err = body.Fixes.fixes(sentAt, now)
		return r, err
	}
	fix, err := body.fix(sentAt, now)
	r.fixes = []sessions.Fix{fix}
	return r, err
}

// minNextUpdate is the least nextUpdateMs of any answer. A phone that does as it
// is told must not send without a pause, whatever a store or a setting says.
const minNextUpdate = time.Second

func nextUpdateMS(d time.Duration) int64 { return max(d, minNextUpdate).Milliseconds() }

func answerUpdate(c *app.RequestContext, id sessions.ID, r sessions.Receipt) error {
	if err := r.Refusal(); err != nil {
		return err
	}
	status, message := http.StatusCreated, "Location updated"
	switch r.Verdict {
	case sessions.VerdictVague:
		message = "Location too inaccurate to store"
	case sessions.VerdictNoPosition:
		message = "Location is no position"
	case sessions.VerdictBeforeStart:
		message = "Location is from before the journey"
	case sessions.VerdictStale:
		status, message = http.StatusOK, "Location is not newer than the live one"
	case sessions.VerdictIgnoredTooSoon:
		status, message = http.StatusOK, "Location is too close in time to the live one"
	default: // stored
		if prefers(c, "return", "minimal") {
			return answerStored(c, r)
		}
	}
	b := beginSuccess(c, status, message)
	endSuccess(c, appendReceipt(b, id, r))
	return nil
}

// nextUpdateHeader is nextUpdateMs of an answer without a body.
const nextUpdateHeader = "Next-Update-Ms"

// answerStored says without a body that all fixes of a request are stored: the tag of the
// version that a live read shows, and when the next fix is due. What was judged otherwise has a
// body, whatever the phone prefers, so that it knows what became of its fix.
func answerStored(c *app.RequestContext, r sessions.Receipt) error {
	validators(c, r.Version)
	setNumber(c, nextUpdateHeader, "", nextUpdateMS(r.NextUpdate), "")
	c.SetStatusCode(http.StatusNoContent)
	return nil
}

// appendReceipt appends the fields of a receipt. seq is the version that a live
// read shows in its ETag.
func appendReceipt(b []byte, id sessions.ID, r sessions.Receipt) []byte {
	b = appendWord(b, "sessionId", id)
	b = appendTime(b, "timestamp", r.At)
	b = appendInt(b, "ttl", int64(r.TTL/time.Second))
	b = appendInt(b, "seq", r.Version)
	if r.Verdict == sessions.VerdictStored {
		b = appendFloat(b, "distanceMeters", r.DistanceM)
	} else {
		b = appendNull(b, "distanceMeters")
	}
	b = appendBool(b, "arriving", r.Arriving)
	b = appendInt(b, "nextUpdateMs", nextUpdateMS(r.NextUpdate))
	switch r.Verdict {
	case sessions.VerdictStale:
		b = appendBool(b, "stale", true)
	case sessions.VerdictVague:
		b = append(b, `,"ignored":"low_accuracy"`...)
	case sessions.VerdictNoPosition:
		b = append(b, `,"ignored":"no_position"`...)
	case sessions.VerdictIgnoredTooSoon, sessions.VerdictTooSoon: // the latter in a batch only
		b = append(b, `,"ignored":"too_soon"`...)
	case sessions.VerdictBeforeStart:
		b = append(b, `,"ignored":"before_start"`...)
	default: // stored; implausible in a batch, which its counts tell
	}
	return b
}

// batchCounts are the names of a batch's counts, in the order of the answer.
var batchCounts = [...]string{
	"stored", "stale", "too_soon", "low_accuracy", "no_position", "before_start", "implausible_jump", "implausible_speed",
}

// verdictCounts counts a batch's fixes by batchCounts.
type verdictCounts [len(batchCounts)]int

// countedAs is the index into batchCounts of a verdict of a journey that runs.
func countedAs(v sessions.Verdict) int {
	switch v {
	case sessions.VerdictStale:
		return 1
	case sessions.VerdictTooSoon, sessions.VerdictIgnoredTooSoon:
		return 2
	case sessions.VerdictVague:
		return 3
	case sessions.VerdictNoPosition:
		return 4
	case sessions.VerdictBeforeStart:
		return 5
	case sessions.VerdictJump:
		return 6
	case sessions.VerdictSpeed, sessions.VerdictCeiling:
		return 7
	default:
		return 0
	}
}

// answerBatch answers a batch with the receipt of its newest fix and 200, whatever
// became of it.
func answerBatch(c *app.RequestContext, report reported, newest sessions.Receipt, counts verdictCounts) {
	b := beginSuccess(c, http.StatusOK, "Locations judged")
	b = appendReceipt(b, report.id, newest)
	b = append(b, `,"counts":{`...)
	for i, name := range batchCounts {
		b = appendInt(b, name, int64(counts[i]))
	}
	b = append(b, `},"malformed":[`...)
	for i, index := range report.malformed {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(index), 10)
	}
	endSuccess(c, append(b, ']'))
}
