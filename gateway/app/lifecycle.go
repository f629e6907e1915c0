package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"doorstep/internal/pause"
	"doorstep/sessions"
)

// lifecycle is what has to be taken down, last in first out.
type lifecycle struct {
	mu      sync.Mutex
	steps   []step
	drained atomic.Bool
}

type step struct {
	name string
	stop func(context.Context) error
}

func (l *lifecycle) onStop(name string, stop func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, step{name, stop})
}

func (l *lifecycle) stopping() bool { return l.drained.Load() }

// take hands out the steps once, in the order to run them.
func (l *lifecycle) take() []step {
	l.mu.Lock()
	defer l.mu.Unlock()
	steps := l.steps
	l.steps = nil
	for i, j := 0, len(steps)-1; i < j; i, j = i+1, j-1 {
		steps[i], steps[j] = steps[j], steps[i]
	}
	return steps
}

// Start brings the gateway up and returns when it listens. What it started is
// taken down again when a later part fails. ctx bounds the start only.
func (a *App) Start(ctx context.Context) error {
	err := a.start(ctx)
	if err != nil {
		err = errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
	}
	return err
}

func (a *App) start(ctx context.Context) error {
	if err := a.startTraces(ctx); err != nil {
		return err
	}
	if err := a.startDatabase(ctx); err != nil {
		return err
	}
	a.background(ctx, "suspicions", a.report)
	a.background(ctx, "tokens", a.verifier.Run)
	if a.store != nil {
		a.background(ctx, "live store", a.store.Run)
	}
	a.startEvents(ctx)
	a.startBackgroundParts(ctx)
	if err := a.startMetrics(ctx); err != nil {
		return err
	}
	a.awaitStore(ctx)
	if err := a.server.Listen(ctx); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	served := make(chan error, 1)
	a.failed = make(chan struct{})
	go func() {
		served <- a.server.Run(context.WithoutCancel(ctx))
		close(a.failed)
	}()
	a.life.onStop("http", func(ctx context.Context) error {
		err := a.server.Drain(ctx)
		return errors.Join(err, <-served)
	})
	a.life.onStop("waits", func(context.Context) error { a.hub.Drain(); return nil })
	a.life.onStop("delay", func(ctx context.Context) error { _ = pause.For(ctx, a.opts.DrainDelay); return nil })
	a.opts.Log.InfoContext(ctx, "serving", slog.String("addr", a.server.Addr().String()))
	return nil
}

// storeIn is what a live store may take for its first answer. It is long for a
// machine that is busy, and short where the store is away.
const storeIn = time.Second

// awaitStore returns when the live store has answered, for who listens is sent
// traffic: updates that came before would be answered 202, and reads degraded,
// though nothing is wrong. One that is away is no reason to stay away as well.
func (a *App) awaitStore(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeIn)
	defer cancel()
	for a.store != nil && !a.store.Ready() && ctx.Err() == nil {
		_ = pause.For(ctx, time.Millisecond)
	}
}

// startDatabase refuses a schema older than this binary. A database that is
// away is no reason to stay away as well: updates and reads need none.
func (a *App) startDatabase(ctx context.Context) error {
	if a.database == nil {
		return nil
	}
	a.life.onStop("database", func(context.Context) error { a.database.Close(); return nil })
	err := a.database.CheckSchema(ctx)
	if sessions.Unavailable(err) {
		a.opts.Log.WarnContext(ctx, "database not reached", slog.Any("error", err))
		return nil
	}
	return err
}

// background runs a part until the stop, and waits for it there.
func (a *App) background(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	a.life.onStop(name, func(ctx context.Context) error {
		cancel()
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s did not end: %w", name, ctx.Err())
		}
	})
}

// startMetrics serves /metrics, and pprof where it is asked for, on an address
// of their own: net/http, so that trouble on the public side leaves it alone.
func (a *App) startMetrics(ctx context.Context) error {
	if a.opts.MetricsListen == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", a.opts.MetricsListen)
	if err != nil {
		return fmt.Errorf("metrics listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: a.registry}))
	if a.opts.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	a.metricsAddr = listener.Addr()
	a.life.onStop("metrics", func(ctx context.Context) error {
		// A profile under way may take as long as it likes; the stop may not.
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := server.Shutdown(brief)
		if err != nil {
			err = server.Close()
		}
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	})
	return nil
}

// Failed is closed when the API no longer listens, whatever for. Nothing comes
// back by itself then: stop the process.
func (a *App) Failed() <-chan struct{} { return a.failed }

// Addr is where the API listens, from Start on.
func (a *App) Addr() net.Addr { return a.server.Addr() }

// MetricsAddr is where /metrics is served; nil when it is not.
func (a *App) MetricsAddr() net.Addr { return a.metricsAddr }

// Stop drains and takes down: /readyz turns 503, the waiters are answered, the
// listener closes, what is in flight is answered, then the parts end in the
// reverse order of their start. Bounded by ctx, whose end cuts what is left.
// Idempotent; the second call returns at once.
func (a *App) Stop(ctx context.Context) error {
	a.life.drained.Store(true)
	var errs []error
	for _, s := range a.life.take() {
		if err := s.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}
