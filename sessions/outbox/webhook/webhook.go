// Package webhook is the outbox's way to a receiver of webhooks: each event is a POST,
// signed as the Standard Webhooks specification has it. docs/events.md is its page for
// those who receive.
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"doorstep/internal/retryafter"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

// Consumer is the name of the receiver as a destination.
const Consumer = "webhook"

// Options are the settings of a Webhook. Zero means default.
type Options struct {
	// URL is the receiver's: https, or http where AllowPrivate is set. Required.
	URL string
	// Secrets are one secret, or two during a rotation: whsec_ and 24 to 64 bytes in
	// base64. An event is signed with each. Required.
	Secrets []string
	// AllowPrivate allows addresses inside of the network: see forbidden.
	AllowPrivate bool
	// Timeout bounds one delivery, from the look-up of the name to the answer. 5 s.
	Timeout time.Duration
	// BreakerTimeout is how long the breaker stays open. 5 s.
	BreakerTimeout time.Duration
	// Now is the clock of the header webhook-timestamp: receivers refuse one that is
	// minutes off. Nil: the wall clock.
	Now func() time.Time

	Log     *slog.Logger // nil: discarded
	Metrics Metrics      // nil: none
}

// Metrics is what a Webhook reports. It must not block.
type Metrics interface {
	// WebhookAnswered counts one delivery that was tried, by its outcome: see Outcomes.
	WebhookAnswered(outcome string, took time.Duration)
	// WebhookBreaker is given the breaker's state, also at the start.
	WebhookBreaker(state string)
	// WebhookGone says that the receiver has answered 410.
	WebhookGone()
}

// The outcomes of a delivery that was tried.
const (
	ok          = "ok"
	refused     = "refused"     // a 4xx that speaks of the event
	throttled   = "throttled"   // 429
	unavailable = "unavailable" // any other status
	redirected  = "redirected"  // a 3xx; it is not followed
	gone        = "gone"        // 410
	timedOut    = "timed_out"
	unreached   = "unreached" // no connection, no TLS, no HTTP
	forbiddenTo = "forbidden" // the address is inside of the network
)

// Outcomes lists all of them.
func Outcomes() []string {
	return []string{ok, refused, throttled, unavailable, redirected, gone, timedOut, unreached, forbiddenTo}
}

const (
	// longestPause bounds the wait that a Retry-After can ask for.
	longestPause = time.Hour
	// maxAnswer and maxHeader bound what is read of an answer, in bytes. The body is
	// read so that the connection can be used again; its content is ignored.
	maxAnswer, maxHeader = 16 << 10, 32 << 10
	// maxIdle is how many connections are kept: the events that one relay has in flight.
	maxIdle = 80
)

// Webhook is the outbox.Publisher to one receiver. Safe for concurrent use.
type Webhook struct {
	opts    Options
	keys    keys
	client  *http.Client
	breaker *gobreaker.CircuitBreaker[struct{}]
	gone    atomic.Bool
	pause   retryafter.Pause // the receiver has asked for nothing
	doubts  doubts
}

var _ outbox.Publisher = (*Webhook)(nil)

// New makes a publisher and makes no call. Its errors name the option that is wrong, and
// hold neither the URL nor a secret.
func New(opts Options) (*Webhook, error) {
	opts.Timeout = cmp.Or(opts.Timeout, 5*time.Second)
	opts.BreakerTimeout = cmp.Or(opts.BreakerTimeout, 5*time.Second)
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Metrics == nil {
		opts.Metrics = noMetrics{}
	}
	if err := checkURL(opts.URL, opts.AllowPrivate); err != nil {
		return nil, err
	}
	keys, err := parseSecrets(opts.Secrets)
	if err != nil {
		return nil, err
	}
	w := &Webhook{opts: opts, keys: keys, client: client(dialer(opts.AllowPrivate)), doubts: doubts{failed: map[sessions.ID]int{}}}
	w.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: Consumer, MaxRequests: 1, Interval: 10 * time.Second, BucketPeriod: time.Second, Timeout: opts.BreakerTimeout,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 },
		// A refusal of one event is an answer.
		IsSuccessful:  func(err error) bool { return faultOf(err) < unclear },
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) { opts.Metrics.WebhookBreaker(to.String()) },
	})
	opts.Metrics.WebhookBreaker(gobreaker.StateClosed.String())
	return w, nil
}

