package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/gateway/api"
	"doorstep/gateway/auth"
	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
	"doorstep/geo"
	"doorstep/internal/budgettest"
	"doorstep/internal/servers/valkeytest"
	"doorstep/metrics"
	"doorstep/scripts"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// The stages of an update and of a live read, in the order of the way, each
// with its budget:
//
//	BenchmarkStages          here: token, cell, distance, judge; the handlers in process, on memory
//	BenchmarkStages_Valkey   here: script call, read; the handlers in process, on a real Valkey
//	BenchmarkStages_Wake     here: a change and its 1 or 1,000 waiters
//	BenchmarkStages_JSON     gateway/api: decode, encode
//
// and, with more detail or under load: BenchmarkVerify (gateway/auth),
// BenchmarkJudge, BenchmarkCellOf (geo), BenchmarkStore (scripts; from many
// goroutines, too), BenchmarkUpdate_server (scripts; the store's own CPU),
// BenchmarkHub_Wait (gateway/hub), BenchmarkFixToEye (here).
//
// The budgets are about twice what was measured when they were set, with ten
// others at work on two cores: enough that noise does not fail them, and that a
// stage which doubles does. Allocations are exact, with room for one in ten: a
// pool that the collector has emptied.

const updateText = `{"sessionId":"b54adc00-67f9-11ef-9669-0242ac120002","latitude":52.1012345,"longitude":5.1012345,` +
	`"accuracy":8.5,"speed":50.4,"heading":260,"recordedAt":"2026-03-14T09:26:53.589Z"}`

