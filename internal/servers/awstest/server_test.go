package awstest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/awstest"
)

// bundle is a server with a bus and a queue, and the SDK's own clients.
type bundle struct {
	*awstest.Server
	events *eventbridge.Client
	queues *sqs.Client
	queue  string
}

func setup(t *testing.T, key, secret, region string) bundle {
	t.Helper()
	s := awstest.Start()
	t.Cleanup(s.Close)
	s.Bus("bus")
	config := aws.Config{
		Region: region, Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
		BaseEndpoint: aws.String(s.URL()), RetryMaxAttempts: 1,
	}
	return bundle{s, eventbridge.NewFromConfig(config), sqs.NewFromConfig(config), s.Queue("queue", time.Minute, 2)}
}

func fresh(t *testing.T) bundle {
	t.Helper()
	return setup(t, awstest.AccessKey, awstest.SecretKey, awstest.Region)
}

func (b bundle) put(ctx context.Context, details ...string) (*eventbridge.PutEventsOutput, error) {
	var in eventbridge.PutEventsInput
	for _, detail := range details {
		in.Entries = append(in.Entries, eventtypes.PutEventsRequestEntry{
			EventBusName: aws.String("bus"), Source: aws.String("me"), DetailType: aws.String("Hello"), Detail: aws.String(detail),
			Time: aws.Time(time.Unix(1_700_000_000, 0)),
		})
	}
	return b.events.PutEvents(ctx, &in)
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, code, api.ErrorCode())
}

func TestServer_signature(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ key, secret, region, code string }{
		"right":        {awstest.AccessKey, awstest.SecretKey, awstest.Region, ""},
		"wrong_secret": {awstest.AccessKey, "other", awstest.Region, "InvalidSignatureException"},
		"unknown_key":  {"AKIAOTHER", awstest.SecretKey, awstest.Region, "UnrecognizedClientException"},
		"wrong_region": {awstest.AccessKey, awstest.SecretKey, "us-east-1", "InvalidSignatureException"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, row.key, row.secret, row.region)
			_, err := b.put(t.Context(), `{}`)
			_, err2 := b.queues.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("queue")})
			if row.code == "" {
				require.NoError(t, err)
				require.NoError(t, err2)
				return
			}
			requireCode(t, row.code, err)
			requireCode(t, row.code, err2)
			require.Empty(t, b.Events())
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL(), strings.NewReader(`{"Entries": []}`))
		require.NoError(t, err)
		req.Header.Set("X-Amz-Target", "AWSEvents.PutEvents")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusForbidden, res.StatusCode)
	})
	t.Run("body_changed_on_the_way", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		b.events = eventbridge.New(b.events.Options(), func(o *eventbridge.Options) { o.HTTPClient = tampering{} })
		_, err := b.put(t.Context(), `{"a": 1}`)
		requireCode(t, "InvalidSignatureException", err)
	})
}

// tampering changes a digit of the body after it was signed.
type tampering struct{}

func (tampering) Do(r *http.Request) (*http.Response, error) {
	body := make([]byte, r.ContentLength)
	if _, err := r.Body.Read(body); err != nil {
		return nil, err
	}
	again := r.Clone(r.Context())
	again.Body = readCloser{strings.NewReader(strings.Replace(string(body), "1", "2", 1))}
	return http.DefaultClient.Do(again)
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestServer_PutEvents(t *testing.T) {
	t.Parallel()
	t.Run("limits", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		_, err := b.put(t.Context())
		require.Error(t, err)
		_, err = b.put(t.Context(), strings.Fields(strings.Repeat("{} ", 11))...)
		requireCode(t, "ValidationException", err)
		_, err = b.put(t.Context(), `{"x":"`+strings.Repeat("x", 64<<10)+`"}`)
		requireCode(t, "ValidationException", err)
		_, err = b.put(t.Context(), strings.Fields(strings.Repeat("{} ", 10))...)
		require.NoError(t, err)
	})
	t.Run("entry_by_entry", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		b.Reject(func(e awstest.Entry) string {
			if e.Detail == `{"n":2}` {
				return "ThrottlingException"
			}
			return ""
		})
		out, err := b.put(t.Context(), `{"n":1}`, `{"n":2}`, `no object`)
		require.NoError(t, err)
		require.EqualValues(t, 2, out.FailedEntryCount)
		require.NotEmpty(t, aws.ToString(out.Entries[0].EventId))
		require.Equal(t, "ThrottlingException", aws.ToString(out.Entries[1].ErrorCode))
		require.Equal(t, "MalformedDetail", aws.ToString(out.Entries[2].ErrorCode))
		require.Len(t, b.Events(), 1)
	})
	t.Run("unknown_bus", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		_, err := b.events.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{
			EventBusName: aws.String("other"), Source: aws.String("me"), DetailType: aws.String("x"), Detail: aws.String("{}"),
		}}})
		requireCode(t, "ResourceNotFoundException", err)
	})
	t.Run("rules_fan_out_in_the_envelope", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		b.Queue("others", time.Minute, 0)
		b.Rule("bus", "me", "queue", "Hello", "Bye")
		b.Rule("bus", "you", "others", "Hello")
		_, err := b.put(t.Context(), `{"n":1}`)
		require.NoError(t, err)
		require.Empty(t, b.Messages("others"))
		got := b.Messages("queue")
		require.Len(t, got, 1)
		detailType, detail := got[0].Detail()
		require.Equal(t, "Hello", detailType)
		require.JSONEq(t, `{"n":1}`, string(detail))
		for _, part := range []string{`"source":"me"`, `"version":"0"`, `"time":"2023-11-14T22:13:20Z"`, `"region":"eu-central-1"`} {
			require.Contains(t, got[0].Body, part)
		}
	})
}

