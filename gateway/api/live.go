package api

import (
	"context"
	"errors"
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
	recordOf(c).session = ref.SessionID // one text for all who wait for the session
	if wait == 0 {
		return a.readLive(ctx, c, ref, seen)
	}
	p := &poll{api: a, ctx: ctx, record: recordOf(c), caller: caller, seen: seen, forwarded: a.forwarded(c)}
	return p.await(c, ref, wait, p)
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

// longPoll is what differs between a poll of a session's party and one by a share link.
type longPoll interface {
	start(w *hub.Wait)                               // once its connection is parked
	write(c *app.RequestContext, r hub.Result) error // answers it on its handler's goroutine
	encode(r hub.Result) httpserver.Answer           // makes the answer of a parked one
}

// await waits for a version that the caller has not seen. Without a
// validator, or with "*", that is any version but the current one. While the live
// store is away there are no versions, so it waits until the store is back or the
// time is up. The connection is parked meanwhile, where it can be.
func (p *poll) await(c *app.RequestContext, ref sessions.Ref, wait time.Duration, as longPoll) error {
	p.api.inFlight.rest() // the hub bounds the waits
	defer p.api.inFlight.resume()
	p.record.waited = true
	w, over := p.api.deps.Hub.Begin(p.ctx, p.caller, ref, wait, p.news)
	if w != nil {
		if httpserver.Park(c, func(on *httpserver.Parked) { p.parked = on; as.start(w) }) {
			return nil
		}
		over = w.Await()
	}
	return as.write(c, over)
}

// start lets a poll wait without its handler. Its context is the request's only with traces, whose
// span is in it, and where that says that a region is away: that one keeps all that the request
// has derived from it.
func (p *poll) start(w *hub.Wait) {
	if p.api.deps.Trace == nil && !sessions.RegionAway(p.ctx) {
		p.ctx = p.parked.Context()
	} else {
		p.ctx = context.WithoutCancel(p.ctx)
	}
	w.Start(p.ctx, func(r hub.Result) { p.reply(p, r) })
	p.parked.OnLeave(w.Leave)
}

// news reports whether the caller has not seen a view.
func (p *poll) news(v sessions.View) bool {
	p.last = v.Version
	if p.seen == nil || p.seen.any {
		p.seen = &etags{versions: []int64{v.Version}}
	}
	return !p.seen.match(v.Version) && !p.seen.behind(v)
}

func (p *poll) write(c *app.RequestContext, r hub.Result) error {
	if err := p.refused(r); err != nil {
		return err
	}
	if r.Change == nil {
		return notModified(c, p.last)
	}
	tellStart(c, p.forwarded, r.Change.View)
	return answerLive(c, r.Change.View)
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

// reply answers a parked poll, and reports it.
func (p *poll) reply(as longPoll, r hub.Result) {
	p.parked.Answer(func() (a httpserver.Answer, own []byte) {
		p.api.report(p.ctx, p.record, func() (status, bytes int) {
			a = as.encode(r)
			own = p.record.ownLines()
			return a.Status, len(a.Body)
		})
		return a, own
	})
}

// encode makes the answer of a change once for all who are shown it, whatever their role:
// they see the same.
func (p *poll) encode(r hub.Result) httpserver.Answer {
	err := p.refused(r)
	switch {
	case err != nil:
		return p.draft(func(*app.RequestContext) error { return err })
	case r.Change == nil:
		return p.draft(func(c *app.RequestContext) error { return notModified(c, p.last) })
	}
	if p.forwarded && r.Change.Active {
		p.record.started = r.Change.StartedAt.UTC()
	}
	if r.Change.Encoded == nil {
		r.Change.Encoded = p.draft(func(c *app.RequestContext) error { return answerLive(c, r.Change.View) })
	}
	return r.Change.Encoded.(httpserver.Answer) //nolint:forcetypeassert // nothing else is in it
}

// draft makes an answer of what write writes, or of its error.
func (p *poll) draft(write func(c *app.RequestContext) error) httpserver.Answer {
	return httpserver.NewAnswer(func(c *app.RequestContext) {
		p.api.sharedHeaders(c, p.record.route)
		if err := write(c); err != nil {
			p.record.keepIn(c)
			p.api.fail(c, err)
		}
	})
}
