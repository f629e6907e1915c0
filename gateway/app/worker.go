package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"doorstep/metrics"
	"doorstep/sessions/outbox/aws"
)

// WorkerOptions are the settings of `gateway worker`: where the queues are, and
// the two stores and the push service that the consumers work with.
type WorkerOptions struct {
	QueueNotify    string `required:"" env:"DOORSTEP_QUEUE_NOTIFY" help:"Name or URL of the queue of events to push; region and credentials are the AWS SDK's own settings."`
	QueueCleanup   string `required:"" env:"DOORSTEP_QUEUE_CLEANUP" help:"Name or URL of the queue of events to clean up after."`
	QueueAnalytics string `required:"" env:"DOORSTEP_QUEUE_ANALYTICS" help:"Name or URL of the queue of events to count."`

	DeadLettersNotify    string `env:"DOORSTEP_DEAD_LETTERS_NOTIFY" help:"Queue for messages of the first that cannot be read. Empty: left to its own redrive."`
	DeadLettersCleanup   string `env:"DOORSTEP_DEAD_LETTERS_CLEANUP" help:"The same for the second."`
	DeadLettersAnalytics string `env:"DOORSTEP_DEAD_LETTERS_ANALYTICS" help:"The same for the third."`
	SQSEndpoint          string `env:"DOORSTEP_SQS_ENDPOINT" help:"URL instead of the region's own endpoint."`

	DatabaseURL    string        `required:"" env:"DOORSTEP_DATABASE_URL" help:"PostgreSQL: postgres://…"`
	ValkeyURL      string        `required:"" env:"DOORSTEP_VALKEY_URL" help:"Live store, as for serve: redis://, rediss://, valkey://, valkeys:// or unix:///path."`
	ValkeyCA       []byte        `env:"DOORSTEP_VALKEY_CA" help:"PEM file of the authority that signed the live store's certificates. Empty: the system's roots."`
	ValkeyTimeout  time.Duration `default:"250ms" env:"DOORSTEP_VALKEY_TIMEOUT" help:"Of one call to the live store."`
	LocationTTL    time.Duration `default:"300s" env:"DOORSTEP_LOCATION_TTL" help:"As the gateways have it."`
	JourneyTTL     time.Duration `default:"1h" env:"DOORSTEP_JOURNEY_TTL" help:"As the gateways have it."`
	ArrivalRadius  float64       `default:"150" env:"DOORSTEP_ARRIVAL_RADIUS" help:"As the gateways have it, metres."`
	FCMCredentials []byte        `env:"DOORSTEP_FCM_CREDENTIALS" help:"JSON file of the service account that sends pushes. Empty: pushes are logged, not sent."`
	FCMEndpoint    string        `env:"DOORSTEP_FCM_ENDPOINT" help:"URL instead of Google's own, for tests."`

	MetricsListen string        `default:"127.0.0.1:9090" env:"DOORSTEP_METRICS_LISTEN" help:"Address of /metrics; never a public one. Empty: none."`
	Pprof         bool          `env:"DOORSTEP_PPROF" help:"Serve /debug/pprof on the metrics address."`
	DrainTimeout  time.Duration `default:"25s" env:"DOORSTEP_DRAIN_TIMEOUT" help:"For what is in hand to end after SIGTERM."`

	// Version is the build's, for metrics.
	Version        string
	TracesEndpoint string `env:"DOORSTEP_TRACES_ENDPOINT" help:"As the gateways have it."`

	// Now is the handlers' clock. Nil: the wall clock.
	Now func() time.Time
	// Log is where the worker writes. Nil: nowhere.
	Log *slog.Logger
}

// Worker is one process of consumers: a gateway without its API.
type Worker struct {
	app       *App
	consumers []*aws.Consumer
}