// decodeOnce is the unit of the stages that compute: encoding/json reads the
// body of an update. That is the same sort of work as they do, branches and a
// few allocations; a hash would be ten times as fast on a processor that has
// instructions for it.
func decodeOnce() {
	var into struct {
		SessionID                                     string
		Latitude, Longitude, Accuracy, Speed, Heading float64
		RecordedAt                                    time.Time
	}
	must(json.Unmarshal([]byte(updateText), &into))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func BenchmarkStages(b *testing.B) {
	h := newHandlers(b, "")
	cold := newTokens(b)
	a, z := geo.MustPoint(52.0907, 5.1214), geo.MustPoint(52.1012345, 5.1012345)
	budgettest.Bench(b, decodeOnce,
		// A new token, or one a minute old: the signature, and two JSON objects.
		budgettest.Stage{Name: "token/cold", Units: 6, Allocs: 60, Run: cold.verifyExpired},
		// What all other requests pay: a hash of the token and a look into the cache.
		budgettest.Stage{Name: "token/hit", Units: 0.35, Allocs: 0, Run: h.verify},
		// H3 is a C library: the call there is most of it.
		budgettest.Stage{Name: "cell", Units: 0.5, Allocs: 3, Run: func() { geo.CellOf(z) }},
		budgettest.Stage{Name: "distance", Units: 0.06, Allocs: 0, Run: func() { geo.DistanceM(a, z) }},
		budgettest.Stage{Name: "judge", Units: 0.2, Allocs: 0, Run: judge()},
		// From the request that Hertz has read to the answer that it will write.
		budgettest.Stage{Name: "handler/update", Units: 5.5, Allocs: 42, Run: h.update},
		// 3.7 to 4.7: the read is handed to a goroutine, which costs a quiet machine most. It
		// was 3.2 to 3.7 before a request kept what a parked one is reported by.
		budgettest.Stage{Name: "handler/live", Units: 6, Allocs: 32, Run: h.live},
		budgettest.Stage{Name: "handler/refusal", Units: 5, Allocs: 42, Run: h.tooSoon},
	)
}

// judge drives on: each fix is the next of one track.
func judge() func() {
	limits, track, at := geo.DefaultLimits(geo.Car), geo.Track{}, int64(1_773_480_413_589)
	here, there := geo.MustPoint(52, 5), geo.MustPoint(52.0005, 5)
	return func() {
		at, here, there = at+5000, there, here
		_, track = geo.Judge(track, geo.Fix{Point: here, AccuracyM: 8, TakenMS: at - 300}, limits, at)
	}
}

func BenchmarkStages_Valkey(b *testing.B) {
	url := valkeytest.Private(b, "valkey").URL()
	h, hset := newHandlers(b, url), roundTrip(b, url)
	budgettest.Bench(b, hset,
		// One round trip each, so the trip is most of it: of an update's script
		// the store itself has six HSETs of work (BenchmarkUpdate_server).
		budgettest.Stage{Name: "script/update", Units: 4, Allocs: 23, Run: h.publish},
		budgettest.Stage{Name: "script/latest", Units: 3, Allocs: 25, Run: h.latest}, // with the server's clock
		budgettest.Stage{Name: "handler/update", Units: 4.5, Allocs: 43, Run: h.update},
		budgettest.Stage{Name: "handler/live", Units: 5, Allocs: 52, Run: h.live}, // two round trips: who may see it, and what
	)
}

// roundTrip is the unit of the stages that ask the store: one HSET of seven
// fields, there and back, through the same client.
func roundTrip(b *testing.B, url string) func() {
	b.Helper()
	opt, err := valkey.ParseURL(url)
	require.NoError(b, err)
	opt.PipelineMultiplex, opt.AlwaysPipelining, opt.DisableCache, opt.DisableRetry = -1, true, true, true
	c, err := valkey.NewClient(opt)
	require.NoError(b, err)
	b.Cleanup(c.Close)
	return func() {
		must(c.Do(context.Background(), c.B().Hset().Key("plain").FieldValue().
			FieldValue("lat", "52.1012345").FieldValue("lng", "5.1012345").FieldValue("acc", "8.5").
			FieldValue("spd", "50.4").FieldValue("hdg", "260.0").FieldValue("ts", "1773480413589").FieldValue("seq", "1773480413589").Build()).Error())
	}
}

func BenchmarkStages_Wake(b *testing.B) {
	budgettest.Bench(b, handOver(b),
		// The publish, a look at the session, the call back, and the next wait. Alone it
		// also makes anew what all waits of a session share.
		budgettest.Stage{Name: "waiters=1", Units: 25, Allocs: 36, Run: waiters(b, 1)},
		// A thousand cost a thousand times one, and no more.
		budgettest.Stage{Name: "waiters=1000", Units: 25 * 1000, Allocs: 22 * 1000, Run: waiters(b, 1000)},
	)
}

// handOver is the unit of a wake: a word to another goroutine and one back.
func handOver(b *testing.B) func() {
	b.Helper()
	there, back := make(chan struct{}), make(chan struct{})
	b.Cleanup(func() { close(there) })
	go func() {
		for range there {
			back <- struct{}{}
		}
	}()
	return func() { there <- struct{}{}; <-back }
}

// waiters are n students who wait for one journey, again as soon as they have
// been answered. A run is one fix, until all have seen it.
func waiters(b *testing.B, n int) func() {
	b.Helper()
	clock := &steady{now: time.Now()}
	live := memory.NewLive(years, clock.Now)
	service := sessions.NewService(memory.NewRepository(nil), live, sessions.ServiceOptions{Now: clock.Now, JourneyTTL: years.JourneyTTL})
	j := sessions.Journey{
		Ref:  sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()},
		Home: geo.MustPoint(52, 5), Mode: sessions.Car, StartedAt: clock.Now(),
	}
	_, err := live.Open(b.Context(), j)
	require.NoError(b, err)
	h := hub.New(live, service, hub.Options{})
	var answered sync.WaitGroup
	for range n {
		follow(h, j.Ref, sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}, 0, answered.Done)
	}
	b.Cleanup(h.Drain)
	return func() {
		answered.Add(n)
		clock.next()
		_, err := live.Update(context.Background(), j.Ref, clock.fix())
		must(err)
		answered.Wait()
	}
}

