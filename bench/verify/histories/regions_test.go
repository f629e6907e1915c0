package histories

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/hertz/pkg/protocol"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/gateway/regions"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// drawCuts draws when the regions are cut off from each other, and each from the
// repository: now and then for longer than its lease.
func (w *world) drawCuts() {
	for _, g := range w.gateway {
		g.repo = w.repo
	}
	if len(w.regions) == 1 {
		return
	}
	draw := w.stream("cuts")
	window := func() Window {
		from := w.visits[draw.IntN(len(w.visits))].at.Add(between(draw, -time.Minute, 4*time.Minute))
		return Window{from, from.Add(between(draw, 5*time.Second, 6*time.Minute))}
	}
	w.way.often = 0.02 * draw.Float64()
	for range draw.IntN(4) {
		cut := window()
		w.way.outages = append(w.way.outages, cut)
		w.record.outage(Outage{cut, TheWay, ""})
	}
	for _, g := range w.gateway {
		own := *w.repo // the same rows, by a way of its own
		own.outages = slices.Clone(own.outages)
		for range draw.IntN(3) {
			cut := window()
			own.outages = append(own.outages, cut)
			w.record.outage(Outage{cut, TheRepository, g.region})
		}
		g.repo = &own
	}
}

// lease makes the lease of its region; nil without regions.
func (g *gateway) lease() *sessions.Lease {
	if g.region == "" {
		return nil
	}
	return sessions.NewLease(g.repo, sessions.LeaseOptions{Region: g.region, For: g.world.leases})
}

// others is its way to the other region's gateway; nil without regions.
func (g *gateway) others() *regions.Regions {
	if g.region == "" || g.world.closed {
		return nil
	}
	var list []regions.Region
	for _, name := range g.world.regions {
		list = append(list, regions.Region{Name: name, URL: "http://" + name, Internal: "http://" + name})
	}
	return regions.New(regions.Options{Own: g.region, List: list, Metrics: unread, Transport: link{g.world, g.world.gateway[1-g.n]}})
}

// link carries calls to a region's gateway: it delays them, and loses some and, during a
// cut, all.
type link struct {
	world *world
	to    *gateway
}

var (
	errLost = errors.New("lost on the way between the regions")
	errDead = errors.New("the other region's gateway has died")
)

// RoundTrip implements http.RoundTripper. What it loses is an outage for those who wait
// for it.
func (l link) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	res, err := l.roundTrip(req)
	if errors.Is(err, errLost) || err != nil && !errors.Is(req.Context().Err(), context.Canceled) {
		l.world.record.outage(Outage{Window{began, time.Now()}, TheWay, ""})
	}
	return res, err
}

func (l link) roundTrip(req *http.Request) (*http.Response, error) {
	from := requestOf(req.Context())
	// Not from what the sender draws from: a poll goes on while others of its waits draw, too.
	r := newRequest(l.world.stream(fmt.Sprint("link ", req.Method, req.URL, req.Header["Authorization"], req.Header["If-None-Match"], time.Now().UnixNano())).Uint64())
	body, _ := io.ReadAll(req.Body) // of bytes in memory
	_ = req.Body.Close()
	if err := l.trip(req.Context(), r); err != nil {
		return nil, err
	}
	there, leave := context.WithCancel(context.Background()) // nothing but the end of a call's context crosses
	defer leave()
	defer context.AfterFunc(req.Context(), leave)()
	call, _, got := l.to.serve(there, r, forwarded(from.call, req), func(to *protocol.Request) {
		to.SetMethod(req.Method)
		to.SetRequestURI(req.URL.String())
		for name, values := range req.Header {
			for _, value := range values {
				to.Header.Add(name, value)
			}
		}
		to.SetBody(body)
	})
	if r.faulted.Load() {
		from.faulted.Store(true)
	}
	if got == nil || call.Status == callerGone {
		return nil, errDead
	}
	if err := l.trip(req.Context(), r); err != nil {
		return nil, err
	}
	header := http.Header{}
	got.Header.VisitAll(func(name, value []byte) { header.Add(string(name), string(value)) })
	return &http.Response{StatusCode: call.Status, Header: header, Body: io.NopCloser(bytes.NewReader(got.Body())), Request: req}, nil
}

