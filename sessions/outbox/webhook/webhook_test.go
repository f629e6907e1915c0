package webhook_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/outboxtest"
	"doorstep/sessions/outbox/webhook"
)

func TestWebhook_is_signed(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for name, secrets := range map[string][]string{"one_secret": {newSecret}, "two_during_a_rotation": {newSecret, oldSecret}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := receive(t)
			w := to(t, r, func(o *webhook.Options) { o.Secrets, o.Now = secrets, func() time.Time { return at } })
			e := outboxtest.Event(sessions.NewID(), 7)
			require.Equal(t, []error{nil}, w.Publish(t.Context(), rows(e)))
			got := r.got()
			require.Len(t, got, 1)
			require.Equal(t, string(e.ID), got[0].header.Get("Webhook-Id"), "what repeats are known by")
			require.Equal(t, strconv.FormatInt(at.Unix(), 10), got[0].header.Get("Webhook-Timestamp"))
			require.Equal(t, "application/json", got[0].header.Get("Content-Type"))
			var want []string
			for _, secret := range secrets {
				want = append(want, signature(t, secret, got[0]))
			}
			require.Equal(t, strings.Join(want, " "), got[0].header.Get("Webhook-Signature"))
			require.JSONEq(t, `{"type": "TrainerJourneyStarted", "timestamp": "2026-03-14T12:00:00.007Z", "data": `+string(e.Detail())+`}`, got[0].body)

			w.Publish(t.Context(), rows(e))
			require.Equal(t, got[0].body, r.got()[1].body, "a repeat is the same")
			require.Equal(t, got[0].header.Get("Webhook-Id"), r.got()[1].header.Get("Webhook-Id"))
		})
	}
}

// What each answer means: how it is counted, and whether it is the event's fault where it
// is alone and where the receiver takes the other event of the batch.
func TestWebhook_answers(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(elsewhere.Close)
	type verdict struct{ alone, beside string }
	const down, rejected = "down", "rejected"
	for name, row := range map[string]struct {
		fault   func(r *receiver) http.HandlerFunc
		outcome string
		want    verdict
	}{
		"200":                {func(*receiver) http.HandlerFunc { return status(200) }, "ok", verdict{"", ""}},
		"202":                {func(*receiver) http.HandlerFunc { return status(202) }, "ok", verdict{"", ""}},
		"400":                {func(*receiver) http.HandlerFunc { return status(400) }, "refused", verdict{rejected, rejected}},
		"422":                {func(*receiver) http.HandlerFunc { return status(422) }, "refused", verdict{rejected, rejected}},
		"401":                {func(*receiver) http.HandlerFunc { return status(401) }, "unavailable", verdict{down, rejected}},
		"404":                {func(*receiver) http.HandlerFunc { return status(404) }, "unavailable", verdict{down, rejected}},
		"410":                {func(*receiver) http.HandlerFunc { return status(410) }, "gone", verdict{down, down}},
		"429":                {func(*receiver) http.HandlerFunc { return status(429) }, "throttled", verdict{down, down}},
		"500":                {func(*receiver) http.HandlerFunc { return status(500) }, "unavailable", verdict{down, rejected}},
		"503":                {func(*receiver) http.HandlerFunc { return status(503) }, "unavailable", verdict{down, rejected}},
		"503_and_a_wait":     {func(*receiver) http.HandlerFunc { return status(503, "Retry-After", "60") }, "unavailable", verdict{down, down}},
		"301":                {func(*receiver) http.HandlerFunc { return status(301, "Location", elsewhere.URL) }, "redirected", verdict{down, rejected}},
		"307":                {func(*receiver) http.HandlerFunc { return status(307, "Location", elsewhere.URL) }, "redirected", verdict{down, rejected}},
		"it_closes":          {func(*receiver) http.HandlerFunc { return hangUp }, "unreached", verdict{down, rejected}},
		"it_stalls":          {func(r *receiver) http.HandlerFunc { return r.stall }, "timed_out", verdict{down, rejected}},
		"headers_of_1_MB":    {func(*receiver) http.HandlerFunc { return status(200, "X", strings.Repeat("x", 1<<20)) }, "unreached", verdict{down, rejected}},
		"a_body_without_end": {func(*receiver) http.HandlerFunc { return endless }, "ok", verdict{"", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			classed := func(err error) string {
				switch {
				case err == nil:
					return ""
				case outbox.IsDown(err):
					return down
				}
				assert.False(t, outbox.IsPermanent(err))
				return rejected
			}
			r, m := receive(t), &seen{}
			fault, bad := row.fault(r), outboxtest.Events(1)[0]
			r.answers(func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Webhook-Id") == string(bad.ID) {
					fault(w, req)
				}
			})
			// The good one is answered well before the bad one's time is up.
			short := func(o *webhook.Options) { o.Timeout, o.Metrics = 2*time.Second, m }
			errs := to(t, r, short).Publish(t.Context(), rows(bad))
			got := verdict{alone: classed(errs[0])}
			outcomes, _, _ := m.read()
			assert.Equal(t, map[string]int{row.outcome: 1}, outcomes)
			assert.Contains(t, webhook.Outcomes(), row.outcome)
			errs = to(t, r, short).Publish(t.Context(), rows(bad, outboxtest.Events(1)[0]))
			assert.NoError(t, errs[1])
			got.beside = classed(errs[0])
			assert.Equal(t, row.want, got)
			if errs[0] != nil {
				assert.NotContains(t, errs[0].Error(), "hooks", "the URL's path may be secret")
			}
		})
	}
}

