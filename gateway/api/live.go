package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/gateway/hub"
	"doorstep/sessions"
)

// maxWait caps a long poll under the idle time-out of a usual load balancer.
const maxWait = 30 * time.Second

// live answers a read, at once or as soon as there is something new. ETags are
// versions; see the contract's section on live reads.
func (a *API) live(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := parseID("sessionId", c.Query("sessionId"))
	if err != nil {
		return err
	}
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	ref, err := a.deps.Sessions.Ref(ctx, caller, id)
	if err != nil {
		return err
	}
	seen := validator(bytes.Join(c.Request.Header.PeekAll("If-None-Match"), []byte(",")))
	if wait == 0 {
		return a.readLive(ctx, c, ref, seen)
	}
	return a.awaitLive(ctx, c, caller, ref, wait, seen)
}

func (a *API) readLive(ctx context.Context, c *app.RequestContext, ref sessions.Ref, seen *etags) error {
	view, err := a.deps.Sessions.View(ctx, ref)
	switch {
	case err != nil:
		return err
	case !view.Degraded && seen.match(view.Version):
		return notModified(c, view)
	default:
		return answerLive(c, view)
	}
}

// awaitLive waits for a version that the caller has not seen. Without a
// validator, or with "*", that is any but the version of now. While the live store is away
// there are no versions, and nothing to do but wait.
func (a *API) awaitLive(ctx context.Context, c *app.RequestContext, caller sessions.Caller,
	ref sessions.Ref, wait time.Duration, seen *etags,
) error {
	recordOf(c).waited = true
	lighten(c)
	view := sessions.View{Degraded: true} // the last that could be read
	a.work.rest()                         // the hub has bounds of its own
	defer a.work.resume()
	outcome, err := a.deps.Hub.Wait(ctx, caller.ID, ref, wait, func(ctx context.Context, timeUp bool) (bool, error) {
		read := a.deps.Sessions.Look
		if timeUp { // of the store itself: what was told may have been the last that could be heard
			read = a.deps.Sessions.Read
		}
		now, err := read(ctx, ref)
		if err != nil {
			return false, err
		}
		if now.Degraded {
			return false, hub.ErrUnread
		}
		view = now
		if seen == nil || seen.any {
			seen = &etags{versions: []int64{view.Version}}
		}
		return !seen.match(view.Version) && !seen.behind(view), nil
	})
	switch {
	case err != nil:
		return err
	case outcome == hub.Changed:
		err = answerLive(c, view)
		a.deps.Sessions.Seen(caller, view)
		return err
	default:
		return notModified(c, view)
	}
}

// lighten gives back what a request keeps while it only waits, and that the
// answer does not need: the 8 KB into which it was read. Hertz has copied the
// request out of them, all but a body, and does the same itself before it
// answers; what the caller has sent behind the request stays.
func lighten(c *app.RequestContext) {
	if r := c.GetReader(); r != nil && len(c.Request.Body()) == 0 { // nil without a connection, as in tests
		_ = r.Release() // never an error, by its code
	}
}

func answerLive(c *app.RequestContext, v sessions.View) error {
	validators(c, v)
	b := beginSuccess(c, http.StatusOK, "Live location")
	b = appendID(b, "sessionId", v.SessionID)
	b = appendID(b, "trainerId", v.TrainerID)
	if v.Location == nil {
		b = appendNull(b, "location")
	} else {
		b = appendLocation(append(appendName(b, "location"), '{'), v.Location)
	}
	b = appendBool(b, "isActive", v.Active)
	if v.Location == nil {
		b = append(b, `,"lastUpdate":null,"distanceMeters":null,"etaSeconds":null`...)
	} else {
		b = appendTime(b, "lastUpdate", v.Location.At)
		b = appendFloat(b, "distanceMeters", v.DistanceM)
		b = appendETA(b, v)
	}
	if v.Degraded {
		b = append(b, `,"degraded":true`...)
	}
	endSuccess(c, b)
	return nil
}

// appendLocation appends the fields of an object that has been opened, and
// closes it. What the phone did not say is left out.
func appendLocation(b []byte, at *sessions.Location) []byte {
	b = appendFloat(b, "latitude", at.Point.Lat())
	b = appendFloat(b, "longitude", at.Point.Lng())
	if at.AccuracyM > 0 {
		b = appendFloat(b, "accuracy", at.AccuracyM)
	}
	if at.SpeedKMH != nil {
		b = appendFloat(b, "speed", *at.SpeedKMH)
	}
	if at.HeadingDeg != nil {
		b = appendFloat(b, "heading", *at.HeadingDeg)
	}
	return append(appendTime(b, "timestamp", at.RecordedAt), '}')
}

func appendETA(b []byte, v sessions.View) []byte {
	if eta := v.ETASeconds(); eta != nil {
		return appendInt(b, "etaSeconds", *eta)
	}
	return appendNull(b, "etaSeconds")
}

func notModified(c *app.RequestContext, v sessions.View) error {
	validators(c, v)
	c.SetStatusCode(http.StatusNotModified)
	return nil
}

// validators sets the ETag, but not on a degraded answer: it has no version,
// and the next one must not be compared with it.
func validators(c *app.RequestContext, v sessions.View) {
	c.Header("Cache-Control", "private, no-cache")
	if !v.Degraded {
		c.Header("ETag", `"`+strconv.FormatInt(v.Version, 10)+`"`)
	}
}

// waitOf is the wait parameter: whole seconds, capped at maxWait.
func waitOf(c *app.RequestContext) (time.Duration, error) {
	text, ok := c.GetQuery("wait")
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return maxWait, nil
	case err != nil:
		return 0, invalid("wait must be a whole number of seconds")
	}
	return time.Duration(min(n, uint64(maxWait/time.Second))) * time.Second, nil
}

// etags is an If-None-Match; nil where there was none, which matches nothing.
type etags struct {
	any      bool
	versions []int64
}

func (e *etags) match(version int64) bool {
	return e != nil && (e.any || slices.Contains(e.versions, version))
}

// behind reports a location older than one that the caller has seen: a live
// store that fails over may lose its last moments, and a pin must not move back
// for that. The next fix has a version past all of them.
func (e *etags) behind(v sessions.View) bool {
	return v.Location != nil && slices.ContainsFunc(e.versions, func(seen int64) bool { return seen > v.Version })
}

// validator reads If-None-Match (RFC 9110, section 13.1.2): "*" or a list of
// entity tags, of which the weak compare equal too. A tag that is no version
// of ours matches nothing.
func validator(header []byte) *etags {
	header = bytes.TrimSpace(header)
	if len(header) == 0 {
		return nil
	}
	if string(header) == "*" {
		return &etags{any: true}
	}
	tags := &etags{}
	for tag := range bytes.SplitSeq(header, []byte(",")) {
		tag = bytes.TrimPrefix(bytes.TrimSpace(tag), []byte("W/"))
		if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
			continue
		}
		text := string(tag[1 : len(tag)-1])
		if v, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(v, 10) == text {
			tags.versions = append(tags.versions, v)
		}
	}
	return tags
}
