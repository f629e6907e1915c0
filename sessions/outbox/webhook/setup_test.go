package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/webhook"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// Secrets of these tests: bytes that nobody uses, in the specification's form.
var (
	oldSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("o", 24)))
	newSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("n", 64)))
)

// receiver is a real HTTP server that takes webhooks, or does as it is told.
type receiver struct {
	*httptest.Server
	release chan struct{} // closed at the end: lets stalled requests go

	mu           sync.Mutex
	fault        http.HandlerFunc // nil: 204
	tried        int
	running, top int // requests at this moment, and the most so far
	taken        []delivered
}

type delivered struct {
	header http.Header
	body   string
	event  sessions.Event
}

func receive(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{release: make(chan struct{})}
	r.Server = httptest.NewServer(r.handler(t))
	t.Cleanup(func() { close(r.release); r.Close() })
	return r
}

func (r *receiver) handler(t testing.TB) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.tried++
		r.running++
		r.top = max(r.top, r.running)
		fault := r.fault
		r.mu.Unlock()
		defer func() { r.mu.Lock(); r.running--; r.mu.Unlock() }()
		body, err := io.ReadAll(req.Body)
		if err != nil { // the gateway has given up
			return
		}
		var got struct {
			Type sessions.EventType `json:"type"`
			Data json.RawMessage    `json:"data"`
		}
		assert.NoError(t, json.Unmarshal(body, &got))
		e, err := sessions.ParseEvent(got.Type, got.Data)
		assert.NoError(t, err)
		if fault != nil {
			answered := &answer{ResponseWriter: w}
			fault(answered, req.WithContext(req.Context()))
			if answered.status != 0 {
				return
			}
		}
		r.mu.Lock()
		r.taken = append(r.taken, delivered{req.Header.Clone(), string(body), e})
		r.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}
}

// answer tells whether a fault has answered.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) { a.status = status; a.ResponseWriter.WriteHeader(status) }

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (r *receiver) answers(fault http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

func (r *receiver) calls() (tried, top int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried, r.top
}

func (r *receiver) got() []delivered {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]delivered(nil), r.taken...)
}

// The faults.
func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

func hangUp(w http.ResponseWriter, _ *http.Request) {
	w.(*answer).status = -1
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func (r *receiver) stall(w http.ResponseWriter, req *http.Request) {
	w.(*answer).status = -1
	select {
	case <-req.Context().Done():
	case <-r.release:
	}
}

// seen is the metrics, read back.
type seen struct {
	mu       sync.Mutex
	outcomes map[string]int
	breaker  string
	gone     int
}

func (s *seen) WebhookAnswered(outcome string, _ time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outcomes == nil {
		s.outcomes = map[string]int{}
	}
	s.outcomes[outcome]++
}

func (s *seen) WebhookBreaker(state string) { s.mu.Lock(); s.breaker = state; s.mu.Unlock() }
func (s *seen) WebhookGone()                { s.mu.Lock(); s.gone++; s.mu.Unlock() }

func (s *seen) read() (outcomes map[string]int, breaker string, gone int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.outcomes), s.breaker, s.gone
}

// to is a Webhook to the receiver.
func to(t testing.TB, r *receiver, edit ...func(*webhook.Options)) *webhook.Webhook {
	t.Helper()
	opts := webhook.Options{URL: r.URL + "/hooks?of=doorstep", Secrets: []string{newSecret}, AllowPrivate: true}
	for _, f := range edit {
		f(&opts)
	}
	w, err := webhook.New(opts)
	require.NoError(t, err)
	return w
}

func rows(events ...sessions.Event) []outbox.Row {
	var list []outbox.Row
	for i, e := range events {
		list = append(list, outbox.Row{To: webhook.Consumer, Seq: int64(i + 1), Event: e, Attempts: 1})
	}
	return list
}

// signature is the specification's formula, written once more.
func signature(t testing.TB, secret string, d delivered) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	require.NoError(t, err)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(d.header.Get("Webhook-Id") + "." + d.header.Get("Webhook-Timestamp") + "." + d.body))
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