func endless(w http.ResponseWriter, req *http.Request) {
	w.WriteHeader(http.StatusOK)
	for req.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 1<<10)); err != nil {
			return
		}
	}
}

func TestWebhook_gone(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r, m := receive(t), &seen{}
	w := to(t, r, func(o *webhook.Options) { o.Metrics, o.Log = m, slog.New(slog.NewTextHandler(&log, nil)) })
	r.answers(status(http.StatusGone))
	for range 5 {
		for _, err := range w.Publish(t.Context(), rows(outboxtest.Events(3)...)) {
			require.True(t, outbox.IsDown(err), "the events wait")
		}
		r.answers(nil)
	}
	tried, _ := r.calls()
	require.LessOrEqual(t, tried, 3, "nothing after the first batch")
	_, _, gone := m.read()
	require.Equal(t, 1, gone)
	require.Equal(t, 1, strings.Count(log.String(), "410"), log.String())
	require.Equal(t, []error{nil}, to(t, r).Publish(t.Context(), rows(outboxtest.Events(1)...)), "a restart ends it")
}

func TestWebhook_waits_as_it_is_asked_to(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{"seconds": "1800", "a_date": time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := receive(t)
			w := to(t, r)
			r.answers(status(http.StatusTooManyRequests, "Retry-After", header))
			w.Publish(t.Context(), rows(outboxtest.Events(1)...))
			r.answers(nil)
			errs := w.Publish(t.Context(), rows(outboxtest.Events(4)...))
			for _, err := range errs {
				require.True(t, outbox.IsDown(err))
			}
			tried, _ := r.calls()
			require.Equal(t, 1, tried)
		})
	}
	t.Run("not_without_a_header_or_with_nonsense", func(t *testing.T) {
		t.Parallel()
		r := receive(t)
		w := to(t, r)
		for _, header := range []string{"", "soon", "-1", "99999999999999"} {
			r.answers(status(http.StatusTooManyRequests, "Retry-After", header))
			w.Publish(t.Context(), rows(outboxtest.Events(1)...))
		}
		r.answers(nil)
		require.Equal(t, []error{nil}, w.Publish(t.Context(), rows(outboxtest.Events(1)...)))
	})
}

// A receiver that is away is left alone by the breaker, and found again.
func TestWebhook_breaker(t *testing.T) {
	t.Parallel()
	r, m := receive(t), &seen{}
	w := to(t, r, func(o *webhook.Options) { o.Metrics, o.BreakerTimeout = m, 200*time.Millisecond })
	r.answers(hangUp)
	w.Publish(t.Context(), rows(outboxtest.Events(10)...))
	_, state, _ := m.read()
	require.Equal(t, "open", state)
	before, _ := r.calls()
	for _, err := range w.Publish(t.Context(), rows(outboxtest.Events(10)...)) {
		require.True(t, outbox.IsDown(err))
	}
	after, _ := r.calls()
	require.LessOrEqual(t, after, before+1)
	r.answers(nil)
	require.Eventually(t, func() bool { return w.Publish(t.Context(), rows(outboxtest.Events(1)...))[0] == nil }, 20*time.Second, 20*time.Millisecond)
	_, state, _ = m.read()
	require.Equal(t, "closed", state)

	r.answers(status(http.StatusBadRequest))
	for range 3 {
		w.Publish(t.Context(), rows(outboxtest.Events(10)...))
	}
	_, state, _ = m.read()
	require.Equal(t, "closed", state, "a refusal is an answer")
}

