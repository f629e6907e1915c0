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

// events is the way from a transition to the consumers: one relay to the bus,
// and without another bus one more for each consumer in this process.
type events struct {
	relay  *outbox.Relay
	inside []*outbox.Relay // by the order of consumers
	named  []string
	memory *outbox.Memory // the outbox of a MemoryRepository; nil with PostgreSQL
}

// wireEvents makes the relays. It must come before the service, which nudges
// the first, and after the repository.
func (a *App) wireEvents(m *metrics.Outbox) error {
	bus, err := a.wireBus(m)
	if err != nil {
		return err
	}
	m.ExpectRelays(append(a.events.named, "bus")...)
	a.events.relay, err = outbox.NewRelay(a.outboxStore(), bus, outbox.RelayOptions{
		Name: "bus", Log: a.opts.Log, Metrics: m,
	})
	return err
}

func (a *App) outboxStore() outbox.Store {
	if a.database != nil {
		return a.database.Outbox()
	}
	return a.events.memory
}

// inbox is a consumer's: in PostgreSQL it outlives this process, in memory not.
type inbox interface {
	outbox.Store
	outbox.Inbox
}

func (a *App) inbox(consumer string) inbox {
	if a.database != nil {
		return a.database.Inbox(consumer)
	}
	return outbox.NewMemory(nil)
}

func (a *App) wireBus(m *metrics.Outbox) (outbox.Publisher, error) {
	if a.opts.EventBus != "" {
		bus, err := aws.NewEventBridge(aws.EventBridgeOptions{
			Bus: a.opts.EventBus, Endpoint: a.opts.EventBridgeEndpoint, OnBreaker: m.BusBreaker,
		})
		if err != nil {
			return nil, fmt.Errorf("event-bus: %w", err)
		}
		return bus, nil
	}
	var inboxes []outbox.Inbox
	for _, consumer := range a.consumers() {
		in := a.inbox(consumer.Name)
		// A handler may wait for a phone company. Twenty attempts up to five
		// minutes apart are some 45 minutes; then it is for an operator.
		relay, err := outbox.NewRelay(in, outbox.NewHandling(consumer.Handler), outbox.RelayOptions{
			Name: consumer.Name, PublishTimeout: 30 * time.Second, MaxAttempts: 20, Retain: 24 * time.Hour,
			Log: a.opts.Log, Metrics: m,
		})
		if err != nil {
			return nil, fmt.Errorf("consumer %s: %w", consumer.Name, err)
		}
		inboxes = append(inboxes, nudging{in, relay})
		a.events.inside, a.events.named = append(a.events.inside, relay), append(a.events.named, consumer.Name)
	}
	return outbox.NewInProcess(inboxes...), nil
}

// nudging is an inbox whose relay hears at once of what came in.
type nudging struct {
	outbox.Inbox
	relay *outbox.Relay
}

func (n nudging) Add(ctx context.Context, rows []outbox.Row) error {
	err := n.Inbox.Add(ctx, rows)
	n.relay.Nudge()
	return err
}

// startEvents starts the consumers' relays before the one that feeds them, so
// that they stop after it.
func (a *App) startEvents(ctx context.Context) {
	for i, relay := range a.events.inside {
		a.background(ctx, "events to "+a.events.named[i], relay.Run)
	}
	a.background(ctx, "events", a.events.relay.Run)
}

// memoryRepository is the repository of the embedded default, whose events go
// through the same relay as PostgreSQL's.
func (a *App) memoryRepository() sessions.Repository {
	a.events.memory = outbox.NewMemory(nil)
	return memory.NewRepository(a.events.memory.Record)
}
