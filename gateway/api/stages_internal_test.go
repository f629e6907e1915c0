package api

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/geo"
	"doorstep/internal/budgettest"
	"doorstep/sessions"
)

// BenchmarkStages_JSON measures the two stages of a request that cannot be reached
// from outside the package; package bench measures the others. The unit is what
// encoding/json needs to decode the same body.
func BenchmarkStages_JSON(b *testing.B) {
	body := []byte(`{"sessionId":"b54adc00-67f9-11ef-9669-0242ac120002","latitude":52.1012345,"longitude":5.1012345,` +
		`"accuracy":8.5,"speed":50.4,"heading":260,"recordedAt":"2026-03-14T09:26:53.589Z"}`)
	c := app.NewContext(0)
	c.Request.SetBody(body)
	at := time.Date(2026, 3, 14, 9, 26, 53, 589e6, time.UTC)
	id := sessions.ID("b54adc00-67f9-11ef-9669-0242ac120002")
	receipt := sessions.Receipt{
		Verdict: sessions.VerdictStored, At: at, TTL: 5 * time.Minute, Version: at.UnixMilli(), NextUpdate: 5 * time.Second, DistanceM: 1840.2,
	}
	speed, heading := 50.4, 260.0
	view := sessions.View{
		Ref: sessions.Ref{TrainerID: id, SessionID: id},
		Snapshot: sessions.Snapshot{
			Known: true, Active: true, Version: at.UnixMilli(), DistanceM: 1840.2,
			Location: &sessions.Location{
				Fix: sessions.Fix{Point: geo.MustPoint(52.1012345, 5.1012345), AccuracyM: 8.5, SpeedKMH: &speed, HeadingDeg: &heading, RecordedAt: at},
				At:  at,
			},
		},
	}
	budgettest.Bench(b, func() { decodeOnce(b, body) },
		budgettest.Stage{Name: "decode", Units: 1.1, Allocs: 16, Run: func() {
			if _, err := decodeUpdate(c, at); err != nil {
				b.Fatal(err)
			}
		}},
		budgettest.Stage{Name: "encode/update", Units: 0.8, Allocs: 10, Run: func() { encoded(b, c, answerUpdate(c, id, receipt), http.StatusCreated) }},
		budgettest.Stage{Name: "encode/live", Units: 1.3, Allocs: 15, Run: func() { encoded(b, c, answerLive(c, view), http.StatusOK) }},
	)
}

func decodeOnce(b *testing.B, body []byte) {
	b.Helper()
	var into struct {
		SessionID                                     *string
		Latitude, Longitude, Accuracy, Speed, Heading *float64
		RecordedAt                                    *time.Time
		Mock                                          *bool
	}
	if err := json.Unmarshal(body, &into); err != nil {
		b.Fatal(err)
	}
}

func encoded(b *testing.B, c *app.RequestContext, err error, status int) {
	b.Helper()
	if err != nil || c.Response.StatusCode() != status {
		b.Fatal(c.Response.StatusCode(), err)
	}
}
