// Package app is the life of one gateway: New wires it in one straight
// function, Start brings it up, Stop takes it down in the reverse order. Tests,
// the demo and the benchmarks embed it.
package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"doorstep/gateway/api"
	"doorstep/gateway/auth"
	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/metrics"
	"doorstep/scripts"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/postgres"
)

// App is one gateway.
type App struct {
	opts     Options
	auth     auth.Options
	registry *prometheus.Registry
	server   *httpserver.Server
	hub      *hub.Hub
	store    *scripts.Store // nil: embedded
	verifier *auth.Verifier
	database *postgres.Repository // nil: embedded
	events   events
	after    backgroundParts
	report   func(context.Context) error // suspicions, to the outbox
	life     lifecycle
	failed   chan struct{}

	traces *traces // nil: none

	metricsAddr net.Addr
}

// New wires a gateway from its settings, straight through, so that a reader
// sees in one place what is made of what. No I/O: that waits for Start.
func New(opts Options) (*App, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	a := &App{opts: opts, registry: prometheus.NewRegistry()}
	a.opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	if err := a.wireTraces("doorstep"); err != nil {
		return nil, err
	}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := metrics.New(a.registry)
	metrics.NewProcess(a.registry, opts.Version, func() bool { ready, _ := a.ready(); return ready })

	if err := a.wireAuth(m); err != nil {
		return nil, err
	}
	repo, err := a.wireRepository(m)
	if err != nil {
		return nil, err
	}
	live, err := a.wireLive(m)
	if err != nil {
		return nil, err
	}
	a.observeStores(m)
	journeys := metrics.NewJourneys(a.registry)
	expectWays(journeys)
	if err := a.wireConsumers(repo, live, journeys); err != nil {
		return nil, err
	}
	if err := a.wireEvents(metrics.NewOutbox(a.registry)); err != nil {
		return nil, err
	}
	service := sessions.NewService(repo, live, sessions.ServiceOptions{
		Now: opts.Now, Log: a.opts.Log, JourneyTTL: opts.JourneyTTL, RadiusM: opts.ArrivalRadius,
		FreshWithin: opts.ArrivalFreshness, ApproachFor: opts.ApproachFor, Detour: opts.Detour,
		OnEvents: a.events.relay.Nudge, Counter: a.after.counter,
	})
	a.wireSweeper(service, journeys)
	a.report = service.Report
	a.hub = hub.New(live, hub.Options{PerCaller: opts.MaxWaitsPerCaller, Total: opts.MaxWaits, Metrics: m})
	handlers := api.New(api.Deps{
		Sessions: service, Hub: a.hub, Tokens: a.verifier, Ready: a.ready, HideOTP: !opts.OTPInResponse,
		RateInterval: opts.live().WithDefaults().RateInterval,
		MaxInFlight:  opts.MaxInFlight, CallerRate: opts.CallerRate, CallerBurst: opts.CallerBurst,
		Now: opts.Now, Log: a.opts.Log, Metrics: m, Trace: a.traces.requests(),
	})
	expectServed(m, handlers)
	a.server, err = httpserver.New(httpserver.Options{
		Listener: opts.Listener, Addr: listenAddr(opts), ReadTimeout: opts.ReadTimeout, WriteTimeout: opts.WriteTimeout,
		IdleTimeout: opts.IdleTimeout, MaxConns: opts.MaxConns, MaxConnsPerIP: opts.MaxConnsPerIP,
		Refuse: handlers.Refuse, Events: m, Logger: a.opts.Log,
	}, handlers.Register)
	if err != nil {
		return nil, err
	}
	metrics.NewLoad(a.registry, handlers.InFlight, a.server.Conns)
	return a, nil
}

func listenAddr(o Options) string {
	if o.Listener != nil {
		return ""
	}
	return o.Listen
}

// wireAuth makes the verifier. Fully embedded without a secret, a random one
// is made: the address is a loopback one then, validate saw to that.
func (a *App) wireAuth(m *metrics.Metrics) error {
	secret := []byte(a.opts.JWTSecret)
	if len(secret) == 0 && a.opts.JWKSURL == "" {
		secret = []byte(rand.Text() + rand.Text())
	}
	a.auth = auth.Options{
		Secret: secret, JWKSURL: a.opts.JWKSURL, Issuer: a.opts.JWTIssuer, Audience: a.opts.JWTAudience,
		SubjectClaim: a.opts.JWTSubject, RoleClaim: a.opts.JWTRole, Logger: a.opts.Log, Observer: m,
	}
	var err error
	a.verifier, err = auth.New(a.auth)
	return err
}

func (a *App) wireLive(m *metrics.Metrics) (sessions.Live, error) {
	if a.opts.ValkeyURL == "" {
		return memory.NewLive(a.opts.live(), a.now()), nil
	}
	store, err := scripts.New(scripts.Options{
		URL: a.opts.ValkeyURL, CA: a.opts.ValkeyCA, Live: a.opts.live(), Now: a.opts.Now, Timeout: a.opts.ValkeyTimeout,
		Log: a.opts.Log, Metrics: m, Trace: a.traces.calls("valkey"),
	})
	a.store = store
	return store, err
}

func (a *App) wireRepository(m *metrics.Metrics) (sessions.Repository, error) {
	if a.opts.DatabaseURL == "" {
		return a.memoryRepository(), nil
	}
	repo, err := postgres.New(postgres.Options{URL: a.opts.DatabaseURL, OnBreaker: m.DatabaseBreaker, Trace: a.traces.calls("postgresql")})
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	a.database = repo
	return repo, nil
}

func (a *App) now() func() time.Time {
	if a.opts.Now == nil {
		return time.Now
	}
	return a.opts.Now
}

// ready is /readyz: what should keep traffic away, and what an operator wants
// to know besides.
func (a *App) ready() (bool, map[string]string) {
	parts := map[string]string{"tokens": "ok", "liveStore": "embedded", "database": "embedded", "lifecycle": "serving"}
	ready := true
	if !a.verifier.Ready() {
		parts["tokens"], ready = "no keys yet", false
	}
	if a.life.stopping() {
		parts["lifecycle"], ready = "draining", false
	}
	if a.store != nil {
		parts["liveStore"] = up(a.store.Ready())
	}
	if a.database != nil {
		parts["database"] = "postgres"
	}
	return ready, parts
}

func up(ok bool) string {
	if ok {
		return "ok"
	}
	return "unavailable"
}

// Token mints a token that this gateway accepts; an error when it has no
// secret of its own.
func (a *App) Token(caller sessions.Caller, ttl time.Duration) (string, error) {
	return a.auth.Mint(caller, ttl)
}
