package regions_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/regions"
	"doorstep/sessions"
)

// patience bounds every wait in these tests.
const patience = 10 * time.Second

func TestParse(t *testing.T) {
	t.Parallel()
	none, err := regions.Parse("eu", nil, nil)
	require.NoError(t, err)
	assert.Empty(t, none)
	list, err := regions.Parse("eu", []string{"eu=https://eu.example/", " us=https://us.example/base"}, []string{"us=http://10.0.0.1:8080"})
	require.NoError(t, err)
	assert.Equal(t, []regions.Region{
		{Name: "eu", URL: "https://eu.example", Internal: "https://eu.example"},
		{Name: "us", URL: "https://us.example/base", Internal: "http://10.0.0.1:8080"},
	}, list)

	for name, row := range map[string]struct {
		own              string
		public, internal []string
		says             string
	}{
		"no name":            {"eu", []string{"https://eu.example"}, nil, "regions: an item is not name=URL"},
		"a name in capitals": {"eu", []string{"EU=https://eu.example"}, nil, "regions: an item is not name=URL"},
		"no URL":             {"eu", []string{"eu="}, nil, "regions: what eu is set to is not a URL"},
		"another scheme":     {"eu", []string{"eu=ftp://eu.example"}, nil, "regions: what eu is set to is not a URL"},
		"a user":             {"eu", []string{"eu=https://me:secret@eu.example"}, nil, "regions: the URL of eu has more than"},
		"a query":            {"eu", []string{"eu=https://eu.example?"}, nil, "regions: the URL of eu has more than"},
		"twice":              {"eu", []string{"eu=https://a", "eu=https://b"}, nil, "regions: eu is there twice"},
		"own is missing":     {"", []string{"eu=https://a", "us=https://b"}, nil, "region: it is missing, and regions is set: set DOORSTEP_REGION to one of eu, us"},
		"own is another":     {"asia", []string{"eu=https://a"}, nil, "region: asia is not among DOORSTEP_REGIONS: eu"},
		"internal unknown":   {"eu", []string{"eu=https://a"}, []string{"us=http://b"}, "regions-internal: us is not among DOORSTEP_REGIONS"},
		"internal no URL":    {"eu", []string{"eu=https://a"}, []string{"eu=10.0.0.1:80"}, "regions-internal: what eu is set to is not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := regions.Parse(row.own, row.public, row.internal)
			require.ErrorContains(t, err, row.says)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

// counts are the outcomes of forwarded calls.
type counts struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *counts) Forwarded(_, outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[outcome]++
}

func (c *counts) of(outcome string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[outcome]
}

// to is eu's way to a gateway of us that is played by a handler.
func to(t *testing.T, play http.HandlerFunc, limit int) (*regions.Regions, *counts) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(regions.Header, "us")
		play(w, r)
	}))
	m := &counts{}
	r := regions.New(regions.Options{
		Own: "eu", List: []regions.Region{{Name: "eu", Internal: "http://127.0.0.1:1"}, {Name: "us", Internal: server.URL}}, MaxCalls: limit, Metrics: m,
	})
	t.Cleanup(func() {
		r.Close()
		server.Close()
	})
	return r, m
}

func TestForward(t *testing.T) {
	t.Parallel()
	r, m := to(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Got", r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization")+" "+r.Header.Get(regions.GuardHeader)+" "+string(body))
		w.WriteHeader(http.StatusTeapot)
	}, 0)
	got, err := r.Forward(t.Context(), "us", regions.Call{Method: "POST", Path: "/x?y=1", Header: http.Header{"Authorization": {"Bearer t"}}, Body: []byte("fix")})
	require.NoError(t, err)
	assert.Equal(t, []any{http.StatusTeapot, "POST /x?y=1 Bearer t eu fix"}, []any{got.Status, got.Header.Get("Got")})
	_, err = r.Forward(t.Context(), "asia", regions.Call{Method: "GET", Path: "/"})
	require.ErrorIs(t, err, regions.ErrAway)
	assert.Equal(t, 1, m.of("answered"))
}

// A redirect is not followed: the token would go along.
func TestForward_redirect(t *testing.T) {
	t.Parallel()
	asked := 0
	r, _ := to(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}, 0)
	got, err := r.Forward(t.Context(), "us", regions.Call{Method: "GET", Path: "/"})
	require.NoError(t, err)
	assert.Equal(t, []int{http.StatusTemporaryRedirect, 1}, []int{got.Status, asked})
}

func TestForward_has_room_for_so_many(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	r, m := to(t, func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
	}, 1)
	done := make(chan error, 1)
	go func() {
		_, err := r.Forward(t.Context(), "us", regions.Call{Method: "GET", Path: "/"})
		done <- err
	}()
	<-entered
	_, err := r.Forward(t.Context(), "us", regions.Call{Method: "GET", Path: "/"})
	require.ErrorIs(t, err, regions.ErrBusy)
	assert.Equal(t, 1, m.of("busy"))
	close(leave)
	require.NoError(t, <-done)
}

// Most calls about a region that is away are answered all the same, so the log says once why it is.
func TestForward_logs_why_a_region_is_away(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := regions.New(regions.Options{
		Own: "eu", List: []regions.Region{{Name: "eu", Internal: "http://127.0.0.1:1"}, {Name: "us", Internal: "http://127.0.0.1:1"}},
		Metrics: &counts{}, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	t.Cleanup(r.Close)
	for range 6 {
		_, err := r.Forward(t.Context(), "us", regions.Call{Method: "GET", Path: "/?secret"})
		require.ErrorIs(t, err, regions.ErrAway)
	}
	assert.Equal(t, 1, strings.Count(log.String(), "\n"))
	assert.Contains(t, log.String(), "refused")
	assert.NotContains(t, log.String(), "secret")
}

// A caller that leaves says nothing about the region.
func TestForward_left(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 10)
	r, m := to(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	}, 0)
	for range 7 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-entered
			cancel()
		}()
		_, err := r.Forward(ctx, "us", regions.Call{Method: "GET", Path: "/"})
		require.ErrorIs(t, err, context.Canceled)
	}
	assert.Equal(t, []int{7, 0}, []int{m.of("left"), m.of("breaker_open")})
}

