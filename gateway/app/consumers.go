package app

import (
	"cmp"
	"context"
	"time"

	"doorstep/gateway/consumers"
	"doorstep/metrics"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/postgres"
)

// The consumers' names: of their deliveries, and in metrics.
const (
	notifyConsumer    = consumers.NotifyConsumer
	cleanUpConsumer   = "clean_up"
	analyticsConsumer = "analytics"
)

// consumer is one consumer of events.
type consumer struct {
	name    string
	handler outbox.Handler
}

// backgroundParts is what runs besides the requests: the consumers of the events, the counts
// and the sweeps.
type backgroundParts struct {
	consumers []consumer
	show      *consumers.Show // nil: there is a push service
	once      *postgres.Once  // nil: no database
	counter   *sessions.FixCounter
	sweeper   *sessions.Sweeper
}

// wireConsumers makes the consumers and the counts. It comes before wireEvents, which
// delivers to the consumers, and before the service, which counts.
func (a *App) wireConsumers(repo sessions.Repository, live sessions.Live, m *metrics.Journeys) error {
	var push consumers.Pusher
	if len(a.opts.FCMCredentials) == 0 {
		a.after.show = consumers.NewShow(a.now(), a.opts.Log)
		push = a.after.show
	} else {
		fcm, err := consumers.NewFCM(context.Background(), consumers.FCMOptions{ // it makes no call
			Credentials: a.opts.FCMCredentials, Endpoint: a.opts.FCMEndpoint, OnBreaker: m.PushBreaker,
		})
		if err != nil {
			return err
		}
		push = fcm
	}
	a.after.consumers = []consumer{
		{notifyConsumer, consumers.NewNotify(repo, a.wireOnce(), push, consumers.NotifyOptions{
			Now: a.opts.Now, Log: a.opts.Log, Unregistered: a.after.show != nil, Metrics: m,
		})},
		{cleanUpConsumer, consumers.NewCleanUp(repo, live)},
		{analyticsConsumer, consumers.NewAnalytics(repo, m)},
	}
	for i, c := range a.after.consumers {
		a.after.consumers[i].handler = a.traces.handled(c.name, classing{c.handler})
	}
	a.after.counter = sessions.NewFixCounter(repo, sessions.FixCounterOptions{Log: a.opts.Log, Metrics: m})
	return nil
}

func (a *App) wireOnce() outbox.Once {
	if a.database == nil {
		return outbox.NewMemoryOnce()
	}
	a.after.once = postgres.NewOnce(a.database, 0)
	return a.after.once
}

// wireSweeper comes after the service, whose rules it applies.
func (a *App) wireSweeper(service *sessions.Service, m *metrics.Journeys) {
	silence := cmp.Or(a.opts.SilenceReport, -1) // 0 is off, as the setting says
	a.after.sweeper = sessions.NewSweeper(service, sessions.SweeperOptions{Silence: silence, Log: a.opts.Log, Metrics: m})
}

// startBackgroundParts starts what runs besides the requests. The fix counter stops after the
// server and before the database: it then writes its last counts.
func (a *App) startBackgroundParts(ctx context.Context) {
	a.startSweepingConsumed(ctx)
	a.background(ctx, "fix counter", a.after.counter.Run)
	a.background(ctx, "sweeper", a.after.sweeper.Run)
}

// sweepConsumed is how many consumed events one statement forgets; sweepConsumedEvery is
// the time between two sweeps.
const (
	sweepConsumed      = 5_000
	sweepConsumedEvery = time.Minute
)

// startSweepingConsumed starts the sweep of the events that were consumed long ago.
func (a *App) startSweepingConsumed(ctx context.Context) {
	if a.after.once == nil {
		return
	}
	a.background(ctx, "memory of consumed events", func(ctx context.Context) error {
		ticker := time.NewTicker(sweepConsumedEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
				for n := sweepConsumed; n == sweepConsumed; {
					n, _ = a.after.once.Sweep(ctx, sweepConsumed) // a failure is tried again in a minute
				}
			}
		}
	})
}

// Pushes lists the last pushes as the devices would have shown them, oldest first. For a
// demo and for tests; nil with a push service.
func (a *App) Pushes() []consumers.Shown {
	if a.after.show == nil {
		return nil
	}
	return a.after.show.Last()
}

// classing marks a handler's errors that are not the event's fault.
type classing struct{ to outbox.Handler }

// Handle implements outbox.Handler.
func (c classing) Handle(ctx context.Context, e sessions.Event) error {
	err := c.to.Handle(ctx, e)
	if err != nil && consumers.Down(err) {
		return outbox.Down(err)
	}
	return err
}