// Where no other event is in its batch, an event shows only over time that it is the one
// that the receiver cannot take.
func TestWebhook_fails_again(t *testing.T) {
	t.Parallel()
	r, events := receive(t), outboxtest.Events(2)
	w, bad := to(t, r), events[0]
	r.answers(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Webhook-Id") == string(bad.ID) {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	down := func() bool { return outbox.IsDown(w.Publish(t.Context(), rows(bad))[0]) }
	require.True(t, down())
	require.True(t, down(), "nothing was taken in between")
	for range 2 {
		require.NoError(t, w.Publish(t.Context(), rows(events[1]))[0])
		require.False(t, down(), "another one was taken in between")
		require.True(t, down(), "that counts once")
	}
	r.answers(nil)
	require.NoError(t, w.Publish(t.Context(), rows(bad))[0])
	r.answers(status(http.StatusInternalServerError))
	require.True(t, down(), "it begins anew")
}

func TestWebhook_remembers_so_many_failures(t *testing.T) {
	t.Parallel()
	w := to(t, receive(t))
	require.Equal(t, webhook.MaxDoubts, w.Fail(outboxtest.Events(webhook.MaxDoubts)...))
	require.Equal(t, 1, w.Fail(outboxtest.Events(1)...))
}

// A receiver closes connections that have been idle; one that is used at that moment is
// no failure.
func TestWebhook_idle_connection_is_closed(t *testing.T) {
	t.Parallel()
	r := receive(t)
	w := to(t, r)
	require.Equal(t, []error{nil}, w.Publish(t.Context(), rows(outboxtest.Events(1)...)))
	var closed atomic.Bool
	r.answers(func(w http.ResponseWriter, req *http.Request) {
		if closed.CompareAndSwap(false, true) {
			hangUp(w, req)
		}
	})
	require.Equal(t, []error{nil}, w.Publish(t.Context(), rows(outboxtest.Events(1)...)))
	require.True(t, closed.Load())
	require.Empty(t, r.got()[1].header.Get("Idempotency-Key"))
}

// The stop of a relay cuts a delivery short: that says nothing about the event.
func TestWebhook_cut_short(t *testing.T) {
	t.Parallel()
	r := receive(t)
	w := to(t, r)
	began := make(chan struct{}, 1)
	bad := outboxtest.Events(1)[0]
	r.answers(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Webhook-Id") == string(bad.ID) {
			began <- struct{}{}
			r.stall(w, req)
		}
	})
	ctx, cut := context.WithCancel(t.Context())
	go func() { <-began; cut() }()
	errs := w.Publish(ctx, rows(bad))
	require.True(t, outbox.IsDown(errs[0]))
}

// A certificate that nobody vouches for is no receiver.
func TestWebhook_verifies_TLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a webhook was sent") }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	w, err := webhook.New(webhook.Options{URL: server.URL, Secrets: []string{newSecret}, AllowPrivate: true})
	require.NoError(t, err)
	errs := w.Publish(t.Context(), rows(outboxtest.Events(1)...))
	require.True(t, outbox.IsDown(errs[0]))
	require.ErrorContains(t, errs[0], "certificate")
}

func TestNew_refuses(t *testing.T) {
	t.Parallel()
	good := webhook.Options{URL: "https://hooks.example.com/doorstep", Secrets: []string{newSecret}}
	for name, edit := range map[string]func(*webhook.Options){
		"URL none":              func(o *webhook.Options) { o.URL = "" },
		"URL no_scheme":         func(o *webhook.Options) { o.URL = "hooks.example.com/hunter2" },
		"URL another_scheme":    func(o *webhook.Options) { o.URL = "ftp://hooks.example.com/hunter2" },
		"URL no_host":           func(o *webhook.Options) { o.URL = "https:///hunter2" },
		"URL unreadable":        func(o *webhook.Options) { o.URL = "https://hooks.example.com:hunter2/" },
		"URL no_TLS":            func(o *webhook.Options) { o.URL = "http://hooks.example.com/hunter2" },
		"URL a_password":        func(o *webhook.Options) { o.URL = "https://me:hunter2@hooks.example.com/" },
		"URL a_fragment":        func(o *webhook.Options) { o.URL = "https://hooks.example.com/#hunter2" },
		"URL loopback":          func(o *webhook.Options) { o.URL = "https://127.0.0.1/hunter2" },
		"URL mapped":            func(o *webhook.Options) { o.URL = "https://[::ffff:10.0.0.1]/hunter2" },
		"URL localhost":         func(o *webhook.Options) { o.URL = "https://localhost./hunter2" },
		"URL below_localhost":   func(o *webhook.Options) { o.URL = "https://a.LocalHost/hunter2" },
		"Secrets none":          func(o *webhook.Options) { o.Secrets = nil },
		"Secrets three":         func(o *webhook.Options) { o.Secrets = []string{newSecret, oldSecret, newSecret} },
		"Secrets without_whsec": func(o *webhook.Options) { o.Secrets = []string{"hunter2hunter2hunter2hunter2hunter2hunter2"} },
		"Secrets no_base64":     func(o *webhook.Options) { o.Secrets = []string{"whsec_hunter2!"} },
		"Secrets short":         func(o *webhook.Options) { o.Secrets = []string{newSecret, "whsec_hunter22"} },
		"Secrets empty":         func(o *webhook.Options) { o.Secrets = []string{"whsec_"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := good
			edit(&opts)
			_, err := webhook.New(opts)
			field, _, _ := strings.Cut(name, " ")
			require.ErrorContains(t, err, field)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	_, err := webhook.New(good)
	require.NoError(t, err)
}
