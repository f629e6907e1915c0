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

	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/gateway/regions"
	"doorstep/sessions"
)

// DefaultMaxWait is the longest long poll. It is below the idle time-out of a usual load
// balancer (60 s).
const DefaultMaxWait = 30 * time.Second

// live answers a read of the live location: at once, or with wait as soon as
// there is something new. The ETag is the version of what the student sees; the
// rules are in docs/contract.md, section 1, "Live reads and the long poll".
func (a *API) live(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := parseID("sessionId", c.Query("sessionId"))
	if err != nil {
		return err
	}
	recordOf(c).session = id
	wait, err := waitOf(c, a.deps.MaxWait)
	if err != nil {
		return err
	}
	seen := validatorOf(c)
	ref, err := a.deps.Sessions.Ref(ctx, caller, id)
	if region, elsewhere := otherRegion(err); elsewhere && wait > 0 && a.forwards(c, region) {
		path := livePath + "?sessionId=" + string(id)
		ctx, err = regions.WithReader(ctx, regions.Reader{Region: region, Path: path, Token: authorization(c), Seen: seen.newest()}), nil
	}
	if err != nil {
		return err
	}
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
		return notModified(c, view.Version)
	default:
		tellStart(c, a.forwarded(c), view)
		return answerLive(c, view)
	}
}

// awaitLive waits for a version that the caller has not seen. Without a
// validator, or with "*", that is any version but the current one. While the live
// store is away there are no versions, so it waits until the store is back or the
// time is up. The connection is parked meanwhile, where it can be.
func (a *API) awaitLive(ctx context.Context, c *app.RequestContext, caller sessions.Caller,
	ref sessions.Ref, wait time.Duration, seen *etags,
) error {
	a.inFlight.rest() // the hub bounds the waits
	defer a.inFlight.resume()
	p := &poll{api: a, ctx: ctx, record: recordOf(c), caller: caller, seen: seen, forwarded: a.forwarded(c)}
	p.record.waited = true
	w, over := a.deps.Hub.Begin(ctx, caller, ref, wait, p.news)
	if w != nil {
		if p.parked = httpserver.Park(ctx, c); p.parked != nil {
			p.park(w)
			return nil
		}
		over = w.Await()
	}
	return p.write(c, over)
}

// park lets a poll wait without its handler. Its context is the request's only with traces, whose
// span is in it, and where that says that a region is away: that one keeps all that the request
// has derived from it.
func (p *poll) park(w *hub.Wait) {
	if p.api.deps.Trace == nil && !sessions.RegionAway(p.ctx) {
		p.ctx = p.parked.Context()
	} else {
		p.ctx = context.WithoutCancel(p.ctx)
	}
	w.Start(p.ctx, p.answer)
	p.parked.OnLeave(w.Leave)
}

// poll is a long poll.
type poll struct {
	api    *API
	ctx    context.Context //nolint:containedctx // the request's, which is answered after its handler has returned
	record *record
	caller sessions.Caller
	seen   *etags
	last   int64 // the last version that could be read; 0: none
	parked *httpserver.Parked

	forwarded bool // by another region's gateway
}

// news reports whether the caller has not seen a view.
func (p *poll) news(v sessions.View) bool {
	p.last = v.Version
	if p.seen == nil || p.seen.any {
		p.seen = &etags{versions: []int64{v.Version}}
	}
	return !p.seen.match(v.Version) && !p.seen.behind(v)
}

// write answers a poll on its handler's goroutine.
func (p *poll) write(c *app.RequestContext, r hub.Result) error {
	if err := p.refused(r); err != nil {
		return err
	}
	if r.Change != nil {
		tellStart(c, p.forwarded, r.Change.View)
	}
	return p.respond(c, r)
}

func (p *poll) respond(c *app.RequestContext, r hub.Result) error {
	if r.Change != nil {
		return answerLive(c, r.Change.View)
	}
	return notModified(c, p.last)
}

