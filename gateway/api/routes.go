// Package api is the HTTP API: the handlers, and what they share.
//
// Read this file first; routes, at its end, is the whole surface. A request
// comes from gateway/httpserver and passes observe (observe.go: request id, log,
// metrics), then authenticated (authn.go: room, token, rate), then its handler.
// Each call has a file that is named after what it does. A success is written
// with respond.go, a refusal with problem.go.
package api

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"

	"doorstep/gateway/auth"
	"doorstep/gateway/hub"
	"doorstep/gateway/pages"
	"doorstep/gateway/regions"
	"doorstep/ratelimit"
	"doorstep/sessions"
)

// Defaults of Deps. A test holds the settings of `gateway serve` to them.
const (
	DefaultMaxInFlight = 4096 // as many calls as the live store takes at once
	DefaultCallerRate  = 50   // requests a second
	DefaultCallerBurst = 100
)

// API is the handlers and what they need. Safe for concurrent use.
type API struct {
	deps     Deps
	inFlight inFlight
	callers  *ratelimit.Limit // nil: no limit
	guesses  guesses
	phones   lately

	linkGuesses guesses
	origins     map[string]string // each by itself
}

// Deps are what the handlers call, and their settings.
type Deps struct {
	Sessions *sessions.Service
	Hub      *hub.Hub
	Tokens   Tokens
	// Ready reports whether this process should get traffic, and the state of
	// each thing it depends on, for an operator to read.
	Ready func() (bool, map[string]string)
	// HideOTP keeps the OTP out of the answer to the trainer's arrival.
	HideOTP bool
	// RateInterval is the nextUpdateMs of a fix that could not be stored.
	RateInterval time.Duration
	// MaxInFlight is how many requests are worked on at once, open long polls not
	// counted. One more is answered 503 OVERLOADED. 0: DefaultMaxInFlight. Negative:
	// every request is refused.
	MaxInFlight int
	// MaxWait is the longest that a long poll waits, DefaultMaxWait at most. 0:
	// DefaultMaxWait.
	MaxWait time.Duration
	// CallerRate and CallerBurst limit the requests of one caller, admins excepted:
	// CallerRate a second in the long run, CallerBurst at once. More are answered
	// 429. 0: the defaults. A negative rate: no limit.
	CallerRate  float64
	CallerBurst int
	// Origins are the origins of web pages that may call the API from a browser, as
	// ParseOrigin returns them. Empty: no page may, unless it has the API's own
	// origin.
	Origins []string
	// PublicURL is where phones reach this API, without a slash at the end: what the
	// settings of a stock app begin with. Nil, or empty: no devices can be made.
	PublicURL func() string
	// Sharing adds the calls of share links, whose URLs begin with PublicURL.
	Sharing bool
	// Steer lets the answers say how often phones report. StopApps also ends the
	// tracking of a stock app that has no journey to report to.
	Steer, StopApps bool
	// Pages are the web pages. Nil: there are none.
	Pages *pages.Pages
	// Regions are where calls about journeys of other regions go. Nil: there is one region.
	Regions *regions.Regions
	// Body reads the body of a request to a path below StreamPath. Nil: it has been read.
	// Crowded is its error where too many large bodies are being read.
	Body    func(c *app.RequestContext) io.Reader
	Crowded error
	// Client is the address that a request is counted under; not valid where there is
	// none. Nil: there is none.
	Client func(c *app.RequestContext) netip.Prefix

	Now     func() time.Time // nil: the wall clock
	Log     *slog.Logger     // nil: discards
	Metrics Metrics
	// Trace begins a request's span, and returns what ends it. Nil: no traces.
	Trace func(ctx context.Context, call Call) (context.Context, EndTrace)
}

// EndTrace ends a request's span with the status and the code of the answer, and the
// session that the request was about; empty where it named none, or is not to be told.
// It returns the trace's id, empty for one that is not kept.
type EndTrace func(status int, code, session string) (trace string)

// Tokens turns a bearer token into a caller. auth.Verifier is one.
type Tokens interface {
	Verify(ctx context.Context, token []byte) (sessions.Caller, error) // it does not keep token
}

var _ Tokens = (*auth.Verifier)(nil)

