package alerts

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/valkeytest"
)

// ofEvents are the faults on the way of events.
func ofEvents() []fault {
	return []fault{
		{name: "bus throttles", alerts: []string{"DoorstepOutboxLag"}, open: busThrottles},
		{name: "receiver of webhooks gone", alerts: []string{"DoorstepWebhooksFailing"}, open: receiverGone},
		{name: "event of a newer version", alerts: []string{"DoorstepNewerEvents"}, open: newerEvent},
		{name: "event without a detail", alerts: []string{"DoorstepDeadLetters"}, open: poisonEvent},
		{name: "message that is no event", alerts: []string{"DoorstepDeadLetters"}, window: 15 * time.Minute, open: poisonMessage},
		{name: "table of analytics missing", alerts: []string{"DoorstepConsumerFailing"}, open: tableMissing},
		{name: "FCM refuses", alerts: []string{"DoorstepPushesFailing"}, open: fcmRefuses},
	}
}

// left makes a database in which a gateway on the bus has left an event. The relay measures
// the outbox at the start and then four times a minute: so the fault is there before it.
func left(t *testing.T) (url string, aws *awstest.Server, gateway []string) {
	t.Helper()
	url = database(t)
	aws, gateway, _ = cloud(t, url)
	aws.Fail(awstest.Throttle)
	before := newProcess(t, false, gateway)
	started(t, before.URL(), 1)
	require.NoError(t, before.Kill())
	execute(t, url, `UPDATE outbox SET locked_until = NULL, next_attempt_at = now()`)
	return url, aws, gateway
}

func busThrottles(t *testing.T, s *stage) (cause, mend func()) {
	url, aws, settings := left(t)
	execute(t, url, `UPDATE outbox SET created_at = now() - interval '2 minutes'`)
	g := s.gateway(t, settings...)
	return nil, func() {
		assert.Contains(t, g.Log(), "events cannot be delivered")
		aws.Fail(awstest.None)
	}
}

// receiverGone has a receiver that answers 410, until it wants events again.
func receiverGone(t *testing.T, s *stage) (cause, mend func()) {
	var status atomic.Int64
	status.Store(http.StatusGone)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	t.Cleanup(receiver.Close)
	g := s.gateway(t, "VALKEY_URL="+valkeytest.Valkey(t), "DATABASE_URL="+database(t), "WEBHOOK_URL="+receiver.URL, "WEBHOOK_ALLOW_PRIVATE=true",
		"WEBHOOK_SECRET=whsec_"+base64.StdEncoding.EncodeToString([]byte(rig.Secret)))
	return func() { started(t, g.URL(), 1) }, func() {
		status.Store(http.StatusNoContent)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, g.Stop(ctx))
		g.again(t)
	}
}

func newerEvent(t *testing.T, s *stage) (cause, mend func()) {
	url, aws, settings := left(t)
	execute(t, url, `UPDATE outbox SET created_at = now() - interval '11 minutes', type = 'TrainerTakesABreak'`)
	aws.Fail(awstest.None)
	s.gateway(t, settings...)
	return nil, func() { // a newer gateway takes it
		execute(t, url, `UPDATE outbox SET published_at = now()`)
	}
}

func poisonEvent(t *testing.T, s *stage) (cause, mend func()) {
	url, aws, settings := left(t)
	execute(t, url, `CREATE TABLE right_ones AS SELECT seq, detail FROM outbox; UPDATE outbox SET detail = '{}'`)
	aws.Fail(awstest.None)
	burier := newProcess(t, false, settings)
	require.Eventually(t, func() bool {
		n, err := burier.Metric(t.Context(), `doorstep_events_buried_total{relay="bus"}`)
		return err == nil && n == 1
	}, patience, often)
	require.NoError(t, burier.Kill())
	s.gateway(t, settings...)
	return nil, func() {
		execute(t, url, `UPDATE outbox o SET detail = r.detail FROM right_ones r WHERE o.seq = r.seq`)
		built, err := program()
		require.NoError(t, err)
		require.NoError(t, built.Run(t.Context(), []string{"DATABASE_URL=" + url}, "outbox", "list"))
		require.NoError(t, built.Run(t.Context(), []string{"DATABASE_URL=" + url}, "outbox", "requeue", "--all"))
		require.Eventually(t, func() bool { return len(aws.Events()) == 1 }, patience, often)
	}
}

// onQueues starts a gateway and a worker.
func (s *stage) onQueues(t *testing.T, database string) (g, worker *process, aws *awstest.Server) {
	t.Helper()
	aws, gateway, consumers := cloud(t, database)
	g, worker = s.gateway(t, gateway...), newProcess(t, true, consumers)
	s.scrape(t, "doorstep-worker", host(worker.MetricsURL))
	return g, worker, aws
}

func poisonMessage(t *testing.T, s *stage) (cause, mend func()) {
	_, worker, aws := s.onQueues(t, database(t))
	return func() { aws.Send("notify", "hello") }, func() { assert.Contains(t, worker.Log(), "message malformed") }
}

func tableMissing(t *testing.T, s *stage) (cause, mend func()) {
	url := database(t)
	g, worker, _ := s.onQueues(t, url)
	cause = func() {
		execute(t, url, `ALTER TABLE journey_analytics RENAME TO elsewhere`)
		started(t, g.URL(), 1)
	}
	return cause, func() {
		assert.Contains(t, worker.Log(), "event not handled")
		execute(t, url, `ALTER TABLE elsewhere RENAME TO journey_analytics`)
		started(t, g.URL(), 20)
	}
}

// fcmRefuses has a push service that refuses the service account.
func fcmRefuses(t *testing.T, s *stage) (cause, mend func()) {
	var right atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"access_token":"of nothing","token_type":"Bearer","expires_in":3600}`)
	})
	mux.HandleFunc("POST /v1/projects/doorstep-test/messages:send", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if !right.Load() {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"error":{"code":403,"status":"PERMISSION_DENIED"}}`)
			return
		}
		_, _ = fmt.Fprint(w, `{"name":"projects/doorstep-test/messages/1"}`)
	})
	fcm := httptest.NewServer(mux)
	t.Cleanup(fcm.Close)
	g := s.gateway(t, "VALKEY_URL="+valkeytest.Valkey(t), "DATABASE_URL="+database(t), "FCM_ENDPOINT="+fcm.URL+"/", "FCM_CREDENTIALS="+account(t, fcm.URL))
	return func() { started(t, g.URL(), 1) }, func() {
		assert.Contains(t, g.Log(), "PERMISSION_DENIED")
		right.Store(true)
		started(t, g.URL(), 50)
	}
}

// account is the content of a service account's file.
func account(t *testing.T, url string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "doorstep-test", "private_key_id": "1",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "push@doorstep-test.iam.gserviceaccount.com", "client_id": "1", "token_uri": url + "/token",
	})
	require.NoError(t, err)
	return string(text)
}