// follow waits for change after change until the hub drains. What changed before it
// waits again ends the wait at once.
func follow(h *hub.Hub, ref sessions.Ref, caller sessions.Caller, seen int64, answered func()) {
	for first := seen == 0; ; {
		w, over := h.Begin(context.Background(), caller, ref, time.Hour, func(v sessions.View) bool {
			if first {
				seen, first = v.Version, false
			}
			return v.Version != seen
		})
		if w != nil {
			w.Start(context.Background(), func(r hub.Result) {
				must(r.Err)
				if r.Outcome == hub.Changed {
					answered()
					follow(h, ref, caller, r.Change.Version, answered)
				}
			})
			return
		}
		must(over.Err)
		seen = over.Change.Version
		answered()
	}
}

// years is for a journey that lasts as long as a benchmark.
var years = sessions.LiveOptions{JourneyTTL: 100 * 365 * 24 * time.Hour}

// steady is a clock that stands between fixes, which are 5 s apart and drive to
// and fro.
type steady struct {
	mu    sync.Mutex
	now   time.Time
	fixes int
}

func (s *steady) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *steady) next() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.fixes = s.now.Add(5*time.Second), s.fixes+1
}

func (s *steady) fix() sessions.Fix {
	speed, heading := 50.4, 260.0
	at := geo.MustPoint(52.1+float64(s.fixes%2)*0.0004, 5.1)
	return sessions.Fix{Point: at, AccuracyM: 8.5, SpeedKMH: &speed, HeadingDeg: &heading, RecordedAt: s.Now().Add(-180 * time.Millisecond)}
}

// tokens is a verifier whose clock can be put ahead.
type tokens struct {
	verifier *auth.Verifier
	token    string
	ahead    time.Duration
}

func newTokens(b *testing.B) *tokens {
	b.Helper()
	t := &tokens{}
	began := time.Now()
	keys := auth.Issuer{Secret: []byte(strings.Repeat("k", 32))}
	var err error
	t.verifier, err = auth.New(auth.Options{Issuers: []auth.Issuer{keys}, Clock: func() time.Time { return began.Add(t.ahead) }})
	require.NoError(b, err)
	t.token, err = keys.Mint(sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}, began, 100*365*24*time.Hour)
	require.NoError(b, err)
	return t
}

// verifyExpired lets the cache's minute pass first.
func (t *tokens) verifyExpired() {
	t.ahead += 61 * time.Second
	_, err := t.verifier.Verify(context.Background(), []byte(t.token))
	must(err)
}

// handlers are the whole HTTP side, but for the socket, and one journey.
type handlers struct {
	*steady
	serve    func(ctx context.Context, c *app.RequestContext)
	request  *app.RequestContext
	verifier *auth.Verifier
	store    sessions.Live
	ref      sessions.Ref

	// Made before, so that what is measured is the gateway's.
	trainer, student     string // tokens
	token                []byte // trainer
	asTrainer, asStudent string // headers
	look                 string // a path
	bodies               [2][]byte
}

// newHandlers wires what gateway/app wires, on a store at url or in memory.
func newHandlers(b *testing.B, url string) *handlers {
	b.Helper()
	h := &handlers{steady: &steady{now: time.Now()}}
	log, m := slog.New(slog.NewJSONHandler(io.Discard, nil)), metrics.New(prometheus.NewRegistry()) //nolint:sloglint // to cost what production pays
	keys := auth.Issuer{Secret: []byte(strings.Repeat("k", 32))}
	var err error
	h.verifier, err = auth.New(auth.Options{Issuers: []auth.Issuer{keys}})
	require.NoError(b, err)
	h.store = newStore(b, url, h.Now, m)
	service := sessions.NewService(memory.NewRepository(nil), h.store, sessions.ServiceOptions{
		Now: h.Now, Log: log, JourneyTTL: years.JourneyTTL,
	})
	handlers := api.New(api.Deps{
		Sessions: service, Hub: hub.New(h.store, service, hub.Options{Metrics: m}), Tokens: h.verifier,
		RateInterval: 5 * time.Second, CallerRate: -1, Log: log, Metrics: m,
	})
	_, err = httpserver.New(httpserver.Options{Addr: "127.0.0.1:0", Refuse: handlers.Refuse, Events: m, Logger: log},
		func(s *server.Hertz) {
			handlers.Register(s)
			h.serve, h.request = s.ServeHTTP, s.NewContext()
		})
	require.NoError(b, err)
	h.begin(b, service, keys)
	return h
}

