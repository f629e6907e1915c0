package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"doorstep/client"
	"doorstep/gateway/app"
	"doorstep/gateway/consumers"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// backend is the demo's gateways and the live stores under them, one each a region.
type backend struct {
	http     *http.Client // of all users
	gateways []*gateway   // the first has the pages, and where people are let in
	*visitors
}

// gateway is the gateway of a region and its live store.
type gateway struct {
	region  string // empty: there is one region
	app     *app.App
	server  *storeProcess // nil: in memory
	store   string        // which live store, for people
	base    string        // http://host:port
	metrics string        // URL; empty: none

	listener net.Listener
}

var regionNames = []string{"eu", "us", "ap", "sa", "af"}

// startBackend starts private live stores, where there is a server for them, and
// gateways on free loopback ports, and returns when all answer. Their addresses are known
// before they start, because links and the list of the regions are made of them.
func startBackend(ctx context.Context, o Options, clock *Clock, log *journal, connections *http.Client) (_ *backend, err error) {
	b := &backend{http: connections}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop(context.WithoutCancel(ctx)))
		}
	}()
	for i := range max(1, o.Regions) {
		g := &gateway{store: "in memory"}
		if o.Regions > 1 {
			g.region = regionNames[i]
		}
		if g.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		g.base = "http://" + g.listener.Addr().String()
		b.gateways = append(b.gateways, g)
	}
	visiting, theirs, err := newVisitors(ctx, b.gateways[0].base)
	if err != nil {
		return nil, err
	}
	b.visitors = visiting
	b.visitors.token = func(c sessions.Caller) (string, error) { return b.gateways[0].app.Token(c, tokenTTL) }
	go b.visitors.run(theirs)
	secret := rand.Text() + rand.Text()
	for _, g := range b.gateways {
		if err := b.start(ctx, g, o, secret, clock, log); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// start starts the gateway of a region and its live store.
func (b *backend) start(ctx context.Context, g *gateway, o Options, secret string, clock *Clock, log *journal) error {
	url := ""
	if o.Store != "memory" {
		server, err := startStore(ctx)
		if err != nil {
			g.store = "in memory (" + err.Error() + ")"
		} else {
			g.server, g.store, url = server, "a private "+server.name+" on a unix socket", "unix://"+server.socket()
		}
	}
	opts := appOptions(o, url, clock, log)
	opts.Listener, opts.PublicURL, opts.JWTSecret = g.listener, g.base, secret
	opts.PagesOIDCIssuer, opts.PagesOIDCClient, opts.PagesPainted = b.visitors.base, "demo", b.visitors.base+"/painted"
	if g.region != "" {
		opts.Region, opts.Beside = g.region, b.gateways[0].app
		for _, other := range b.gateways {
			opts.Regions = append(opts.Regions, other.region+"="+other.base)
		}
	}
	made, err := app.New(opts)
	if err == nil {
		err = made.Start(ctx)
	}
	if err != nil {
		return err
	}
	g.app = made
	if addr := g.app.MetricsAddr(); addr != nil {
		g.metrics = "http://" + addr.String() + "/metrics"
	}
	return b.await(ctx, g)
}

const (
	locationTTL    = 300 * time.Second
	minLocationTTL = 100 * time.Millisecond
)

// appOptions leaves all that it does not name at the service's own default. The
// code is kept out of the answer to the trainer, so that it must come from the
// student.
func appOptions(o Options, url string, clock *Clock, log *journal) app.Options {
	opts := app.Options{
		ValkeyURL: url,
		Now:       clock.Now, OTPInResponse: false, Pages: true, MapStyleURL: o.Map,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if url != "" {
		// A key expires on the store's own clock, which cannot run faster.
		opts.LocationTTL = max(clock.Real(locationTTL), minLocationTTL)
	}
	if o.Metrics {
		opts.MetricsListen = "127.0.0.1:0"
	}
	return opts
}

// readyIn bounds the wait for the gateway and its connection to the store.
const readyIn = 10 * time.Second

// await reads /readyz until the live store answers: the gateway itself serves
// without it.
func (b *backend) await(ctx context.Context, g *gateway) error {
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	c, err := client.New(client.Options{BaseURL: g.base, HTTP: b.http})
	for err == nil {
		ready, failure := c.Ready(ctx)
		state := ready.Parts["liveStore"]
		if failure == nil && (state == "ok" || state == "embedded") {
			return nil
		}
		if err = pause.For(ctx, 5*time.Millisecond); err != nil {
			err = fmt.Errorf("the gateway does not get ready: live store %s: %w", state, err)
		}
	}
	return err
}

// tokenTTL outlasts any demo: tokens expire on the real clock.
const tokenTTL = 24 * time.Hour

// user is a new user with its own client, who calls the n-th gateway, or where that sends
// the client to. A phone that reports needs no receipts.
func (b *backend) user(role sessions.Role, id sessions.ID, n int) (*client.Client, error) {
	at := b.gateways[n%len(b.gateways)]
	token, err := at.app.Token(sessions.Caller{ID: id, Role: role}, tokenTTL)
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{BaseURL: at.base, Token: client.StaticToken(token), HTTP: b.http, Minimal: role == sessions.Trainer})
}

// pushes gives the titles of what was pushed to a session's student, oldest
// first, and whether the push about the end is among them. Without a push service
// the gateway keeps them to be shown.
func (b *backend) pushes(session string) (titles []string, ended bool) {
	for _, g := range b.gateways { // each sends a part
		for _, shown := range g.app.Pushes() {
			if string(shown.SessionID) == session {
				titles = append(titles, shown.Title)
				ended = ended || shown.Kind != consumers.Started && shown.Kind != consumers.Arriving
			}
		}
	}
	return titles, ended
}

// stop drains the gateways, then ends the stores. Bounded by ctx.
func (b *backend) stop(ctx context.Context) (err error) {
	if b.visitors != nil {
		err = b.visitors.stop()
	}
	for _, g := range b.gateways {
		if g.app != nil {
			err = errors.Join(err, g.app.Stop(ctx))
		} else {
			_ = g.listener.Close() // a gateway that did not start may have closed it
		}
	}
	for _, g := range b.gateways {
		if g.server != nil {
			err = errors.Join(err, g.server.stop())
		}
	}
	return err
}
