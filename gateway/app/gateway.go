// Package app is the life of a process: New makes a gateway from its settings,
// NewWorker a worker, both from the same parts. Start brings it up, Stop ends it in
// the reverse order. Tests, the demo and the benchmarks embed it.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"doorstep/gateway/api"
	"doorstep/gateway/auth"
	"doorstep/gateway/consumers"
	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/gateway/regions"
	"doorstep/internal/pause"
	"doorstep/metrics"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/aws"
)

// App is one gateway.
type App struct {
	*process
	opts       Options
	clock      *sessions.Clock
	stores     stores
	verifier   *auth.Verifier
	tokens     auth.Issuer
	consuming  consuming
	relay      *outbox.Relay
	locations  *aws.Locations // nil: no location events
	counter    *sessions.FixCounter
	service    *sessions.Service
	sweeper    *sessions.Sweeper
	retention  *sessions.Retention
	reconciler *sessions.Reconciler // nil: no database
	lease      *sessions.Lease      // nil: no regions
	others     *regions.Regions     // nil: there is one region
	foreign    *regions.Waits       // nil as well
	hub        *hub.Hub
	server     *httpserver.Server
	failed     chan struct{} // closed when the server ends
}

// New makes a gateway from its settings, in one straight function, so that a
// reader sees in one place how the parts are connected. No I/O: that waits for
// Start.
func New(opts Options) (*App, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	p, err := newProcess("doorstep", opts)
	if err != nil {
		return nil, err
	}
	m, journeys := metrics.New(p.registry), newJourneyMetrics(p)
	clock := sessions.NewClock(opts.Now)
	verifier, tokens, err := newVerifier(opts, p, m, tokenClock(opts, clock))
	if err != nil {
		return nil, err
	}
	stores, err := newStores(opts, p, m)
	if err != nil {
		return nil, err
	}
	stores.observe(p, m)
	consuming, err := newConsumers(opts, p, stores, clock, journeys)
	if err != nil {
		return nil, err
	}
	events := metrics.NewOutbox(p.registry)
	bus, err := newBus(opts, events)
	if err != nil {
		return nil, err
	}
	receiver, err := newWebhook(opts, p, clock.Now, events)
	if err != nil {
		return nil, err
	}
	public, err := opts.publicURL()
	if err != nil {
		return nil, err
	}
	var server *httpserver.Server
	publicURL := func() string {
		if public == "" && opts.Embedded() {
			return opts.listening(server.Addr())
		}
		return public
	}
	eventLinks := opts.eventLinks()
	links := linkURLs{publicURL, eventLinks}
	relay, err := newRelay(p, stores, consuming.list, links, receiver, bus, events)
	if err != nil {
		return nil, err
	}
	events.ExpectLocations(aws.LocationResults())
	var onLocation func(sessions.LocationEvent)
	var locations *aws.Locations
	if opts.LocationEvents > 0 {
		locations = aws.NewLocations(bus, events)
		onLocation = locations.Offer
	}
	counter := sessions.NewFixCounter(stores.repo, sessions.FixCounterOptions{
		Now: clock.Now, RateInterval: opts.RateInterval, Steer: opts.Steer, Log: p.log, Metrics: journeys,
	})
	lease := newLease(opts, p, stores)
	late, outcomes := stores.lateReads()
	var waits *hub.Hub
	service := sessions.NewService(stores.repo, stores.live, sessions.ServiceOptions{
		Now: clock.Now, Log: p.log, JourneyTTL: opts.JourneyTTL, RadiusM: opts.ArrivalRadius,
		RateInterval: opts.RateInterval, RateTolerance: opts.RateTolerance, Steer: opts.Steer,
		FreshWithin: opts.ArrivalFreshness, ApproachFor: opts.ApproachFor, VagueM: opts.VagueAccuracy, Detour: opts.Detour,
		OnEvents: relay.Nudge, OnLocation: onLocation, LocationEvery: opts.LocationEvents, Counter: counter, Outcomes: outcomes, LateReads: late,
		EventLinks: eventLinks, Region: opts.Region, Regions: opts.regionNames(), Lease: lease, OnElsewhere: func(ref sessions.Ref) { waits.Look(ref) },
	})
	sweeper := sessions.NewSweeper(service, sessions.SweeperOptions{
		Silence: cmp.Or(opts.SilenceReport, -1), // 0 is off, as the setting says
		Log:     p.log, Metrics: journeys,
	})
	var reconciler *sessions.Reconciler
	if stores.database != nil { // else nobody but this process writes sessions
		reconciler = sessions.NewReconciler(service, p.log, journeys)
	}
	retention := sessions.NewRetention(stores.old, sessions.RetentionOptions{
		Keep: opts.keep(), Log: p.log, Metrics: metrics.NewRetention(p.registry, tables()...),
	})
	others, err := opts.otherRegions(p, m)
	if err != nil {
		return nil, err
	}
	source, reads, foreign := hub.Source(stores.live), hub.Reader(service), (*regions.Waits)(nil)
	if others != nil {
		foreign = regions.NewWaits(others, source, service)
		source, reads = foreign, foreign
	}
	waits = hub.New(source, reads, hub.Options{PerCaller: opts.MaxWaitsPerCaller, Total: opts.MaxWaits, Metrics: m})
	ready := func() (bool, map[string]string) { return readiness(p, stores, verifier) }
	metrics.NewProcess(p.registry, opts.Version, func() bool { ok, _ := ready(); return ok })
	origins, err := opts.origins()
	if err != nil {
		return nil, err
	}
	proxies, err := opts.trustedProxies()
	if err != nil {
		return nil, err
	}
	certificate, err := p.certificate(opts)
	if err != nil {
		return nil, err
	}
	web, err := opts.pages()
	if err != nil {
		return nil, err
	}
	handlers := api.New(api.Deps{
		Sessions: service, Hub: waits, Tokens: verifier, Ready: ready, HideOTP: !opts.OTPInResponse,
		RateInterval: opts.live().WithDefaults().RateInterval,
		MaxInFlight:  opts.MaxInFlight, MaxWait: opts.MaxWait, CallerRate: opts.CallerRate, CallerBurst: opts.CallerBurst, Origins: origins,
		Regions: others, PublicURL: publicURL, Sharing: opts.Pages, Pages: web, Steer: opts.Steer, StopApps: opts.SteerStop,
		Body: httpserver.Body, Crowded: httpserver.ErrCrowded, Client: httpserver.Client,
		Now: clock.Now, Log: p.log, Metrics: m, Trace: p.traces.requests(),
	})
	expectServed(m, handlers, verifier, others)
	server, err = httpserver.New(httpserver.Options{
		Listener: opts.Listener, Addr: listenAddr(opts), Certificate: certificate, ReadTimeout: opts.ReadTimeout, WriteTimeout: opts.WriteTimeout,
		IdleTimeout: opts.IdleTimeout, MaxConns: opts.MaxConns, MaxConnsPerIP: opts.MaxConnsPerIP, TrustedProxies: proxies,
		StreamPath: api.StreamPath,
		Refuse:     handlers.Refuse, Events: m, Logger: p.log,
	}, handlers.Register)
	if err != nil {
		return nil, err
	}
	metrics.NewLoad(p.registry, handlers.InFlight, server.Conns)
	metrics.NewClock(p.registry, clock.Offset)
	return &App{
		process: p, opts: opts, clock: clock, stores: stores, verifier: verifier, tokens: tokens, consuming: consuming, relay: relay, locations: locations,
		counter: counter, service: service, sweeper: sweeper, retention: retention, reconciler: reconciler, lease: lease, others: others, foreign: foreign, hub: waits, server: server, failed: make(chan struct{}),
	}, nil
}

