package app

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"doorstep/gateway/consumers"
	"doorstep/metrics"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/outbox/webhook"
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

// consuming is the consumers of the events and what they need.
type consuming struct {
	list []consumer
	show *consumers.Show // nil: there is a push service
}

// newConsumers makes the consumers, on the stores. It makes no call.
func newConsumers(o Options, p *process, s stores, clock *sessions.Clock, m *metrics.Journeys) (consuming, error) {
	var c consuming
	var push consumers.Pusher
	if len(o.FCMCredentials) == 0 {
		c.show = consumers.NewShow(o.now(), p.log)
		push = c.show
	} else {
		fcm, err := consumers.NewFCM(context.Background(), consumers.FCMOptions{ // it makes no call
			Credentials: o.FCMCredentials, AWS: ownInAWS(), Endpoint: o.FCMEndpoint, OnBreaker: m.PushBreaker, Now: clock.Now,
		})
		if err != nil {
			return c, err
		}
		push = fcm
	}
	var once outbox.Once = outbox.NewMemoryOnce()
	if s.database != nil {
		once = postgres.NewOnce(s.database, 0)
	}
	c.list = []consumer{
		{notifyConsumer, consumers.NewNotify(s.repo, once, push, consumers.NotifyOptions{
			Now: clock.Now, Log: p.log, Unregistered: c.show != nil, Metrics: m,
		})},
		{cleanUpConsumer, consumers.NewCleanUp(s.repo, s.live, o.Region)},
		{analyticsConsumer, consumers.NewAnalytics(s.repo, m)},
	}
	for i, to := range c.list {
		c.list[i].handler = p.traces.handled(to.name, classing{to.handler})
	}
	return c, nil
}

// ownInAWS finds the process's own credentials in AWS. Their settings are read at the first
// call: most have none.
func ownInAWS() func(context.Context) (consumers.AWSCredentials, error) {
	open := sync.OnceValues(aws.NewIAM)
	return func(ctx context.Context) (consumers.AWSCredentials, error) {
		iam, err := open()
		if err != nil {
			return consumers.AWSCredentials{}, err
		}
		own, err := iam.Own(ctx)
		return consumers.AWSCredentials(own), err
	}
}

// newBus makes the publisher to the bus; nil where none is set.
func newBus(o Options, m *metrics.Outbox) (*aws.EventBridge, error) {
	if o.EventBus == "" {
		return nil, nil //nolint:nilnil // no bus is no fault
	}
	bus, err := aws.NewEventBridge(aws.EventBridgeOptions{Bus: o.EventBus, Endpoint: o.EventBridgeEndpoint, OnBreaker: m.BusBreaker})
	if err != nil {
		return nil, fmt.Errorf("event-bus: %w", err)
	}
	return bus, nil
}

// addressed are the consumers that get every event, with a bus and without.
func (o Options) addressed() []string {
	if o.WebhookURL == "" {
		return nil
	}
	return []string{webhook.Consumer}
}

// keepForWebhook is how long a delivery waits for a gateway that has the receiver's URL
// before one that has none makes a dead letter of it. While the setting is being changed,
// gateway by gateway, both kinds run.
const keepForWebhook = time.Hour

// newWebhook is the receiver of webhooks as a destination. Without one it is a
// destination all the same, for what a gateway that had one has left.
func newWebhook(o Options, p *process, now func() time.Time, m *metrics.Outbox) (outbox.Destination, error) {
	m.ExpectWebhooks(webhook.Outcomes())
	to := outbox.Destination{Name: webhook.Consumer, Recorded: true, MaxAttempts: 20}
	if o.WebhookURL == "" {
		to.To, to.Older = outbox.Nowhere("no gateway here has a URL for webhooks"), keepForWebhook
		return to, nil
	}
	receiver, err := webhook.New(webhook.Options{
		URL: o.WebhookURL, Secrets: o.WebhookSecrets, AllowPrivate: o.WebhookAllowPrivate, Now: now, Log: p.log, Metrics: m,
	})
	if err != nil {
		return to, fmt.Errorf("webhook-url, webhook-secret: %w", err)
	}
	to.To = receiver
	return to, nil
}

// newRelay makes the relay from the outbox to the consumers in this process, to the
// receiver of webhooks and, where it is set, to the bus. With the bus the consumers
// handle only what a gateway without it has left for them.
func newRelay(p *process, s stores, list []consumer, links linkURLs, receiver outbox.Destination, bus *aws.EventBridge, m *metrics.Outbox) (*outbox.Relay, error) {
	names := []string{outbox.Bus, receiver.Name}
	var to []outbox.Destination
	for _, c := range list {
		names = append(names, c.name)
		// A handler may wait for the push service. Twenty attempts, up to five minutes
		// apart, are some 45 minutes; then an operator must look.
		to = append(to, outbox.Destination{Name: c.name, To: outbox.ToHandler(c.handler), Timeout: 30 * time.Second, MaxAttempts: 20})
	}
	receiver.To = tracked{receiver.To, links}
	to = append(to, receiver)
	m.ExpectRelays(names...)
	if bus != nil {
		to = append(to, outbox.Destination{Name: outbox.Bus, To: tracked{bus, linkURLs{}}}) // archives and queues keep what the bus has
	}
	return outbox.NewRelay(s.outbox, to, outbox.RelayOptions{Log: p.log, Metrics: m})
}

// linkURLs makes the URLs of the share links that events have.
type linkURLs struct {
	public func() string
	key    []byte // nil: none are made
}

// tracked is a publisher to outside of this process. Events that are published have the
// URL of their share link in place of its id, or nothing where links makes none.
type tracked struct {
	to    outbox.Publisher
	links linkURLs
}

// Publish implements outbox.Publisher.
func (t tracked) Publish(ctx context.Context, rows []outbox.Row) []error {
	rows = slices.Clone(rows)
	for i := range rows {
		e := &rows[i].Event
		if e.Link != nil && t.links.key != nil {
			e.TrackURL = t.links.public() + sessions.SharePath + sessions.EventLinkToken(t.links.key, e.Link.ID)
		}
		e.Link = nil
	}
	return t.to.Publish(ctx, rows)
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
