// Command floor is a peer of make bench-peers: the least that an update can
// cost with Doorstep's own libraries. Hertz on the same transport decodes the
// JSON, one HSET through a valkey-go client with the same options writes the
// same fields; no token, no rate, no check, no TTL, nobody told.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/bytedance/sonic"
	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/cloudwego/hertz/pkg/network/standard"
	"github.com/valkey-io/valkey-go"
)

func main() {
	opt, err := valkey.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	// As scripts.clientOption has them.
	opt.PipelineMultiplex, opt.AlwaysPipelining = -1, true
	opt.MaxFlushDelay = 100 * time.Microsecond
	opt.DisableCache, opt.DisableRetry = true, true
	opt.ConnWriteTimeout = time.Second
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	client, err := valkey.NewClient(opt)
	if err != nil {
		log.Fatal(err)
	}
	h := server.New(server.WithHostPorts(os.Getenv("LISTEN")), server.WithTransport(standard.NewTransporter),
		server.WithIdleTimeout(time.Minute), server.WithDisablePrintRoute(true))
	h.GET("/readyz", func(_ context.Context, c *app.RequestContext) { c.SetStatusCode(http.StatusOK) })
	for _, path := range []string{"/api/v1/admin/sessions", "/api/v1/admin/sessions/:sessionId/start-journey"} {
		h.POST(path, func(_ context.Context, c *app.RequestContext) { c.SetStatusCode(http.StatusCreated) })
	}
	h.POST("/api/v1/admin/location-tracking/journey/updates", update(client))
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

func update(client valkey.Client) app.HandlerFunc {
	return func(ctx context.Context, c *app.RequestContext) {
		var f fix
		if err := sonic.ConfigStd.Unmarshal(c.Request.Body(), &f); err != nil {
			c.SetStatusCode(http.StatusBadRequest)
			return
		}
		now := time.Now().UnixMilli()
		err := client.Do(ctx, client.B().Hset().Key("location:"+f.SessionID).FieldValue().
			FieldValue("lat", degrees(f.Latitude)).FieldValue("lng", degrees(f.Longitude)).
			FieldValue("acc", tenths(f.Accuracy)).FieldValue("spd", tenths(f.Speed)).FieldValue("hdg", tenths(f.Heading)).
			FieldValue("ts", strconv.FormatInt(now, 10)).Build()).Error()
		if err != nil {
			c.SetStatusCode(http.StatusServiceUnavailable)
			return
		}
		c.Data(http.StatusCreated, "application/json", []byte(`{"success":true}`))
	}
}

func degrees(f float64) string { return strconv.FormatFloat(f, 'f', 7, 64) }
func tenths(f float64) string  { return strconv.FormatFloat(f, 'f', 1, 64) }
