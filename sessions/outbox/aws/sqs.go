package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"doorstep/internal/pause"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

const (
	// receiveBatch is the most that one ReceiveMessage gives.
	receiveBatch = 10
	// longPoll is the longest that one ReceiveMessage waits.
	longPoll = 20 * time.Second
	// handleTimeout bounds one call of the handler.
	handleTimeout = 2 * time.Minute
)

// ConsumerOptions are the settings of a queue's consumer. Zero means default.
type ConsumerOptions struct {
	// Name stands in logs and metrics. Required.
	Name string
	// Queue is the queue's URL or name. Required.
	Queue string
	// DeadLetters is the URL or name of the dead-letter queue. Messages that cannot
	// be read are moved there at once, with the reason. Empty: they are left to the
	// queue's own redrive.
	DeadLetters string
	// Endpoint replaces the region's own, for a VPC endpoint or a test.
	Endpoint string
	// Concurrency bounds the messages being handled. 10.
	Concurrency int
	// Visibility is how long a message is hidden from other workers; it is extended
	// at each third of it while a handler works. 60 s.
	Visibility time.Duration
	// CallTimeout bounds one short call to SQS. 5 s.
	CallTimeout time.Duration
	// RetryBase and RetryCap set how long a message whose handling failed stays
	// hidden before it is received again: half of min(RetryCap, RetryBase × 2^n),
	// plus a random part of the other half. 5 s and 15 min. With a maxReceiveCount
	// of 12 it takes some 50 minutes until the message is in the dead-letter queue.
	RetryBase, RetryCap time.Duration
	// Drain bounds how long messages being handled may take at the stop; then the
	// handlers' context ends. 15 s.
	Drain time.Duration

	Log     *slog.Logger    // nil: discarded
	Metrics ConsumerMetrics // nil: none
}

// ConsumerMetrics is what a queue's consumer reports.
type ConsumerMetrics interface {
	// MessageHandled counts a message by its result, one of Results.
	MessageHandled(consumer, result string, took time.Duration)
}

// The results of a message.
const (
	resultDone      = "done"
	resultFailed    = "failed"    // comes again
	resultMalformed = "malformed" // no event
	resultNewer     = "newer"     // an event for a newer worker; comes again
)

// Results lists every result of ConsumerMetrics.
func Results() []string { return []string{resultDone, resultFailed, resultMalformed, resultNewer} }

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	o.Concurrency = cmp.Or(o.Concurrency, 10)
	o.Visibility = cmp.Or(o.Visibility, time.Minute)
	o.CallTimeout = cmp.Or(o.CallTimeout, 5*time.Second)
	o.RetryBase = cmp.Or(o.RetryBase, 5*time.Second)
	o.RetryCap = cmp.Or(o.RetryCap, 15*time.Minute)
	o.Drain = cmp.Or(o.Drain, 15*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	return o
}

func (o ConsumerOptions) validate() error {
	switch {
	case o.Name == "":
		return errors.New("aws: a consumer needs a Name")
	case o.Queue == "":
		return fmt.Errorf("aws: consumer %s needs a Queue", o.Name)
	case o.Concurrency < 1:
		return fmt.Errorf("aws: Concurrency %d is less than 1", o.Concurrency)
	case o.Visibility < 2*time.Second || o.Visibility > 12*time.Hour:
		return fmt.Errorf("aws: Visibility %s is not in [2s, 12h]", o.Visibility)
	}
	return nil
}

// Consumer carries one queue's messages to one handler, at least once: a message is
// deleted only after the handler has succeeded. Messages of one session may be handled
// in any order and at the same time; a handler tells old from new by the event's
// instants.
type Consumer struct {
	opts    ConsumerOptions
	client  *sqs.Client
	handler outbox.Handler

	queue, dead string // URLs, once they are known
}

// NewConsumer makes a consumer with the region and the credentials of the SDK's own
// variables and files. It reads those and makes no call.
func NewConsumer(opts ConsumerOptions, handler outbox.Handler) (*Consumer, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	settings, err := loadSettings()
	if err != nil {
		return nil, err
	}
	c := &Consumer{opts: opts, handler: handler}
	c.client = sqs.NewFromConfig(settings, func(o *sqs.Options) {
		if opts.Endpoint != "" {
			o.BaseEndpoint = sdk.String(opts.Endpoint)
		}
	})
	return c, nil
}

// Run consumes until ctx ends, then lets the handlers end within Drain. Its error is
// ctx's. A queue that cannot be reached is tried again, without end.
func (c *Consumer) Run(ctx context.Context) error {
	handling, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	slots := make(chan struct{}, c.opts.Concurrency)
	var work sync.WaitGroup
	for failures := 0; ctx.Err() == nil; {
		err := c.resolve(ctx)
		if err == nil {
			err = c.turn(ctx, handling, slots, &work)
		}
		if err == nil || ctx.Err() != nil {
			failures = 0
			continue
		}
		failures++
		c.opts.Log.WarnContext(ctx, "queue cannot be read", slog.String("consumer", c.opts.Name),
			slog.Int("failures", failures), slog.Any("error", err))
		_ = pause.For(ctx, halfJitter(250*time.Millisecond, 15*time.Second, failures))
	}
	timer := time.AfterFunc(c.opts.Drain, cut)
	work.Wait()
	timer.Stop()
	return ctx.Err()
}

