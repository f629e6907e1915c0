package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

const webhookSecret = "whsec_bm9ib2R5IHVzZXMgdGhpcyBzZWNyZXQgZm9yIHJlYWw=" // of 32 bytes that nobody uses

// hooks is an HTTP server that keeps the webhooks it takes, unless it answers with a
// status of its own.
type hooks struct {
	*httptest.Server
	mu     sync.Mutex
	status int // 0: it takes them
	tried  int
	taken  map[sessions.ID][]sessions.EventType
}

func openHooks(t testing.TB) *hooks {
	t.Helper()
	r := &hooks{taken: map[sessions.ID][]sessions.EventType{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		var got struct {
			Type sessions.EventType
			Data json.RawMessage
		}
		assert.NoError(t, json.Unmarshal(body, &got))
		e, err := sessions.ParseEvent(got.Type, got.Data)
		assert.NoError(t, err)
		assert.Equal(t, string(e.ID), req.Header.Get("Webhook-Id"))
		assert.True(t, strings.HasPrefix(req.Header.Get("Webhook-Signature"), "v1,"))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tried++
		if r.status != 0 {
			w.WriteHeader(r.status)
			return
		}
		r.taken[e.SessionID] = append(r.taken[e.SessionID], e.Type)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *hooks) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *hooks) got(id sessions.ID) []sessions.EventType {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.taken[id])
}

func (r *hooks) tries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried
}

// has waits for both events of a journey, in order.
func (r *hooks) has(t testing.TB, id sessions.ID) {
	t.Helper()
	require.Eventually(t, func() bool { return len(r.got(id)) == 2 }, 3*patience, 5*time.Millisecond)
	require.Equal(t, []sessions.EventType{sessions.JourneyStarted, sessions.JourneyEnded}, r.got(id))
}

func (r *hooks) set(o *app.Options) {
	o.WebhookURL, o.WebhookSecrets, o.WebhookAllowPrivate = r.URL, []string{webhookSecret}, true
}

func TestApp_webhooks(t *testing.T) {
	awstest.SetEnv(t.Setenv)
	for name, on := range map[string]func(*app.Options){"embedded": func(*app.Options) {}, "servers": onServers(t)} {
		t.Run(name, func(t *testing.T) {
			r := openHooks(t)
			a := started(t, settings(on, r.set))
			r.has(t, journey(t, a))
			shows(t, a.MetricsAddr(),
				`doorstep_webhook_duration_seconds_count{outcome="ok"} 2`, `doorstep_webhook_duration_seconds_count{outcome="gone"} 0`,
				`doorstep_event_publish_delay_seconds_count{relay="webhook"} 2`, `doorstep_event_publish_delay_seconds_count{relay="analytics"} 2`,
				`doorstep_webhook_breaker_state{state="closed"} 1`, "doorstep_webhook_gone 0")
			r.answers(http.StatusGone)
			journey(t, a)
			shows(t, a.MetricsAddr(), "doorstep_webhook_gone 1", `doorstep_webhook_duration_seconds_count{outcome="gone"} 1`)
		})
		t.Run(name+"_beside_a_bus", func(t *testing.T) {
			s, r := awstest.Start(), openHooks(t)
			defer s.Close()
			s.Bus("application-events")
			a := started(t, settings(on, r.set, func(o *app.Options) { o.EventBus, o.EventBridgeEndpoint = "application-events", s.URL() }))
			onBus := func(id sessions.ID) (n int) {
				for _, entry := range s.Events() {
					if strings.Contains(entry.Detail, string(id)) {
						n++
					}
				}
				return n
			}
			id := journey(t, a)
			r.has(t, id)
			require.Eventually(t, func() bool { return onBus(id) == 2 }, patience, 5*time.Millisecond)
			s.Fail(awstest.Drop)
			id = journey(t, a)
			r.has(t, id) // neither holds up the other
			require.Zero(t, onBus(id))
			s.Fail(awstest.None)
			r.answers(http.StatusServiceUnavailable)
			other := journey(t, a)
			require.Eventually(t, func() bool { return onBus(id) == 2 && onBus(other) == 2 }, 3*patience, 5*time.Millisecond)
			require.Empty(t, r.got(other))
		})
	}
}

func TestApp_webhook_settings_are_checked_at_the_start(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*app.Options){
		"webhook-secret": func(o *app.Options) { o.WebhookURL = "https://hooks.example.com" },
		"URL":            func(o *app.Options) { o.WebhookSecrets = []string{webhookSecret} },
		"inside":         func(o *app.Options) { o.WebhookURL, o.WebhookSecrets = "https://10.0.0.1/", []string{webhookSecret} },
		"https": func(o *app.Options) {
			o.WebhookURL, o.WebhookSecrets = "http://hooks.example.com/", []string{webhookSecret}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := app.New(settings(edit))
			require.ErrorContains(t, err, name)
			require.ErrorContains(t, err, "webhook")
		})
	}
}

// database is one with a look behind it.
type database struct {
	*postgres.Repository
	sql *pgx.Conn
}