// Metrics counts answers. All labels come from closed lists, which observe.go
// gives out. The methods are called from many goroutines at once.
type Metrics interface {
	// Answered is one answer. route and method are one of Routes, code is one of Codes or
	// empty. trace and session name the request where it is traced, for an exemplar, and
	// are else empty.
	Answered(route, method string, status int, code string, took time.Duration, trace, session string)
	Updated(verdict string)                      // one of UpdateVerdicts
	Flagged(flag string)                         // one of geo.AllFlags
	Arrived(outcome string)                      // one of ArrivalOutcomes
	CodeTried(outcome string)                    // one of CodeOutcomes
	Unauthenticated(reason string)               // one of auth.Reasons
	Shed(why string)                             // one of ShedReasons
	Reported(format, outcome string, points int) // one of sessions.Formats; one of ReportOutcomes
}

// New makes the handlers. Register adds them to a server.
func New(deps Deps) *API {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	deps.MaxWait = cmp.Or(deps.MaxWait, DefaultMaxWait)
	deps.Log = cmp.Or(deps.Log, slog.New(slog.DiscardHandler))
	if deps.Client == nil {
		deps.Client = func(*app.RequestContext) netip.Prefix { return netip.Prefix{} }
	}
	if deps.Body == nil {
		deps.Body = func(c *app.RequestContext) io.Reader { return bytes.NewReader(c.Request.Body()) }
	}
	a := &API{deps: deps, callers: callerLimit(deps), guesses: newGuesses(), linkGuesses: newGuesses(), phones: newLately()}
	for _, origin := range deps.Origins {
		if a.origins == nil {
			a.origins = map[string]string{}
		}
		a.origins[origin] = origin
	}
	a.inFlight.limit = int64(cmp.Or(deps.MaxInFlight, DefaultMaxInFlight))
	return a
}

// Register adds the routes to a server. It is the second argument of
// httpserver.New.
func (a *API) Register(h *server.Hertz) {
	// A path has one spelling. By default Hertz decodes and cleans a path before it
	// matches: ID%2Fstop-journey and x/../ID//stop-journey would be calls that no
	// rule of a proxy in front has seen. An id in a path is not decoded either.
	h.GetOptions().UseRawPath, h.GetOptions().UnescapePathValues = true, false
	h.Use(a.observe, a.limitBody)
	for _, r := range a.served() {
		h.Handle(r.method, r.path, r.handler)
		if r.method == http.MethodGet { // RFC 9110, section 9.3.2; Hertz leaves out the body
			h.Handle(http.MethodHead, r.path, r.handler)
		}
	}
	h.NoRoute(func(_ context.Context, c *app.RequestContext) { a.fail(c, errNoRoute) })
	h.NoMethod(func(_ context.Context, c *app.RequestContext) {
		allowed := a.allowed(string(c.Request.URI().PathOriginal()))
		c.Header("Allow", allowed) // required by RFC 9110, section 15.5.6
		if string(c.Method()) != http.MethodOptions {
			a.fail(c, errNoMethod)
			return
		}
		c.SetStatusCode(http.StatusNoContent)
		a.preflight(c, allowed)
	})
}

// allowed lists the methods of a path.
func (a *API) allowed(path string) string {
	var methods []string
	for _, r := range a.served() {
		if matches(strings.Split(r.path, "/"), strings.Split(path, "/")) && !slices.Contains(methods, r.method) {
			methods = append(methods, r.method)
			if r.method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
		}
	}
	return strings.Join(append(methods, http.MethodOptions), ", ")
}

func matches(pattern, path []string) bool {
	return slices.EqualFunc(pattern, path, func(p, s string) bool { return p == s || strings.HasPrefix(p, ":") })
}

const (
	base        = "/api/v1"
	updatesPath = base + "/admin/location-tracking/journey/updates"
	livePath    = base + "/admin/location-tracking/journey/live"
	devicesPath = base + "/me/devices"
	ingestPath  = base + "/ingest/" // and the format
	sharedPath  = base + "/share/live"
	linksPath   = base + "/students/sessions/:sessionId/share-links"

	// StreamPath is what the paths begin with whose handlers read the body by Deps.Body.
	StreamPath = ingestPath
)

type route struct {
	method, path string
	handler      app.HandlerFunc
}

// served is every path: the calls, and the pages where they are on.
func (a *API) served() []route { return append(a.routes(), a.pageRoutes()...) }