// refused is why a poll is refused at its end. If it is not, what the caller is
// about to be shown is noted.
func (p *poll) refused(r hub.Result) error {
	if r.Change == nil {
		return p.unlessMoved(r.Err)
	}
	// A journey of another region, too, is shown to its party. When this wait began it may have been
	// in none, and others who have come since have brought the view.
	if err := p.unlessMoved(p.api.deps.Sessions.Party(p.caller, p.record.session)); err != nil {
		return err
	}
	p.api.deps.Sessions.Seen(p.caller, r.Change.View)
	return nil
}

// unlessMoved is an error of a wait, but where the session's first journey has begun in another
// region: who waits gets 304, and is sent there when it asks again.
func (p *poll) unlessMoved(err error) error {
	if _, moved := otherRegion(err); moved {
		return nil
	}
	return err
}

// answer answers a parked poll.
func (p *poll) answer(r hub.Result) { p.reply(p, r) }

// ending makes the answer of a poll at its end.
type ending interface {
	encode(r hub.Result) httpserver.Answer
}

// reply answers a parked poll with what by makes of its end, and reports it.
func (p *poll) reply(by ending, r hub.Result) {
	p.parked.Answer(func() (a httpserver.Answer, own []byte) {
		p.api.report(p.ctx, p.record, func() (status, bytes int) {
			a = by.encode(r)
			own = p.record.ownLines()
			return a.Status, len(a.Body)
		})
		return a, own
	})
}

// encode makes the answer of a poll. That of a change is made once for all who are
// shown it, whatever their role: they see the same.
func (p *poll) encode(r hub.Result) httpserver.Answer {
	err := p.refused(r)
	if err == nil && r.Change != nil {
		if p.forwarded && r.Change.Active {
			p.record.started = r.Change.StartedAt.UTC()
		}
		if a, ok := r.Change.Encoded.(httpserver.Answer); ok {
			return a
		}
	}
	a := httpserver.NewAnswer(func(c *app.RequestContext) {
		p.api.sharedHeaders(c, p.record.route)
		if err != nil {
			p.record.keepIn(c)
			p.api.fail(c, err)
			return
		}
		_ = p.respond(c, r) // it cannot fail
	})
	if err == nil && r.Change != nil {
		r.Change.Encoded = a
	}
	return a
}

func answerLive(c *app.RequestContext, v sessions.View) error {
	validators(c, v.Version)
	b := beginSuccess(c, http.StatusOK, "Live location")
	b = appendWord(b, "sessionId", v.SessionID)
	b = appendView(appendWord(b, "trainerId", v.TrainerID), v)
	if v.Degraded {
		b = append(b, `,"degraded":true`...)
	}
	endSuccess(c, b)
	return nil
}

// appendView appends what a share link shows, too.
func appendView(b []byte, v sessions.View) []byte {
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
	return b
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

func notModified(c *app.RequestContext, version int64) error {
	validators(c, version)
	c.SetStatusCode(http.StatusNotModified)
	return nil
}

// validators sets the ETag. A degraded answer has no version, which is 0, and gets
// none. The tag is weak, because two answers of one version can differ in etaSeconds.
func validators(c *app.RequestContext, version int64) {
	if version != 0 {
		setNumber(c, "ETag", `W/"`, version, `"`)
	}
}

// waitOf is the wait parameter: whole seconds, at most longest.
func waitOf(c *app.RequestContext, longest time.Duration) (time.Duration, error) {
	text, ok := c.GetQuery("wait")
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return longest, nil
	case err != nil:
		return 0, invalid("wait", "wait must be a whole number of seconds")
	}
	return min(longest, time.Duration(min(n, uint64(DefaultMaxWait/time.Second)))*time.Second), nil
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

// newest is the highest version of all; 0 for none.
func (e *etags) newest() (version int64) {
	if e != nil && len(e.versions) > 0 {
		version = slices.Max(e.versions)
	}
	return version
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

// validatorOf reads a request's If-None-Match; several are one list.
func validatorOf(c *app.RequestContext) *etags {
	return validator(bytes.Join(c.Request.Header.PeekAll("If-None-Match"), []byte(",")))
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
