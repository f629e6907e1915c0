// Package aws is the outbox's way over AWS: EventBridge as the bus, and consumers of the
// SQS queues behind it. The AWS SDK lives here and nowhere else in the product.
package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/smithy-go"
	"github.com/sony/gobreaker/v2"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

// Source is the source of every event; the rules match it.
const Source = "admin-service"

// EventBridge takes 10 entries a call and, as of 2025, 1 MB for all of them. Ten entries
// of maxEntryBytes are 640 KB.
const (
	maxEntries    = 10
	maxEntryBytes = 64 << 10
)

// EventBridgeOptions are the settings of the bus. Zero means default.
type EventBridgeOptions struct {
	// Bus is the bus's name or ARN. Required.
	Bus string
	// Endpoint replaces the region's own, for a VPC endpoint or a test.
	Endpoint string
	// Timeout bounds one call, the SDK's one retry included. 5 s.
	Timeout time.Duration
	// BreakerTimeout is how long the breaker stays open. 5 s.
	BreakerTimeout time.Duration
	// OnBreaker is given the breaker's state, also at the start; it must not block.
	OnBreaker func(state string)
}

// busName is EventBridge's own pattern. A wrong name must fail at the start: EventBridge
// would refuse every event.
var busName = regexp.MustCompile(`^(arn:aws[a-z-]*:events:[a-z0-9-]+:\d{12}:event-bus/)?[/.\-_A-Za-z0-9]{1,256}$`)

// EventBridge is the outbox.Publisher to a bus. Safe for concurrent use.
type EventBridge struct {
	opts    EventBridgeOptions
	client  *eventbridge.Client
	breaker *gobreaker.CircuitBreaker[*eventbridge.PutEventsOutput]
}

var _ outbox.Publisher = (*EventBridge)(nil)

// NewEventBridge makes a publisher with the region and the credentials of the SDK's own
// variables and files. It reads those and makes no call.
func NewEventBridge(opts EventBridgeOptions) (*EventBridge, error) {
	opts.Timeout = cmp.Or(opts.Timeout, 5*time.Second)
	opts.BreakerTimeout = cmp.Or(opts.BreakerTimeout, 5*time.Second)
	if !busName.MatchString(opts.Bus) {
		return nil, fmt.Errorf("aws: %q is not the name or ARN of an event bus", opts.Bus)
	}
	settings, err := loadSettings()
	if err != nil {
		return nil, err
	}
	b := &EventBridge{opts: opts}
	b.client = eventbridge.NewFromConfig(settings, func(o *eventbridge.Options) {
		if opts.Endpoint != "" {
			o.BaseEndpoint = sdk.String(opts.Endpoint)
		}
	})
	b.breaker = gobreaker.NewCircuitBreaker[*eventbridge.PutEventsOutput](gobreaker.Settings{
		Name: "eventbridge", MaxRequests: 1, Interval: 10 * time.Second, BucketPeriod: time.Second, Timeout: opts.BreakerTimeout,
		// The relay stops at the first failure and probes with one batch, so failures
		// come one by one; the batches in flight with the first one make five.
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 },
		IsSuccessful: func(err error) bool { return err == nil || !isOutage(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if opts.OnBreaker != nil {
				opts.OnBreaker(to.String())
			}
		},
	})
	if opts.OnBreaker != nil {
		opts.OnBreaker(gobreaker.StateClosed.String())
	}
	return b, nil
}

// loadSettings are the SDK's own, with one retry: the relay and the visibility time-out
// do the rest.
func loadSettings() (sdk.Config, error) {
	// It reads variables and files and makes no call: there is nothing to cancel.
	settings, err := config.LoadDefaultConfig(context.Background(), config.WithRetryMaxAttempts(2))
	if err != nil {
		return sdk.Config{}, fmt.Errorf("aws: AWS settings: %w", err)
	}
	if settings.Region == "" {
		return sdk.Config{}, errors.New("aws: no AWS region: set AWS_REGION")
	}
	return settings, nil
}

// Publish implements outbox.Publisher: one PutEvents for each ten rows.
func (b *EventBridge) Publish(ctx context.Context, rows []outbox.Row) []error {
	errs := make([]error, 0, len(rows))
	for len(rows) > 0 {
		n := min(len(rows), maxEntries)
		errs = append(errs, b.publish(ctx, rows[:n])...)
		rows = rows[n:]
	}
	return errs
}

