package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/gateway/consumers"
	"doorstep/geo"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
)

const schemas = "../../docs/events/"

// schema checks the detail of one type of event. Consumers must accept further fields;
// here a field that the schema does not name is a fault.
type schema struct {
	compiled *jsonschema.Schema
	names    []string
}

func readSchema(t *testing.T, eventType sessions.EventType) schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	compiled, err := c.Compile(schemas + string(eventType) + ".schema.json")
	require.NoError(t, err)
	return schema{compiled, slices.Sorted(maps.Keys(compiled.Properties))}
}

func (s schema) check(detail []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(detail))
	if err != nil {
		return err
	}
	for name := range value.(map[string]any) {
		if !slices.Contains(s.names, name) {
			return fmt.Errorf("the schema has no %s", name)
		}
	}
	return s.compiled.Validate(value)
}

func allTypes() []sessions.EventType { return append(sessions.EventTypes(), sessions.LocationUpdated) }

// docs/events has a schema and a sample of each type, and of nothing else. A sample
// without one of its fields, or with another value in it, is refused.
func TestSchemas_samples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(schemas + "*")
	require.NoError(t, err)
	require.Len(t, files, 2*len(allTypes()))
	for _, eventType := range allTypes() {
		s := readSchema(t, eventType)
		sample, err := os.ReadFile(schemas + string(eventType) + ".sample.json")
		require.NoError(t, err)
		require.NoError(t, s.check(sample), eventType)
		if eventType != sessions.LocationUpdated {
			e, err := sessions.ParseEvent(eventType, sample)
			require.NoError(t, err)
			require.JSONEq(t, string(sample), string(e.Detail()), "this binary reads the sample and would write it")
		}
		for _, name := range s.names {
			var fields map[string]any
			require.NoError(t, json.Unmarshal(sample, &fields))
			fields[name] = []string{}
			other, err := json.Marshal(fields)
			require.NoError(t, err)
			require.Error(t, s.check(other), "%s: %s", eventType, name)
			delete(fields, name)
			without, err := json.Marshal(fields)
			require.NoError(t, err)
			if slices.Contains(s.compiled.Required, name) {
				require.Error(t, s.check(without), "%s without %s", eventType, name)
			}
		}
		require.Error(t, s.check(slices.Concat(sample[:len(sample)-3], []byte(`,"more":1}`))))
	}
}

// Each reason of an end and each verdict is as the schema says.
func TestSchemas_values(t *testing.T) {
	t.Parallel()
	e := sessions.Event{
		ID: sessions.NewID(), SessionID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(),
		At: time.Now(), JourneyStartedAt: time.Now(),
	}
	e.Type = sessions.JourneyEnded
	for _, e.Reason = range []sessions.EndReason{sessions.EndArrived, sessions.EndCancelled, sessions.EndTimeout} {
		require.NoError(t, readSchema(t, e.Type).check(e.Detail()), e.Reason)
	}
	e.Type, e.Reason, e.Count = sessions.LocationSuspicious, "", 1
	for _, e.Verdict = range consumers.SuspicionVerdicts() {
		require.NoError(t, readSchema(t, e.Type).check(e.Detail()), e.Verdict)
	}
}

// The events of a session's life are as their schemas say, whoever raises them.
func TestSchemas_of_a_session(t *testing.T) {
	t.Parallel()
	now := time.Now()
	booked := func() *sessions.Session {
		return &sessions.Session{
			ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Status: sessions.Scheduled,
			Home: geo.MustPoint(52, 5), Mode: sessions.Car,
		}
	}
	arrived := func() *sessions.Session {
		s := booked()
		_, err := s.Start("", now)
		require.NoError(t, err)
		_, err = s.Arrive(now.Add(time.Minute))
		require.NoError(t, err)
		return s
	}
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	travelling := booked()
	_, err := travelling.Start("", now)
	require.NoError(t, err)
	for _, raise := range []func() ([]sessions.Event, error){
		func() ([]sessions.Event, error) { return booked().Cancel(admin, "", now) },
		func() ([]sessions.Event, error) { return travelling.Cancel(admin, "ill", now) },
		func() ([]sessions.Event, error) { return arrived().MarkNoShow(admin, now) },
		func() ([]sessions.Event, error) { return arrived().ResendOTP(now.Add(2 * time.Minute)) },
	} {
		events, err := raise()
		require.NoError(t, err)
		require.NotEmpty(t, events)
		for _, e := range events {
			require.NoError(t, readSchema(t, e.Type).check(e.Detail()), "%s", e.Detail())
		}
	}
}

