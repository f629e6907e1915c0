package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"doorstep/gateway/app"
	"doorstep/internal/servers/valkeyserver"
)

// backend is the gateway of the demo and the store under it.
type backend struct {
	app     *app.App
	http    *http.Client
	server  *valkeyserver.Server // nil: in memory
	store   string               // which, for people
	base    string               // http://host:port
	metrics string               // URL; empty: none
}

// startBackend starts a private live store, where one is to be had, and a
// gateway on a free loopback port, and returns when both answer.
func startBackend(ctx context.Context, o Options, clock *Clock, log *journal, client *http.Client) (*backend, error) {
	b := &backend{http: client}
	url := b.startStore(ctx, o.Store)
	var err error
	b.app, err = app.New(appOptions(o, url, clock, log))
	if err == nil {
		err = b.app.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, b.stopStore())
	}
	b.base = "http://" + b.app.Addr().String()
	if addr := b.app.MetricsAddr(); addr != nil {
		b.metrics = "http://" + addr.String() + "/metrics"
	}
	if err := b.await(ctx); err != nil {
		return nil, errors.Join(err, b.stop(context.WithoutCancel(ctx)))
	}
	return b, nil
}

const (
	locationTTL    = 300 * time.Second
	minLocationTTL = 100 * time.Millisecond
)

// appOptions: all that is not named here is the service's own default. The
// code is left out of the answer to the trainer, so that it must come from the
// student.
func appOptions(o Options, url string, clock *Clock, log *journal) app.Options {
	opts := app.Options{
		Listen: "127.0.0.1:0", ValkeyURL: url, JWTSecret: rand.Text() + rand.Text(),
		Now: clock.Now, OTPInResponse: false,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if url != "" {
		// A key expires on the store's own clock, which nobody can hurry.
		opts.LocationTTL = max(clock.Real(locationTTL), minLocationTTL)
	}
	if o.Metrics {
		opts.MetricsListen = "127.0.0.1:0"
	}
	return opts
}

// startStore starts a private server, where one is to be had, and says what
// became of it. Its url is empty in memory.
func (b *backend) startStore(ctx context.Context, store string) (url string) {
	if store == "memory" {
		b.store = "in memory"
		return ""
	}
	program, err := findServer(ctx)
	if err == nil {
		b.server, err = valkeyserver.Start(ctx, valkeyserver.Options{Path: program.path})
	}
	if err != nil {
		b.store = "in memory (" + strings.TrimPrefix(err.Error(), "spawn: ") + ")"
		return ""
	}
	b.store = "a private " + program.name + " " + program.version + " on a unix socket"
	return b.server.URL()
}

// readyIn bounds the wait for the gateway and its connection to the store.
const readyIn = 10 * time.Second

// await asks /readyz until the live store is there: the gateway itself serves
// without it.
func (b *backend) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	for {
		state, err := b.readiness(ctx)
		if err == nil && (state == "ok" || state == "embedded") {
			return nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("the gateway does not get ready: live store %s: %w", state, err)
		}
	}
}

func (b *backend) readiness(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+"/readyz", nil)
	if err != nil {
		return "", err
	}
	res, err := b.http.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	var body struct {
		Data struct {
			LiveStore string `json:"liveStore"`
		} `json:"data"`
	}
	err = json.NewDecoder(res.Body).Decode(&body)
	return body.Data.LiveStore, err
}

// stop drains the gateway, then ends the store. Bounded by ctx.
func (b *backend) stop(ctx context.Context) error {
	return errors.Join(b.app.Stop(ctx), b.stopStore())
}

func (b *backend) stopStore() error {
	if b.server == nil {
		return nil
	}
	return b.server.Stop()
}