func TestServer_Fail(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fault awstest.Fault
		code  string
		taken int
	}{
		"throttle": {awstest.Throttle, "ThrottlingException", 0},
		"internal": {awstest.Internal, "InternalFailure", 0},
		"deny":     {awstest.Deny, "AccessDeniedException", 0},
		"drop":     {awstest.Drop, "", 0},
		"stall":    {awstest.Stall, "", 0},
		"lose":     {awstest.Lose, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := fresh(t)
			b.Fail(row.fault)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := b.put(ctx, `{}`)
			require.Error(t, err)
			if row.code != "" {
				requireCode(t, row.code, err)
			}
			require.Len(t, b.Events(), row.taken)
			b.Fail(awstest.None)
			_, err = b.put(t.Context(), `{}`)
			require.NoError(t, err)
			require.Equal(t, 2, b.Calls("PutEvents"))
		})
	}
}

func (b bundle) receive(t *testing.T, wait int32, visibility int32) []string {
	t.Helper()
	out, err := b.queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(b.queue), MaxNumberOfMessages: 10, WaitTimeSeconds: wait, VisibilityTimeout: visibility,
	})
	require.NoError(t, err)
	var receipts []string
	for _, m := range out.Messages {
		receipts = append(receipts, aws.ToString(m.ReceiptHandle))
	}
	return receipts
}

func TestServer_queues(t *testing.T) {
	t.Parallel()
	t.Run("send_receive_delete", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		for i := range 12 {
			_, err := b.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(b.queue), MessageBody: aws.String(fmt.Sprint(i))})
			require.NoError(t, err)
		}
		first := b.receive(t, 0, 60)
		require.Len(t, first, 10)
		require.Len(t, b.receive(t, 0, 60), 2)
		require.Empty(t, b.receive(t, 0, 60), "in hand")
		for range 2 { // a repeat is no error
			_, err := b.queues.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(b.queue), ReceiptHandle: aws.String(first[0])})
			require.NoError(t, err)
		}
		require.Len(t, b.Messages("queue"), 11)
	})
	t.Run("long_poll_wakes", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		time.AfterFunc(100*time.Millisecond, func() { b.Send("queue", "x") })
		began := time.Now()
		require.Len(t, b.receive(t, 20, 60), 1)
		require.Less(t, time.Since(began), 10*time.Second)
		began = time.Now()
		require.Empty(t, b.receive(t, 1, 60))
		require.GreaterOrEqual(t, time.Since(began), time.Second)
	})
	t.Run("visibility_and_redrive", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		b.Send("queue", "x")
		receipt := b.receive(t, 0, 1)[0]
		change := func(seconds int32) error {
			_, err := b.queues.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
				QueueUrl: aws.String(b.queue), ReceiptHandle: aws.String(receipt), VisibilityTimeout: seconds,
			})
			return err
		}
		require.NoError(t, change(60))
		require.Empty(t, b.receive(t, 0, 60))
		require.NoError(t, change(0))
		require.Len(t, b.receive(t, 0, 1), 1, "the second of two")
		requireCode(t, "MessageNotInflight", change(60)) // its receipt is stale
		require.Empty(t, b.receive(t, 3, 60))
		dead := b.Messages("queue-dlq")
		require.Len(t, dead, 1)
		require.Equal(t, "x", dead[0].Body)
	})
	t.Run("no_such_queue", func(t *testing.T) {
		t.Parallel()
		b := fresh(t)
		_, err := b.queues.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("other")})
		require.Error(t, err)
		out, err := b.queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("other")})
		require.NoError(t, err)
		got, err := b.queues.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("other")})
		require.NoError(t, err)
		require.Equal(t, out.QueueUrl, got.QueueUrl)
	})
}
