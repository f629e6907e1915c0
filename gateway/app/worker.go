package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"doorstep/metrics"
	"doorstep/sessions"
	"doorstep/sessions/outbox/aws"
)

// WorkerOptions are the settings of `gateway worker`: where the queues are, and
// the two stores and the push service that the consumers work with.
type WorkerOptions struct {
	QueueNotify    string `required:"" env:"DOORSTEP_QUEUE_NOTIFY" help:"Name or URL of the queue with the events for pushes; region and credentials are the AWS SDK's own settings."`
	QueueCleanup   string `required:"" env:"DOORSTEP_QUEUE_CLEANUP" help:"Name or URL of the queue with the events for the clean-up."`
	QueueAnalytics string `required:"" env:"DOORSTEP_QUEUE_ANALYTICS" help:"Name or URL of the queue with the events for analytics."`

	DeadLettersNotify    string `env:"DOORSTEP_DEAD_LETTERS_NOTIFY" help:"Name or URL of the queue to which unreadable messages of the notify queue are moved. Empty: they are left to that queue's redrive policy."`
	DeadLettersCleanup   string `env:"DOORSTEP_DEAD_LETTERS_CLEANUP" help:"The same for the clean-up queue."`
	DeadLettersAnalytics string `env:"DOORSTEP_DEAD_LETTERS_ANALYTICS" help:"The same for the analytics queue."`
	SQSEndpoint          string `env:"DOORSTEP_SQS_ENDPOINT" help:"URL to use instead of the region's SQS endpoint."`

	Region string `env:"DOORSTEP_REGION" help:"Name of the region of this process and its live store: 1 to 32 lower-case letters, digits and hyphens. Every region has a name, and all use one database; see docs/contract.md. Empty: there is one region, and it has no name."`

	DatabaseOptions
	DatabaseMaxConns int    `default:"0" env:"DOORSTEP_DATABASE_MAX_CONNS" help:"Largest number of connections to PostgreSQL. By default 0: pool_max_conns in database-url, or else 16."`
	ValkeyIAM        string `env:"DOORSTEP_VALKEY_IAM" help:"Name of the ElastiCache replication group to which the user in valkey-url signs in with such a token; needs TLS. Empty: by the URL's password."`
	ValkeySecret     string `env:"DOORSTEP_VALKEY_SECRET" help:"As database-secret, for valkey-url. Empty: none."`
	// ValkeyURLFile is where the URL was read, if it was: see settings.go.
	ValkeyURLFile  string
	ValkeyURL      string        `required:"" secret:"ValkeyURLFile" env:"DOORSTEP_VALKEY_URL" help:"URL of the live store, as for serve: redis://, rediss://, valkey://, valkeys:// or unix:///path."`
	ValkeyCA       []byte        `env:"DOORSTEP_VALKEY_CA" help:"PEM file, or its content, of the private certificate authority that signed the live store's certificates. Empty: the system's root certificates."`
	ValkeyTimeout  time.Duration `default:"250ms" env:"DOORSTEP_VALKEY_TIMEOUT" help:"Time limit of one call to the live store."`
	LocationTTL    time.Duration `default:"300s" env:"DOORSTEP_LOCATION_TTL" help:"Same value as for serve."`
	JourneyTTL     time.Duration `default:"1h" env:"DOORSTEP_JOURNEY_TTL" help:"Same value as for serve."`
	ArrivalRadius  float64       `default:"150" env:"DOORSTEP_ARRIVAL_RADIUS" help:"Same value as for serve, metres."`
	FCMCredentials []byte        `env:"DOORSTEP_FCM_CREDENTIALS" help:"JSON file of the service account that sends pushes, or of a workload identity federation, or its content. Empty: pushes are logged, not sent."`
	FCMEndpoint    string        `env:"DOORSTEP_FCM_ENDPOINT" help:"URL to use instead of Google's, for tests."`

	MetricsListen string        `default:"127.0.0.1:9090" env:"DOORSTEP_METRICS_LISTEN" help:"Address of /metrics and /healthz, host:port; it must not be public. Empty: neither."`
	Pprof         bool          `env:"DOORSTEP_PPROF" help:"Serve /debug/pprof on the metrics address."`
	DrainTimeout  time.Duration `default:"25s" env:"DOORSTEP_DRAIN_TIMEOUT" help:"Time limit for ending the messages in hand after SIGTERM."`

	// Version is the build's, for metrics.
	Version        string
	TracesEndpoint string `env:"DOORSTEP_TRACES_ENDPOINT" help:"Same value as for serve."`

	// Now is the handlers' clock. Nil: the wall clock.
	Now func() time.Time
	// Log is where the worker writes. Nil: nowhere.
	Log *slog.Logger
}

