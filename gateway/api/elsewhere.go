package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/gateway/regions"
	"doorstep/sessions"
)

// otherRegion is the region of an error that says that a journey belongs to another one.
func otherRegion(err error) (region string, is bool) {
	e, ok := errors.AsType[*sessions.Error](err)
	if !ok || e.Code != sessions.WrongRegion {
		return "", false
	}
	return e.Region, true
}

// elsewhere answers a call about a journey of another region: by the answer of that
// region's gateway, or with its URL where the caller asked for that. A call that was
// forwarded to here is never forwarded again. Where two regions each say that the journey is
// the other's, what is remembered here is checked, and the handler h runs again if it is here.
// While the region cannot be asked, h answers as with a live store that is away.
func (a *API) elsewhere(ctx context.Context, c *app.RequestContext, wrong error, region string, h contextHandler) error {
	stockApp, err := fromStockApp(c), regions.ErrAway
	switch {
	case a.forwards(c, region):
		err = a.forward(ctx, c, region)
	case a.forwarded(c) && a.deps.Sessions.BackHere(ctx, recordOf(c).session):
		return h(ctx, c)
	case a.deps.Regions != nil && !stockApp: // which would take 409 for final
		return wrong
	}
	if errors.Is(err, errNotTheirs) && a.deps.Sessions.BackHere(ctx, recordOf(c).session) {
		own := h(ctx, c)
		if _, still := otherRegion(own); !still {
			return own
		}
	}
	if !errors.Is(err, regions.ErrAway) {
		return err
	}
	recordOf(c).err = err
	if stockApp { // its body has been read
		return &sessions.Error{Code: sessions.LiveStoreUnavailable, Message: "the region of this journey cannot be reached just now", RetryAfter: time.Second}
	}
	return h(sessions.WithRegionAway(ctx), c)
}

// contextHandler is a handler that returns its refusal.
type contextHandler func(ctx context.Context, c *app.RequestContext) error

// forward sends a call to another region, and answers with the answer. Errors:
// regions.ErrAway, and refusals.
func (a *API) forward(ctx context.Context, c *app.RequestContext, region string) error {
	call, err := a.forwardable(c)
	if err != nil {
		return err
	}
	answer, err := a.deps.Regions.Forward(ctx, region, call)
	switch {
	case errors.Is(err, regions.ErrBusy):
		return &sessions.Error{Code: Overloaded, Message: "too many calls to another region are under way", RetryAfter: shedRetry}
	case err != nil:
		return err
	}
	return pass(c, region, answer)
}

// forwards reports whether a call may be sent on to another region. Who prefers a redirect gets one,
// but to a region that has no URL, as one that the operator has taken away.
func (a *API) forwards(c *app.RequestContext, region string) bool {
	return a.deps.Regions != nil && !a.forwarded(c) && (fromStockApp(c) || !prefersRedirect(c) || a.deps.Regions.URL(region) == "")
}

// forwarded reports whether a call was sent on by another region's gateway.
func (a *API) forwarded(c *app.RequestContext) bool {
	return a.deps.Regions != nil && len(c.Request.Header.Peek(regions.GuardHeader)) > 0
}

// fromStockApp reports whether a request is a report of a stock phone app, whose body is read
// as a stream.
func fromStockApp(c *app.RequestContext) bool { return strings.HasPrefix(c.FullPath(), StreamPath) }

// tellStart tells which journey a view is of, where another region's gateway has forwarded the
// call. That one cannot be asked: c may be the context of a parked answer, without a request.
func tellStart(c *app.RequestContext, forwarded bool, v sessions.View) {
	if v.Active && forwarded {
		c.Response.Header.Set(regions.StartedHeader, v.StartedAt.UTC().Format(time.RFC3339Nano))
	}
}

func authorization(c *app.RequestContext) string { return string(c.GetHeader("Authorization")) }

// prefersRedirect reports whether a caller wants the URL of the right region instead of an
// answer by way of this one.
func prefersRedirect(c *app.RequestContext) bool { return prefers(c, "redirect", "") }

