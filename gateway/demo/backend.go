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

// backend is the demo's gateway and the live store under it.
type backend struct {
	app     *app.App
	http    *http.Client // of all users
	server  *storeProcess
	store   string // which live store, for people
	base    string // http://host:port
	metrics string // URL; empty: none
	*visitors
}

// startBackend starts a private live store, where there is a server for it, and
// a gateway on a free loopback port, and returns when both answer.
func startBackend(ctx context.Context, o Options, clock *Clock, log *journal, connections *http.Client) (*backend, error) {
	b := &backend{http: connections, store: "in memory"}
	url := ""
	if o.Store != "memory" {
		server, err := startStore(ctx)
		if err != nil {
			b.store = "in memory (" + err.Error() + ")"
		} else {
			b.server, b.store, url = server, "a private "+server.name+" on a unix socket", "unix://"+server.socket()
		}
	}
	if err := b.startApp(ctx, appOptions(o, url, clock, log)); err != nil {
		return nil, errors.Join(err, b.stopStore())
	}
	if addr := b.app.MetricsAddr(); addr != nil {
		b.metrics = "http://" + addr.String() + "/metrics"
	}
	if err := b.await(ctx); err != nil {
		return nil, errors.Join(err, b.stop(context.WithoutCancel(ctx)))
	}
	return b, nil
}

// startApp starts the gateway, and what its pages need. Its address is known before it
// starts, because links are made of it.
func (b *backend) startApp(ctx context.Context, opts app.Options) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.base = "http://" + listener.Addr().String()
	visiting, theirs, err := newVisitors(ctx, b.base)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	b.visitors = visiting
	b.visitors.token = func(c sessions.Caller) (string, error) { return b.app.Token(c, tokenTTL) }
	opts.Listener, opts.PublicURL = listener, b.base
	opts.PagesOIDCIssuer, opts.PagesOIDCClient, opts.PagesPainted = b.visitors.base, "demo", b.visitors.base+"/painted"
	if b.app, err = app.New(opts); err == nil {
		err = b.app.Start(ctx)
	}
	if err != nil {
		return errors.Join(err, theirs.Close())
	}
	go b.visitors.run(theirs)
	return nil
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
		ValkeyURL: url, JWTSecret: rand.Text() + rand.Text(),
		Now: clock.Now, OTPInResponse: false, Pages: true, MapStyleURL: o.Map,
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
func (b *backend) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	c, err := client.New(client.Options{BaseURL: b.base, HTTP: b.http})
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

// user is a new user with its own client. A phone that reports needs no receipts.
func (b *backend) user(role sessions.Role, id sessions.ID) (*client.Client, error) {
	token, err := b.app.Token(sessions.Caller{ID: id, Role: role}, tokenTTL)
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{BaseURL: b.base, Token: client.StaticToken(token), HTTP: b.http, Minimal: role == sessions.Trainer})
}

// pushes gives the titles of what was pushed to a session's student, oldest
// first, and whether the push about the end is among them. Without a push service
// the gateway keeps them to be shown.
func (b *backend) pushes(session string) (titles []string, ended bool) {
	for _, shown := range b.app.Pushes() {
		if string(shown.SessionID) == session {
			titles = append(titles, shown.Title)
			ended = ended || shown.Kind != consumers.Started && shown.Kind != consumers.Arriving
		}
	}
	return titles, ended
}

// stop drains the gateway, then ends the store. Bounded by ctx.
func (b *backend) stop(ctx context.Context) error {
	return errors.Join(b.visitors.stop(), b.app.Stop(ctx), b.stopStore())
}

func (b *backend) stopStore() error {
	if b.server == nil {
		return nil
	}
	return b.server.stop()
}