func dialer(allowPrivate bool) *net.Dialer {
	if allowPrivate {
		return &net.Dialer{}
	}
	return &net.Dialer{Control: refuseInside}
}

// client follows no redirect, and no proxy of the environment: behind one the address
// could not be checked. Certificates are verified, as net/http does by default.
func client(dialer *net.Dialer) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxHeader,
			MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// failure is a delivery that failed, and whose fault that is.
type failure struct {
	error
	fault fault
}

func (f *failure) Unwrap() error { return f.error }

// fault is whose fault a failure is.
type fault int

const (
	none      fault = iota
	event           // the event's: it is tried as often as any that is refused
	unclear         // the event's where others were taken, else the receiver's: see Publish
	receivers       // the receiver's: no event is given up for it
)

func faultOf(err error) fault {
	if err == nil {
		return none
	}
	if f, is := errors.AsType[*failure](err); is {
		return f.fault
	}
	return receivers // the breaker's own errors
}

// Publish implements outbox.Publisher. The events of a batch are delivered at the same
// time: no two are of one session. One event that the receiver can never take must not
// hold up its session for ever, and a receiver that is away must cost no event: so a
// failure that could be either counts against the event only when the receiver has
// taken another one of the same batch, or since the event's failure before. The batch alone
// would not do: events of a kind that the receiver cannot take may fill it.
func (w *Webhook) Publish(ctx context.Context, rows []outbox.Row) []error {
	errs := make([]error, len(rows))
	var all sync.WaitGroup
	for i, row := range rows {
		all.Go(func() { errs[i] = w.deliver(ctx, row.Event) })
	}
	all.Wait()
	someTaken := false
	for i, err := range errs {
		if err == nil {
			someTaken = true
			w.doubts.taken(rows[i].Event.ID)
		}
	}
	for i, err := range errs {
		switch fault := faultOf(err); {
		case fault == none, fault == event:
		case fault == unclear && ctx.Err() == nil && (w.doubts.failedAgain(rows[i].Event.ID) || someTaken):
		default:
			errs[i] = outbox.Down(err)
		}
	}
	return errs
}

// doubts remembers the events whose last delivery failed by a fault that is unclear, each
// with how many events the receiver had taken by then. What it forgets, with the process or
// at maxDoubts, costs an event one more try. Safe for concurrent use.
type doubts struct {
	mu     sync.Mutex
	count  int // events that were taken
	failed map[sessions.ID]int
}

// maxDoubts is some 1 MB.
const maxDoubts = 10_000

func (d *doubts) taken(event sessions.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	delete(d.failed, event)
}

// failedAgain notes a failure, and reports whether the receiver has taken other events
// since the one before. A receiver that is away takes none: an outage counts once at most,
// against an event that has failed in an earlier one.
func (d *doubts) failedAgain(event sessions.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, known := d.failed[event]
	if !known && len(d.failed) >= maxDoubts {
		clear(d.failed)
	}
	d.failed[event] = d.count
	return known && before < d.count
}

// deliver makes one attempt, unless the receiver has asked for none.
func (w *Webhook) deliver(ctx context.Context, e sessions.Event) error {
	if w.gone.Load() {
		return &failure{errors.New("the receiver has answered 410 Gone; nothing is sent until a restart"), receivers}
	}
	if wait := w.pause.Left(); wait > 0 {
		return &failure{fmt.Errorf("the receiver has asked to wait %s more", wait.Round(time.Second)), receivers}
	}
	_, err := w.breaker.Execute(func() (struct{}, error) { return struct{}{}, w.send(ctx, e) })
	return err
}

