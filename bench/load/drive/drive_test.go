package drive

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

func TestPlan_Split(t *testing.T) {
	t.Parallel()
	parts := Plan{Journeys: 50_000, Watchers: 50_000, Conns: 100, First: 7}.Split()
	require.Len(t, parts, 3)
	next, watchers, conns := 7, 0, 0
	for _, p := range parts {
		assert.Equal(t, next, p.First)
		assert.LessOrEqual(t, p.descriptors(), perProcess)
		next, watchers, conns = next+p.Journeys, watchers+p.Watchers, conns+p.Conns
	}
	assert.Equal(t, []int{50_007, 50_000, 100}, []int{next, watchers, conns})

	assert.Len(t, Plan{Journeys: 1, Watchers: 50_000}.Split(), 1, "a journey is not shared")
	assert.Len(t, Plan{Journeys: 10, Conns: 1}.Split(), 1)
}

func TestPlan_validate(t *testing.T) {
	t.Parallel()
	p := Plan{Updates: []string{"a"}, Journeys: 1, Way: Pace, Every: time.Second, Store: "redis://a"}
	require.NoError(t, p.validate())
	p.Life = time.Minute
	require.ErrorContains(t, p.validate(), "cannot end")
}

// trickle is a connection that gives a byte at a time.
type trickle struct {
	net.Conn
	text io.Reader
}

func (c trickle) Read(into []byte) (int, error)  { return c.text.Read(into[:1]) }
func (c trickle) Write(text []byte) (int, error) { return len(text), nil }
func (c trickle) SetDeadline(time.Time) error    { return nil }
func (c trickle) Close() error                   { return nil }
func answering(text string) *wire {
	conn := trickle{text: strings.NewReader(text)}
	return &wire{conn: conn, in: bufio.NewReaderSize(conn, readBuffer), undo: func() bool { return true }}
}

func called(t *testing.T, w *wire) (answer, error) {
	t.Helper()
	return w.call(t.Context(), nil, time.Second)
}

func TestWire_call(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3000)
	w := answering("HTTP/1.1 200 OK\r\nETag: \"17\"\r\ncontent-length: 3000\r\n\r\n" + long +
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 3000\r\n\r\n" +
		"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: Close\r\n\r\n{}")
	a, err := called(t, w)
	require.NoError(t, err)
	assert.Equal(t, 200, a.status)
	assert.Equal(t, `"17"`, a.etag)
	assert.Equal(t, long, string(a.body))
	a, err = called(t, w)
	require.NoError(t, err)
	assert.Equal(t, 304, a.status)
	assert.Empty(t, a.body)
	require.NotNil(t, w.conn)
	a, err = called(t, w)
	require.NoError(t, err)
	assert.Equal(t, "{}", string(a.body))
	assert.Nil(t, w.conn, "the server has closed it")
}

func TestWire_call_unreadable(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"cut short": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
		"no HTTP":   "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"no number": "HTTP/1.1 2x0 OK\r\n\r\n",
		"no length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	} {
		w := answering(text)
		_, err := called(t, w)
		require.Error(t, err, name)
		assert.Nil(t, w.conn, name)
	}
}

// A wire calls net/http's server, from an address of its own.
func TestWire_server(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("ETag", `"`+r.RemoteAddr+`"`)
		body, _ := io.ReadAll(r.Body)
		_, _ = out.Write(append(body, r.Header.Get("Authorization")...))
	}))
	defer server.Close()
	w := &wire{addr: server.Listener.Addr().String(), local: loopback(1, 300)}
	defer w.close()
	var first string
	for range 2 {
		a, err := w.call(t.Context(), post("/x", "token", `{"a":1}`), time.Second)
		require.NoError(t, err)
		assert.Equal(t, `{"a":1}Bearer token`, string(a.body))
		assert.Contains(t, a.etag, "127.1.1.44:")
		if first == "" {
			first = a.etag
		}
		assert.Equal(t, first, a.etag, "kept alive")
	}
}

// What is written into a request is read back from an answer.
func TestSetDegrees(t *testing.T) {
	t.Parallel()
	request, lat, lng := updateRequest(sessions.NewID(), "t")
	for _, row := range []struct{ lat, lng int64 }{{521_234_567, 49_000_001}, {520_000_000, 50_000_000}, {519_999_999, 51_234_560}} {
		setDegrees(request[lat:lat+len(latHere)], row.lat)
		setDegrees(request[lng:lng+len(lngHere)], row.lng)
		gotLat, gotLng, ok := placeOf(request)
		require.True(t, ok)
		assert.Equal(t, [2]int64{row.lat, row.lng}, [2]int64{gotLat, gotLng})
	}
	parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	require.NoError(t, err)
	body, err := io.ReadAll(parsed.Body)
	require.NoError(t, err)
	assert.True(t, bytes.HasSuffix(body, []byte(`"heading":90.0}`)))
}

func TestPlaceOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]int64{
		`{"latitude":52.1,"longitude":5}`:          {521_000_000, 50_000_000},
		`{"latitude":52.0000001,"longitude":5.25}`: {520_000_001, 52_500_000},
	} {
		lat, lng, ok := placeOf([]byte(text))
		assert.True(t, ok, text)
		assert.Equal(t, want, [2]int64{lat, lng}, text)
	}
	for _, text := range []string{`{"location":null}`, `{"latitude":null,"longitude":5.1}`, `{"latitude":52`} {
		_, _, ok := placeOf([]byte(text))
		assert.False(t, ok, text)
	}
}

// A trainer moves at the plan's speed, and one who arrives is at home then.
func TestJourney_position(t *testing.T) {
	t.Parallel()
	j, err := newJourney(3)
	require.NoError(t, err)
	now := time.Now()
	at := func(since time.Duration) geo.Point {
		lat, lng := j.position(now.Add(since), 10)
		return geo.MustPoint(float64(lat)/1e7, float64(lng)/1e7)
	}
	home := geo.MustPoint(j.homeLat, j.homeLng)

	j.embark(now, time.Time{}, true, 10)
	assert.InDelta(t, 3000, geo.DistanceM(at(0), home), 5, "a journey without an end goes away")
	assert.InDelta(t, 3600, geo.DistanceM(at(time.Minute), home), 6)
	j.embark(now, now.Add(2*time.Minute), true, 10)
	assert.InDelta(t, 50, geo.DistanceM(at(0), at(5*time.Second)), 1)
	assert.Less(t, geo.DistanceM(at(2*time.Minute), home), 1.0)
}

func TestJourney_see(t *testing.T) {
	t.Parallel()
	j, err := newJourney(0)
	require.NoError(t, err)
	j.watched = true
	now := time.Now()
	assert.False(t, j.send(1, 2, now, true))
	j.answered(now)
	_, ok := j.see(1, 3)
	assert.False(t, ok, "another fix")
	f, ok := j.see(1, 2)
	assert.True(t, ok)
	assert.Equal(t, now, f.intended)
	assert.False(t, j.send(3, 4, now, true), "the last one was seen")
	j.answered(now)
	assert.True(t, j.send(5, 6, now, true), "this one was not")
}

func TestLatency(t *testing.T) {
	t.Parallel()
	l := newLatency()
	for _, d := range []time.Duration{-time.Second, time.Millisecond, time.Hour} {
		l.record(d)
	}
	assert.Greater(t, l.next(), time.Minute)
	assert.Zero(t, l.next(), "a new second")
	var r Result
	text, err := l.encode()
	require.NoError(t, err)
	r.Counts, r.Latencies = map[string]int64{}, map[string]*Histogram{}
	for range 2 {
		require.NoError(t, r.add(&part{Accepted: 3, Latencies: map[string][]byte{Update: text}}))
	}
	assert.EqualValues(t, 6, r.Latencies[Update].TotalCount())
	assert.EqualValues(t, 1, r.Latencies[Update].Min())
}

// An answer that comes late makes the fixes behind it late, too: the stall is
// in every latency that it touched, not in one.
func TestPlay_pace_tellsOfAStall(t *testing.T) {
	t.Parallel()
	const stall = 400 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/updates") {
			time.Sleep(stall)
		}
		out.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	p, err := newPlay(Plan{
		Updates: []string{server.Listener.Addr().String()}, Journeys: 4, Conns: 1, Way: Pace, Every: time.Minute,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, p.prepare(ctx))
	at := time.Now()
	p.plan.Every, p.until = 10*time.Millisecond, at.Add(10*time.Millisecond) // all four are due at once, once
	mine := schedule(p.journeys)
	w := p.phoneWire(0)
	defer w.close()
	p.pace(ctx, w, mine, at)

	waited := p.latencies[Update].whole
	require.EqualValues(t, 4, waited.TotalCount())
	assert.GreaterOrEqual(t, waited.Max(), (4*stall - 20*time.Millisecond).Microseconds(), "the last waited for all")
	assert.Less(t, p.latencies[Service].whole.ValueAtQuantile(50), waited.Max(), "on the wire alone it would not show")
}

// A phone whose fix was not stored sends its next one, and no other phone does. Who sees that
// one has waited since the first was due.
func TestPlay_once_untilItIsStored(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/updates") && calls.Add(1) <= 3 {
			out.WriteHeader(http.StatusAccepted)
			return
		}
		out.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	p, err := newPlay(Plan{
		Updates: []string{server.Listener.Addr().String()}, Journeys: 2, Conns: 1, Way: Once, Every: 50 * time.Millisecond,
	})
	require.NoError(t, err)
	require.NoError(t, p.prepare(t.Context()))
	p.from = time.Now()
	p.until = p.from.Add(time.Minute)
	w := p.phoneWire(0)
	defer w.close()
	p.once(t.Context(), w, p.journeys)

	assert.EqualValues(t, 5, calls.Load(), "both, both, and one once more")
	assert.EqualValues(t, 2, p.accepted.Load())
	assert.EqualValues(t, 3, p.counts["update 202"])
	assert.GreaterOrEqual(t, p.latencies[Update].whole.Min(), (50 * time.Millisecond).Microseconds())
}
