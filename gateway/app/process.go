package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// process is what a gateway and a worker have in common: where they log, their
// metrics and traces, and what has to be taken down at the stop.
type process struct {
	log      *slog.Logger
	registry *prometheus.Registry
	traces   *traces // nil: none

	mu          sync.Mutex
	steps       []step // to be run at the stop, the last one first
	drained     atomic.Bool
	ended       atomic.Bool // the work has ended by itself
	metricsAddr net.Addr
}

// step ends one part.
type step struct {
	name string
	stop func(context.Context) error
}

// newProcess makes the log, the metrics' registry and the traces of a service of
// that name. It starts nothing.
func newProcess(service string, o Options) (*process, error) {
	log := cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	traces, err := newTraces(o.TracesEndpoint, service, log)
	if err != nil {
		return nil, err
	}
	p := &process{log: traces.logger(log), registry: prometheus.NewRegistry(), traces: traces}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return p, nil
}

// onStop registers what ends a part. Parts end in the reverse order.
func (p *process) onStop(name string, stop func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, step{name, stop})
}

func (p *process) stopping() bool { return p.drained.Load() }

// background runs a part until the stop, and waits for it there.
func (p *process) background(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	p.onStop(name, func(ctx context.Context) error {
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

// startTraces begins to send spans. It is the first part, so it ends last, and the
// spans of a drain are sent, too.
func (p *process) startTraces(ctx context.Context) error {
	if p.traces == nil {
		return nil
	}
	p.onStop("traces", p.traces.stop)
	return p.traces.start(ctx)
}

// healthz says that the process lives, and has not stopped its work by itself.
func (p *process) healthz(w http.ResponseWriter, _ *http.Request) {
	if p.ended.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// startMetrics serves /metrics, /healthz, and pprof where it is asked for, on an address
// of their own. It uses net/http, so that trouble of the public server does not reach it.
func (p *process) startMetrics(ctx context.Context, o Options) error {
	if o.MetricsListen == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.MetricsListen)
	if err != nil {
		return fmt.Errorf("metrics listen: %w", err)
	}
	mux := http.NewServeMux()
	// Exemplars are in the OpenMetrics format only. Without traces there are none.
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{Registry: p.registry, EnableOpenMetrics: p.traces != nil}))
	mux.HandleFunc("GET /healthz", p.healthz)
	if o.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	p.metricsAddr = listener.Addr()
	p.onStop("metrics", func(ctx context.Context) error {
		// A profile that is being taken may run for long; the stop does not wait for it.
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

// MetricsAddr is where /metrics is served; nil when it is not.
func (p *process) MetricsAddr() net.Addr { return p.metricsAddr }

// Stop drains and ends everything, in the reverse order of the start. It is
// bounded by ctx, whose end cuts what is left. Idempotent: the second call returns
// at once.
func (p *process) Stop(ctx context.Context) error {
	p.drained.Store(true)
	p.mu.Lock()
	steps := p.steps
	p.steps = nil
	p.mu.Unlock()
	var errs []error
	for _, s := range slices.Backward(steps) {
		if err := s.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}
