// Command floor is the least that an update can cost with Doorstep's own
// libraries: Hertz on the same transport decodes the JSON; no token, no check of
// the request, no metrics. It takes a gateway's place, with DOORSTEP_LISTEN and
// DOORSTEP_VALKEY_URL. DOORSTEP_FLOOR says what becomes of a fix:
//
//   - hset, a peer of make bench-peers: one HSET through a valkey-go client with the
//     gateway's options writes the same fields; no rate, no TTL, nobody told;
//   - script, another one: it goes to update.lua through the store that the gateway
//     has, for a journey opened when it was booked;
//   - nothing, for bench/load: hset, and long polls, answered from memory.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/bytedance/sonic"
	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/cloudwego/hertz/pkg/network/standard"
	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/scripts"
	"doorstep/sessions"
)

// floor does the work of a request; the result is the status of the answer.
type floor interface {
	book(ctx context.Context, b *body) (int, error)
	put(ctx context.Context, fix *body) (int, error)
}

func main() {
	url, kind := os.Getenv("DOORSTEP_VALKEY_URL"), os.Getenv("DOORSTEP_FLOOR")
	f, err := plain(url)
	if kind == "script" {
		f, err = script(url)
	}
	if err != nil {
		log.Fatal(err)
	}
	h := server.New(server.WithHostPorts(os.Getenv("DOORSTEP_LISTEN")), server.WithTransport(standard.NewTransporter),
		server.WithIdleTimeout(time.Minute), server.WithDisablePrintRoute(true), server.WithSenseClientDisconnection(kind == ""))
	if kind == "" {
		w := &watched{floor: f, all: map[string]*latest{}}
		h.GET("/api/v1/admin/location-tracking/journey/live", w.live)
		f = w
	}
	h.GET("/readyz", func(_ context.Context, c *app.RequestContext) { c.SetStatusCode(http.StatusOK) })
	h.POST("/api/v1/admin/sessions", handler(f.book))
	h.POST("/api/v1/admin/sessions/:sessionId/start-journey", func(_ context.Context, c *app.RequestContext) { c.SetStatusCode(http.StatusCreated) })
	h.POST("/api/v1/admin/location-tracking/journey/updates", handler(f.put))
	h.Spin()
}

// body is that of an update, or of a booking.
type body struct {
	SessionID   string  `json:"sessionId"`
	Latitude    float64 `json:"latitude"`
	Longitude   float64 `json:"longitude"`
	Accuracy    float64 `json:"accuracy"`
	Speed       float64 `json:"speed"`
	Heading     float64 `json:"heading"`
	StudentHome struct {
		Latitude  float64 `json:"latitude"`
		Longitude float64 `json:"longitude"`
	} `json:"studentHome"`
}

func handler(do func(context.Context, *body) (int, error)) app.HandlerFunc {
	return func(ctx context.Context, c *app.RequestContext) {
		var b body
		if err := sonic.ConfigStd.Unmarshal(c.Request.Body(), &b); err != nil {
			c.SetStatusCode(http.StatusBadRequest)
			return
		}
		status, err := do(ctx, &b)
		switch {
		case err != nil:
			c.SetStatusCode(http.StatusServiceUnavailable)
		case status != http.StatusCreated:
			c.SetStatusCode(status)
		default:
			c.Data(http.StatusCreated, "application/json", []byte(`{"success":true}`))
		}
	}
}

type hset struct{ client valkey.Client }

func plain(url string) (floor, error) {
	opt, err := valkey.ParseURL(url)
	if err != nil {
		return nil, err
	}
	// As valkeyconn.clientOption has them.
	opt.PipelineMultiplex, opt.AlwaysPipelining = -1, true
	opt.MaxFlushDelay = 100 * time.Microsecond
	opt.DisableCache, opt.DisableRetry = true, true
	opt.ConnWriteTimeout = time.Second
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	client, err := valkey.NewClient(opt)
	return hset{client}, err
}

func (hset) book(context.Context, *body) (int, error) { return http.StatusCreated, nil }