// trip is one way. Of what is lost, some senders are told at once, and the others wait
// until their patience ends.
func (l link) trip(ctx context.Context, r *request) error {
	d := between(r.draw, 20*time.Millisecond, 100*time.Millisecond)
	if r.draw.IntN(50) == 0 {
		d *= 5
	}
	lost, told := r.draw.Float64() < l.world.way.often, r.draw.IntN(2) == 0
	if err := pause.For(ctx, d); err != nil {
		return err
	}
	switch {
	case !lost && !l.world.way.away(time.Now()):
		return nil
	case told:
		return errLost
	}
	<-ctx.Done()
	return errLost
}

// forwarded is a call as the other region's gateway sends it on. A wait for many callers
// has the token, the validator and the time that its gateway has chosen.
func forwarded(of Call, req *http.Request) Call {
	role, id, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), ":")
	of.Caller, of.Forwarded = sessions.Caller{ID: sessions.ID(id), Role: sessions.Role(role)}, true
	if of.Verb == Live {
		wait, _ := strconv.Atoi(req.URL.Query().Get("wait")) // none is 0
		of.Seen, of.Wait = rig.VersionOf(req.Header.Get("If-None-Match")), time.Duration(wait)*time.Second
	}
	return of
}

// The same for the rules of regions, in the first session of a day.
func TestCheck_finds_what_is_planted_between_regions(t *testing.T) {
	t.Parallel()
	good := play(t, 33)
	require.Empty(t, Check(good))
	first, home := good.Commits[0].Event.SessionID, good.Commits[0].Region
	abroad := map[string]string{"eu": "us", "us": "eu"}[home]
	stored := func(r *Record, in string) *Call {
		return last(r, func(c Call) bool { return c.Session == first && c.Stored && c.Region == in && !c.Forwarded })
	}
	seen := func(r *Record, in string) *Call {
		return last(r, func(c Call) bool { return shown(r)(c) && c.Region == in && !c.Forwarded })
	}
	withoutLease := func(r *Record, c *Call) {
		r.Outages = append(r.Outages, Outage{Window{c.From.Add(-leaseWithin), c.To}, TheRepository, c.Region})
	}
	finds(t, good, map[string]planted{
		"a_fix_in_another_region": {func(r *Record) {
			ch := *judged(r)
			ch.Region = abroad
			r.Changes = append(r.Changes, ch)
		}, "in the live store of another region"},
		"a_start_in_another_region": {func(r *Record) {
			again := r.Commits[0]
			again.Region = abroad
			r.Commits = append(r.Commits, again)
		}, "is in another one"},
		"a_fix_without_a_lease":    {func(r *Record) { withoutLease(r, stored(r, home)) }, "served without a lease"},
		"a_place_without_a_lease":  {func(r *Record) { withoutLease(r, seen(r, home)) }, "served without a lease"},
		"a_fix_abroad_not_judged":  {func(r *Record) { stored(r, abroad).Status = 202 }, "not judged, though nothing was away"},
		"a_version_back_abroad":    {func(r *Record) { c := seen(r, abroad); c.Version, c.Seen = c.Seen, c.Version }, "went back for who had seen"},
		"a_place_abroad_is_late":   {func(r *Record) { c := seen(r, abroad); c.To = c.To.Add(6 * time.Second) }, "after a change"},
		"shown_abroad_after_a_end": {func(r *Record) { c := seen(r, abroad); c.From, c.To = c.From.Add(4*time.Hour), c.To.Add(4*time.Hour) }, "shown after the end"},
	})
}