// send posts the event and reads the answer.
func (w *Webhook) send(ctx context.Context, e sessions.Event) error {
	ctx, cancel := context.WithTimeout(ctx, w.opts.Timeout)
	defer cancel()
	began := time.Now()
	req, err := w.request(ctx, e)
	if err != nil {
		return &failure{err, event}
	}
	res, err := w.client.Do(req)
	if err != nil {
		outcome, err := unsent(err)
		w.opts.Metrics.WebhookAnswered(outcome, time.Since(began))
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // the status has decided
	outcome, err := w.answered(ctx, res)
	w.opts.Metrics.WebhookAnswered(outcome, time.Since(began))
	return err
}

// payload is the body, as the specification recommends it.
type payload struct {
	Type      sessions.EventType `json:"type"`
	Timestamp string             `json:"timestamp"`
	Data      json.RawMessage    `json:"data"`
}

const wireTime = "2006-01-02T15:04:05.000Z"

func (w *Webhook) request(ctx context.Context, e sessions.Event) (*http.Request, error) {
	body, err := json.Marshal(payload{e.Type, e.At.UTC().Format(wireTime), e.Detail()})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.opts.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the request cannot be made") // err has the URL, and New has checked it
	}
	id, at := string(e.ID), strconv.FormatInt(w.opts.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "doorstep-webhooks")
	// It is not sent. It lets net/http repeat the request on a new connection when the
	// receiver has just closed an idle one: repeats are known by their id.
	req.Header["Idempotency-Key"] = nil
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", w.keys.sign(id, at, body))
	return req, nil
}

// unsent is the outcome and the error of a request without an answer. The URL is taken
// out of the error: its path may be secret.
func unsent(err error) (outcome string, _ error) {
	if named, is := errors.AsType[*url.Error](err); is {
		err = named.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return timedOut, &failure{errors.New("the receiver has not answered in time"), unclear}
	case errors.Is(err, errInside):
		return forbiddenTo, &failure{err, receivers}
	}
	return unreached, &failure{err, unclear}
}

// eventsFault are the statuses that speak of one event: one that cannot be read, is too
// large or in conflict. Other 4xx speak of the receiver's address, key or state.
var eventsFault = map[int]bool{
	http.StatusBadRequest: true, http.StatusConflict: true, http.StatusRequestEntityTooLarge: true,
	http.StatusUnsupportedMediaType: true, http.StatusUnprocessableEntity: true,
}

// answered is the outcome and the error of an answer.
func (w *Webhook) answered(ctx context.Context, res *http.Response) (outcome string, _ error) {
	if res.StatusCode/100 == 2 {
		return ok, nil
	}
	err := fmt.Errorf("the receiver answered %d", res.StatusCode)
	wait := retryafter.Of(res.Header)
	w.pause.For(wait, longestPause)
	switch {
	case res.StatusCode == http.StatusGone:
		if w.gone.CompareAndSwap(false, true) {
			w.opts.Log.ErrorContext(ctx, "the receiver of webhooks has answered 410 Gone: nothing is sent to it until a restart; the events wait")
			w.opts.Metrics.WebhookGone()
		}
		return gone, &failure{err, receivers}
	case res.StatusCode == http.StatusTooManyRequests:
		return throttled, &failure{err, receivers}
	case eventsFault[res.StatusCode]:
		return refused, &failure{err, event}
	case res.StatusCode/100 == 3:
		return redirected, &failure{err, unclear}
	case wait > 0:
		return unavailable, &failure{err, receivers}
	}
	return unavailable, &failure{err, unclear}
}

type noMetrics struct{}

func (noMetrics) WebhookAnswered(string, time.Duration) {}
func (noMetrics) WebhookBreaker(string)                 {}
func (noMetrics) WebhookGone()                          {}