func databaseOf(t testing.TB, o app.Options) database {
	t.Helper()
	repo, err := postgres.Open(t.Context(), postgres.Options{URL: o.DatabaseURL})
	require.NoError(t, err)
	t.Cleanup(repo.Close)
	conn, err := pgx.Connect(t.Context(), o.DatabaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return database{repo, conn}
}

func (d database) exec(t testing.TB, sql string) {
	t.Helper()
	_, err := d.sql.Exec(t.Context(), sql)
	require.NoError(t, err)
}

// waits is what waits anywhere, by destination, whoever knows the destination.
func (d database) waits(t testing.TB) map[string]int {
	t.Helper()
	rows, err := d.sql.Query(t.Context(), `SELECT name, count(*) FROM (
		SELECT 'bus' AS name FROM outbox WHERE published_at IS NULL AND dead_at IS NULL
		UNION ALL SELECT consumer FROM outbox_deliveries WHERE published_at IS NULL AND dead_at IS NULL) x GROUP BY name`)
	require.NoError(t, err)
	waits := map[string]int{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var name string
		var n int
		err := row.Scan(&name, &n)
		waits[name] = n
		return struct{}{}, err
	})
	require.NoError(t, err)
	return waits
}

func (d database) empty(t testing.TB) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.Empty(c, d.waits(t)) }, 3*patience, 20*time.Millisecond)
	dead, err := d.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, dead)
}

// Neither direction of either setting leaves an event behind, on PostgreSQL.
func TestApp_settings_of_events_are_changed(t *testing.T) {
	awstest.SetEnv(t.Setenv)
	bus := func(t *testing.T) (*awstest.Server, func(*app.Options)) {
		t.Helper()
		s := awstest.Start()
		t.Cleanup(s.Close)
		s.Bus("application-events")
		return s, func(o *app.Options) { o.EventBus, o.EventBridgeEndpoint = "application-events", s.URL() }
	}
	t.Run("a_bus_is_turned_on", func(t *testing.T) {
		s, withBus := bus(t)
		o := settings(onServers(t))
		h := databaseOf(t, o)
		first := started(t, o)
		// What waits for the consumers when the gateway stops: nothing is due for now.
		h.exec(t, `ALTER TABLE outbox_deliveries ALTER next_attempt_at SET DEFAULT now() + interval '1 h'`)
		id := journey(t, first)
		require.Eventually(t, func() bool { return len(h.waits(t)) == 3 && h.waits(t)["bus"] == 0 }, patience, 10*time.Millisecond)
		require.NoError(t, stop(first))
		h.exec(t, `UPDATE outbox_deliveries SET next_attempt_at = now()`)
		second := started(t, settings(withBus, func(edit *app.Options) { edit.DatabaseURL, edit.ValkeyURL = o.DatabaseURL, o.ValkeyURL }))
		h.empty(t)
		require.NotEmpty(t, second.Pushes(), "delivered by the consumers that they were addressed to")
		require.Empty(t, s.Events(), "and not to the bus besides")
		session, err := h.Session(t.Context(), id)
		require.NoError(t, err)
		_, told, err := h.JourneyRecord(t.Context(), sessions.JourneyKey{SessionID: id, StartedAt: session.JourneyStartedAt})
		require.NoError(t, err)
		require.True(t, told)
	})
	t.Run("a_bus_is_turned_off", func(t *testing.T) {
		s, withBus := bus(t)
		o := settings(onServers(t))
		h := databaseOf(t, o)
		s.Fail(awstest.Drop)
		first := started(t, settings(withBus, func(edit *app.Options) { edit.DatabaseURL, edit.ValkeyURL = o.DatabaseURL, o.ValkeyURL }))
		journey(t, first)
		require.Equal(t, map[string]int{"bus": 2}, h.waits(t))
		require.NoError(t, stop(first))
		second := started(t, o)
		h.empty(t)
		require.NotEmpty(t, second.Pushes())
	})
	t.Run("webhooks_are_turned_off_and_on_again", func(t *testing.T) {
		r := openHooks(t)
		o := settings(onServers(t))
		h := databaseOf(t, o)
		on := settings(r.set, func(edit *app.Options) { edit.DatabaseURL, edit.ValkeyURL = o.DatabaseURL, o.ValkeyURL })
		r.answers(http.StatusServiceUnavailable)
		first := started(t, on)
		id := journey(t, first)
		require.Eventually(t, func() bool { return r.tries() > 0 }, patience, time.Millisecond)
		require.NoError(t, stop(first))
		r.answers(0)

		off := started(t, o)
		unseen := journey(t, off)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			assert.Equal(c, map[string]int{"webhook": 2}, h.waits(t), "they wait for a gateway that has the URL")
		}, 3*patience, 20*time.Millisecond)
		h.exec(t, `UPDATE outbox_deliveries SET created_at = now() - interval '61 min', locked_until = NULL WHERE published_at IS NULL`)
		shows(t, off.MetricsAddr(), `doorstep_events_buried_total{relay="webhook"} 2`)
		require.Empty(t, h.waits(t))
		dead, err := h.DeadLetters(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, dead, 2)
		require.Contains(t, dead[0].Reason, "no gateway here has a URL")
		require.NoError(t, stop(off))

		started(t, on)
		n, err := h.Requeue(t.Context(), true, nil, nil)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		r.has(t, id)
		h.empty(t)
		require.Empty(t, r.got(unseen), "nobody had the URL when it happened")
	})
}
