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

// maxWait is the longest long poll. It is below the idle time-out of a usual load
// balancer (60 s).
const maxWait = 30 * time.Second

// live answers a read of the live location: at once, or with wait as soon as
// there is something new. The ETag is the version of what the student sees; the
// rules are in docs/contract.md, section 1, "Live reads and the long poll".
func (a *API) live(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := parseID("sessionId", c.Query("sessionId"))
	if err != nil {
		return err
	}
	recordOf(c).session = id
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
// validator, or with "*", that is any version but the current one. While the live
// store is away there are no versions, so it waits until the store is back or the
// time is up.
func (a *API) awaitLive(ctx context.Context, c *app.RequestContext, caller sessions.Caller,
	ref sessions.Ref, wait time.Duration, seen *etags,
) error {
	recordOf(c).waited = true
	releaseReadBuffer(c)
	view := sessions.View{Degraded: true} // the last view that could be read
	a.inFlight.rest()                     // the hub bounds the waits
	defer a.inFlight.resume()
	outcome, err := a.deps.Hub.Wait(ctx, caller, ref, wait, func(ctx context.Context, timeUp bool) (bool, error) {
		read := a.deps.Sessions.Look
		if timeUp { // ask the store itself: the last wake-ups may not have come through
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
		if err := a.deps.Sessions.Party(caller, ref.SessionID); err != nil {
			return err
		}
		err = answerLive(c, view)
		a.deps.Sessions.Seen(caller, view)
		return err
	default:
		return notModified(c, view)
	}
}

// releaseReadBuffer gives back the 8 KB into which the request was read, so that
// a waiting request does not hold them. The answer does not need them: Hertz has
// copied everything but the body out of them, and releases them itself before it
// answers. Bytes that the client has sent after this request stay.
func releaseReadBuffer(c *app.RequestContext) {
	if r := c.GetReader(); r != nil && len(c.Request.Body()) == 0 { // nil without a connection, as in tests
		_ = r.Release() // its code never returns an error
	}
}

func answerLive(c *app.RequestContext, v sessions.View) error {
	validators(c, v)
	b := beginSuccess(c, http.StatusOK, "Live location")
	b = appendWord(b, "sessionId", v.SessionID)
	b = appendWord(b, "trainerId", v.TrainerID)
	if v.Location == nil {
		b = appendNull(b, "location")
	} else {
		b = appendLocation(append(appendName(b, "location"), '{'), v.Location)
	}
	b = appendBool(b, "isActive", v.Active)
	b = appendWord(b, "phase", v.Phase())
	if v.Location == nil {
		b = append(b, `,"lastUpdate":null,"fixAgeMs":null,"distanceMeters":null,"etaSeconds":null`...)
	} else {
		b = appendTime(b, "lastUpdate", v.Location.At)
		b = appendInt(b, "fixAgeMs", v.FixAge().Milliseconds())
		b = appendFloat(b, "distanceMeters", v.DistanceM)
		b = appendETA(b, v)
	}
	if v.Degraded {
		b = append(b, `,"degraded":true`...)
	}
	endSuccess(c, b)
	return nil
}

// appendLocation appends the fields of the object that the caller has opened, and
// closes the object. A field that the phone did not send is left out.
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

// validators sets the ETag. A degraded answer has no version and gets none. The
// tag is weak, because two answers of one version can differ in etaSeconds.
func validators(c *app.RequestContext, v sessions.View) {
	if !v.Degraded {
		c.Header("ETag", `W/"`+strconv.FormatInt(v.Version, 10)+`"`)
	}
}

// waitOf is the wait parameter: whole seconds, at most maxWait.
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
		return 0, invalid("wait", "wait must be a whole number of seconds")
	}
	return time.Duration(min(n, uint64(maxWait/time.Second))) * time.Second, nil
}

// etags is an If-None-Match header. Nil means that there was none; it matches
// nothing.
type etags struct {
	any      bool
	versions []int64
}

func (e *etags) match(version int64) bool {
	return e != nil && (e.any || slices.Contains(e.versions, version))
}

// lostAtMost is how much older than what a caller has seen a live store may be
// after a failover, in milliseconds. Stores lose seconds. The bound is there for a
// tag that is none of ours and happens to hold a large number: without it such a
// reader would see no location until its journey ended.
const lostAtMost = int64(time.Hour / time.Millisecond)

// behind reports whether v is older than a version that the caller has seen. A
// live store that fails over can lose its last moments, and the pin must not move
// back because of that. The next fix has a higher version than all of them.
func (e *etags) behind(v sessions.View) bool {
	return v.Location != nil && slices.ContainsFunc(e.versions, func(seen int64) bool {
		return seen > v.Version && seen-v.Version <= lostAtMost
	})
}

// validator reads If-None-Match (RFC 9110, section 13.1.2): "*", or a list of
// entity tags, weak or strong.
//
// A tag counts by the numbers in it, because proxies and clients rewrite tags on
// the way: Apache's mod_deflate sends "V-gzip" for our "V", others "V--gzip",
// "V;br" or "V"-gzip, and clients lose the quotes or encode them. A tag that is
// not recognized would end every wait at once, and a poll would become a busy
// loop (9,258 requests in 3 s were seen through Apache). Every run of digits is
// taken for a version, so that a number that was put before ours does no harm: a
// version is 13 digits long, and no other number in a tag is equal to it by
// chance. A tag without one of our versions matches nothing.
func validator(header []byte) *etags {
	header = bytes.TrimSpace(header)
	if len(header) == 0 {
		return nil
	}
	if string(header) == "*" {
		return &etags{any: true}
	}
	tags := &etags{}
	for i := 0; i < len(header); {
		if header[i] == '%' { // %22 is a quote, and no digit of what follows it
			i += 3
			continue
		}
		n := digits(header[i:])
		if n == 0 {
			i++
			continue
		}
		if v, err := strconv.ParseInt(string(header[i:i+n]), 10, 64); err == nil {
			tags.versions = append(tags.versions, v)
		}
		i += n
	}
	return tags
}

// digits is the length of the run of digits at the beginning of s.
func digits(s []byte) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}