// resolve finds the queues' URLs, once.
func (c *Consumer) resolve(ctx context.Context) (err error) {
	if c.queue == "" {
		c.queue, err = c.url(ctx, c.opts.Queue)
	}
	if err == nil && c.dead == "" && c.opts.DeadLetters != "" {
		c.dead, err = c.url(ctx, c.opts.DeadLetters)
	}
	return err
}

func (c *Consumer) url(ctx context.Context, queue string) (string, error) {
	if strings.Contains(queue, "://") {
		return queue, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.CallTimeout)
	defer cancel()
	answer, err := c.client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: sdk.String(queue)})
	if err != nil {
		return "", fmt.Errorf("queue %s: %w", queue, err)
	}
	return sdk.ToString(answer.QueueUrl), nil
}

// turn receives no more messages than there are free slots, so that no message waits
// here while another worker could have it.
func (c *Consumer) turn(ctx, handling context.Context, slots chan struct{}, work *sync.WaitGroup) error {
	n := take(ctx, slots)
	if n == 0 {
		return ctx.Err()
	}
	messages, err := c.receive(ctx, n)
	for range n - len(messages) {
		<-slots
	}
	for _, m := range messages {
		// A long poll may be answered while the stop begins: other workers can have
		// what was not started.
		if ctx.Err() != nil {
			c.show(handling, m, 0)
			<-slots
			continue
		}
		work.Go(func() {
			defer func() { <-slots }()
			c.work(handling, m)
		})
	}
	return err
}

// take waits for a free slot and takes up to a batch of them.
func take(ctx context.Context, slots chan struct{}) (n int) {
	select {
	case slots <- struct{}{}:
		n = 1
	case <-ctx.Done():
		return 0
	}
	for n < receiveBatch {
		select {
		case slots <- struct{}{}:
			n++
		default:
			return n
		}
	}
	return n
}

func (c *Consumer) receive(ctx context.Context, n int) ([]types.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, longPoll+c.opts.CallTimeout)
	defer cancel()
	answer, err := c.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: sdk.String(c.queue), MaxNumberOfMessages: int32(min(n, receiveBatch)), //nolint:gosec // at most 10
		WaitTimeSeconds: seconds(longPoll), VisibilityTimeout: seconds(c.opts.Visibility),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameAWSTraceHeader},
	})
	if err != nil {
		return nil, err
	}
	return answer.Messages, nil
}

// work is one message from its receipt to its end.
func (c *Consumer) work(ctx context.Context, m types.Message) {
	began := time.Now()
	result := resultDone
	defer func() { c.opts.Metrics.MessageHandled(c.opts.Name, result, time.Since(began)) }()
	e, err := parseEnvelope(sdk.ToString(m.Body))
	switch {
	case errors.Is(err, errLocation):
		c.remove(ctx, m)
		return
	case errors.Is(err, sessions.ErrNewerEvent):
		result = resultNewer
		wait := c.later(ctx, m)
		c.opts.Log.WarnContext(ctx, "event left for a newer worker", c.about(m, err, slog.Duration("wait", wait))...)
		return
	case err != nil:
		result = resultMalformed
		c.malformed(ctx, m, err)
		return
	}
	if err := c.handle(ctx, m, e); err != nil {
		result = resultFailed
		c.failed(ctx, m, err)
		return
	}
	c.remove(ctx, m)
}

// handle calls the handler while the message is kept hidden.
func (c *Consumer) handle(ctx context.Context, m types.Message, e sessions.Event) error {
	ctx, cancel := context.WithTimeout(ctx, handleTimeout)
	hiding := make(chan struct{})
	go func() {
		defer close(hiding)
		c.hide(ctx, m)
	}()
	defer func() { cancel(); <-hiding }()
	return outbox.Handle(ctx, c.handler, e)
}

// hide extends the visibility time-out until ctx ends. When one call fails the next one
// is still in time: two of them fit into the time-out.
func (c *Consumer) hide(ctx context.Context, m types.Message) {
	tick := time.NewTicker(c.opts.Visibility / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.show(ctx, m, c.opts.Visibility)
		}
	}
}

// failed leaves a message for later. One that can never be handled goes the same way
// where no dead-letter queue is set: the queue's own redrive ends it.
func (c *Consumer) failed(ctx context.Context, m types.Message, cause error) {
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // cut short by the stop, not at fault
		c.show(ctx, m, 0)
	case outbox.IsPermanent(cause) && c.dead != "":
		c.bury(ctx, m, cause)
	default:
		wait := c.later(ctx, m)
		c.opts.Log.WarnContext(ctx, "event not handled", c.about(m, cause, slog.Duration("wait", wait))...)
	}
}

// later has the message seen again after a back-off by how often it was received.
func (c *Consumer) later(ctx context.Context, m types.Message) (wait time.Duration) {
	wait = halfJitter(c.opts.RetryBase, c.opts.RetryCap, receiveCount(m))
	c.show(ctx, m, wait)
	return wait
}

