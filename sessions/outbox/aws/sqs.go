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

// receiveBatch is the most that one ReceiveMessage gives.
const receiveBatch = 10

// ConsumerOptions are the settings of a queue's consumer. Zero means default.
type ConsumerOptions struct {
	// Name is told to logs and metrics, and to Once. Required.
	Name string
	// Queue is the queue's URL or name. Required.
	Queue string
	// DeadLetters is the URL or name of the dead-letter queue, for messages
	// that cannot be read: they are moved there at once, with the reason.
	// Empty: they are left to the queue's own redrive.
	DeadLetters string
	// Endpoint replaces the region's own, for a VPC endpoint or a test.
	Endpoint string
	// Concurrency bounds the messages in hand. 10.
	Concurrency int
	// Wait is the long poll's. 20 s, the most there is.
	Wait time.Duration
	// Visibility is how long a message is hidden from others; it is extended
	// at each half of it while a handler works. 60 s.
	Visibility time.Duration
	// HandleTimeout bounds one call to the handler. 2 min.
	HandleTimeout time.Duration
	// CallTimeout bounds one short call to SQS. 5 s.
	CallTimeout time.Duration
	// RetryBase and RetryCap are of the back-off before a message whose
	// handler failed is seen again: half of min(cap, base × 2^n), and a random
	// part of the other half. 5 s, 15 min: with a maxReceiveCount of 12 that is
	// some 50 minutes before the dead-letter queue.
	RetryBase, RetryCap time.Duration
	// Drain bounds how long what is in hand may take at the stop; then the
	// handlers' context ends. 15 s.
	Drain time.Duration

	Log     *slog.Logger // discarded by default
	Metrics ConsumerMetrics
}

// ConsumerMetrics is what a queue's consumer reports.
type ConsumerMetrics interface {
	// MessageHandled counts a message by its result: done, failed, malformed.
	MessageHandled(consumer, result string, took time.Duration)
}

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	o.Concurrency = cmp.Or(o.Concurrency, 10)
	o.Wait = cmp.Or(o.Wait, 20*time.Second)
	o.Visibility = cmp.Or(o.Visibility, time.Minute)
	o.HandleTimeout = cmp.Or(o.HandleTimeout, 2*time.Minute)
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
	case o.Wait < 0 || o.Wait > 20*time.Second:
		return fmt.Errorf("aws: Wait %s is not in [0, 20s]", o.Wait)
	case o.Visibility < 2*time.Second || o.Visibility > 12*time.Hour:
		return fmt.Errorf("aws: Visibility %s is not in [2s, 12h]", o.Visibility)
	}
	return nil
}

// Consumer carries one queue's messages to one Handler, at least once: a
// message is deleted only after the handler has succeeded, and a handler sees a
// repeat of what it was doing when the process died. Messages of one session
// may be handled in any order and at the same time; a handler tells old from
// new by the event's instants.
type Consumer struct {
	opts    ConsumerOptions
	client  *sqs.Client
	handler outbox.Handler

	queue, dead string // URLs, once they are known
}

// NewConsumer makes one with the region and the credentials of the SDK's own
// variables and files. It reads those and calls nobody.
func NewConsumer(opts ConsumerOptions, handler outbox.Handler) (*Consumer, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	settings, err := awsSettings()
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

// Run consumes until ctx ends, then lets the handlers end what is in hand. Its
// error is ctx's. A queue that cannot be reached is tried again, for ever.
func (c *Consumer) Run(ctx context.Context) error {
	inHand, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	slots := make(chan struct{}, c.opts.Concurrency)
	var work sync.WaitGroup
	for failures := 0; ctx.Err() == nil; {
		err := c.resolve(ctx)
		if err == nil {
			err = c.turn(ctx, inHand, slots, &work)
		}
		if err == nil || ctx.Err() != nil {
			failures = 0
			continue
		}
		failures++
		c.opts.Log.WarnContext(ctx, "queue cannot be read", slog.String("consumer", c.opts.Name),
			slog.Int("failures", failures), slog.Any("error", err))
		_ = pause.For(ctx, 1+rand.N(outbox.Backoff(250*time.Millisecond, 15*time.Second, failures))) //nolint:gosec // jitter
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

// turn receives no more than there are hands for, so that no message waits
// here while another consumer could have it.
func (c *Consumer) turn(ctx, inHand context.Context, slots chan struct{}, work *sync.WaitGroup) error {
	n := c.take(ctx, slots)
	if n == 0 {
		return ctx.Err()
	}
	messages, err := c.receive(ctx, n)
	for range n - len(messages) {
		<-slots
	}
	for _, m := range messages {
		// A long poll may be answered while the stop begins: others can have
		// what was not started.
		if ctx.Err() != nil {
			c.show(inHand, m, 0)
			<-slots
			continue
		}
		work.Go(func() {
			defer func() { <-slots }()
			c.work(inHand, m)
		})
	}
	return err
}

// take waits for a free hand and takes up to a batch of them.
func (c *Consumer) take(ctx context.Context, slots chan struct{}) (n int) {
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
	ctx, cancel := context.WithTimeout(ctx, c.opts.Wait+c.opts.CallTimeout)
	defer cancel()
	answer, err := c.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: sdk.String(c.queue), MaxNumberOfMessages: int32(min(n, receiveBatch)), //nolint:gosec // at most 10
		WaitTimeSeconds: seconds(c.opts.Wait), VisibilityTimeout: seconds(c.opts.Visibility),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameApproximateReceiveCount},
	})
	if err != nil {
		return nil, err
	}
	return answer.Messages, nil
}

