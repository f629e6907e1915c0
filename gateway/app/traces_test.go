package app_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"doorstep/gateway/app"
	"doorstep/sessions"
)

// receiver is a collector: OTLP over HTTP, as it is on the wire.
type receiver struct {
	*httptest.Server

	mu    sync.Mutex
	spans []*otlp.Span
	names []string // of the services
	raw   bytes.Buffer
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(r.take))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var export collector.ExportTraceServiceRequest
	if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &export) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.Write(body)
	for _, resource := range export.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				r.names = append(r.names, a.GetValue().GetStringValue())
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
}

// request is the span of one; nil where there is none.
func (r *receiver) request(requestID string) *otlp.Span {
	i := slices.IndexFunc(r.spans, func(s *otlp.Span) bool { return attribute(s, "doorstep.request_id") == requestID })
	if i < 0 {
		return nil
	}
	return r.spans[i]
}

func (r *receiver) children(of *otlp.Span) (names []string) {
	for _, s := range r.spans {
		if bytes.Equal(s.GetParentSpanId(), of.GetSpanId()) {
			names = append(names, s.GetName())
		}
	}
	return names
}

func attribute(s *otlp.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			if n := a.GetValue().GetIntValue(); n != 0 {
				return fmt.Sprint(n)
			}
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// ask makes one call and returns its status.
func ask(t testing.TB, a *app.App, caller sessions.Caller, method, path, body, requestID string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addr().String()+"/api/v1"+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Close = true
	token, err := a.Token(caller, time.Hour)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Request-Id", requestID)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	return res.StatusCode
}

const (
	updates     = "/admin/location-tracking/journey/updates"
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// drive books a session, starts its journey, sends a fix and one too soon, in a
// trace of the phone's.
func drive(t testing.TB, a *app.App) (id sessions.ID, trainer, student sessions.Caller) {
	t.Helper()
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	trainer = sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	student = sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
	id = sessions.NewID()
	require.Eventually(t, func() bool {
		_, parts := get(t, a.Addr(), "/readyz")
		return !strings.Contains(parts, `"liveStore":"unavailable"`)
	}, patience, time.Millisecond)
	booking := fmt.Sprintf(`{"sessionId":%q,"trainerId":%q,"studentId":%q,"studentHome":{"latitude":52.7654,"longitude":5.7654}}`, id, trainer.ID, student.ID)
	require.Equal(t, 201, ask(t, a, admin, http.MethodPost, "/admin/sessions", booking, "book"))
	require.Equal(t, 201, ask(t, a, trainer, http.MethodPost, "/admin/sessions/"+string(id)+"/start-journey", "", "start"))
	fix := fmt.Sprintf(`{"sessionId":%q,"latitude":52.1234567,"longitude":5.1234567}`, id)
	require.Equal(t, 201, ask(t, a, trainer, http.MethodPost, updates, fix, "stored", "traceparent", traceparent))
	require.Equal(t, 429, ask(t, a, trainer, http.MethodPost, updates, fix, "too-soon"))
	require.Equal(t, 200, ask(t, a, student, http.MethodGet, "/admin/location-tracking/journey/live?sessionId="+string(id), "", "look"))
	return id, trainer, student
}

func TestTraces_a_request_and_its_calls(t *testing.T) {
	t.Parallel()
	r, log := newReceiver(t), new(lockedBuffer)
	a := started(t, settings(onServers(t), func(o *app.Options) {
		o.TracesEndpoint, o.ValkeyTimeout = r.URL, patience
		o.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}))
	id, trainer, student := drive(t, a)
	exemplars := scrape(t, a)
	require.NoError(t, stop(a), "which sends the rest")

	stored := r.request("stored")
	require.NotNil(t, stored)
	assert.Equal(t, "POST /api/v1"+updates, stored.GetName())
	assert.Equal(t, []string{traceID, "00f067aa0ba902b7"}, []string{hex.EncodeToString(stored.GetTraceId()), hex.EncodeToString(stored.GetParentSpanId())})
	assert.Equal(t, []string{"POST", "/api/v1" + updates, "201", ""}, []string{
		attribute(stored, "http.request.method"), attribute(stored, "http.route"),
		attribute(stored, "http.response.status_code"), attribute(stored, "error.type"),
	})
	assert.Equal(t, []string{"valkey update"}, r.children(stored))
	assert.Equal(t, string(id), attribute(stored, "doorstep.session_id"), "the gateway logs at debug")
	assert.True(t, regexp.MustCompile(`# \{trace_id="[0-9a-f]{32}",session_id="`+string(id)+`"\}`).MatchString(exemplars))

	refused := r.request("too-soon")
	require.NotNil(t, refused)
	assert.Equal(t, "RATE_LIMITED", attribute(refused, "error.type"))
	assert.Equal(t, otlp.Status_STATUS_CODE_UNSET, refused.GetStatus().GetCode(), "the caller's, not ours")
	assert.Equal(t, []string{"valkey meta", "valkey latest"}, r.children(r.request("look")))
	begun := r.children(r.request("start"))
	assert.Equal(t, []string{
		"postgresql acquire", "postgresql begin", "postgresql select tutoring_sessions", "postgresql batch update tutoring_sessions",
		"postgresql commit", "valkey open", "valkey set_meta",
	}, begun)
	assert.Equal(t, []string{"doorstep"}, slices.Compact(r.names))

	assert.Contains(t, log.String(), `"request_id":"stored"`)
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, `"request_id":"stored"`) {
			assert.Contains(t, line, `"trace_id":"`+traceID+`"`)
		}
	}
	for _, secret := range []string{string(trainer.ID), string(student.ID), "52.1234", "52.7654", "Bearer"} {
		assert.NotContains(t, r.raw.String(), secret)
	}
	for _, s := range r.spans {
		for _, attr := range s.GetAttributes() {
			assert.Zero(t, attr.GetValue().GetDoubleValue(), "no number that could be a place: %s", attr.GetKey())
		}
	}
}

