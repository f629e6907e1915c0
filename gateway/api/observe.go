package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/gateway/regions"
	"doorstep/sessions"
)

const requestIDHeader = "X-Request-Id"

// Call is what a trace's span gets at the start of a request. The caller can
// choose only the last four fields: RequestID and Amazon, which isSafeID has checked,
// and the two headers of W3C Trace Context.
type Call struct {
	Method, Route string
	RequestID     string
	Traceparent   string
	Tracestate    string
	Amazon        string // the trace that a load balancer of AWS has named
}

// observe is the middleware of every request. It gives the request its id, and
// reports the answer to the metrics, the log and the trace.
func (a *API) observe(ctx context.Context, c *app.RequestContext) {
	r := recordOf(c)
	r.began, r.route, r.method, r.amazon = time.Now(), c.FullPath(), methodLabel(c), amazonTrace(c.Request.Header.Peek("X-Amzn-Trace-Id"))
	a.begin(c, r)
	if a.deps.Trace != nil && strings.HasPrefix(r.route, base) { // not the probes, and not paths that have no route
		ctx, r.endTrace = a.deps.Trace(ctx, call(c, r))
	}
	a.report(ctx, r, func() (int, int) {
		if r.route == "" && string(c.Request.RequestURI()) == "*" && r.method == http.MethodOptions {
			c.SetStatusCode(http.StatusNoContent) // about the server as a whole: RFC 9110, section 9.3.7
			c.Header("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		}
		c.Next(ctx)
		if c.Hijacked() {
			return 0, 0 // it is parked: its poll answers it, and reports that
		}
		compress(c)
		return c.Response.StatusCode(), len(c.Response.Body())
	})
}

// report reports the answer that write writes, whose status and length it returns. The
// status is 0 if there is no answer yet; then write's caller must touch r no more.
func (a *API) report(ctx context.Context, r *record, write func() (status, bytes int)) {
	status, bytes, panicked := http.StatusInternalServerError, 0, true
	defer func() { // httpserver recovers, further out
		if panicked {
			r.code = sessions.Internal
		}
		if status == 0 {
			return
		}
		took := time.Since(r.began)
		a.log(ctx, r, status, bytes, took)
		var trace string
		if r.endTrace != nil {
			trace = r.endTrace(status, string(r.code), a.spanSession(ctx, r))
		}
		a.deps.Metrics.Answered(r.routeLabel(), r.method, status, string(r.code), took, trace, string(r.session))
	}()
	status, bytes = write()
	panicked = false
}

// spanSession is the session that a request's span names: at debug only, because a trace
// store is somebody else's as a rule.
func (a *API) spanSession(ctx context.Context, r *record) string {
	if !a.deps.Log.Enabled(ctx, slog.LevelDebug) {
		return ""
	}
	return string(r.session)
}

// begin sets the headers that every answer has.
func (a *API) begin(c *app.RequestContext, r *record) {
	a.sharedHeaders(c, r.route)
	r.origin = a.origins[string(c.Request.Header.Peek("Origin"))]
	r.ownHeaders(c.Response.Header.Set)
}

// sharedHeaders sets what all answers of a route have. Most answers hold a location, a code
// or a home, or say something about them, so no browser and no proxy may keep any of
// them. The answer to an update holds none, and no cache keeps an answer to POST that has no
// age (RFC 9110, section 9.3.3): phones get it without the header.
func (a *API) sharedHeaders(c *app.RequestContext, route string) {
	if route != updatesPath {
		c.Response.Header.Set("Cache-Control", "no-store")
	}
	if a.deps.Regions != nil {
		c.Response.Header.Set(regions.Header, a.deps.Regions.Own())
	}
	if a.origins != nil {
		// Even where there is no Origin, so that no cache gives one page's answer to
		// another.
		c.Response.Header.Add("Vary", "Origin")
	}
}

// ownHeaders sets the headers that depend on the request: its id, and that a page of
// an allowed origin may read the answer.
func (r *record) ownHeaders(set func(name, value string)) {
	set(requestIDHeader, r.id)
	if !r.started.IsZero() {
		set(regions.StartedHeader, r.started.Format(time.RFC3339Nano))
	}
	if r.origin != "" {
		set("Access-Control-Allow-Origin", r.origin)
		set("Access-Control-Expose-Headers", exposedHeaders)
	}
}

// ownLines are those headers as lines.
func (r *record) ownLines() (lines []byte) {
	r.ownHeaders(func(name, value string) {
		lines = append(append(append(append(lines, name...), ": "...), value...), "\r\n"...)
	})
	return lines
}

func call(c *app.RequestContext, r *record) Call {
	return Call{
		Method: r.method, Route: r.route, RequestID: r.id,
		Traceparent: string(c.GetHeader("traceparent")), Tracestate: string(c.GetHeader("tracestate")), Amazon: r.amazon,
	}
}

// log writes one line a request. It is a debug line, because otherwise a
// stranger could fill the disk; a fault of the server is a warning or an error.
func (a *API) log(ctx context.Context, r *record, status, bytes int, took time.Duration) {
	level, message := slog.LevelDebug, "request"
	switch {
	case r.code == sessions.Internal:
		level, message = slog.LevelError, "request failed"
	// Not for OVERLOADED, because a line is more work, and not for /readyz, whose
	// 503 is an answer and has no error.
	case status >= http.StatusInternalServerError && r.err != nil && r.code != Overloaded:
		level, message = slog.LevelWarn, "request failed"
	}
	if !a.deps.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 11)
	attrs = append(attrs, slog.String("request_id", r.id), slog.String("route", r.routeLabel()), slog.String("method", r.method),
		slog.Int("status", status), slog.String("code", string(r.code)), slog.String("role", r.role),
		slog.Float64("took_ms", float64(took.Microseconds())/1000), slog.Int("bytes", bytes))
	if r.amazon != "" {
		attrs = append(attrs, slog.String("amzn_trace_id", r.amazon))
	}
	if r.session != "" {
		attrs = append(attrs, slog.String("session_id", string(r.session)))
	}
	if r.err != nil {
		attrs = append(attrs, slog.Any("error", r.err))
	}
	a.deps.Log.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // one of the two constants above
}

// record is what observe reports of a request. The handlers fill it in.
type record struct {
	id      string // of the request
	amazon  string // the trace that a load balancer of AWS has named; empty: none
	role    string
	session sessions.ID   // that the request is about; empty where it names none
	code    sessions.Code // of a refusal
	err     error         // its cause; for the log only

	began         time.Time
	route, method string // as the route was declared; empty: none
	origin        string // of the page that may read the answer; empty: none
	endTrace      func(status int, code, session string) (trace string)

	waited bool // it is a long poll, which has its own route label
	secret bool // the answer holds a code or a secret, perhaps beside texts of others: it is not compressed

	started time.Time // of the journey that a parked poll of another region's gateway is shown; zero: it is told in the answer itself, or not at all
	kept    *keptBody // what the handler has read of a streamed body that may have to go to another region; nil: nothing
}

const recordKey = "record"

// recordOf returns the record of a request, and makes it at the first call. Its
// id is the caller's X-Request-Id if that is safe to repeat, else a new one.
func recordOf(c *app.RequestContext) *record {
	var kept any
	if slot := httpserver.Slot(c); slot != nil {
		kept = *slot
	} else { // no connection: an answer that is written later, or a test
		kept = c.Value(recordKey)
	}
	if r, ok := kept.(*record); ok {
		return r
	}
	r := &record{id: string(c.GetHeader(requestIDHeader))}
	if !isSafeID(r.id) {
		r.id = newRequestID()
	}
	r.keepIn(c)
	return r
}

// keepIn makes r the record of a request.
func (r *record) keepIn(c *app.RequestContext) {
	if slot := httpserver.Slot(c); slot != nil {
		*slot = r
	} else {
		c.Set(recordKey, r)
	}
}

// newRequestID is 80 random bits in base 32: less than half of a UUID, and of 500 million, which
// is a day of 6,000 a second, two are equal with a chance of one to ten million. It is no
// secret, so it does not ask the kernel for randomness.
func newRequestID() string {
	var id [16]byte
	for i := 0; i < len(id); i += 8 {
		for bits, j := rand.Uint64(), i; j < i+8; bits, j = bits>>5, j+1 { //nolint:gosec // no secret
			id[j] = "0123456789abcdefghijklmnopqrstuv"[bits%32]
		}
	}
	return string(id[:])
}

// isSafeID reports whether an id may stand in a header and a log line as it is:
// 1 to 64 letters, digits and -_.: characters.
func isSafeID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, r := range []byte(id) {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			r == '-' || r == '_' || r == '.' || r == ':'
		if !ok {
			return false
		}
	}
	return true
}

