package api

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/google/uuid"

	"doorstep/sessions"
)

const requestIDHeader = "X-Request-Id"

// Call is a request as a trace's span begins with it. Nothing in it is the
// caller's to choose but the last two, which W3C's trace context defines.
type Call struct {
	Method, Route string
	RequestID     string
	Traceparent   string
	Tracestate    string
}

// observe gives the request its id, and tells of the answer: to the metrics,
// to the log, and to the trace where there is one.
func (a *API) observe(ctx context.Context, c *app.RequestContext) {
	began, r := time.Now(), recordOf(c)
	c.Response.Header.Set(requestIDHeader, r.id)
	traced := a.deps.Trace != nil && strings.HasPrefix(c.FullPath(), base) // neither probes nor strangers' paths
	end := func(int, string) {}
	if traced {
		ctx, end = a.deps.Trace(ctx, call(c, r))
	}
	panicked := true
	defer func() { // the recover is further out
		status := c.Response.StatusCode()
		if panicked {
			status, r.code = http.StatusInternalServerError, sessions.Internal
		}
		took := time.Since(began)
		a.deps.Metrics.Answered(series(c, r), method(c), status, string(r.code), took)
		a.log(ctx, c, r, status, took)
		end(status, string(r.code))
	}()
	c.Next(ctx)
	panicked = false
}

func call(c *app.RequestContext, r *record) Call {
	return Call{
		Method: method(c), Route: c.FullPath(), RequestID: r.id,
		Traceparent: string(c.GetHeader("traceparent")), Tracestate: string(c.GetHeader("tracestate")),
	}
}

// log writes one line a request: at debug, since a stranger could else fill the
// disk; what the caller cannot mend, a fault of the server's, higher.
func (a *API) log(ctx context.Context, c *app.RequestContext, r *record, status int, took time.Duration) {
	level, message := slog.LevelDebug, "request"
	switch {
	case r.code == sessions.Internal:
		level, message = slog.LevelError, "request failed"
	// Not what is shed, for a line would be one more thing to do; nor /readyz,
	// whose 503 is an answer.
	case status >= http.StatusInternalServerError && r.err != nil && r.code != sessions.Overloaded:
		level, message = slog.LevelWarn, "request failed"
	}
	if !a.deps.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 9)
	attrs = append(attrs, slog.String("request_id", r.id), slog.String("route", series(c, r)), slog.String("method", method(c)),
		slog.Int("status", status), slog.String("code", string(r.code)), slog.String("role", string(r.role)),
		slog.Float64("took_ms", float64(took.Microseconds())/1000), slog.Int("bytes", len(c.Response.Body())))
	if r.err != nil {
		attrs = append(attrs, slog.Any("error", r.err))
	}
	a.deps.Log.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // one of the two constants above
}

// record is what becomes known of a request on its way, for who tells of it.
type record struct {
	id   string // of the request
	role sessions.Role
	code sessions.Code // of a refusal
	err  error         // behind it; for the log only

	waited bool // a long poll: it has a series of its own
}

const recordKey = "record"

// recordOf is the request's; the same for the whole of it. Its id is the
// caller's X-Request-Id where that is sane, else a new one.
func recordOf(c *app.RequestContext) *record {
	if r, ok := c.Value(recordKey).(*record); ok {
		return r
	}
	r := &record{id: string(c.GetHeader(requestIDHeader))}
	if !sane(r.id) {
		r.id = newRequestID()
	}
	c.Set(recordKey, r)
	return r
}

// newRequestID is a random UUID (RFC 9562, version 4). It need not be one that
// nobody could guess, so it does not ask the kernel for randomness.
func newRequestID() string {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // no secret
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // no secret
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// sane is 1 to 64 of letters, digits and -_.: so that an id can stand in a
// header and a log line as it is.
func sane(id string) bool {
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

// series is the route that the request has matched, by its pattern: a label must
// not be the caller's to choose.
func series(c *app.RequestContext, r *record) string {
	switch path := c.FullPath(); {
	case path == "":
		return "none"
	case r.waited:
		return path + waited
	default:
		return path
	}
}

// method is the request's, from a closed list: a label must not be the
// caller's to choose.
func method(c *app.RequestContext) string {
	switch m := string(c.Method()); m {
	case "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH":
		return m
	default:
		return "other"
	}
}