// passedOn are the headers of a request that the other gateway gets: what the calls that can be
// forwarded read, and the trace. The request id is added. Idempotency-Key is for bookings, which
// are not forwarded; with it net/http would send a call again that may have arrived.
var passedOn = []string{
	"Authorization", "Content-Type", "Content-Encoding", "If-None-Match", "Prefer",
	"Traceparent", "Tracestate", "X-Amzn-Trace-Id",
}

// notPassedBack are the headers of an answer that belong to one connection, or that this
// gateway sets itself.
var notPassedBack = []string{
	"Connection", "Keep-Alive", "Transfer-Encoding", "Trailer", "Upgrade", "Content-Length", "Content-Encoding", "Date", "Server",
	"Cache-Control", "Vary", requestIDHeader, regions.Header, regions.StartedHeader, "Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
}

// forwardable is the call of a request.
func (a *API) forwardable(c *app.RequestContext) (regions.Call, error) {
	header := http.Header{requestIDHeader: {recordOf(c).id}}
	for _, name := range passedOn {
		for _, value := range c.Request.Header.PeekAll(name) {
			header.Add(name, string(value))
		}
	}
	call := regions.Call{Method: string(c.Method()), Path: string(c.Request.URI().PathOriginal()), Header: header}
	if query := c.URI().QueryString(); len(query) > 0 {
		call.Path += "?" + string(query)
	}
	if call.Method == http.MethodHead {
		call.Method = http.MethodGet // Hertz leaves out the body, and says how long it was
	}
	if fromStockApp(c) {
		var err error
		call.Body, err = a.rawReport(c)
		return call, err
	}
	// net/http may read the body after it has returned, and Hertz uses its buffer again: so a copy.
	call.Body = bytes.Clone(c.Request.Body())
	return call, nil
}

var errNotTheirs = errors.New("says that the journey is not its own")

// pass writes another gateway's answer.
func pass(c *app.RequestContext, region string, answer regions.Answer) error {
	if answer.Status >= http.StatusBadRequest {
		var refusal failure
		_ = json.Unmarshal(answer.Body, &refusal) // a page of a proxy has no code
		if refusal.Code == sessions.WrongRegion { // the booking has just been moved, and the two do not agree yet
			return fmt.Errorf("%w: %s %w", regions.ErrAway, region, errNotTheirs)
		}
		if slices.Contains(Codes(), refusal.Code) {
			recordOf(c).code = refusal.Code
		}
	}
	for name, values := range answer.Header {
		if slices.Contains(notPassedBack, name) {
			continue
		}
		for _, value := range values {
			c.Response.Header.Add(name, value)
		}
	}
	c.SetStatusCode(answer.Status)
	if answer.Status != http.StatusNoContent && answer.Status != http.StatusNotModified {
		c.Response.SetBody(answer.Body)
	}
	return nil
}

// maxForwardedReport bounds the body of a report that goes to another region, as it came.
// Of a larger one the rest is left out, as the other gateway does with what is too large.
const maxForwardedReport = 1 << 20

// keptBody keeps the beginning of a streamed body.
type keptBody struct{ bytes.Buffer }

// Write implements io.Writer. It never fails.
func (k *keptBody) Write(p []byte) (int, error) {
	_, _ = k.Buffer.Write(p[:min(len(p), maxForwardedReport-k.Len())])
	return len(p), nil
}

// rawReport is the body of a report as it came.
func (a *API) rawReport(c *app.RequestContext) ([]byte, error) {
	if kept := recordOf(c).kept; kept != nil { // the device's id was in it
		return kept.Bytes(), nil
	}
	wire, kept := &wireReader{in: a.deps.Body(c)}, &keptBody{}
	_, _ = io.Copy(kept, io.LimitReader(wire, maxForwardedReport+maxBody)) // a little more, so that the connection can be used again
	switch {
	case wire.err != nil && errors.Is(wire.err, a.deps.Crowded):
		return nil, errLargeBodies
	case wire.err != nil:
		return nil, errNoBody
	}
	return kept.Bytes(), nil
}