// amazonTrace is Root of an X-Amzn-Trace-Id, which is a list such as
// Self=1-67…;Root=1-67…;Sampled=1. By it a line of the load balancer's log is found.
func amazonTrace(header []byte) string {
	for field := range bytes.SplitSeq(header, []byte(";")) {
		if root, ok := bytes.CutPrefix(bytes.TrimSpace(field), []byte("Root=")); ok && isSafeID(string(root)) {
			return string(root)
		}
	}
	return ""
}

// What follows are the closed lists of the metrics' labels. metrics makes every
// series from them at the start, and a caller cannot make a new label.

const (
	noRoute   = "none"  // the route label of a path that has no route
	waitRoute = "?wait" // what the route label of a long poll ends in
)

// routeLabel is the pattern of the route that the request matched.
func (r *record) routeLabel() string {
	switch {
	case r.route == "":
		return noRoute
	case r.waited:
		return r.route + waitRoute
	default:
		return r.route
	}
}

// methodLabel is the request's method, or "other".
func methodLabel(c *app.RequestContext) string {
	for _, known := range methodLabels {
		if string(c.Method()) == known { // compared in place, without a string of its own
			return known
		}
	}
	return "other"
}

var methodLabels = [...]string{"POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"}

// Routes lists the method and the route label of every route, and of a path that
// has none.
func (a *API) Routes() [][2]string {
	list := [][2]string{{http.MethodGet, noRoute}}
	for _, r := range a.served() {
		list = append(list, [2]string{r.method, r.path})
		if strings.HasSuffix(r.path, "/live") {
			list = append(list, [2]string{r.method, r.path + waitRoute})
		}
	}
	return list
}