func newStore(b *testing.B, url string, now func() time.Time, m *metrics.Metrics) sessions.Live {
	b.Helper()
	if url == "" {
		return memory.NewLive(years, now)
	}
	store, err := scripts.New(scripts.Options{URL: url, Live: years, Now: now, Timeout: 10 * time.Second, Metrics: m})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { _ = store.Run(ctx) })
	b.Cleanup(func() { cancel(); ended.Wait() })
	require.Eventually(b, store.Ready, 10*time.Second, time.Millisecond)
	return store
}

// begin books a session and starts its journey.
func (h *handlers) begin(b *testing.B, service *sessions.Service, keys auth.Issuer) {
	b.Helper()
	trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	student := sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}
	session, _, err := service.Create(b.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin},
		sessions.Booking{TrainerID: trainer.ID, StudentID: student.ID, Home: geo.MustPoint(52.2, 5.1)})
	require.NoError(b, err)
	_, err = service.Start(b.Context(), trainer, session.ID, sessions.Car)
	require.NoError(b, err)
	h.ref = sessions.Ref{TrainerID: trainer.ID, SessionID: session.ID}
	h.trainer, err = keys.Mint(trainer, time.Now(), time.Hour)
	require.NoError(b, err)
	h.student, err = keys.Mint(student, time.Now(), time.Hour)
	require.NoError(b, err)
	h.token = []byte(h.trainer)
	h.asTrainer, h.asStudent = "Bearer "+h.trainer, "Bearer "+h.student
	h.look = "/api/v1/admin/location-tracking/journey/live?sessionId=" + string(session.ID)
	for i := range h.bodies {
		h.fixes = i
		at := h.fix().Point
		h.bodies[i] = fmt.Appendf(nil, `{"sessionId":%q,"latitude":%v,"longitude":%v,"accuracy":8.5,"speed":50.4,"heading":260}`,
			session.ID, at.Lat(), at.Lng())
	}
	h.update()
}

var jsonType = []byte("application/json")

func (h *handlers) verify() {
	_, err := h.verifier.Verify(context.Background(), h.token)
	must(err)
}

func (h *handlers) publish() {
	h.next()
	receipt, err := h.store.Update(context.Background(), h.ref, h.fix())
	must(err)
	if receipt.Verdict != sessions.VerdictStored {
		panic(receipt.Verdict)
	}
}

func (h *handlers) latest() {
	_, err := h.store.Latest(context.Background(), h.ref)
	must(err)
}

// update is one fix, 5 s after the last.
func (h *handlers) update() {
	h.next()
	h.post(http.StatusCreated)
}

// tooSoon is one at the same time as the last.
func (h *handlers) tooSoon() { h.post(http.StatusTooManyRequests) }

func (h *handlers) post(want int) {
	h.do(http.MethodPost, "/api/v1/admin/location-tracking/journey/updates", h.asTrainer, h.bodies[h.fixes%2], want)
}

// live is a student's look, at once.
func (h *handlers) live() {
	h.do(http.MethodGet, h.look, h.asStudent, nil, http.StatusOK)
}

// do is one request as it is after Hertz has read it, and its answer before
// Hertz writes it.
func (h *handlers) do(method, path, proof string, body []byte, want int) {
	c := h.request
	c.Reset()
	c.Request.Header.SetMethod(method)
	c.Request.SetRequestURI(path)
	c.Request.Header.SetHost("doorstep.test")
	c.Request.Header.Set("Authorization", proof)
	if body != nil {
		c.Request.Header.SetContentTypeBytes(jsonType)
		c.Request.SetBody(body)
	}
	h.serve(context.Background(), c)
	if c.Response.StatusCode() != want {
		panic(fmt.Sprintf("%s %s: %d %s", method, path, c.Response.StatusCode(), c.Response.Body()))
	}
}
