// Command floor is a peer of make bench-peers: the least that an update can
// cost with Doorstep's own libraries. Hertz on the same transport decodes the
// JSON, one HSET through a valkey-go client with the same options writes the
// same fields; no token, no rate, no check, no TTL, nobody told.
//
// As `floor script` it is the least that a gateway with update.lua can cost: the
// same, but that the fix goes to the script, through the store that the gateway
// has, for a journey opened when it was booked.
//
// As `floor serve`, with DOORSTEP_LISTEN and DOORSTEP_VALKEY_URL, it takes a
// gateway's place in bench/load: long polls, too, answered from its memory.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bytedance/sonic"
	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/cloudwego/hertz/pkg/network/standard"
	"github.com/valkey-io/valkey-go"
)

func main() {
	listen, url := os.Getenv("LISTEN"), os.Getenv("REDIS_URL")
	as := strings.Join(os.Args[1:], " ")
	if as == "serve" {
		listen, url = os.Getenv("DOORSTEP_LISTEN"), os.Getenv("DOORSTEP_VALKEY_URL")
	}
	book, put, err := plain(url)
	if as == "script" {
		book, put, err = script(url)
	}
	if err != nil {
		log.Fatal(err)
	}
	h := server.New(server.WithHostPorts(listen), server.WithTransport(standard.NewTransporter),
		server.WithIdleTimeout(time.Minute), server.WithDisablePrintRoute(true), server.WithSenseClientDisconnection(as == "serve"))
	h.GET("/readyz", func(_ context.Context, c *app.RequestContext) { c.SetStatusCode(http.StatusOK) })
	h.POST("/api/v1/admin/sessions", handler(book))
	h.POST("/api/v1/admin/sessions/:sessionId/start-journey", func(_ context.Context, c *app.RequestContext) { c.SetStatusCode(http.StatusCreated) })
	if as == "serve" {
		w := watched{all: map[string]*latest{}}
		h.GET("/api/v1/admin/location-tracking/journey/live", w.live)
		store := put
		put = func(ctx context.Context, f *fix) (int, error) {
			status, err := store(ctx, f)
			w.put(f)
			return status, err
		}
	}
	h.POST("/api/v1/admin/location-tracking/journey/updates", handler(put))
	h.Spin()
}

type fix struct {
	SessionID string  `json:"sessionId"`
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Accuracy  float64 `json:"accuracy"`
	Speed     float64 `json:"speed"`
	Heading   float64 `json:"heading"`
}

type booking struct {
	SessionID   string `json:"sessionId"`
	StudentHome struct {
		Latitude  float64 `json:"latitude"`
		Longitude float64 `json:"longitude"`
	} `json:"studentHome"`
}

// handler decodes a body and answers with the status that do returns.
func handler[T any](do func(context.Context, *T) (status int, err error)) app.HandlerFunc {
	return func(ctx context.Context, c *app.RequestContext) {
		var body T
		if err := sonic.ConfigStd.Unmarshal(c.Request.Body(), &body); err != nil {
			c.SetStatusCode(http.StatusBadRequest)
			return
		}
		status, err := do(ctx, &body)
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

// plain writes a fix by one HSET; a booking needs nothing.
func plain(url string) (book func(context.Context, *booking) (int, error), put func(context.Context, *fix) (int, error), err error) {
	opt, err := valkey.ParseURL(url)
	if err != nil {
		return nil, nil, err
	}
	// As valkeyconn.clientOption has them.
	opt.PipelineMultiplex, opt.AlwaysPipelining = -1, true
	opt.MaxFlushDelay = 100 * time.Microsecond
	opt.DisableCache, opt.DisableRetry = true, true
	opt.ConnWriteTimeout = time.Second
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	client, err := valkey.NewClient(opt)
	if err != nil {
		return nil, nil, err
	}
	book = func(context.Context, *booking) (int, error) { return http.StatusCreated, nil }
	put = func(ctx context.Context, f *fix) (int, error) {
		now := time.Now().UnixMilli()
		return http.StatusCreated, client.Do(ctx, client.B().Hset().Key("location:"+f.SessionID).FieldValue().
			FieldValue("lat", degrees(f.Latitude)).FieldValue("lng", degrees(f.Longitude)).
			FieldValue("acc", tenths(f.Accuracy)).FieldValue("spd", tenths(f.Speed)).FieldValue("hdg", tenths(f.Heading)).
			FieldValue("ts", strconv.FormatInt(now, 10)).Build()).Error()
	}
	return book, put, nil
}

func degrees(f float64) string { return strconv.FormatFloat(f, 'f', 7, 64) }
func tenths(f float64) string  { return strconv.FormatFloat(f, 'f', 1, 64) }
