package regions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"
)

var (
	// ErrAway is returned where no gateway of the region has answered. A call that was sent
	// may still have taken effect.
	ErrAway = errors.New("the region is away")
	// ErrBusy is returned where as many calls to the region are under way as there may be.
	ErrBusy = errors.New("too many calls to the region")

	errLeft = errors.New("the caller has left")
)

const (
	// Header names the region of the gateway that has answered.
	Header = "Doorstep-Region"
	// GuardHeader is in every forwarded call, with the region that it comes from. Such a call
	// is answered where it arrives, and never forwarded again.
	GuardHeader = "Doorstep-Forwarded-From"

	// callWithin bounds a forwarded call, its wait not counted: two round trips around the
	// world to connect, one for the call, and what a gateway may take for its stores.
	callWithin = 5 * time.Second
	// maxAnswer bounds the body of an answer. The largest, a page of a list, has some
	// hundred kilobytes.
	maxAnswer = 4 << 20
)

// Call is a call to be forwarded.
type Call struct {
	Method string
	Path   string        // with the query, as it was received
	Header http.Header   // all that is passed on, and no Idempotency-Key: net/http repeats a call with it; GuardHeader is added
	Body   []byte        // it may be read after Forward has returned
	Wait   time.Duration // how long the gateway there may hold the call; 0: it is no wait
}

// Answer is what a gateway of the other region has answered, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Forward sends a call to another region. Errors: ErrAway and ErrBusy, wrapped, and
// those of ctx. It never repeats a call that may have arrived, unless that is a GET.
func (r *Regions) Forward(ctx context.Context, region string, call Call) (Answer, error) {
	to := r.others[region]
	if to == nil {
		return Answer{}, fmt.Errorf("%w: %s is not among DOORSTEP_REGIONS", ErrAway, region)
	}
	room := &to.calls
	if call.Wait > 0 {
		room = &to.waits
	}
	if !room.enter() {
		r.m.Forwarded(region, busy)
		return Answer{}, fmt.Errorf("%w %s", ErrBusy, region)
	}
	defer room.leave()
	done, err := to.allow(call)
	if err != nil {
		r.m.Forwarded(region, breakerOpen)
		return Answer{}, fmt.Errorf("%w: %s: %w", ErrAway, region, err)
	}
	answer, err := r.send(ctx, to, call)
	switch {
	case err == nil:
		done(nil)
		r.m.Forwarded(region, answered)
		return answer, nil
	case ctx.Err() != nil:
		done(errLeft)
		r.m.Forwarded(region, left)
		return Answer{}, ctx.Err()
	}
	to.failure.Store(&err)
	done(err)
	r.m.Forwarded(region, away)
	return Answer{}, fmt.Errorf("%w: %s: %w", ErrAway, region, err)
}

// allow asks the breaker. A wait is no probe, because its answer may take half a minute.
func (o *other) allow(call Call) (done func(error), err error) {
	if call.Wait == 0 {
		return o.breaker.Allow()
	}
	if o.breaker.State().String() == "open" {
		return nil, errOpen
	}
	return func(error) {}, nil
}

var errOpen = errors.New("its breaker is open")

func (r *Regions) send(ctx context.Context, to *other, call Call) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin+call.Wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, call.Method, to.Internal+call.Path, bytes.NewReader(call.Body))
	if err != nil {
		return Answer{}, withoutURL(err)
	}
	maps.Copy(req.Header, call.Header)
	req.Header.Set(GuardHeader, r.own)
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "") // else net/http adds its own
	}
	res, err := to.client.Do(req)
	if err != nil {
		return Answer{}, withoutURL(err)
	}
	defer func() { _ = res.Body.Close() }()
	if name := res.Header.Get(Header); name != to.Name { // a proxy, or a setting that is wrong
		return Answer{}, fmt.Errorf("status %d of no gateway of this region: %s is %q", res.StatusCode, Header, name)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return Answer{}, err
	case len(body) > maxAnswer:
		return Answer{}, errors.New("the answer is too large")
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}

// withoutURL is what net/http says without the URL, whose query may name a session, and be a
// phone's report.
func withoutURL(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
