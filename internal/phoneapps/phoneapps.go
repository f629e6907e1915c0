// Package phoneapps writes requests as stock phone apps write them. The demo sends
// them, the tests of package ingest read them, and the models of the apps in
// bench/verify/phones keep sending them.
package phoneapps

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// App is an app in one of its generations.
type App string

// The apps whose requests differ.
const (
	OwnTracksAndroid    App = "owntracks-android"
	OwnTracksIOS        App = "owntracks-ios"
	Traccar10           App = "traccar-10"
	Traccar9            App = "traccar-9"
	Traccar8            App = "traccar-8"
	Transistorsoft      App = "transistorsoft"
	TransistorsoftBatch App = "transistorsoft-batch"
	Overland            App = "overland"
)

// Apps are all of them.
var Apps = []App{OwnTracksAndroid, OwnTracksIOS, Traccar10, Traccar9, Traccar8, Transistorsoft, TransistorsoftBatch, Overland}

// Format is the last segment of the path that the app is pointed at.
func (a App) Format() string {
	switch a {
	case OwnTracksAndroid, OwnTracksIOS:
		return "owntracks"
	case Traccar10, Traccar9, Traccar8:
		return "osmand"
	case Overland:
		return "overland"
	default:
		return "transistorsoft"
	}
}

// Most is how many points the app puts into one request, as it is installed; 0 for
// all that it has.
func (a App) Most() int {
	switch a {
	case TransistorsoftBatch:
		return 0
	case Overland:
		return 200
	default:
		return 1
	}
}

// Point is what the receiver of a phone says. A negative number is not known.
type Point struct {
	Latitude, Longitude float64 // degrees
	AccuracyM           float64
	SpeedMPS            float64
	HeadingDeg          float64
	At                  time.Time
	Mock                bool // only Traccar 8 and transistorsoft tell
}

// Login is what is typed into the app. OwnTracks alone needs the user.
type Login struct{ User, Secret string }

// Request is what the app sends with POST to the URL that is typed into it.
type Request struct {
	Query  string
	Header http.Header
	Body   string
}

// Request writes points, oldest first. An app that sends one at a time sends the
// first only. current is Overland's newest point beside a long queue, or nil.
func (a App) Request(l Login, points []Point, current *Point) Request {
	switch a {
	case OwnTracksAndroid, OwnTracksIOS:
		return ownTracks(a, l, points[0])
	case Traccar10:
		return Request{Header: typed("application/x-www-form-urlencoded"), Body: osmAnd(l, points[0], false).Encode()}
	case Traccar9:
		return Request{Header: typed(jsonType), Body: text(map[string]any{"location": location(points[0], true), "device_id": l.Secret})}
	case Traccar8:
		return Request{Query: osmAnd(l, points[0], true).Encode(), Header: typed("application/x-www-form-urlencoded")}
	case Overland:
		return overland(l, points, current)
	case TransistorsoftBatch:
		locations := make([]any, len(points))
		for i, p := range points {
			locations[i] = location(p, false)
		}
		return Request{Header: bearer(l), Body: text(map[string]any{"location": locations})}
	default:
		return Request{Header: bearer(l), Body: text(map[string]any{"location": location(points[0], false)})}
	}
}

const jsonType = "application/json"

func typed(contentType string) http.Header { return http.Header{"Content-Type": {contentType}} }

func bearer(l Login) http.Header {
	h := typed(jsonType)
	h.Set("Authorization", "Bearer "+l.Secret)
	return h
}

func text(v any) string {
	b, _ := json.Marshal(v) //nolint:errchkjson // texts and finite numbers
	return string(b)
}

