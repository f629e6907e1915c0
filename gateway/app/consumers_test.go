package app_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
	"doorstep/sessions/postgres"
)

// played is a whole journey through a gateway's own API, up to the door.
type played struct {
	id, trainer, student sessions.ID
	otp                  string
}

func play(t testing.TB, a *app.App) played {
	t.Helper()
	ctx, p := t.Context(), played{id: sessions.NewID(), trainer: sessions.NewID(), student: sessions.NewID()}
	as := func(role sessions.Role, id sessions.ID) *client.Client {
		token, err := a.Token(sessions.Caller{ID: id, Role: role}, time.Hour)
		require.NoError(t, err)
		c, err := client.New(client.Options{BaseURL: "http://" + a.Addr().String(), Token: client.StaticToken(token), HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
		require.NoError(t, err)
		return c
	}
	trainer, id, home := as(sessions.Trainer, p.trainer), string(p.id), client.Point{Latitude: 12.9352, Longitude: 77.6245}
	_, err := as(sessions.Admin, sessions.NewID()).Book(ctx, client.Booking{SessionID: id, TrainerID: string(p.trainer), StudentID: string(p.student), StudentHome: home})
	require.NoError(t, err)
	require.NoError(t, as(sessions.Student, p.student).PutPushToken(ctx, "device-of-"+string(p.student), client.Android, "de"))
	_, err = trainer.StartJourney(ctx, id, "")
	require.NoError(t, err)
	_, err = trainer.Update(ctx, id, client.Fix{Point: client.Point{Latitude: home.Latitude + 0.0018, Longitude: home.Longitude}})
	require.NoError(t, err)
	time.Sleep(10 * time.Second) // a journey that can arrive
	arrived, err := trainer.Arrive(ctx, id, &client.Fix{Point: home})
	require.NoError(t, err)
	p.otp = arrived.OTP
	require.Len(t, p.otp, 4)
	return p
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
		Region: o.Region, DatabaseOptions: app.DatabaseOptions{DatabaseURL: o.DatabaseURL}, ValkeyURL: o.ValkeyURL, ValkeyTimeout: 2 * time.Second,
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
	awstest.SetEnv(t.Setenv)
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
	status, _ := get(t, w.MetricsAddr(), "/healthz")
	assert.Equal(t, 200, status)
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
		return err == nil && record.Accepted == 2
	}, patience, 10*time.Millisecond, "the gateway's counts and the worker's facts are one row")
	require.Equal(t, sessions.EndArrived, record.Reason)
	require.Equal(t, p.student, record.StudentID)
}

func TestNewWorker_refuses(t *testing.T) {
	t.Parallel()
	_, err := app.NewWorker(app.WorkerOptions{})
	require.ErrorContains(t, err, "DOORSTEP_DATABASE_URL")
	stores := app.WorkerOptions{DatabaseOptions: app.DatabaseOptions{DatabaseURL: "postgres:///x"}, ValkeyURL: "redis://x"}
	for says, edit := range map[string]func(*app.WorkerOptions){
		"fcm":            func(o *app.WorkerOptions) { o.FCMCredentials = []byte("hunter2") },
		"region":         func(o *app.WorkerOptions) { o.Region = "EU" },
		"journey-ttl":    func(o *app.WorkerOptions) { o.JourneyTTL = -time.Second },
		"drain-timeout":  func(o *app.WorkerOptions) { o.DrainTimeout = -time.Second },
		"arrival-radius": func(o *app.WorkerOptions) { o.ArrivalRadius = 5001 },
	} {
		o := stores
		edit(&o)
		_, err := app.NewWorker(o)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
