// Package api is the HTTP side of the gateway, and the only package that knows
// Hertz. Read this file first: it is the whole of the surface; each handler is
// a file named for what it does. gateway/httpserver is what stands
// between a socket and a route.
package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"

	"doorstep/gateway/auth"
	"doorstep/gateway/hub"
	"doorstep/ratelimit"
	"doorstep/sessions"
)

const base = "/api/v1"

// API is the handlers and what they need. Safe for concurrent use.
type API struct {
	deps    Deps
	work    work
	callers *ratelimit.Limit // nil: no limit
}

// Deps are what the handlers call.
type Deps struct {
	Sessions *sessions.Service
	Hub      *hub.Hub
	Tokens   Tokens
	// Ready reports whether this process should get traffic, and the state of
	// each thing it depends on, for an operator's eyes.
	Ready func() (bool, map[string]string)
	// HideOTP keeps the OTP out of the answer to the trainer's arrival.
	HideOTP bool
	// RateInterval is what a phone is told when its fix could not be stored.
	RateInterval time.Duration
	// MaxInFlight is how many requests are worked on at once, open waits apart;
	// one more is shed. 4096: as many as the live store is asked at once. A
	// negative number: none.
	MaxInFlight int
	// CallerRate and CallerBurst bound the requests of one caller, admins
	// excepted: a second in the long run, 50, and at once, 100. A negative rate:
	// no bound.
	CallerRate  float64
	CallerBurst int
	Now         func() time.Time // the wall clock
	Log         *slog.Logger
	Metrics     Metrics
	// Trace begins a request's span; the function it returns ends it, with the
	// answer's status and code. Nil: no traces.
	Trace func(ctx context.Context, call Call) (context.Context, func(status int, code string))
}

// Tokens turns a token into a caller: auth.Verifier.
type Tokens interface {
	Verify(ctx context.Context, token string) (sessions.Caller, error)
}

var _ Tokens = (*auth.Verifier)(nil)

// Metrics is told of every answer. Labels come from closed lists: route is a
// pattern of this file, code one of sessions.Code or empty.
type Metrics interface {
	Answered(route, method string, status int, code string, took time.Duration)
	Updated(verdict string)
	Flagged(flag string)    // a flag of geo's closed list
	Arrived(outcome string) // one of ArrivalOutcomes
	Unauthenticated(reason string)
	Shed(why string) // one of the Shed constants of shed.go
}

// New makes the handlers. Register puts them on a server.
func New(deps Deps) *API {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	deps.Log = cmp.Or(deps.Log, slog.New(slog.DiscardHandler))
	a := &API{deps: deps, callers: newCallers(deps.CallerRate, deps.CallerBurst)}
	a.work.limit = int64(cmp.Or(deps.MaxInFlight, 4096))
	return a
}

// Register adds the routes: the contract's calls by number. It is NewServer's
// hook; who waits is told of a drain by the hub.
func (a *API) Register(h *server.Hertz) {
	// A path has one spelling. By default Hertz decodes and cleans it first, so
	// that ID%2Fstop-journey and x/../ID//stop-journey are calls that no rule of
	// a proxy in front has seen; and an id in it is not decoded either.
	h.GetOptions().UseRawPath, h.GetOptions().UnescapePathValues = true, false
	h.Use(a.observe)
	for _, r := range a.routes() {
		h.Handle(r.method, r.path, r.handler)
	}
	h.NoRoute(func(_ context.Context, c *app.RequestContext) { a.fail(c, errNoRoute) })
	h.NoMethod(func(_ context.Context, c *app.RequestContext) {
		c.Header("Allow", a.allowed(string(c.Request.URI().PathOriginal()))) // a must of RFC 9110, section 15.5.6
		a.fail(c, errNoMethod)
	})
}

// allowed is the methods of a path that has some.
func (a *API) allowed(path string) string {
	var methods []string
	for _, r := range a.routes() {
		if matches(strings.Split(r.path, "/"), strings.Split(path, "/")) && !slices.Contains(methods, r.method) {
			methods = append(methods, r.method)
		}
	}
	return strings.Join(methods, ", ")
}

func matches(pattern, path []string) bool {
	return slices.EqualFunc(pattern, path, func(p, s string) bool { return p == s || strings.HasPrefix(p, ":") })
}

type route struct {
	method, path string
	handler      app.HandlerFunc
}

func (a *API) routes() []route {
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []route{
		{post, base + "/admin/sessions/:sessionId/start-journey", a.authenticated(a.start)},  // 1
		{post, base + "/admin/location-tracking/journey/updates", a.authenticated(a.update)}, // 2
		{get, base + "/admin/location-tracking/journey/live", a.authenticated(a.live)},       // 3
		{post, base + "/admin/sessions/:sessionId/arrived", a.authenticated(a.arrived)},      // 4
		{post, base + "/admin/sessions/:sessionId/stop-journey", a.authenticated(a.stop)},    // 5
		{post, base + "/admin/sessions", a.authenticated(a.createSession)},                   // 6
		{get, base + "/admin/sessions/:sessionId", a.authenticated(a.readSession)},           // 7
		{get, base + "/students/me/sessions", a.authenticated(a.listSessions)},               // 7
		{post, base + "/admin/sessions/:sessionId/verify-otp", a.authenticated(a.verifyOTP)}, // 8
		{post, base + "/admin/sessions/:sessionId/complete", a.authenticated(a.complete)},    // 9
		{post, base + "/students/sessions/:sessionId/review", a.authenticated(a.review)},     // 10
		{put, base + "/me/push-tokens", a.authenticated(a.putPushToken)},                     // 11
		{del, base + "/me/push-tokens", a.authenticated(a.deletePushToken)},                  // 11
		{get, "/healthz", a.healthz}, // 12
		{get, "/readyz", a.readyz},   // 12
		{get, "/openapi.yaml", a.openAPI},
	}
}
