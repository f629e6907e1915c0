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
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
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
			require.Error(t, s.check(without), "%s without %s", eventType, name)
		}
		require.Error(t, s.check(slices.Concat(sample[:len(sample)-3], []byte(`,"more":1}`))))
	}
}

// What PutEvents is given is what the schemas say, for each type of event, from a real
// journey. Of its locations nothing is in PostgreSQL or in a log, also while the bus is
// away.
func TestApp_events_match_their_schemas(t *testing.T) { //nolint:paralleltest // it sets the environment
	for _, e := range awstest.Env() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	aws := awstest.Start()
	defer aws.Close()
	aws.Bus("application-events")
	log := &lockedBuffer{}
	o := settings(onServers(t), func(o *app.Options) {
		o.EventBus, o.EventBridgeEndpoint, o.LocationEvents = "application-events", aws.URL(), time.Second
		o.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	a := started(t, o)
	p := play(t, a)
	seen := map[sessions.EventType]int{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		clear(seen)
		for _, entry := range aws.Events() {
			seen[sessions.EventType(entry.DetailType)]++
		}
		assert.Len(c, seen, len(allTypes()), "%v", seen)
		assert.Equal(c, 3, seen[sessions.LocationUpdated])
	}, patience, 10*time.Millisecond)
	require.Equal(t, 1, seen[sessions.JourneyArriving])
	var order []sessions.EventType
	for _, entry := range aws.Events() {
		eventType := sessions.EventType(entry.DetailType)
		require.NoError(t, readSchema(t, eventType).check([]byte(entry.Detail)), entry.DetailType)
		require.Contains(t, entry.Detail, string(p.id))
		if slices.Contains([]sessions.EventType{sessions.JourneyStarted, sessions.JourneyArriving, sessions.JourneyEnded}, eventType) {
			order = append(order, eventType)
		}
	}
	require.Equal(t, []sessions.EventType{sessions.JourneyStarted, sessions.JourneyArriving, sessions.JourneyEnded}, order)
	shows(t, a.MetricsAddr(), `doorstep_location_events_total{result="sent"} 3`)

	aws.Fail(awstest.Drop)
	oneFix(t, a)
	shows(t, a.MetricsAddr(), `doorstep_location_events_total{result="failed"} 1`)
	require.NotContains(t, log.String(), "12.93")
	require.NotContains(t, log.String(), "77.62")
	require.NotEmpty(t, log.String())
	conn, err := pgx.Connect(t.Context(), o.DatabaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	for _, table := range []string{"outbox", "outbox_deliveries", "consumed_events", "journey_analytics"} {
		var found int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM `+table+` r WHERE r::text ~ '12\.93|77\.62|TrainerLocationUpdated'`).Scan(&found))
		require.Zero(t, found, table)
	}
}

// oneFix is a journey with one location, at the home of play.
func oneFix(t *testing.T, a *app.App) {
	t.Helper()
	id, trainer := sessions.NewID(), sessions.NewID()
	ask := func(role sessions.Role, caller sessions.ID, path string, body any) {
		token, err := a.Token(sessions.Caller{ID: caller, Role: role}, time.Hour)
		require.NoError(t, err)
		call(t, a.Addr(), token, http.MethodPost, "/api/v1/admin"+path, body)
	}
	ask(sessions.Admin, sessions.NewID(), "/sessions", map[string]any{
		"sessionId": id, "trainerId": trainer, "studentId": sessions.NewID(),
		"studentHome": map[string]any{"latitude": atHomeLat, "longitude": atHomeLng},
	})
	ask(sessions.Trainer, trainer, "/sessions/"+string(id)+"/start-journey", nil)
	ask(sessions.Trainer, trainer, "/location-tracking/journey/updates",
		map[string]any{"sessionId": id, "latitude": atHomeLat, "longitude": atHomeLng})
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
