package histories

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/cloudwego/hertz/pkg/protocol"
	"github.com/prometheus/client_golang/prometheus"

	"doorstep/bench/rig"
	"doorstep/gateway/api"
	"doorstep/gateway/hub"
	"doorstep/gateway/regions"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/metrics"
	"doorstep/sessions"
)

// gateway is the product's handlers, service, hub and sweeper, on a clock of its own.
// It can be killed, and starts again without what it had in memory.
type gateway struct {
	world  *world
	n      int
	region string // empty: there are none
	live   *liveStore
	repo   *repository
	skew   time.Duration
	draw   *rand.Rand

	mu     sync.Mutex
	asked  time.Time     // last
	hertz  *server.Hertz // nil while it is down
	life   context.Context
	kill   context.CancelFunc
	polls  *regions.Waits // nil without regions
	served sync.WaitGroup
}

func (g *gateway) now() time.Time { return time.Now().Add(g.skew) }

// untilPass is the time to the reconciler's next pass: a second, as in production, and
// longer while nobody asks anything, because a day has many seconds.
func (g *gateway) untilPass() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.asked) < 2*time.Minute {
		return time.Second
	}
	return 10 * time.Second
}

// up starts it.
func (g *gateway) up(ctx context.Context) {
	life, kill := context.WithCancel(ctx)
	var waits *hub.Hub
	lease := g.lease()
	service := sessions.NewService(g.repo, g.live, sessions.ServiceOptions{
		Now: g.now, Region: g.region, Lease: lease, OnElsewhere: func(ref sessions.Ref) { waits.Look(ref) },
	})
	source, reads, polls := hub.Source(g.live), hub.Reader(service), (*regions.Waits)(nil)
	others := g.others()
	if others != nil {
		polls = regions.NewWaits(others, source, service)
		source, reads = polls, polls
	}
	waits = hub.New(source, reads, hub.Options{})
	handlers := api.New(api.Deps{
		Sessions: service, Hub: waits, Tokens: tokens{}, RateInterval: 5 * time.Second, Regions: others,
		Ready: func() (bool, map[string]string) { return true, nil }, Log: slog.New(slog.DiscardHandler), Metrics: unread,
	})
	hertz := server.New()
	handlers.Register(hertz)
	sweeper := sessions.NewSweeper(service, sessions.SweeperOptions{Silence: -1})
	sweeps := rand.New(rand.NewPCG(g.draw.Uint64(), 0))
	reports := newRequest(g.draw.Uint64())
	reconciler := sessions.NewReconciler(service, nil, nil)
	questions := rand.New(rand.NewPCG(g.draw.Uint64(), 1))
	g.served.Go(func() {
		for !g.world.noCleanUp && pause.For(life, g.untilPass()) == nil {
			_ = reconciler.Pass((&request{draw: questions}).in(life)) // tried again
		}
	})
	g.served.Go(func() { _ = service.Report(reports.in(life)) })
	g.served.Go(func() {
		for pause.For(life, time.Duration(60+sweeps.IntN(240))*time.Second+time.Duration(sweeps.IntN(1e9))) == nil {
			_ = sweeper.Sweep((&request{draw: sweeps}).in(life)) // tried again
		}
	})
	if lease != nil {
		renewals := newRequest(g.draw.Uint64()).in(life)
		_ = lease.Renew(renewals) // tried again
		g.served.Go(func() { _ = lease.Run(renewals) })
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hertz, g.life, g.kill, g.polls = hertz, life, kill, polls
}

// down kills it and cuts off what is under way.
func (g *gateway) down() {
	g.mu.Lock()
	g.hertz = nil
	kill, polls := g.kill, g.polls
	g.mu.Unlock()
	kill()
	if polls != nil {
		polls.Close()
	}
}

// ask makes one request and completes the Call with the answer. It returns false
// when the gateway is down.
func (g *gateway) ask(ctx context.Context, r *request, call Call, body string) (Call, answer, bool) {
	call, got, response := g.serve(ctx, r, call, func(req *protocol.Request) {
		method, path := route(call)
		req.SetMethod(method)
		req.SetRequestURI("http://gateway/api/v1" + path)
		req.Header.Set("Authorization", "Bearer "+string(call.Caller.Role)+":"+string(call.Caller.ID))
		if call.Seen != 0 {
			req.Header.Set("If-None-Match", fmt.Sprintf("%q", strconv.FormatInt(call.Seen, 10)))
		}
		req.SetBodyString(body)
	})
	return call, got, response != nil
}

// serve has it answer a request that fill writes. It returns no response when the gateway
// is down.
func (g *gateway) serve(ctx context.Context, r *request, call Call, fill func(*protocol.Request)) (Call, answer, *protocol.Response) {
	g.mu.Lock()
	g.asked = time.Now()
	hertz, life := g.hertz, g.life
	g.mu.Unlock()
	if hertz == nil {
		return call, answer{}, nil
	}
	ctx, cancel := context.WithCancel(r.in(ctx))
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	c := hertz.NewContext()
	fill(&c.Request)
	call.Gateway, call.Region, call.From = g.n, g.region, time.Now()
	r.call = call
	hertz.ServeHTTP(ctx, c)
	call.To, call.Status, call.Faulted = time.Now(), c.Response.StatusCode(), r.faulted.Load()
	if call.Forwarded && ctx.Err() != nil { // the other gateway has hung up
		call.Status = callerGone
	}
	var got answer
	if text := c.Response.Body(); len(text) > 0 {
		if err := json.Unmarshal(text, &got); err != nil {
			panic("histories: an answer that is no JSON: " + err.Error())
		}
	}
	call.read(got, c.Response.Header.Get("ETag"))
	g.world.record.call(call)
	return call, got, &c.Response
}

func route(c Call) (method, path string) {
	switch c.Verb {
	case Update:
		return "POST", "/admin/location-tracking/journey/updates"
	case Live:
		return "GET", fmt.Sprintf("/admin/location-tracking/journey/live?sessionId=%s&wait=%d", c.Session, int(c.Wait/time.Second))
	case Start:
		return "POST", "/admin/sessions/" + string(c.Session) + "/start-journey"
	case Stop:
		return "POST", "/admin/sessions/" + string(c.Session) + "/stop-journey"
	case Verify:
		return "POST", "/admin/sessions/" + string(c.Session) + "/verify-otp"
	case Cancel:
		return "POST", "/admin/sessions/" + string(c.Session) + "/cancel"
	default:
		return "POST", "/admin/sessions/" + string(c.Session) + "/arrived"
	}
}

// answer is the part of a body that these tests read.
type answer struct {
	Code sessions.Code
	Data struct {
		Location *struct{ Latitude, Longitude float64 }
		IsActive bool
		Degraded bool
		Seq      int64
		Ignored  string
		Stale    bool
		Arriving bool
		OTP      string
	}
}

// read copies an answer into the call.
func (c *Call) read(a answer, etag string) {
	c.Code = a.Code
	switch c.Verb {
	case Live:
		c.Version = rig.VersionOf(etag)
		c.Active, c.Degraded = a.Data.IsActive, a.Data.Degraded
		if at := a.Data.Location; at != nil {
			c.Location = geo.MustPoint(at.Latitude, at.Longitude)
		}
	case Update:
		c.Version = a.Data.Seq
		c.Stored = c.Status == 201 && a.Data.Ignored == "" && !a.Data.Stale
	case Start, Arrived, Stop, Verify, Cancel:
	}
}

// tokens reads the caller from a token "role:id".
type tokens struct{}

func (tokens) Verify(_ context.Context, token []byte) (sessions.Caller, error) {
	role, id, _ := strings.Cut(string(token), ":")
	return sessions.Caller{ID: sessions.ID(id), Role: sessions.Role(role)}, nil
}

// unread are the metrics of all gateways of all days; nobody reads them.
var (
	unread         = metrics.New(prometheus.NewRegistry())
	unreadJourneys = metrics.NewJourneys(prometheus.NewRegistry())
)