// UpdateVerdicts lists what can become of an update: the verdicts of the live
// store, "unavailable" if it could not be asked, and "refused" if it was not. A
// stored fix that its phone had to keep is "stored_late".
func UpdateVerdicts() []string {
	verdicts := []string{"unavailable", "refused", storedLate}
	for _, v := range sessions.Verdicts() {
		if v > sessions.VerdictEnded {
			verdicts = append(verdicts, v.String())
		}
	}
	return verdicts
}

// arrivalRefusals are the codes that are an outcome of an arrival each.
var arrivalRefusals = []sessions.Code{
	sessions.NotWithinRadius, sessions.NoFreshLocation, sessions.SuspiciousLocation, sessions.NoActiveJourney,
}

// ArrivalOutcomes lists how a request to arrive can end.
func ArrivalOutcomes() []string {
	outcomes := []string{"arrived", "unavailable", "refused"}
	for _, code := range arrivalRefusals {
		outcomes = append(outcomes, strings.ToLower(string(code)))
	}
	return outcomes
}

func arrivalOutcome(err error) string {
	switch code := sessions.CodeOf(err); {
	case err == nil:
		return "arrived"
	case sessions.Unavailable(err):
		return "unavailable"
	case slices.Contains(arrivalRefusals, code):
		return strings.ToLower(string(code))
	default:
		return "refused"
	}
}

// Why a request was refused because of load. Connections are refused earlier, by
// gateway/httpserver.
const (
	shedInFlight      = "in_flight"      // as many requests are worked on as Deps.MaxInFlight
	shedWaits         = "waits"          // as many long polls are open as the hub allows
	shedCallerRate    = "caller_rate"    // requests of one caller
	shedCallerWaits   = "caller_waits"   // long polls of one caller
	shedLargeBodies   = "large_bodies"   // as many large bodies of stock apps are being read as there may be
	shedCallerLookups = "caller_lookups" // requests of one caller for sessions that are not there or not theirs
)

// ShedReasons lists why a request can be refused because of load.
func ShedReasons() []string {
	return []string{shedInFlight, shedWaits, shedCallerRate, shedCallerWaits, shedLargeBodies, shedCallerLookups}
}

// shedReason is why err refused a request because of load; empty for every other
// error.
func shedReason(err error) string {
	switch {
	case errors.Is(err, errInFlight):
		return shedInFlight
	case errors.Is(err, errLargeBodies):
		return shedLargeBodies
	case errors.Is(err, hub.ErrFull):
		return shedWaits
	case errors.Is(err, hub.ErrTooMany):
		return shedCallerWaits
	case errors.Is(err, errRate):
		return shedCallerRate
	case errors.Is(err, sessions.ErrLookups):
		return shedCallerLookups
	}
	return ""
}