// publish sends the entries that are not too large and returns each row's error.
func (b *EventBridge) publish(ctx context.Context, rows []outbox.Row) []error {
	errs := make([]error, len(rows))
	var entries []types.PutEventsRequestEntry
	var of []int // entry → row
	for i, row := range rows {
		detail := string(row.Event.Detail())
		if size := entryBytes(string(row.Event.Type), detail); size > maxEntryBytes {
			errs[i] = outbox.Permanent(fmt.Errorf("the event has %d bytes, %d are the limit", size, maxEntryBytes))
			continue
		}
		entries, of = append(entries, types.PutEventsRequestEntry{
			EventBusName: sdk.String(b.opts.Bus), Source: sdk.String(Source), DetailType: sdk.String(string(row.Event.Type)),
			Detail: sdk.String(detail), Time: sdk.Time(row.Event.At), TraceHeader: traceHeader(row.Event),
		}), append(of, i)
	}
	if len(entries) > 0 {
		for i, err := range b.put(ctx, entries) {
			errs[of[i]] = err
		}
	}
	return errs
}

// traceHeader hands on the trace of the call that raised an event. EventBridge gives it to
// its targets, and SQS has it as the attribute AWSTraceHeader.
func traceHeader(e sessions.Event) *string {
	if e.Trace == "" {
		return nil
	}
	return sdk.String("Root=" + e.Trace)
}

// entryBytes is the size by EventBridge's own rule: 14 for the time, and the texts.
func entryBytes(detailType, detail string) int {
	return 14 + len(Source) + len(detailType) + len(detail)
}

// put is one call, through the breaker. When the whole call is refused because of one
// entry, each is sent alone.
func (b *EventBridge) put(ctx context.Context, entries []types.PutEventsRequestEntry) []error {
	call, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	answer, err := b.breaker.Execute(func() (*eventbridge.PutEventsOutput, error) {
		return b.client.PutEvents(call, &eventbridge.PutEventsInput{Entries: entries})
	})
	switch {
	case err == nil && len(answer.Entries) != len(entries):
		err = outbox.Down(fmt.Errorf("the bus answered for %d of %d events", len(answer.Entries), len(entries)))
	case err == nil:
		return entryErrors(answer)
	case isOutage(err):
		err = outbox.Down(err)
	case len(entries) > 1:
		errs := make([]error, len(entries))
		for i := range entries {
			errs[i] = b.put(ctx, entries[i:i+1])[0]
		}
		return errs
	default:
		err = fmt.Errorf("refused: %s", codeOf(err))
	}
	errs := make([]error, len(entries))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// try is one call for entries that may be lost. It returns how many the bus has taken. It
// obeys the breaker, and never changes it: a right to send that is missing for these
// entries only must not hold up the outbox. Where the breaker is open the relay has an
// event to probe the bus with.
func (b *EventBridge) try(ctx context.Context, entries []types.PutEventsRequestEntry) (taken int) {
	if b.breaker.State() != gobreaker.StateClosed {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	answer, err := b.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: entries})
	if err != nil || len(answer.Entries) != len(entries) {
		return 0
	}
	for _, err := range entryErrors(answer) {
		if err == nil {
			taken++
		}
	}
	return taken
}

// malformed are EventBridge's codes for an entry that it will never take.
var malformed = map[string]bool{"MalformedDetail": true, "InvalidArgument": true}

// refusals are the codes of a whole call that are about its entries. Any other error
// means that nothing can be published now: no network, throttling, a fault of the bus,
// but also a key that has expired, a right that is missing, a bus that was deleted. An
// operator must fix those, and no event may be lost until then.
var refusals = map[string]bool{
	"ValidationException": true, "InvalidParameterValue": true, "SerializationException": true,
	"RequestEntityTooLargeException": true, "EntityTooLarge": true,
}

func isOutage(err error) bool { return err != nil && !refusals[codeOf(err)] }

func codeOf(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// entryErrors reads an answer entry by entry: a call that succeeds may have failed for
// some. Throttling is the bus's fault. An internal failure is the bus's fault when no
// entry was taken; beside entries that were taken it counts as the entry's, so that no
// entry is tried for ever.
func entryErrors(answer *eventbridge.PutEventsOutput) []error {
	errs := make([]error, len(answer.Entries))
	someTaken := int(answer.FailedEntryCount) < len(answer.Entries)
	for i, entry := range answer.Entries {
		code := sdk.ToString(entry.ErrorCode)
		switch {
		case code == "":
		case malformed[code]:
			errs[i] = outbox.Permanent(fmt.Errorf("refused: %s", code))
		case (code == "InternalFailure" || code == "InternalException") && someTaken:
			errs[i] = fmt.Errorf("refused: %s", code)
		default:
			errs[i] = outbox.Down(fmt.Errorf("not taken: %s", code))
		}
	}
	return errs
}
