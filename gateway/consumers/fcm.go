package consumers

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
	fcm "google.golang.org/api/fcm/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"doorstep/internal/pause"
	"doorstep/internal/retryafter"
	"doorstep/sessions"
)

// FCM is the Pusher on Firebase Cloud Messaging's HTTP v1, which reaches Android, the web
// and, through APNs, iOS. Google's own client makes the requests and keeps one access
// token, which it refreshes before it expires. Safe for concurrent use.
type FCM struct {
	messages *fcm.ProjectsMessagesService
	parent   string
	opts     FCMOptions
	breaker  *gobreaker.CircuitBreaker[struct{}]

	pause retryafter.Pause // FCM has asked for no call
}

// FCMOptions are the settings of FCM. Zero means default.
type FCMOptions struct {
	// Credentials is the JSON of a service account that may send, or of a workload identity
	// federation that acts as one. Required.
	Credentials []byte
	// AWS finds the process's own credentials in AWS, for a federation with AWS. Nil: Google's
	// client looks for them.
	AWS func(context.Context) (AWSCredentials, error)
	// Endpoint is used instead of Google's, for tests.
	Endpoint string
	// Timeout bounds one attempt. 10 s.
	Timeout time.Duration
	// Attempts is how often a push is tried in one call, unless FCM asks for a longer wait
	// than inCall. 3.
	Attempts int
	// Pause is the first wait between two attempts, with jitter; it doubles. 300 ms.
	Pause time.Duration
	// OnBreaker is given the breaker's state: closed, half-open or open. Nil: none.
	OnBreaker func(state string)
	// Now is the clock of Push.ExpiresAt. Nil: the wall clock.
	Now func() time.Time
}

const (
	// quotaPause is the wait that FCM's manual asks for after a QUOTA_EXCEEDED without a
	// Retry-After.
	quotaPause = time.Minute
	// longestPause bounds the wait that a Retry-After can ask for.
	longestPause = 10 * time.Minute
	// inCall is the longest wait between two attempts of one call.
	inCall = 2 * time.Second
)

// NewFCM makes a Pusher. It reads the credentials and makes no call yet.
func NewFCM(ctx context.Context, opts FCMOptions) (*FCM, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.Timeout = cmp.Or(opts.Timeout, 10*time.Second)
	opts.Attempts = cmp.Or(opts.Attempts, 3)
	opts.Pause = cmp.Or(opts.Pause, 300*time.Millisecond)
	if opts.OnBreaker == nil {
		opts.OnBreaker = func(string) {}
	}
	project, signIn, err := opts.signIn()
	if err != nil {
		return nil, err
	}
	clientOptions := []option.ClientOption{
		signIn,
		option.WithTelemetryDisabled(),
		// With GOOGLE_SDK_GO_LOGGING_LEVEL set it would log whole requests, codes
		// included.
		option.WithLogger(slog.New(slog.DiscardHandler)),
	}
	if opts.Endpoint != "" {
		clientOptions = append(clientOptions, option.WithEndpoint(opts.Endpoint))
	}
	service, err := fcm.NewService(ctx, clientOptions...)
	if err != nil {
		return nil, fmt.Errorf("fcm: %w", err)
	}
	f := &FCM{messages: service.Projects.Messages, parent: "projects/" + project, opts: opts}
	f.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "fcm", Interval: 10 * time.Second, BucketPeriod: time.Second, Timeout: 5 * time.Second, MaxRequests: 3,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.Requests >= 20 && c.TotalFailures*2 >= c.Requests },
		// A refusal of one token or of one message is an answer.
		IsSuccessful:  func(err error) bool { return !errors.Is(err, ErrUnavailable) },
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) { opts.OnBreaker(to.String()) },
	})
	return f, nil
}