// work is one message from its receipt to its end.
func (c *Consumer) work(ctx context.Context, m types.Message) {
	began := time.Now()
	result := "done"
	defer func() { c.opts.Metrics.MessageHandled(c.opts.Name, result, time.Since(began)) }()
	e, err := parseEnvelope(sdk.ToString(m.Body))
	if err != nil {
		result = "malformed"
		c.malformed(ctx, m, err)
		return
	}
	if err := c.handle(ctx, m, e); err != nil {
		result = "failed"
		c.again(ctx, m, e, err)
		return
	}
	c.remove(ctx, m)
}

// handle calls the handler while the message is kept hidden.
func (c *Consumer) handle(ctx context.Context, m types.Message, e sessions.Event) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.HandleTimeout)
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		c.beat(ctx, m)
	}()
	defer func() { cancel(); <-beating }()
	return outbox.Handle(ctx, c.handler, e)
}

// beat extends the visibility until ctx ends. One that fails is made up for by
// the next, in time as long as the two of them fit into the visibility.
func (c *Consumer) beat(ctx context.Context, m types.Message) {
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

// again leaves a message for later. One that can never be handled goes the
// same way: the queue's own redrive ends it.
func (c *Consumer) again(ctx context.Context, m types.Message, e sessions.Event, cause error) {
	if errors.Is(ctx.Err(), context.Canceled) { // cut short by the stop, and not at fault
		c.show(ctx, m, 0)
		return
	}
	if outbox.IsPermanent(cause) && c.dead != "" {
		c.bury(ctx, m, cause)
		return
	}
	receives := receiveCount(m)
	top := outbox.Backoff(c.opts.RetryBase, c.opts.RetryCap, receives)
	wait := top/2 + rand.N(top/2+1) //nolint:gosec // jitter needs no secrecy
	c.opts.Log.WarnContext(ctx, "event not handled", slog.String("consumer", c.opts.Name), slog.String("event_id", string(e.ID)),
		slog.String("event_type", string(e.Type)), slog.Int("attempts", receives), slog.Duration("wait", wait),
		slog.String("reason", outbox.Reason(cause)))
	c.show(ctx, m, wait)
}

func receiveCount(m types.Message) int {
	n, err := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	if err != nil {
		return 1
	}
	return max(1, n)
}

// malformed is a message that is no event of ours.
func (c *Consumer) malformed(ctx context.Context, m types.Message, cause error) {
	if c.dead == "" {
		c.opts.Log.ErrorContext(ctx, "message malformed, left for the redrive", slog.String("consumer", c.opts.Name),
			slog.String("message_id", sdk.ToString(m.MessageId)), slog.String("reason", outbox.Reason(cause)))
		c.show(ctx, m, c.opts.RetryBase)
		return
	}
	c.bury(ctx, m, cause)
}

// bury moves a message to the dead-letter queue with the reason; first it is
// there, then it goes from here, so a crash between the two leaves two of it.
func (c *Consumer) bury(ctx context.Context, m types.Message, cause error) {
	c.opts.Log.ErrorContext(ctx, "message buried", slog.String("consumer", c.opts.Name),
		slog.String("message_id", sdk.ToString(m.MessageId)), slog.String("reason", outbox.Reason(cause)))
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

// remove is tried twice by the SDK. A message that stays comes again, and the
// handler drops the repeat.
func (c *Consumer) remove(ctx context.Context, m types.Message) {
	err := c.short(ctx, func(ctx context.Context) error {
		_, err := c.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: sdk.String(c.queue), ReceiptHandle: m.ReceiptHandle})
		return err
	})
	if err != nil {
		c.opts.Log.WarnContext(ctx, "message not deleted; it will be repeated", slog.String("consumer", c.opts.Name), slog.Any("error", err))
	}
}

// show sets when the message is seen again. When that fails it is seen when the
// visibility runs out.
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

// short is one short call, made also when the consumer is being stopped.
func (c *Consumer) short(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.CallTimeout)
	defer cancel()
	return call(ctx)
}

// seconds are SQS's unit, rounded up: a message must not show too early.
func seconds(d time.Duration) int32 { return int32((d + time.Second - 1) / time.Second) } //nolint:gosec // at most 12 h

// parseEnvelope reads an event out of EventBridge's envelope. The error says
// what is wrong with it, never what is in it.
func parseEnvelope(body string) (sessions.Event, error) {
	var envelope struct {
		DetailType sessions.EventType `json:"detail-type"`
		Detail     json.RawMessage    `json:"detail"`
	}
	if json.Unmarshal([]byte(body), &envelope) != nil {
		return sessions.Event{}, errors.New("the message is not EventBridge's JSON")
	}
	if envelope.DetailType == "" || len(envelope.Detail) == 0 {
		return sessions.Event{}, errors.New("the message is not from EventBridge")
	}
	return sessions.ParseEvent(envelope.DetailType, envelope.Detail)
}

type noMetrics struct{}

func (noMetrics) MessageHandled(string, string, time.Duration) {}
