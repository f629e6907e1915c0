package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/gateway/regions"
	"doorstep/geo"
	"doorstep/sessions"
)

// linkReason is why a token was refused, in metrics, where it was to be a share link's.
const linkReason = "link"

// shared answers a read by a share link: as call 3, without ids. Every token that shows
// nothing gets one answer, and nothing but its hash is looked at.
func (a *API) shared(ctx context.Context, c *app.RequestContext) error {
	c.Header("Referrer-Policy", "no-referrer")
	if !a.inFlight.begin() {
		return errInFlight
	}
	defer a.inFlight.end()
	wait, err := waitOf(c, a.deps.MaxWait)
	if err != nil {
		return err
	}
	seen := validatorOf(c)
	link, err := a.openLink(ctx, c, wait > 0 && seen.newest() > 0)
	region, elsewhere := otherRegion(err)
	if elsewhere && wait > 0 && a.forwards(c, region) {
		ctx, err = regions.WithReader(ctx, regions.Reader{Region: region, Path: sharedPath, Token: authorization(c), Link: true, Seen: seen.newest()}), nil
	}
	if over := (&sessions.JourneyOverError{}); errors.As(err, &over) {
		recordOf(c).role = string(sessions.LinkReader)
		return answerOver(c, over)
	}
	if err != nil {
		return err
	}
	recordOf(c).role, recordOf(c).session = string(sessions.LinkReader), link.Ref().SessionID
	if err := a.checkRate(link.Caller()); err != nil {
		return err
	}
	switch {
	case wait > 0:
		return a.awaitShared(ctx, c, link, wait, seen)
	case seen.match(link.View.Version):
		return notModified(c, link.View.Version)
	default:
		tellStart(c, a.forwarded(c), link.View)
		return answerShared(c, link.View, link.Home())
	}
}

// openLink opens the link of the bearer token. Tokens that open none are limited by
// address; a link that this gateway knows is not locked out by them.
func (a *API) openLink(ctx context.Context, c *app.RequestContext, follows bool) (sessions.Shared, error) {
	token := string(bearer(c))
	client, now := a.deps.Client(c), a.deps.Now()
	if !a.deps.Sessions.KnownLink(token) {
		if wait := a.linkGuesses.wait(client, "", now); wait > 0 {
			return sessions.Shared{}, &sessions.Error{Code: sessions.RateLimited, Message: "too many links that show nothing; try again", RetryAfter: wait}
		}
	}
	link, err := a.deps.Sessions.OpenLink(ctx, token, follows)
	if sessions.CodeOf(err) == sessions.LinkGone {
		a.linkGuesses.take(client, "", now)
		a.deps.Metrics.Unauthenticated(linkReason)
	}
	return link, err
}

// awaitShared is a long poll by a share link, whose end ends the wait.
func (a *API) awaitShared(ctx context.Context, c *app.RequestContext, link sessions.Shared, wait time.Duration, seen *etags) error {
	ctx, end := context.WithCancelCause(ctx)
	p := &sharedPoll{
		poll: poll{api: a, ctx: ctx, record: recordOf(c), caller: link.Caller(), seen: seen, forwarded: a.forwarded(c)},
		link: link, watch: a.deps.Sessions.WatchLink(link, end), end: end,
	}
	return p.await(c, link.Ref(), wait, p)
}

// sharedPoll is a long poll by a share link.
type sharedPoll struct {
	poll
	link  sessions.Shared
	watch *sessions.LinkWatch
	home  geo.Point // at the end of the wait: it may have been moved
	end   context.CancelCauseFunc
}

func (p *sharedPoll) start(w *hub.Wait) {
	w.Start(p.ctx, func(r hub.Result) { go p.reply(p, r) }) // it may ask a store
	context.AfterFunc(p.ctx, w.Leave)                       // the reader has left, or the link has ended
}

// write answers at the end of the wait.
func (p *sharedPoll) write(c *app.RequestContext, r hub.Result) error {
	defer p.end(nil)
	defer p.watch.Close()
	// The context may have ended because the link has.
	view, changed, err := p.shown(context.WithoutCancel(p.ctx), r)
	over := &sessions.JourneyOverError{}
	switch {
	case errors.As(err, &over):
		return answerOver(c, over)
	case p.unlessMoved(err) != nil:
		return err
	case !changed, err != nil:
		return notModified(c, p.last)
	default:
		tellStart(c, p.forwarded, view)
		return answerShared(c, view, p.home)
	}
}

// shown is what the reader may see at the end of the wait, and whether it is news. An
// end without a change says, too, that both stores answer.
func (p *sharedPoll) shown(ctx context.Context, r hub.Result) (view sessions.View, changed bool, err error) {
	switch {
	case r.Err != nil:
		return view, false, r.Err
	case r.Outcome == hub.Left && errors.Is(context.Cause(p.ctx), context.Canceled): // the reader has left, and gets no answer
		return view, false, nil
	case r.Outcome == hub.Left: // by the link's end
		return view, false, context.Cause(p.ctx)
	case r.Change != nil:
		view, p.home, err = p.watch.Check(ctx, r.Change.View)
		return view, true, err
	}
	view, err = p.api.deps.Hub.Read(ctx, p.link.Ref())
	if err == nil {
		view, p.home, err = p.watch.Check(ctx, view)
	}
	return view, err == nil && p.news(view), err
}

func (p *sharedPoll) encode(r hub.Result) httpserver.Answer {
	return p.draft(func(c *app.RequestContext) error {
		c.Header("Referrer-Policy", "no-referrer")
		return p.write(c, r)
	})
}

// answerOver says how the journey has ended. It has no version, so the next request of the
// reader is one of somebody who waits for nothing.
func answerOver(c *app.RequestContext, over *sessions.JourneyOverError) error {
	return answerShared(c, sessions.View{Snapshot: sessions.Snapshot{Known: true, Over: over.Phase}}, geo.Point{})
}

// answerShared shows a view and, while the journey runs, where it leads: distances from
// three places would give that away as well.
func answerShared(c *app.RequestContext, v sessions.View, home geo.Point) error {
	validators(c, v.Version)
	b := appendView(beginSuccess(c, http.StatusOK, "Live location"), v)
	if v.Active && home.Valid() {
		b = appendFloat(append(appendName(b, "home"), '{'), "latitude", home.Lat())
		b = append(appendFloat(b, "longitude", home.Lng()), '}')
	} else {
		b = appendNull(b, "home")
	}
	endSuccess(c, b)
	return nil
}
