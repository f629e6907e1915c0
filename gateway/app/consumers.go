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

// The consumers' names: of their inboxes in process, and in metrics.
const (
	notifyConsumer    = consumers.NotifyConsumer
	cleanUpConsumer   = "clean_up"
	analyticsConsumer = "analytics"
)

// aftermath is what comes of journeys besides requests: the consumers of the
// events, the counts, and the sweeps.
type aftermath struct {
	handlers []outbox.Named
	show     *consumers.Show // nil: there is a push service
	once     *postgres.Once
	counter  *sessions.FixCounter
	sweeper  *sessions.Sweeper
}

// wireConsumers makes the consumers of the events and the fix counter. It must come
// before wireEvents, which asks for the first, and before the service, which
// counts on the second.
func (a *App) wireConsumers(repo sessions.Repository, live sessions.Live, m *metrics.Journeys) error {
	var push consumers.Pusher
	if len(a.opts.FCMCredentials) == 0 {
		a.after.show = consumers.NewShow(a.now(), a.opts.Log)
		push = a.after.show
	} else {
		fcm, err := consumers.NewFCM(context.Background(), consumers.FCMOptions{ // it calls nobody
			Credentials: a.opts.FCMCredentials, Endpoint: a.opts.FCMEndpoint, OnBreaker: m.PushBreaker,
		})
		if err != nil {
			return err
		}
		push = fcm
	}
	a.after.handlers = []outbox.Named{
		{Name: notifyConsumer, Handler: classing{consumers.NewNotify(repo, a.wireOnce(), push, consumers.NotifyOptions{
			Now: a.opts.Now, Log: a.opts.Log, Unregistered: a.after.show != nil, Metrics: m,
		})}},
		{Name: cleanUpConsumer, Handler: classing{consumers.NewCleanUp(repo, live)}},
		{Name: analyticsConsumer, Handler: classing{consumers.NewAnalytics(repo, m)}},
	}
	for i, to := range a.after.handlers {
		a.after.handlers[i] = a.traces.handled(to)
	}
	a.after.counter = sessions.NewFixCounter(repo, sessions.FixCounterOptions{Log: a.opts.Log, Metrics: m})
	return nil
}

func (a *App) wireOnce() outbox.Once {
	if a.database == nil {
		return outbox.NewMemoryOnce(0, nil)
	}
	a.after.once = postgres.NewOnce(a.database, postgres.OnceOptions{})
	return a.after.once
}

// wireSweeper comes after the service, whose rules it applies.
func (a *App) wireSweeper(service *sessions.Service, m *metrics.Journeys) {
	silence := cmp.Or(a.opts.SilenceReport, -1) // 0 is off, as the setting says
	a.after.sweeper = sessions.NewSweeper(service, sessions.SweeperOptions{Silence: silence, Log: a.opts.Log, Metrics: m})
}

// startAftermath starts what runs beside the requests. The fix counter stops before
// the database and after the server: it says what it has not said yet.
func (a *App) startAftermath(ctx context.Context) {
	a.startSweepingConsumed(ctx)
	a.background(ctx, "fix counter", a.after.counter.Run)
	a.background(ctx, "sweeper", a.after.sweeper.Run)
}

// sweepConsumed is how many consumed events one statement forgets, and
// sweepConsumedEvery how often that is begun.
const (
	sweepConsumed      = 5_000
	sweepConsumedEvery = time.Minute
)

// startSweepingConsumed forgets the events that were consumed long ago.
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
					n, _ = a.after.once.Sweep(ctx, sweepConsumed) // what fails is due again in a minute
				}
			}
		}
	})
}

// consumers are what handles events in this process when there is no other bus.
func (a *App) consumers() []outbox.Named { return a.after.handlers }

// Pushes lists the last pushes as the devices would have shown them, oldest
// first: where no push service is set, for a demo and for tests.
func (a *App) Pushes() []consumers.Shown {
	if a.after.show == nil {
		return nil
	}
	return a.after.show.Last()
}

// classing tells the outbox which of a handler's errors are not the event's
// fault.
type classing struct{ to outbox.Handler }

// Handle keeps the contract of outbox.Handler.
func (c classing) Handle(ctx context.Context, e sessions.Event) error {
	err := c.to.Handle(ctx, e)
	if err != nil && consumers.Down(err) {
		return outbox.Down(err)
	}
	return err
}