// Push implements Pusher.
func (f *FCM) Push(ctx context.Context, to sessions.PushToken, p Push) error {
	message := &fcm.SendMessageRequest{Message: messageOf(to, p, f.opts.Now())}
	rest := f.opts.Pause
	for attempt := 1; ; attempt++ {
		wait, err := f.attempt(ctx, message)
		wait = max(wait, rest/2+rand.N(rest)) //nolint:gosec // jitter
		if !errors.Is(err, ErrUnavailable) || attempt == f.opts.Attempts || wait > inCall || f.open() {
			return err
		}
		rest *= 2
		if pause.For(ctx, wait) != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
}

func (f *FCM) open() bool { return f.breaker.State() == gobreaker.StateOpen }

// attempt sends once, unless FCM has asked for a wait, and returns the wait before the next
// attempt.
func (f *FCM) attempt(ctx context.Context, message *fcm.SendMessageRequest) (wait time.Duration, err error) {
	if wait := f.pause.Left(); wait > 0 {
		return wait, fmt.Errorf("%w: asked to wait %s more", ErrUnavailable, wait.Round(time.Second))
	}
	_, err = f.breaker.Execute(func() (struct{}, error) {
		wait, err = f.send(ctx, message)
		return struct{}{}, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return wait, err
}

func (f *FCM) send(ctx context.Context, message *fcm.SendMessageRequest) (time.Duration, error) {
	call, cancel := context.WithTimeout(ctx, f.opts.Timeout)
	defer cancel()
	_, err := f.messages.Send(f.parent, message).Context(call).Do()
	var said *googleapi.Error
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case !errors.As(err, &said):
		return 0, f.unreached(err)
	}
	return f.answered(said)
}

// unreached is an error of the network or of the exchange of the access token. Its text may
// hold a URL and the token server's answer, but neither token nor message.
func (f *FCM) unreached(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// answered turns FCM's answer into an error of Pusher. FCM's codes are in
// https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode. Its message is not
// passed on: it may hold the token.
func (f *FCM) answered(said *googleapi.Error) (time.Duration, error) {
	code := codeOf(said)
	short := fmt.Errorf("fcm answered %d %s", said.Code, code)
	switch {
	case code == "UNREGISTERED": // a 404 without this code is a wrong project or address, not the device
		return 0, fmt.Errorf("%w: %w", ErrNotRegistered, short)
	case code == "INVALID_ARGUMENT" && blamesToken(said):
		return 0, fmt.Errorf("%w: %w", ErrNotRegistered, short)
	case said.Code == http.StatusTooManyRequests:
		wait := cmp.Or(retryafter.Of(said.Header), quotaPause)
		f.pause.For(wait, longestPause)
		return wait, fmt.Errorf("%w: %w", ErrUnavailable, short)
	case said.Code >= http.StatusInternalServerError:
		wait := retryafter.Of(said.Header)
		f.pause.For(wait, longestPause)
		return wait, fmt.Errorf("%w: %w", ErrUnavailable, short)
	case said.Code == http.StatusUnauthorized && code != "THIRD_PARTY_AUTH_ERROR":
		// An access token that was revoked before its time; the next one is fetched.
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, short)
	case code == "SENDER_ID_MISMATCH", code == "THIRD_PARTY_AUTH_ERROR":
		return 0, fmt.Errorf("%w: %w", ErrNotOurs, short)
	default:
		// A message that FCM cannot read, or a key that may not send: not the device's
		// fault, and the same at the next attempt.
		return 0, short
	}
}

// refusal is the body of FCM's refusals.
type refusal struct {
	Error struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Details []struct {
			ErrorCode       string `json:"errorCode"`
			FieldViolations []struct {
				Field string `json:"field"`
			} `json:"fieldViolations"`
		} `json:"details"`
	} `json:"error"`
}

func refusalOf(said *googleapi.Error) (r refusal) {
	_ = json.Unmarshal([]byte(said.Body), &r) // what is not JSON has no code
	return r
}

// codeOf is FCM's own code where it gives one, else the status's.
func codeOf(said *googleapi.Error) string {
	r := refusalOf(said)
	for _, d := range r.Error.Details {
		if d.ErrorCode != "" {
			return known(d.ErrorCode)
		}
	}
	return known(r.Error.Status)
}

// known is the code, or UNKNOWN for a text that does not look like one: it goes to logs.
func known(code string) string {
	if len(code) > 40 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
		return "UNKNOWN"
	}
	return code
}

// blamesToken tells an invalid token from an invalid message. After an invalid message no
// token may be deleted, or one mistake in this program would delete them all.
func blamesToken(said *googleapi.Error) bool {
	r := refusalOf(said)
	for _, d := range r.Error.Details {
		for _, v := range d.FieldViolations {
			return v.Field == "message.token"
		}
	}
	return strings.Contains(strings.ToLower(r.Error.Message), "registration token")
}

// messageOf is the push in the fields of all three platforms. Each shows it in place of an
// earlier one with the same key, and drops it after ExpiresAt.
func messageOf(to sessions.PushToken, p Push, now time.Time) *fcm.Message {
	if p.Kind == LiveActivity {
		return activityMessage(to, p)
	}
	key, ttl := p.collapseKey(), max(0, int64(p.ExpiresAt.Sub(now)/time.Second))
	topic := sha256.Sum256([]byte(key)) // a web push topic is at most 32 characters
	return &fcm.Message{
		Token:        to.Token,
		Notification: &fcm.Notification{Title: p.Title, Body: p.Body},
		Data:         map[string]string{"kind": string(p.Kind), "sessionId": string(p.SessionID), "eventId": string(p.EventID)},
		Android: &fcm.AndroidConfig{
			CollapseKey: key, Priority: "HIGH", Ttl: strconv.FormatInt(ttl, 10) + "s",
			Notification: &fcm.AndroidNotification{Tag: key},
		},
		Apns: &fcm.ApnsConfig{
			Headers: map[string]string{
				"apns-collapse-id": key, "apns-priority": "10", "apns-expiration": strconv.FormatInt(p.ExpiresAt.Unix(), 10),
			},
			Payload: googleapi.RawMessage(`{"aps":{"sound":"default","interruption-level":"` + p.interruption() + `","thread-id":"` + string(p.SessionID) + `"}}`),
		},
		Webpush: &fcm.WebpushConfig{
			Headers: map[string]string{
				"TTL": strconv.FormatInt(ttl, 10), "Urgency": "high", "Topic": base64.RawURLEncoding.EncodeToString(topic[:16]),
			},
			Notification: googleapi.RawMessage(`{"tag":"` + key + `"}`),
		},
	}
}