// ownTracks leaves out what is zero. Its speeds are whole km/h, cut off; Android
// says 0 for one that it does not know.
func ownTracks(a App, l Login, p Point) Request {
	m := map[string]any{
		"_type": "location", "lat": p.Latitude, "lon": p.Longitude, "tst": p.At.Unix(), "created_at": p.At.Unix() + 1,
		"batt": 81, "bs": 1, "conn": "m", "tid": "t1", "t": "t", "topic": "owntracks/" + l.User + "/phone",
	}
	for key, v := range map[string]float64{"acc": p.AccuracyM, "cog": p.HeadingDeg, "vel": p.SpeedMPS * 3.6} {
		if n := int(v + 1e-9); n > 0 {
			m[key] = n
		}
	}
	h := typed(jsonType)
	if a == OwnTracksAndroid {
		h = typed("application/json; charset=utf-8")
		m["_id"] = fmt.Sprintf("%08x", p.At.UnixNano()>>16&0xffffffff)
		if p.SpeedMPS < 0 {
			m["vel"] = 0
		}
	}
	h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(l.User+":"+l.Secret)))
	h.Set("X-Limit-U", l.User)
	h.Set("X-Limit-D", "phone")
	return Request{Header: h, Body: text(m)}
}

const knotsPerMPS = 3600.0 / 1852

func osmAnd(l Login, p Point, mock bool) url.Values {
	v := url.Values{
		"id": {l.Secret}, "timestamp": {strconv.FormatInt(p.At.Unix(), 10)}, "lat": {decimal(p.Latitude)}, "lon": {decimal(p.Longitude)},
		"accuracy": {decimal(max(0, p.AccuracyM))}, "altitude": {"905.2"}, "batt": {"81"},
		"speed": {strconv.FormatFloat(max(0, p.SpeedMPS)*knotsPerMPS, 'f', 2, 64)}, "bearing": {decimal(max(0, p.HeadingDeg))},
	}
	if mock && p.Mock {
		v.Set("mock", "true")
	}
	return v
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// location is transistorsoft's, or the shorter one of Traccar Client 9's template.
func location(p Point, traccar bool) map[string]any {
	coords := map[string]any{
		"latitude": p.Latitude, "longitude": p.Longitude, "accuracy": known(p.AccuracyM), "speed": known(p.SpeedMPS), "heading": known(p.HeadingDeg), "altitude": 905.2,
	}
	m := map[string]any{
		"timestamp": p.At.UTC().Format("2006-01-02T15:04:05.000Z"), "coords": coords, "is_moving": true, "odometer": 1250.5, "event": "",
		"battery": map[string]any{"level": 0.81, "is_charging": false}, "activity": map[string]any{"type": "in_vehicle"}, "extras": map[string]any{},
	}
	if traccar {
		m["_"] = "&id=&lat=" + decimal(p.Latitude)
		return m
	}
	m["uuid"] = fmt.Sprintf("6f1b2a34-9c8d-4e5f-a0b1-%012x", p.At.UnixMilli()&0xffffffffffff)
	m["age"] = 40
	if p.Mock {
		m["mock"] = true
	}
	return m
}

func known(v float64) float64 {
	if v < 0 {
		return -1
	}
	return v
}

func overland(l Login, points []Point, current *Point) Request {
	features := make([]any, len(points))
	for i, p := range points {
		features[i] = feature(p)
	}
	body := map[string]any{"locations": features}
	if current != nil {
		body["current"] = feature(*current)
	}
	return Request{Header: bearer(l), Body: text(body)}
}

func feature(p Point) map[string]any {
	return map[string]any{
		"type":     "Feature",
		"geometry": map[string]any{"type": "Point", "coordinates": []float64{p.Longitude, p.Latitude}},
		"properties": map[string]any{
			"timestamp": p.At.UTC().Format("2006-01-02T15:04:05Z"), "speed": known(p.SpeedMPS), "course": known(p.HeadingDeg),
			"horizontal_accuracy": known(p.AccuracyM), "vertical_accuracy": -1, "altitude": 905, "motion": []string{"driving"},
			"battery_state": "unplugged", "battery_level": 0.81, "wifi": "", "device_id": "phone",
		},
	}
}

// Accepted reports whether the app takes an answer for a success: by its status, and
// Overland by its words alone.
func (a App) Accepted(status int, body []byte) bool {
	if a == Overland {
		var answer struct {
			Result string `json:"result"`
		}
		return json.Unmarshal(body, &answer) == nil && answer.Result == "ok"
	}
	if a == OwnTracksAndroid && status == http.StatusOK && !json.Valid(body) {
		return false // as versions before June 2026 have it
	}
	if a == Traccar8 {
		return status < http.StatusBadRequest
	}
	return status/100 == 2
}

// String is the app's name.
func (a App) String() string { return strings.ReplaceAll(string(a), "-", " ") }