// about is what logs say of a message.
func (c *Consumer) about(m types.Message, cause error, more ...any) []any {
	about := []any{
		slog.String("consumer", c.opts.Name), slog.String("message_id", sdk.ToString(m.MessageId)),
		slog.Int("attempts", receiveCount(m)), slog.String("reason", outbox.Reason(cause)),
	}
	if trace, ok := strings.CutPrefix(m.Attributes[string(types.MessageSystemAttributeNameAWSTraceHeader)], "Root="); ok {
		about = append(about, slog.String("amzn_trace_id", trace))
	}
	return append(about, more...)
}

func receiveCount(m types.Message) int {
	n, err := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	if err != nil {
		return 1
	}
	return max(1, n)
}

// malformed ends a message that is no event.
func (c *Consumer) malformed(ctx context.Context, m types.Message, cause error) {
	if c.dead != "" {
		c.bury(ctx, m, cause)
		return
	}
	c.opts.Log.ErrorContext(ctx, "message malformed, left for the redrive", c.about(m, cause)...)
	c.show(ctx, m, c.opts.RetryBase)
}

// bury moves a message to the dead-letter queue with the reason. It is sent there before
// it is deleted here, so a crash between the two leaves two of it and loses none.
func (c *Consumer) bury(ctx context.Context, m types.Message, cause error) {
	c.opts.Log.ErrorContext(ctx, "message buried", c.about(m, cause)...)
	err := c.short(ctx, func(ctx context.Context) error {
		_, err := c.client.SendMessage(ctx, &sqs.SendMessageInput{
			QueueUrl: sdk.String(c.dead), MessageBody: m.Body,
			MessageAttributes: map[string]types.MessageAttributeValue{
				"Reason": text(outbox.Reason(cause)), "Consumer": text(c.opts.Name), "MessageId": text(sdk.ToString(m.MessageId)),
			},
		})
		return err
	})
	if err != nil {
		c.opts.Log.WarnContext(ctx, "message not moved, left for the redrive", slog.String("consumer", c.opts.Name), slog.Any("error", err))
		return
	}
	c.remove(ctx, m)
}

func text(s string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: sdk.String("String"), StringValue: sdk.String(cmp.Or(s, "-"))}
}

// remove deletes a message; the SDK tries it twice. A message that stays comes again,
// and the handler drops the repeat.
func (c *Consumer) remove(ctx context.Context, m types.Message) {
	err := c.short(ctx, func(ctx context.Context) error {
		_, err := c.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: sdk.String(c.queue), ReceiptHandle: m.ReceiptHandle})
		return err
	})
	if err != nil {
		c.opts.Log.WarnContext(ctx, "message not deleted, it will be repeated", slog.String("consumer", c.opts.Name), slog.Any("error", err))
	}
}

// show sets when the message is seen again. When that fails it is seen when the
// visibility time-out ends.
func (c *Consumer) show(ctx context.Context, m types.Message, in time.Duration) {
	err := c.short(ctx, func(ctx context.Context) error {
		_, err := c.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
			QueueUrl: sdk.String(c.queue), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: seconds(in),
		})
		return err
	})
	if err != nil {
		c.opts.Log.WarnContext(ctx, "message visibility not changed", slog.String("consumer", c.opts.Name), slog.Any("error", err))
	}
}

// short is one short call, made also while the consumer is being stopped.
func (c *Consumer) short(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.CallTimeout)
	defer cancel()
	return call(ctx)
}

// seconds are SQS's unit, rounded up: a message must not be seen too early.
func seconds(d time.Duration) int32 { return int32((d + time.Second - 1) / time.Second) } //nolint:gosec // at most 12 h

// halfJitter is half of the back-off and a random part of the other half.
func halfJitter(base, limit time.Duration, n int) time.Duration {
	top := outbox.Backoff(base, limit, n)
	return top/2 + rand.N(top/2+1) //nolint:gosec // jitter needs no secrecy
}

// errLocation is a message about a location. It must be in none of these queues, and no
// consumer needs it: it is deleted, so that its coordinates do not stay.
var errLocation = errors.New("the message is about a location")

// parseEnvelope reads an event out of EventBridge's envelope. The error says what is
// wrong with it, never what is in it. Errors: errLocation; sessions.ErrNewerEvent, wrapped.
func parseEnvelope(body string) (sessions.Event, error) {
	var envelope struct {
		DetailType sessions.EventType `json:"detail-type"`
		Detail     json.RawMessage    `json:"detail"`
	}
	if json.Unmarshal([]byte(body), &envelope) != nil {
		return sessions.Event{}, errors.New("the message is not EventBridge's JSON")
	}
	if envelope.DetailType == sessions.LocationUpdated {
		return sessions.Event{}, errLocation
	}
	if envelope.DetailType == "" || len(envelope.Detail) == 0 {
		return sessions.Event{}, errors.New("the message is not from EventBridge")
	}
	return sessions.ParseEvent(envelope.DetailType, envelope.Detail)
}

type noMetrics struct{}

func (noMetrics) MessageHandled(string, string, time.Duration) {}
