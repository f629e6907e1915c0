package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

const atHomeLat, atHomeLng = 12.9352, 77.6245

// played is a whole journey through a gateway's own API, up to the door.
type played struct {
	id, trainer, student sessions.ID
	otp                  string
}

func play(t testing.TB, a *app.App) played {
	t.Helper()
	p := played{id: sessions.NewID(), trainer: sessions.NewID(), student: sessions.NewID()}
	ask := func(role sessions.Role, id sessions.ID, method, path string, body any) map[string]any {
		token, err := a.Token(sessions.Caller{ID: id, Role: role}, time.Hour)
		require.NoError(t, err)
		return call(t, a.Addr(), token, method, path, body)
	}
	const base = "/api/v1"
	ask(sessions.Admin, sessions.NewID(), http.MethodPost, base+"/admin/sessions", map[string]any{
		"sessionId": p.id, "trainerId": p.trainer, "studentId": p.student,
		"studentHome": map[string]any{"latitude": atHomeLat, "longitude": atHomeLng},
	})
	ask(sessions.Student, p.student, http.MethodPut, base+"/me/push-tokens",
		map[string]any{"token": "device-of-" + p.student, "platform": "android", "language": "de"})
	ask(sessions.Trainer, p.trainer, http.MethodPost, base+"/admin/sessions/"+string(p.id)+"/start-journey", nil)
	for i := range 3 { // a track that can arrive
		if i > 0 {
			time.Sleep(5100 * time.Millisecond)
		}
		ask(sessions.Trainer, p.trainer, http.MethodPost, base+"/admin/location-tracking/journey/updates",
			map[string]any{"sessionId": p.id, "latitude": atHomeLat, "longitude": atHomeLng})
	}
	arrived := ask(sessions.Trainer, p.trainer, http.MethodPost, base+"/admin/sessions/"+string(p.id)+"/arrived", nil)
	p.otp, _ = arrived["otp"].(string)
	require.Len(t, p.otp, 4)
	return p
}

// call asks and gives the answer's data; anything but a success fails the test.
func call(t testing.TB, addr net.Addr, token, method, path string, body any) map[string]any {
	t.Helper()
	var text []byte
	if body != nil {
		var err error
		text, err = json.Marshal(body)
		require.NoError(t, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr.String()+path, bytes.NewReader(text))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Less(t, res.StatusCode, 300, "%s %s", method, path)
	var answer struct{ Data map[string]any }
	if res.StatusCode != http.StatusNoContent {
		require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	}
	return answer.Data
}

// shows waits until a metrics page has all of these lines.
func shows(t testing.TB, addr net.Addr, lines ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, page := get(t, addr, "/metrics")
		for _, line := range lines {
			assert.Contains(c, page, line+"\n")
		}
	}, patience, 20*time.Millisecond)
}

// Without a bus the consumers are in the gateway.
func TestApp_tells_the_student(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*app.Options){"embedded": func(*app.Options) {}, "servers": onServers(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := started(t, settings(edit))
			p := play(t, a)
			require.Eventually(t, func() bool { return len(a.Pushes()) >= 1 }, patience, 5*time.Millisecond)
			shows(t, a.MetricsAddr(),
				"doorstep_journeys_started_total 1",
				`doorstep_journey_duration_seconds_count{reason="arrived"} 1`,
				`doorstep_pushes_total{kind="arrived",outcome="sent"} 1`)
			last := a.Pushes()[len(a.Pushes())-1]
			require.Equal(t, p.student, last.UserID)
			require.Contains(t, last.Body, p.otp)
			require.Equal(t, "Ihre Lehrkraft ist da", last.Title)
		})
	}
}

// worker starts one on the gateway's stores and three queues.
func startedWorker(t testing.TB, o app.Options, aws *awstest.Server) *app.Worker {
	t.Helper()
	w, err := app.NewWorker(app.WorkerOptions{
		QueueNotify: "notify", QueueCleanup: "cleanup", QueueAnalytics: "analytics", SQSEndpoint: aws.URL(),
		DatabaseURL: o.DatabaseURL, ValkeyURL: o.ValkeyURL, ValkeyTimeout: 2 * time.Second,
		MetricsListen: "127.0.0.1:0", DrainTimeout: 5 * time.Second,
	})
	require.NoError(t, err)
	require.NoError(t, w.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, w.Stop(ctx))
	})
	return w
}

// With one, the events go from the outbox to the bus, from there to a queue
// each, and a worker acts on them.
func TestWorker_acts_on_what_the_bus_brings(t *testing.T) { //nolint:paralleltest // it sets the environment
	for _, e := range awstest.Env() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	aws := awstest.Start()
	defer aws.Close()
	aws.Bus("application-events")
	for _, queue := range []string{"notify", "cleanup", "analytics"} {
		aws.Queue(queue, time.Minute, 5)
		aws.Rule("application-events", "admin-service", queue, "TrainerJourneyStarted", "TrainerArriving", "TrainerJourneyEnded", "TrainerLocationSuspicious")
	}
	o := settings(onServers(t), func(o *app.Options) { o.EventBus, o.EventBridgeEndpoint = "application-events", aws.URL() })
	a, w := started(t, o), startedWorker(t, o, aws)
	p := play(t, a)
	shows(t, w.MetricsAddr(),
		"doorstep_journeys_started_total 1",
		`doorstep_journey_duration_seconds_count{reason="arrived"} 1`,
		`doorstep_pushes_total{kind="arrived",outcome="sent"} 1`)
	require.Empty(t, a.Pushes(), "the gateway has no consumers then")
	require.Eventually(t, func() bool {
		return len(aws.Messages("notify"))+len(aws.Messages("cleanup"))+len(aws.Messages("analytics")) == 0
	}, patience, 10*time.Millisecond, "all are done with")

	repo, err := postgres.Open(t.Context(), postgres.Options{URL: o.DatabaseURL})
	require.NoError(t, err)
	defer repo.Close()
	s, err := repo.Session(t.Context(), p.id)
	require.NoError(t, err)
	var record sessions.JourneyRecord
	require.Eventually(t, func() bool {
		record, _, err = repo.JourneyRecord(t.Context(), sessions.JourneyKey{SessionID: p.id, StartedAt: s.JourneyStartedAt})
		return err == nil && record.Accepted == 3
	}, patience, 10*time.Millisecond, "the gateway's counts and the worker's facts are one row")
	require.Equal(t, sessions.EndArrived, record.Reason)
	require.Equal(t, p.student, record.StudentID)
}

func TestNewWorker_refuses(t *testing.T) {
	t.Parallel()
	_, err := app.NewWorker(app.WorkerOptions{})
	require.ErrorContains(t, err, "DOORSTEP_DATABASE_URL")
	_, err = app.NewWorker(app.WorkerOptions{DatabaseURL: "postgres:///x", ValkeyURL: "redis://x", FCMCredentials: []byte("hunter2")})
	require.ErrorContains(t, err, "fcm")
	require.NotContains(t, err.Error(), "hunter2")
}