// scrape is /metrics as a Prometheus that stores exemplars asks for it.
func scrape(t testing.TB, a *app.App) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.MetricsAddr().String()+"/metrics", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(text)
}

func TestTraces_an_event_and_its_calls(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	a := started(t, settings(onServers(t), func(o *app.Options) { o.TracesEndpoint, o.ValkeyTimeout = r.URL, patience }))
	drive(t, a)
	defer func() {
		assert.Empty(t, attribute(r.request("stored"), "doorstep.session_id"), "the gateway does not log at debug")
	}()
	handled := func() *otlp.Span {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.IndexFunc(r.spans, func(s *otlp.Span) bool { return s.GetName() == "handle notify" })
		if i < 0 {
			return nil
		}
		return r.spans[i]
	}
	require.Eventually(t, func() bool { return handled() != nil }, 3*patience, 10*time.Millisecond, "a batch every 5 s")
	assert.Equal(t, "TrainerJourneyStarted", attribute(handled(), "doorstep.event_type"))
	require.NoError(t, stop(a))
	assert.Contains(t, r.children(handled()), "postgresql select tutoring_sessions")
}

// A collector that is away costs a drain two seconds at most, and no error.
func TestTraces_without_a_collector(t *testing.T) {
	t.Parallel()
	gone := newReceiver(t)
	gone.Close()
	log := new(lockedBuffer)
	a := started(t, settings(func(o *app.Options) {
		o.TracesEndpoint, o.Log = gone.URL, slog.New(slog.NewJSONHandler(log, nil))
	}))
	drive(t, a)
	require.NoError(t, stop(a))
	assert.Contains(t, log.String(), `"traces lost"`)
}

func TestTraces_endpoint(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"collector:4318", "ftp://collector:4318", "http://", ":"} {
		_, err := app.New(settings(func(o *app.Options) { o.TracesEndpoint = endpoint }))
		assert.ErrorContains(t, err, "traces-endpoint", endpoint)
	}
}

// Not parallel: goleak sees the goroutines of every test that runs beside it.
func TestTraces_leaves_nothing(t *testing.T) { //nolint:paralleltest // see above
	r := newReceiver(t)
	leaves(t, func() {
		a, err := app.New(settings(func(o *app.Options) { o.TracesEndpoint = r.URL }))
		require.NoError(t, err)
		require.NoError(t, a.Start(context.Background()))
		drive(t, a)
		require.NoError(t, stop(a))
		r.CloseClientConnections()
	})
	assert.NotNil(t, r.request("stored"))
	assert.Empty(t, r.children(r.request("stored")), "embedded: no call leaves the process")
}

// lockedBuffer takes lines from many goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