// Worker is one process of consumers: a gateway without its API.
type Worker struct {
	*process
	opts      Options
	clock     *sessions.Clock
	stores    stores
	consuming consuming
	queues    []*aws.Consumer
}

// NewWorker makes a worker from its settings. No I/O: that waits for Start.
func NewWorker(o WorkerOptions) (*Worker, error) {
	if o.DatabaseURL == "" || o.ValkeyURL == "" {
		return nil, errors.New("a worker needs the gateways' database and live store: set DOORSTEP_DATABASE_URL and DOORSTEP_VALKEY_URL")
	}
	opts := Options{
		Region: o.Region, MetricsListen: o.MetricsListen, Pprof: o.Pprof, DatabaseURL: o.DatabaseURL, DatabaseURLFile: o.DatabaseURLFile,
		DatabaseCA: o.DatabaseCA, DatabasePooled: o.DatabasePooled, DatabaseMaxConns: o.DatabaseMaxConns,
		DatabaseIAM: o.DatabaseIAM, DatabaseSecret: o.DatabaseSecret, ValkeyIAM: o.ValkeyIAM, ValkeySecret: o.ValkeySecret,
		ValkeyURL: o.ValkeyURL, ValkeyURLFile: o.ValkeyURLFile, ValkeyCA: o.ValkeyCA,
		ValkeyTimeout: o.ValkeyTimeout, LocationTTL: o.LocationTTL, JourneyTTL: o.JourneyTTL, ArrivalRadius: o.ArrivalRadius,
		FCMCredentials: o.FCMCredentials, FCMEndpoint: o.FCMEndpoint, TracesEndpoint: o.TracesEndpoint, DrainTimeout: o.DrainTimeout, Now: o.Now, Log: o.Log,
	}
	if err := opts.validateShared(); err != nil {
		return nil, err
	}
	p, err := newProcess("doorstep-worker", opts)
	if err != nil {
		return nil, err
	}
	m, journeys := metrics.New(p.registry), newJourneyMetrics(p)
	metrics.NewProcess(p.registry, o.Version, nil)
	stores, err := newStores(opts, p, m)
	if err != nil {
		return nil, err
	}
	stores.observe(p, m)
	clock := sessions.NewClock(opts.Now)
	consuming, err := newConsumers(opts, p, stores, clock, journeys)
	if err != nil {
		return nil, err
	}
	queues, err := newQueues(o, p, consuming.list)
	if err != nil {
		return nil, err
	}
	return &Worker{process: p, opts: opts, clock: clock, stores: stores, consuming: consuming, queues: queues}, nil
}

// newQueues gives each consumer its queue.
func newQueues(o WorkerOptions, p *process, list []consumer) ([]*aws.Consumer, error) {
	m := metrics.NewOutbox(p.registry)
	named := map[string][2]string{
		notifyConsumer:    {o.QueueNotify, o.DeadLettersNotify},
		cleanUpConsumer:   {o.QueueCleanup, o.DeadLettersCleanup},
		analyticsConsumer: {o.QueueAnalytics, o.DeadLettersAnalytics},
	}
	var queues []*aws.Consumer
	for _, c := range list {
		m.ExpectConsumers(aws.Results(), c.name)
		queue, err := aws.NewConsumer(aws.ConsumerOptions{
			Name: c.name, Queue: named[c.name][0], DeadLetters: named[c.name][1], Endpoint: o.SQSEndpoint,
			Drain: o.DrainTimeout * 3 / 5, Log: p.log, Metrics: m,
		}, c.handler)
		if err != nil {
			return nil, fmt.Errorf("consumer %s: %w", c.name, err)
		}
		queues = append(queues, queue)
	}
	return queues, nil
}

// Start brings the worker up. Queues that cannot be reached are tried again
// without end; a schema older than this binary is refused. When a part fails, the
// parts before it are ended again.
func (w *Worker) Start(ctx context.Context) error {
	err := w.startTraces(ctx)
	if err == nil {
		err = w.stores.start(ctx, w.process)
	}
	if err == nil {
		err = w.startMetrics(ctx, w.opts)
	}
	if err != nil {
		return errors.Join(err, w.Stop(context.WithoutCancel(ctx)))
	}
	w.startClock(ctx, w.opts, w.stores, w.clock)
	w.background(ctx, "consumers", w.consume)
	w.log.InfoContext(ctx, "consuming", slog.Int("queues", len(w.queues)))
	return nil
}

// consume runs all consumers. At the stop they drain at the same time: each lets go
// of the messages it has not begun and finishes those it has.
func (w *Worker) consume(ctx context.Context) error {
	errs := make([]error, len(w.queues))
	var all sync.WaitGroup
	for i, c := range w.queues {
		all.Go(func() { errs[i] = c.Run(ctx) })
	}
	all.Wait()
	w.ended.Store(ctx.Err() == nil)
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return ctx.Err()
}