// routes is every call. The numbers are those of docs/contract.md, section 1.
func (a *API) routes() []route {
	const get, post, put, del, patch = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch
	list := []route{
		{post, base + "/admin/sessions/:sessionId/start-journey", a.authenticated(a.start)},     // 1
		{post, updatesPath, a.authenticated(a.update)},                                          // 2
		{get, livePath, a.authenticated(a.live)},                                                // 3
		{post, base + "/admin/sessions/:sessionId/arrived", a.authenticated(a.arrived)},         // 4
		{post, base + "/admin/sessions/:sessionId/stop-journey", a.authenticated(a.stop)},       // 5
		{post, base + "/admin/sessions", a.authenticated(a.createSession)},                      // 6
		{get, base + "/admin/sessions/:sessionId", a.authenticated(a.readSession)},              // 7
		{get, base + "/students/me/sessions", a.authenticated(a.ownSessions(sessions.Student))}, // 7
		{get, base + "/trainers/me/sessions", a.authenticated(a.ownSessions(sessions.Trainer))}, // 7
		{post, base + "/admin/sessions/:sessionId/verify-otp", a.authenticated(a.verifyOTP)},    // 8
		{post, base + "/admin/sessions/:sessionId/complete", a.authenticated(a.complete)},       // 9
		{post, base + "/students/sessions/:sessionId/review", a.authenticated(a.review)},        // 10
		{put, base + "/me/push-tokens", a.authenticated(a.putPushToken)},                        // 11
		{del, base + "/me/push-tokens", a.authenticated(a.deletePushToken)},                     // 11
		{post, devicesPath, a.authenticated(a.createDevice)},                                    // 21
		{get, devicesPath, a.authenticated(a.listDevices)},                                      // 21
		{del, devicesPath + "/:deviceId", a.authenticated(a.deleteDevice)},                      // 21
		{get, devicesPath + "/:deviceId/setup", a.authenticated(a.deviceSetup)},                 // 21
		{post, base + "/admin/sessions/:sessionId/resend-otp", a.authenticated(a.resendOTP)},    // 13
		{post, base + "/admin/sessions/:sessionId/unlock-otp", a.authenticated(a.unlockOTP)},    // 14
		{patch, base + "/admin/sessions/:sessionId", a.authenticated(a.rebook)},                 // 15
		{post, base + "/admin/sessions/:sessionId/cancel", a.authenticated(a.cancel)},           // 16
		{post, base + "/admin/sessions/:sessionId/no-show", a.authenticated(a.noShow)},          // 16
		{get, base + "/admin/journeys", a.authenticated(a.listJourneys)},                        // 17
		{get, base + "/admin/sessions", a.authenticated(a.listSessions)},                        // 17
		{get, base + "/admin/sessions/:sessionId/history", a.authenticated(a.history)},          // 18
		{get, base + "/trainers/:trainerId/rating", a.authenticated(a.rating)},                  // 19
		{get, base + "/admin/users/:userId/data", a.authenticated(a.userData)},                  // 20
		{del, base + "/admin/users/:userId/data", a.authenticated(a.eraseUser)},                 // 20
		{post, ingestPath + "owntracks", a.stockReport(sessions.OwnTracks)},                     // 22
		{post, ingestPath + "osmand", a.stockReport(sessions.OsmAnd)},                           // 22
		{get, ingestPath + "osmand", a.stockReport(sessions.OsmAnd)},                            // 22
		{post, ingestPath + "transistorsoft", a.stockReport(sessions.Transistorsoft)},           // 22
		{put, ingestPath + "transistorsoft", a.stockReport(sessions.Transistorsoft)},            // 22
		{patch, ingestPath + "transistorsoft", a.stockReport(sessions.Transistorsoft)},          // 22
		{post, ingestPath + "transistorsoft/refresh", a.failing(a.refreshDevice)},               // 22
		{post, ingestPath + "overland", a.stockReport(sessions.Overland)},                       // 22
		{get, "/healthz", a.healthz},                                                            // 12
		{get, "/readyz", a.readyz},                                                              // 12
		{get, "/openapi.yaml", a.openAPI},                                                       // 12
	}
	if a.deps.Sharing {
		list = append(list, []route{
			{post, linksPath, a.authenticated(a.createShareLink)},             // 23
			{get, linksPath, a.authenticated(a.listShareLinks)},               // 23
			{del, linksPath + "/:linkId", a.authenticated(a.deleteShareLink)}, // 23
			{get, sharedPath, a.failing(a.shared)},                            // 24
		}...)
	}
	return list
}
