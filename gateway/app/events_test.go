package app_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/postgres"
)

// journey books a session and takes its trainer on the way and back.
func journey(t testing.TB, a *app.App) sessions.ID {
	t.Helper()
	trainer := sessions.NewID()
	call := func(caller sessions.Caller, path, body string) {
		token, err := a.Token(caller, time.Minute)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.Addr().String()+"/api/v1/admin/sessions"+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Less(t, res.StatusCode, 300, "%s", text)
	}
	id := sessions.NewID()
	call(sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, "", fmt.Sprintf(
		`{"sessionId":%q,"trainerId":%q,"studentId":%q,"studentHome":{"latitude":1,"longitude":2}}`, id, trainer, sessions.NewID()))
	call(sessions.Caller{ID: trainer, Role: sessions.Trainer}, "/"+string(id)+"/start-journey", "")
	call(sessions.Caller{ID: trainer, Role: sessions.Trainer}, "/"+string(id)+"/stop-journey", "")
	return id
}

// A journey's events are on EventBridge within a second, in memory and on
// PostgreSQL; while the bus is away nobody notices, and afterwards they come.
func TestApp_events_to_EventBridge(t *testing.T) {
	for _, setting := range awstest.Env() {
		name, value, _ := strings.Cut(setting, "=")
		t.Setenv(name, value)
	}
	for name, on := range map[string]func(*app.Options){"embedded": func(*app.Options) {}, "servers": onServers(t)} {
		t.Run(name, func(t *testing.T) {
			s := awstest.Start()
			defer s.Close()
			s.Bus("application-events")
			a := started(t, settings(on, func(o *app.Options) { o.EventBus, o.EventBridgeEndpoint = "application-events", s.URL() }))
			arrived := func(id sessions.ID) (types []string) {
				for _, entry := range s.Events() {
					e, err := sessions.ParseEvent(sessions.EventType(entry.DetailType), []byte(entry.Detail))
					require.NoError(t, err)
					if e.SessionID == id {
						types = append(types, entry.DetailType)
					}
				}
				return types
			}
			both := []string{"TrainerJourneyStarted", "TrainerJourneyEnded"}

			id, began := journey(t, a), time.Now()
			require.Eventually(t, func() bool { return len(arrived(id)) == 2 }, patience, time.Millisecond)
			assert.Equal(t, both, arrived(id))
			t.Logf("both there %s after the second was answered", time.Since(began))

			s.Fail(awstest.Drop)
			id = journey(t, a)
			measured := func(series string) {
				t.Helper()
				require.Eventually(t, func() bool {
					_, page := get(t, a.MetricsAddr(), "/metrics")
					return strings.Contains(page, series)
				}, 2*patience, 20*time.Millisecond, series)
			}
			measured(`doorstep_event_failures_total{relay="bus",why="down"}`)
			assert.Empty(t, arrived(id))
			s.Fail(awstest.None)
			require.Eventually(t, func() bool { return len(arrived(id)) == 2 }, 2*patience, 10*time.Millisecond)
			assert.Equal(t, both, arrived(id))

			measured(`doorstep_event_publish_delay_seconds_count{relay="bus"} 4`)
		})
	}
	t.Run("a_name_that_is_none_is_refused_at_the_start", func(t *testing.T) {
		_, err := app.New(settings(func(o *app.Options) { o.EventBus = "two words" }))
		require.ErrorContains(t, err, "event-bus")
	})
	t.Run("so_is_no_region", func(t *testing.T) {
		t.Setenv("AWS_REGION", "")
		_, err := app.New(settings(func(o *app.Options) { o.EventBus = "application-events" }))
		require.ErrorContains(t, err, "AWS_REGION")
	})
}

// What one gateway leaves in an inbox another one handles.
func TestApp_events_in_process_outlive_it(t *testing.T) {
	t.Parallel()
	o := settings(onServers(t))
	first := started(t, o)
	id := journey(t, first)
	require.NoError(t, stop(first))
	started(t, o)
	repo, err := postgres.Open(t.Context(), postgres.Options{URL: o.DatabaseURL})
	require.NoError(t, err)
	t.Cleanup(repo.Close)
	for name, store := range map[string]outbox.Store{
		"bus": repo.Outbox(), "notify": repo.Inbox("notify"), "clean_up": repo.Inbox("clean_up"), "analytics": repo.Inbox("analytics"),
	} {
		require.Eventually(t, func() bool {
			waiting, _, dead, err := store.Lag(context.Background())
			return err == nil && waiting == 0 && dead == 0
		}, patience, 10*time.Millisecond, name)
	}
	session, err := repo.Session(t.Context(), id)
	require.NoError(t, err)
	record, ok, err := repo.JourneyRecord(t.Context(), sessions.JourneyKey{SessionID: id, StartedAt: session.JourneyStartedAt})
	require.NoError(t, err)
	require.True(t, ok, "analytics has its row")
	assert.Equal(t, sessions.EndCancelled, record.Reason)
}
