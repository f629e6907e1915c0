package app

import (
	"context"
	"fmt"
	"time"

	"doorstep/metrics"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/aws"
)

// events is the way from a transition to the consumers.
type events struct {
	relay  *outbox.Relay
	memory *outbox.Memory // the outbox of a repository in memory; nil with PostgreSQL
}

// wireEvents makes the relay. It comes after the repository and the consumers, and
// before the service, which nudges the relay.
func (a *App) wireEvents(m *metrics.Outbox) error {
	to, err := a.destinations(m)
	if err != nil {
		return err
	}
	relays := []string{outbox.Bus}
	for _, c := range a.after.consumers {
		relays = append(relays, c.name)
	}
	m.ExpectRelays(relays...)
	var store outbox.Store = a.events.memory
	if a.database != nil {
		store = a.database.Outbox()
	}
	a.events.relay, err = outbox.NewRelay(store, to, outbox.RelayOptions{Log: a.opts.Log, Metrics: m})
	return err
}

// destinations are the consumers in this process and, where it is set, the bus. With the
// bus the consumers handle only what a gateway without it has left for them.
func (a *App) destinations(m *metrics.Outbox) ([]outbox.Destination, error) {
	var to []outbox.Destination
	for _, c := range a.after.consumers {
		// A handler may wait for the push service. Twenty attempts, up to five minutes
		// apart, are some 45 minutes; then an operator must look.
		to = append(to, outbox.Destination{Name: c.name, To: outbox.ToHandler(c.handler), Timeout: 30 * time.Second, MaxAttempts: 20})
	}
	if a.opts.EventBus == "" {
		return to, nil
	}
	bus, err := aws.NewEventBridge(aws.EventBridgeOptions{
		Bus: a.opts.EventBus, Endpoint: a.opts.EventBridgeEndpoint, OnBreaker: m.BusBreaker,
	})
	if err != nil {
		return nil, fmt.Errorf("event-bus: %w", err)
	}
	return append(to, outbox.Destination{Name: outbox.Bus, To: bus}), nil
}

func (a *App) startEvents(ctx context.Context) { a.background(ctx, "events", a.events.relay.Run) }

// memoryRepository is the repository of a gateway without a database. Its events take
// the same relay as PostgreSQL's.
func (a *App) memoryRepository() sessions.Repository {
	a.events.memory = outbox.NewMemory()
	return memory.NewRepository(a.events.memory.Record)
}