func (h hset) put(ctx context.Context, f *body) (int, error) {
	return http.StatusCreated, h.client.Do(ctx, h.client.B().Hset().Key("location:"+f.SessionID).FieldValue().
		FieldValue("lat", degrees(f.Latitude)).FieldValue("lng", degrees(f.Longitude)).
		FieldValue("acc", tenths(f.Accuracy)).FieldValue("spd", tenths(f.Speed)).FieldValue("hdg", tenths(f.Heading)).
		FieldValue("ts", strconv.FormatInt(time.Now().UnixMilli(), 10)).Build()).Error()
}

func degrees(f float64) string { return strconv.FormatFloat(f, 'f', 7, 64) }
func tenths(f float64) string  { return strconv.FormatFloat(f, 'f', 1, 64) }

type scripted struct{ store *scripts.Store }

func script(url string) (floor, error) {
	store, err := scripts.New(scripts.Options{URL: url, Live: sessions.LiveOptions{RateInterval: time.Millisecond}})
	if err == nil {
		go func() { _ = store.Run(context.Background()) }() // until the process is ended
	}
	return scripted{store}, err
}

// refOf has the session's id for its trainer: there is no token to tell another.
func refOf(b *body) sessions.Ref {
	return sessions.Ref{TrainerID: sessions.ID(b.SessionID), SessionID: sessions.ID(b.SessionID)}
}

func (s scripted) book(ctx context.Context, b *body) (int, error) {
	home, err := geo.NewPoint(b.StudentHome.Latitude, b.StudentHome.Longitude)
	if err != nil {
		return 0, err
	}
	opened, err := s.store.Open(ctx, sessions.Journey{Ref: refOf(b), Home: home, Mode: sessions.Car, StartedAt: time.Now()})
	if err == nil && !opened {
		err = fmt.Errorf("not opened: %s", b.SessionID)
	}
	return http.StatusCreated, err
}

func (s scripted) put(ctx context.Context, f *body) (int, error) {
	at, err := geo.NewPoint(f.Latitude, f.Longitude)
	if err != nil {
		return 0, err
	}
	receipt, err := s.store.Update(ctx, refOf(f), sessions.Fix{Point: at, AccuracyM: f.Accuracy, SpeedKMH: &f.Speed, HeadingDeg: &f.Heading})
	if err == nil && receipt.Verdict != sessions.VerdictStored {
		return http.StatusUnprocessableEntity, nil
	}
	return http.StatusCreated, err
}

// watched has the sessions' last fixes in this process's memory: who posts and who
// polls have to come to the same one.
type watched struct {
	floor
	mu  sync.Mutex
	all map[string]*latest
}

// latest is a session's last fix, as it is answered, and what is closed when the
// next one has come.
type latest struct {
	version int
	body    []byte
	next    chan struct{}
}

func (w *watched) put(ctx context.Context, f *body) (int, error) {
	status, err := w.floor.put(ctx, f)
	text := `{"latitude":` + degrees(f.Latitude) + `,"longitude":` + degrees(f.Longitude) + `}`
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.of(f.SessionID)
	w.all[f.SessionID] = &latest{version: last.version + 1, body: []byte(text), next: make(chan struct{})}
	close(last.next)
	return status, err
}

// of is for who holds mu.
func (w *watched) of(session string) *latest {
	if w.all[session] == nil {
		w.all[session] = &latest{body: []byte(`{"location":null}`), next: make(chan struct{})}
	}
	return w.all[session]
}

func (w *watched) get(session string) *latest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.of(session)
}

// live answers a long poll: no token, nobody's session, 25 s whatever was asked for.
func (w *watched) live(ctx context.Context, c *app.RequestContext) {
	session := c.Query("sessionId")
	l := w.get(session)
	if c.Query("wait") != "" && string(c.GetHeader("If-None-Match")) == strconv.Itoa(l.version) {
		timer := time.NewTimer(25 * time.Second)
		defer timer.Stop()
		select {
		case <-l.next:
			l = w.get(session)
		case <-timer.C:
			c.SetStatusCode(http.StatusNotModified)
			return
		case <-ctx.Done():
			return
		}
	}
	c.Header("ETag", strconv.Itoa(l.version))
	c.Data(http.StatusOK, "application/json", l.body)
}
