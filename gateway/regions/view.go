package regions

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// StartedHeader has the start of the running journey, RFC 3339, in the answer to a
// forwarded read: by it a share link is checked here.
const StartedHeader = "Doorstep-Journey-Started"

// liveBody is the answer to a live read: data of call 3 and of call 24.
type liveBody struct {
	Data struct {
		Location *struct {
			Latitude  float64   `json:"latitude"`
			Longitude float64   `json:"longitude"`
			Accuracy  float64   `json:"accuracy"`
			Speed     *float64  `json:"speed"`
			Heading   *float64  `json:"heading"`
			Timestamp time.Time `json:"timestamp"`
		} `json:"location"`
		IsActive   bool           `json:"isActive"`
		Phase      sessions.Phase `json:"phase"`
		LastUpdate time.Time      `json:"lastUpdate"`
		FixAgeMS   int64          `json:"fixAgeMs"`
		DistanceM  float64        `json:"distanceMeters"`
		ETASeconds *int64         `json:"etaSeconds"`
		Degraded   bool           `json:"degraded"`
	} `json:"data"`
}

// viewOf is the view of a live read's answer, and false for what is none.
func viewOf(ref sessions.Ref, a Answer) (sessions.View, bool) {
	var body liveBody
	if err := json.Unmarshal(a.Body, &body); err != nil || body.Data.Phase.Rank() < 0 {
		return sessions.View{}, false
	}
	d := body.Data
	v := sessions.View{Ref: ref, Degraded: d.Degraded, Told: true, ETA: d.ETASeconds}
	v.Known, v.Active, v.Arriving, v.DistanceM = true, d.IsActive, d.Phase == sessions.Arriving, d.DistanceM
	v.Version = versionOf(a.Header)
	if !d.IsActive {
		v.Over = d.Phase
	}
	v.StartedAt, _ = time.Parse(time.RFC3339Nano, a.Header.Get(StartedHeader))
	if at := d.Location; at != nil {
		point, err := geo.NewPoint(at.Latitude, at.Longitude)
		if err != nil {
			return sessions.View{}, false
		}
		v.Location = &sessions.Location{
			Fix: sessions.Fix{Point: point, AccuracyM: at.Accuracy, SpeedKMH: at.Speed, HeadingDeg: at.Heading, RecordedAt: at.Timestamp},
			At:  d.LastUpdate,
		}
		v.Now = at.Timestamp.Add(time.Duration(d.FixAgeMS) * time.Millisecond)
	}
	return v, true
}

// versionOf is the version in an ETag that no proxy has rewritten between two gateways; 0
// where there is none.
func versionOf(h http.Header) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(h.Get("ETag"), `W/"`), `"`), 10, 64)
	return n
}
