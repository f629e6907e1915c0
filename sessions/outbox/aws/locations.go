package aws

import (
	"context"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"doorstep/sessions"
)

// Locations sends location events from memory to the bus, best effort: what the bus does
// not take soon is dropped and counted. It writes nothing to a store or a log. Safe for
// concurrent use.
type Locations struct {
	bus     *EventBridge
	metrics LocationMetrics
	queue   chan location
}

type location struct {
	event sessions.LocationEvent
	since time.Time // in the queue
}

// LocationMetrics counts location events by result, from LocationResults.
type LocationMetrics interface {
	LocationEvents(result string, n int)
}

const (
	locationSent   = "sent"
	locationFull   = "full"   // the queue was
	locationLate   = "late"   // it has waited for too long, or the process has ended
	locationFailed = "failed" // the bus did not take it
)

// LocationResults is the closed list of results in LocationMetrics.
func LocationResults() []string {
	return []string{locationSent, locationFull, locationLate, locationFailed}
}

const (
	// locationQueue bounds the queue: some 500 KB.
	locationQueue = 4096
	// locationAge is how long an event may wait. A later one tells more by then.
	locationAge = 15 * time.Second
	// locationLinger is how long a batch waits to be full.
	locationLinger = 250 * time.Millisecond
	// locationCalls is how many calls are under way at once.
	locationCalls = 8
	// locationDrain is how long the events in the queue may take at the stop.
	locationDrain = 2 * time.Second
)

// NewLocations makes the sender to a bus. Run does the work.
func NewLocations(bus *EventBridge, m LocationMetrics) *Locations {
	return &Locations{bus: bus, metrics: m, queue: make(chan location, locationQueue)}
}

// Offer takes an event. It does not block.
func (l *Locations) Offer(e sessions.LocationEvent) {
	select {
	case l.queue <- location{e, time.Now()}:
	default:
		l.metrics.LocationEvents(locationFull, 1)
	}
}

// Run sends until ctx ends, and then what is in the queue, for at most two seconds.
func (l *Locations) Run(ctx context.Context) error {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(locationDrain, cut) })()
	calls := make(chan struct{}, locationCalls)
	var all sync.WaitGroup
	for batch := l.next(ctx); len(batch) > 0; batch = l.next(ctx) {
		calls <- struct{}{} // free again when a call ends, which the bus's time-out bounds
		all.Go(func() {
			defer func() { <-calls }()
			l.send(sending, batch)
		})
	}
	all.Wait()
	return ctx.Err()
}

// next waits for the next batch. After the end of ctx it is what is in the queue, at last
// nothing.
func (l *Locations) next(ctx context.Context) (batch []location) {
	select {
	case e := <-l.queue:
		batch = append(batch, e)
	case <-ctx.Done():
		return l.rest(nil)
	}
	linger := time.After(locationLinger)
	for len(batch) < maxEntries {
		select {
		case e := <-l.queue:
			batch = append(batch, e)
		case <-linger:
			return batch
		case <-ctx.Done():
			return l.rest(batch)
		}
	}
	return batch
}

// rest fills a batch without waiting.
func (l *Locations) rest(batch []location) []location {
	for len(batch) < maxEntries {
		select {
		case e := <-l.queue:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// send is one call. Events that have waited for too long are not sent any more.
func (l *Locations) send(ctx context.Context, batch []location) {
	entries := make([]types.PutEventsRequestEntry, 0, len(batch))
	for _, one := range batch {
		if ctx.Err() == nil && time.Since(one.since) < locationAge {
			entries = append(entries, types.PutEventsRequestEntry{
				EventBusName: sdk.String(l.bus.opts.Bus), Source: sdk.String(Source), DetailType: sdk.String(string(sessions.LocationUpdated)),
				Detail: sdk.String(string(one.event.Detail())), Time: sdk.Time(one.event.At),
			})
		}
	}
	l.metrics.LocationEvents(locationLate, len(batch)-len(entries))
	if len(entries) == 0 {
		return
	}
	sent := l.bus.try(ctx, entries)
	l.metrics.LocationEvents(locationSent, sent)
	l.metrics.LocationEvents(locationFailed, len(entries)-sent)
}