// newLease makes the lease of the region, and registers its age; nil without regions.
func newLease(o Options, p *process, s stores) *sessions.Lease {
	if o.Region == "" {
		return nil
	}
	lease := sessions.NewLease(s.repo, sessions.LeaseOptions{Region: o.Region, For: o.leaseFor, Log: p.log})
	metrics.NewLease(p.registry, lease.Age)
	return lease
}

// keepLease takes the lease before the gateway listens, where the database answers, and
// keeps it.
func (a *App) keepLease(ctx context.Context) {
	if a.lease == nil {
		return
	}
	if err := a.lease.Renew(ctx); err != nil {
		a.log.WarnContext(ctx, "no lease of the region yet", slog.Any("error", err))
	}
	a.background(ctx, "lease", a.lease.Run)
}

// listening is the URL of an address; empty for a unix socket.
func (o Options) listening(addr net.Addr) string {
	if _, ok := addr.(*net.TCPAddr); !ok {
		return ""
	}
	if o.TLSCert != "" {
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}

func (o Options) validateTLS() error {
	switch {
	case o.TLSCert != "" && o.TLSKey == "":
		return errors.New("tls-key: it is missing, and tls-cert is set: set DOORSTEP_TLS_KEY")
	case o.TLSCert == "" && o.TLSKey != "":
		return errors.New("tls-cert: it is missing, and tls-key is set: set DOORSTEP_TLS_CERT")
	}
	return nil
}

// certificate is what the API speaks HTTPS with; nil: it speaks HTTP.
func (p *process) certificate(o Options) (*httpserver.Certificate, error) {
	if o.TLSCert == "" {
		return nil, nil //nolint:nilnil // it is no error
	}
	c, err := httpserver.LoadCertificate(o.TLSCert, o.TLSKey, p.log)
	if err != nil {
		return nil, fmt.Errorf("tls-cert, tls-key: %w", err)
	}
	metrics.NewCertificate(p.registry, c.NotAfter)
	return c, nil
}

func listenAddr(o Options) string {
	if o.Listener != nil {
		return ""
	}
	return o.Listen
}

// readiness is /readyz: whether the process should get traffic, and the state of
// each part for an operator. A live store or a database that is away keeps no
// traffic away: the contract says what is answered then. A live store that has not let
// this process's user in since the start does: that is a mistake in the settings of a
// deployment, which must not go on.
func readiness(p *process, s stores, verifier *auth.Verifier) (bool, map[string]string) {
	parts := map[string]string{"tokens": "ok", "liveStore": "embedded", "database": "embedded", "lifecycle": "serving"}
	ready := true
	if known, missing := verifier.Ready(); len(missing) > 0 {
		parts["tokens"], ready = strings.TrimSpace("no keys yet "+strings.Join(missing, " ")), known
	}
	if p.stopping() {
		parts["lifecycle"], ready = "draining", false
	}
	if s.valkey != nil {
		parts["liveStore"] = "unavailable"
		if s.valkey.Ready() {
			parts["liveStore"] = "ok"
		}
		if s.valkey.Denied() {
			parts["liveStore"], ready = "denied", false
		}
	}
	if s.database != nil {
		parts["database"] = "postgres"
	}
	return ready, parts
}

// Start brings the gateway up and returns when it listens. When a part fails, the
// parts before it are ended again. ctx bounds the start only.
func (a *App) Start(ctx context.Context) error {
	err := a.start(ctx)
	if err != nil {
		err = errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
	}
	return err
}

// startClock asks the database for its time, at once and from then on. Without a
// database, and in a test that has a clock of its own, the process's clock is right.
func (p *process) startClock(ctx context.Context, o Options, s stores, clock *sessions.Clock) {
	if s.database == nil || o.Now != nil {
		return
	}
	if err := clock.Sync(ctx, s.database.Now); err != nil {
		p.log.WarnContext(ctx, "the database's clock is not known", slog.Any("error", err))
	}
	p.background(ctx, "clock", func(ctx context.Context) error { return clock.Run(ctx, s.database.Now, p.log) })
}

// sweep runs the sweeper once the clock is known that journeys are ended by.
func (a *App) sweep(ctx context.Context) error {
	if a.stores.database != nil && a.opts.Now == nil {
		select {
		case <-a.clock.Known():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return a.sweeper.Run(ctx)
}

// start starts the parts so that each finds what it needs, and Stop, which goes the
// other way, ends them while they still have it: the fix counter writes its last
// counts after the last request and before the database closes.
func (a *App) start(ctx context.Context) error {
	if err := a.startTraces(ctx); err != nil {
		return err
	}
	if err := a.stores.start(ctx, a.process); err != nil {
		return err
	}
	a.startClock(ctx, a.opts, a.stores, a.clock)
	a.keepLease(ctx)
	if a.opts.smallHeap {
		a.background(ctx, "heap", keepHeapSmall)
	}
	for range reporters {
		a.background(ctx, "reports", a.service.Report)
	}
	a.background(ctx, "tokens", a.verifier.Run)
	a.background(ctx, "events", a.relay.Run)
	if a.locations != nil {
		a.background(ctx, "location events", a.locations.Run)
	}
	a.background(ctx, "fix counter", a.counter.Run)
	a.background(ctx, "devices", a.service.KeepReporters)
	if a.opts.Pages {
		a.background(ctx, "share links", a.service.KeepLinks)
	}
	a.background(ctx, "sweeper", a.sweep)
	if a.reconciler != nil {
		a.background(ctx, "reconciler", a.reconciler.Run)
	}
	a.background(ctx, "retention", a.retention.Run)
	if a.others != nil {
		a.onStop("regions", func(context.Context) error {
			a.foreign.Close()
			a.others.Close()
			return nil
		})
	}
	if err := a.startMetrics(ctx, a.opts); err != nil {
		return err
	}
	a.awaitStore(ctx)
	if err := a.server.Listen(ctx); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	served := make(chan error, 1)
	go func() {
		served <- a.server.Run(context.WithoutCancel(ctx))
		close(a.failed)
	}()
	a.onStop("http", func(ctx context.Context) error {
		err := a.server.Drain(ctx)
		return errors.Join(err, <-served)
	})
	a.onStop("waits", func(context.Context) error { a.hub.Drain(); return nil })
	a.onStop("delay", func(ctx context.Context) error { _ = pause.For(ctx, a.opts.drainDelay()); return nil })
	a.log.InfoContext(ctx, "serving", slog.String("addr", a.server.Addr().String()))
	return nil
}

// reporters is how many news of updates are recorded at once. See Service.Report.
const reporters = 4

// storeIn is what a live store may take for its first answer. It is long enough for
// a busy machine, and short where the store is away.
const storeIn = time.Second

// awaitStore returns when the live store has answered, or after storeIn. A process
// that listens gets traffic: an update that came before the store was connected
// would be answered 202, and a read would be degraded, though nothing is wrong.
func (a *App) awaitStore(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeIn)
	defer cancel()
	for a.stores.valkey != nil && !a.stores.valkey.Ready() && ctx.Err() == nil {
		_ = pause.For(ctx, time.Millisecond)
	}
}

// Failed is closed when the API no longer listens, for any reason. It does not
// listen again: stop the process.
func (a *App) Failed() <-chan struct{} { return a.failed }

// Addr is where the API listens, after Start.
func (a *App) Addr() net.Addr { return a.server.Addr() }

// Token mints a token that this gateway accepts. It fails when the gateway has no
// HS256 secret.
func (a *App) Token(caller sessions.Caller, ttl time.Duration) (string, error) {
	return a.tokens.Mint(caller, tokenClock(a.opts, a.clock)(), ttl)
}

// Pushes lists the last pushes as the devices would have shown them, oldest first.
// For a demo and for tests; nil with a push service.
func (a *App) Pushes() []consumers.Shown {
	if a.consuming.show == nil {
		return nil
	}
	return a.consuming.show.Last()
}