// NewWorker wires one. No I/O: that waits for Start.
func NewWorker(o WorkerOptions) (*Worker, error) {
	if o.DatabaseURL == "" || o.ValkeyURL == "" {
		return nil, errors.New("a worker needs the gateways' database and live store: set DOORSTEP_DATABASE_URL and DOORSTEP_VALKEY_URL")
	}
	a := &App{registry: prometheus.NewRegistry(), opts: Options{
		MetricsListen: o.MetricsListen, Pprof: o.Pprof, DatabaseURL: o.DatabaseURL, ValkeyURL: o.ValkeyURL, ValkeyCA: o.ValkeyCA,
		ValkeyTimeout: o.ValkeyTimeout, LocationTTL: o.LocationTTL, JourneyTTL: o.JourneyTTL, ArrivalRadius: o.ArrivalRadius,
		FCMCredentials: o.FCMCredentials, FCMEndpoint: o.FCMEndpoint, TracesEndpoint: o.TracesEndpoint, Now: o.Now,
		Log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
	}}
	if err := a.wireTraces("doorstep-worker"); err != nil {
		return nil, err
	}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m, journeys := metrics.New(a.registry), metrics.NewJourneys(a.registry)
	repo, err := a.wireRepository(m)
	if err != nil {
		return nil, err
	}
	metrics.NewProcess(a.registry, o.Version, nil)
	live, err := a.wireLive(m)
	if err != nil {
		return nil, err
	}
	a.observeStores(m)
	expectWays(journeys)
	if err := a.wireConsumers(repo, live, journeys); err != nil {
		return nil, err
	}
	w := &Worker{app: a}
	return w, w.wireQueues(o, metrics.NewOutbox(a.registry))
}

func (w *Worker) wireQueues(o WorkerOptions, m *metrics.Outbox) error {
	queues := map[string][2]string{
		notifyConsumer:    {o.QueueNotify, o.DeadLettersNotify},
		cleanUpConsumer:   {o.QueueCleanup, o.DeadLettersCleanup},
		analyticsConsumer: {o.QueueAnalytics, o.DeadLettersAnalytics},
	}
	for _, c := range w.app.after.consumers {
		m.ExpectConsumers(aws.Results(), c.name)
		consumer, err := aws.NewConsumer(aws.ConsumerOptions{
			Name: c.name, Queue: queues[c.name][0], DeadLetters: queues[c.name][1], Endpoint: o.SQSEndpoint,
			Drain: o.DrainTimeout * 3 / 5, Log: w.app.opts.Log, Metrics: m,
		}, c.handler)
		if err != nil {
			return fmt.Errorf("consumer %s: %w", c.name, err)
		}
		w.consumers = append(w.consumers, consumer)
	}
	return nil
}

// Start brings the worker up. Queues that cannot be reached are tried again,
// for ever; a schema older than this binary is a refusal. What it started is
// taken down again when a later part fails.
func (w *Worker) Start(ctx context.Context) error {
	a := w.app
	err := a.startTraces(ctx)
	if err == nil {
		err = a.startDatabase(ctx)
	}
	if err == nil {
		a.background(ctx, "live store", a.store.Run)
		a.startSweepingConsumed(ctx)
		err = a.startMetrics(ctx)
	}
	if err != nil {
		return errors.Join(err, w.Stop(context.WithoutCancel(ctx)))
	}
	a.background(ctx, "consumers", w.consume)
	a.opts.Log.InfoContext(ctx, "consuming", slog.Int("queues", len(w.consumers)))
	return nil
}

// consume runs all consumers. At the stop they drain at the same time.
func (w *Worker) consume(ctx context.Context) error {
	errs := make([]error, len(w.consumers))
	var all sync.WaitGroup
	for i, c := range w.consumers {
		all.Go(func() { errs[i] = c.Run(ctx) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return ctx.Err()
}

// Stop ends the consumers, which let go of what they have not begun and finish
// what they have, and then the rest. Bounded by ctx; idempotent.
func (w *Worker) Stop(ctx context.Context) error { return w.app.Stop(ctx) }

// MetricsAddr is where /metrics is served; nil when it is not.
func (w *Worker) MetricsAddr() net.Addr { return w.app.MetricsAddr() }