// What PutEvents is given is what the schemas say, for each type of event, from a real
// journey. Of its locations nothing is in PostgreSQL or in a log, also while the bus is
// away.
func TestApp_events_match_their_schemas(t *testing.T) { //nolint:paralleltest // it sets the environment
	awstest.SetEnv(t.Setenv)
	bus := awstest.Start()
	defer bus.Close()
	bus.Bus("application-events")
	log := &lockedBuffer{}
	o := settings(onServers(t), func(o *app.Options) {
		o.EventBus, o.EventBridgeEndpoint, o.LocationEvents = "application-events", bus.URL(), time.Second
		o.RateInterval = time.Second // as often as locations may be told
		o.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	a := started(t, o)
	j := atTheDoor(t, a)
	for i := range 3 {
		if i > 0 {
			time.Sleep(1100 * time.Millisecond)
		}
		j.fix(t, i == 0)
	}
	seen := func() map[sessions.EventType]int {
		n := map[sessions.EventType]int{}
		for _, entry := range bus.Events() {
			n[sessions.EventType(entry.DetailType)]++
		}
		return n
	}
	require.Eventually(t, func() bool {
		n := seen()
		return len(n) == 4 && n[sessions.LocationUpdated] == 3
	}, patience, 10*time.Millisecond, "all of a journey but the end")
	j.ask(t, sessions.Trainer, j.trainer, "/sessions/"+string(j.id)+"/stop-journey", "")
	require.Eventually(t, func() bool { return seen()[sessions.JourneyEnded] == 1 }, patience, 10*time.Millisecond)

	var order []sessions.EventType
	for _, entry := range bus.Events() {
		eventType := sessions.EventType(entry.DetailType)
		require.NoError(t, readSchema(t, eventType).check([]byte(entry.Detail)), entry.DetailType)
		require.Contains(t, entry.Detail, string(j.id))
		if eventType != sessions.LocationUpdated && eventType != sessions.LocationSuspicious {
			order = append(order, eventType)
		}
	}
	require.Equal(t, []sessions.EventType{sessions.JourneyStarted, sessions.JourneyArriving, sessions.JourneyEnded}, order)
	shows(t, a.MetricsAddr(), `doorstep_location_events_total{result="sent"} 3`)

	bus.Fail(awstest.Drop)
	atTheDoor(t, a).fix(t, false)
	shows(t, a.MetricsAddr(), `doorstep_location_events_total{result="failed"} 1`)
	require.NotEmpty(t, log.String())
	require.NotRegexp(t, placeOfDoor, log.String())
	conn, err := pgx.Connect(t.Context(), o.DatabaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	for _, table := range []string{"outbox", "outbox_deliveries", "consumed_events", "journey_analytics"} {
		var found int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM `+table+` r WHERE r::text ~ $1`,
			placeOfDoor+"|TrainerLocationUpdated").Scan(&found))
		require.Zero(t, found, table)
	}
}

// placeOfDoor finds a coordinate of atTheDoor.
const placeOfDoor = `12\.9357913|77\.6243197`

// doorJourney is a journey that never leaves the door.
type doorJourney struct {
	app         *app.App
	id, trainer sessions.ID
}

func atTheDoor(t *testing.T, a *app.App) doorJourney {
	t.Helper()
	j := doorJourney{a, sessions.NewID(), sessions.NewID()}
	j.ask(t, sessions.Admin, sessions.NewID(), "/sessions", fmt.Sprintf(
		`{"sessionId":%q,"trainerId":%q,"studentId":%q,"studentHome":{"latitude":12.9357913,"longitude":77.6243197}}`, j.id, j.trainer, sessions.NewID()))
	j.ask(t, sessions.Trainer, j.trainer, "/sessions/"+string(j.id)+"/start-journey", "")
	return j
}

func (j doorJourney) fix(t *testing.T, mock bool) {
	t.Helper()
	j.ask(t, sessions.Trainer, j.trainer, "/location-tracking/journey/updates", fmt.Sprintf(
		`{"sessionId":%q,"latitude":12.9357913,"longitude":77.6243197,"mock":%t}`, j.id, mock))
}

func (j doorJourney) ask(t *testing.T, role sessions.Role, caller sessions.ID, path, body string) {
	t.Helper()
	token, err := j.app.Token(sessions.Caller{ID: caller, Role: role}, time.Hour)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+j.app.Addr().String()+"/api/v1/admin"+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Less(t, res.StatusCode, 300, path)
}

func TestApp_location_events_setting(t *testing.T) {
	t.Parallel()
	for want, edit := range map[string]func(*app.Options){
		"location-events needs event-bus":           func(o *app.Options) { o.LocationEvents = 15 * time.Second },
		"location-events: 10ms is shorter than 1s":  func(o *app.Options) { o.LocationEvents, o.EventBus = 10*time.Millisecond, "x" },
		"location-events: -1m0s is shorter than 1s": func(o *app.Options) { o.LocationEvents, o.EventBus = -time.Minute, "x" },
	} {
		_, err := app.New(settings(edit))
		require.ErrorContains(t, err, want)
	}
}