// What a reader has seen in the other region may be on its way to here. It is not told what
// was before.
func TestWaits_of_a_reader_who_has_seen_more(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	r, _ := to(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("wait") {
			<-r.Context().Done()
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`W/"%d"`, 1773480420410+reads.Add(1)))
		_, _ = io.WriteString(w, `{"data":{"location":null,"isActive":true,"phase":"on_the_way"}}`)
	}, 0)
	waits := regions.NewWaits(r, source{}, source{})
	t.Cleanup(waits.Close)
	ref := sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()}
	for _, row := range []struct{ seen, told int64 }{
		{0, 1773480420411},
		{1773480420411, 1773480420411},
		{1773480420412, 1773480420412},
		{1773480420412 + time.Hour.Milliseconds() + 1, 1773480420412}, // no version of ours
	} {
		ctx := regions.WithReader(t.Context(), regions.Reader{Region: "us", Path: "/live?sessionId=1", Token: "t", Seen: row.seen})
		_, err := waits.Watch(ctx, ref, func() {})
		require.NoError(t, err)
		view, err := waits.Read(t.Context(), ref)
		require.NoError(t, err)
		assert.Equal(t, row.told, view.Version)
	}
}

// An answer without a version says that the journey cannot be read there just now. What was
// told before is not shown any more.
func TestWaits_of_a_journey_that_cannot_be_read_there(t *testing.T) {
	t.Parallel()
	r, _ := to(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("wait") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `W/"1773480420412"`)
		_, _ = io.WriteString(w, `{"data":{"location":null,"isActive":true,"phase":"on_the_way"}}`)
	}, 0)
	waits := regions.NewWaits(r, source{}, source{})
	t.Cleanup(waits.Close)
	ref := sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()}
	ctx := regions.WithReader(t.Context(), regions.Reader{Region: "us", Path: "/live?sessionId=1", Token: "t"})
	_, err := waits.Watch(ctx, ref, func() {})
	require.NoError(t, err)
	_, err = waits.Read(t.Context(), ref)
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, fresh := waits.Cached(ref); return !fresh }, patience, time.Millisecond)
}

// source is a hub's, of this region.
type source struct{}

func (source) Watch(context.Context, sessions.Ref, func()) (func(), error) { return func() {}, nil }
func (source) Cached(sessions.Ref) (sessions.View, bool)                   { return sessions.View{}, false }

func (source) BackHere(context.Context, sessions.ID) bool { return true }

func (source) Read(_ context.Context, ref sessions.Ref) (sessions.View, error) {
	return sessions.View{Ref: ref, Snapshot: sessions.Snapshot{Known: true, Version: 7}}, nil
}

// When the token that a poll uses is refused there, the next reader's is used; when none is
// left, the view is degraded.
func TestWaits_use_another_readers_token(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	r, _ := to(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Header.Get("Authorization"))
		mu.Unlock()
		if r.Header.Get("Authorization") == "old" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Query().Has("wait") {
			<-r.Context().Done()
			return
		}
		w.Header().Set("ETag", `W/"1773480420412"`)
		_, _ = io.WriteString(w, `{"data":{"location":null,"isActive":true,"phase":"on_the_way","lastUpdate":null,"fixAgeMs":null,"distanceMeters":null,"etaSeconds":null}}`)
	}, 0)
	waits := regions.NewWaits(r, source{}, source{})
	t.Cleanup(waits.Close)
	ref := sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()}
	own, err := waits.Read(t.Context(), ref)
	require.NoError(t, err)
	assert.EqualValues(t, 7, own.Version, "a journey of this region")

	woken := make(chan struct{}, 10)
	watch := func(token string) {
		ctx := regions.WithReader(t.Context(), regions.Reader{Region: "us", Path: "/live?sessionId=1", Token: token})
		_, err := waits.Watch(ctx, ref, func() { woken <- struct{}{} })
		require.NoError(t, err)
	}
	watch("old")
	view, err := waits.Read(t.Context(), ref)
	require.NoError(t, err)
	assert.True(t, view.Degraded)
	watch("good")
	select {
	case <-woken:
	case <-time.After(patience):
		t.Fatal("not woken")
	}
	view, ok := waits.Cached(ref)
	assert.True(t, ok)
	assert.EqualValues(t, 1773480420412, view.Version)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{"old", "good"}, asked[:2])
}

// Where the other region says that the journey is not its own, who waits looks in this one.
func TestWaits_of_a_booking_that_was_moved(t *testing.T) {
	t.Parallel()
	r, _ := to(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) }, 0)
	waits := regions.NewWaits(r, source{}, source{})
	t.Cleanup(waits.Close)
	ref, woken := sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()}, make(chan struct{}, 1)
	ctx := regions.WithReader(t.Context(), regions.Reader{Region: "us", Path: "/live?sessionId=1", Token: "good"})
	stop, err := waits.Watch(ctx, ref, func() { woken <- struct{}{} })
	require.NoError(t, err)
	select {
	case <-woken:
	case <-time.After(patience):
		t.Fatal("not woken")
	}
	view, err := waits.Read(t.Context(), ref)
	require.NoError(t, err)
	assert.EqualValues(t, 7, view.Version, "as this region has it")
	stop()
}
