package api

import (
	"cmp"
	"errors"
	"sync/atomic"
	"time"

	"doorstep/gateway/hub"
	"doorstep/ratelimit"
	"doorstep/sessions"
)

// Why a request was shed: the closed list behind Metrics.Shed. Connections are
// shed earlier, by the listener.
const (
	ShedInFlight      = "in_flight"      // the process works on as many as it may
	ShedWaits         = "waits"          // as many long polls are open as may be
	ShedCallerRate    = "caller_rate"    // more requests of one caller than are served
	ShedCallerWaits   = "caller_waits"   // more long polls of one caller
	ShedCallerLookups = "caller_lookups" // more requests of one caller for what is not there
)

// shedRetry is what who is shed is told to wait, where nothing better is known.
const shedRetry = time.Second

var (
	errInFlight = errors.New("requests in flight")
	errRate     = errors.New("requests of one caller")
)

// work is how many requests are being worked on. A long poll that waits is not:
// the hub bounds those. Health and the document are not counted and so never
// shed, and a lack of work is no reason to hold a connection back: the
// listener bounds those.
type work struct {
	limit int64
	now   atomic.Int64
}

// begin takes a place, or reports that there is none.
func (w *work) begin() bool {
	if w.now.Add(1) <= w.limit {
		return true
	}
	w.now.Add(-1)
	return false
}

func (w *work) end() { w.now.Add(-1) }

// rest gives the place back for as long as a request only waits; resume takes
// it again, limit or no: a waiter who has been told must be able to say so.
func (w *work) rest()   { w.now.Add(-1) }
func (w *work) resume() { w.now.Add(1) }

// InFlight is how many requests are being worked on, open waits apart.
func (a *API) InFlight() int { return int(a.work.now.Load()) }

// newCallers is the rate of one caller's requests; nil where there is none.
func newCallers(perSecond float64, burst int) *ratelimit.Limit {
	if perSecond < 0 {
		return nil
	}
	perSecond = cmp.Or(perSecond, 50)
	every := max(1, time.Duration(float64(time.Second)/perSecond))
	return ratelimit.New(every, cmp.Or(burst, 100))
}

// paced refuses a caller who asks too often. A phone asks once in 5 s, an app
// keeps a poll or four open; so this is for the one that runs wild and for
// the token that was stolen. Admins are the house's own machines, which book in
// floods; they count among what is in flight.
func (a *API) paced(caller sessions.Caller) error {
	if a.callers == nil || caller.Role == sessions.Admin {
		return nil
	}
	wait := a.callers.Take(string(caller.ID), a.deps.Now())
	if wait == 0 {
		return nil
	}
	e := sessions.Fault(sessions.RateLimited, "too many requests", errRate)
	e.RetryAfter = wait
	return e
}

// shed tells why an error shed a request; empty for every other error.
func shed(err error) string {
	switch {
	case errors.Is(err, errInFlight):
		return ShedInFlight
	case errors.Is(err, hub.ErrFull):
		return ShedWaits
	case errors.Is(err, hub.ErrTooMany):
		return ShedCallerWaits
	case errors.Is(err, errRate):
		return ShedCallerRate
	case errors.Is(err, sessions.ErrLookups):
		return ShedCallerLookups
	}
	return ""
}
