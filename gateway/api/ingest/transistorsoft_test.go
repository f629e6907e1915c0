package ingest_test

import (
	"strings"
	"testing"

	"doorstep/sessions"
)

const (
	coordsHere = `"coords":{"latitude":12.9716,"longitude":77.5946,"accuracy":8.4,"altitude":905.2,"ellipsoidal_altitude":820,"altitude_accuracy":3,"heading":271.26,"heading_accuracy":11,"speed":9.72,"speed_accuracy":1.2,"floor":null}`
	moving     = `{"event":"motionchange","is_moving":true,"uuid":"7f1c","timestamp":"2026-03-14T09:27:00.123Z","age":40,"odometer":1250.5,` + coordsHere + `,"activity":{"type":"in_vehicle","confidence":92},"battery":{"level":0.81,"is_charging":false},"extras":{"home":{"latitude":1,"longitude":2,"timestamp":1}}}`
	shownHere  = "(12.9716,77.5946 8.4m 35km/h 271.3° 09:27:00.123)"
)

func TestDecode_transistorsoft(t *testing.T) {
	t.Parallel()
	decoded(t, sessions.Transistorsoft, map[string]golden{
		"object":              {body: `{"location":` + moving + `}`, want: shownHere},
		"array":               {body: `{"location":[` + moving + `]}`, want: shownHere},
		"root_property":       {body: `{"device":{"model":"a phone","id":"x"},"my data":` + moving + `}`, want: shownHere},
		"root_property_array": {body: `{"data":[` + moving + `],"token":"t","tags":["a",1]}`, want: shownHere + " malformed=2"},
		"at_the_root":         {body: `{"user":7,` + moving[1:], want: shownHere},
		"array_at_the_root":   {body: `[` + moving + `]`, want: shownHere},
		"traccar_template":    {body: `{"location":{"timestamp":"2026-03-14T09:27:00.123Z",` + coordsHere + `,"is_moving":true,"odometer":1,"event":"","battery":{"level":-1,"is_charging":false},"activity":{"type":"unknown"},"extras":{},"_":"&id=s"},"device_id":"s"}`, want: shownHere},
		"flat_template":       {body: `{"location":{"lat":12.9716,"lng":77.5946,"speed":10,"timestamp":1773480420123}}`, want: "(12.9716,77.5946 36km/h 09:27:00.123)"},
		"gaps_in_a_template":  {body: `{"location":{"coords":{"latitude":12.9716,"longitude":77.5946,"speed":,"heading":undefined,"accuracy":NaN},"timestamp":"2026-03-14T09:27:00Z","event":}}`, want: "(12.9716,77.5946 09:27:00)"},
		"params_with_a_place": {body: `{"destination":{"latitude":1,"longitude":2},"location":` + moving + `}`, want: shownHere},
		"not_known":           {body: `{"location":{"coords":{"latitude":1,"longitude":2,"accuracy":-1,"speed":-1,"heading":-1},"timestamp":1773480420123}}`, want: "(1,2 09:27:00.123)"},
		"standing":            {body: `{"location":{"coords":{"latitude":1,"longitude":2,"speed":0,"heading":0},"timestamp":1773480420123}}`, want: "(1,2 0km/h 0° 09:27:00.123)"},
		"mock":                {body: `{"location":{"mock":true,"coords":{"latitude":1,"longitude":2},"timestamp":1773480420123}}`, want: "(1,2 09:27:00.123 mock)"},
		"sample":              {body: `{"location":{"sample":true,` + moving[1:] + `}`, want: "other=1"},
		"heartbeat":           {body: `{"location":{"event":"heartbeat",` + moving[1:] + `}`, want: shownHere},
		"heartbeat_no_place":  {body: `{"location":[{"event":"heartbeat","timestamp":"2026-03-14T09:27:00.123Z","is_moving":false}]}`, want: "other=1"},
		"providerchange":      {body: `{"location":{"event":"providerchange","provider":{"enabled":false,"gps":false,"status":2,"latitude":3},"timestamp":"2026-03-14T09:27:00.123Z"}}`, want: "other=1"},
		"geofence":            {body: `{"location":{"geofence":{"identifier":"door","action":"ENTER","extras":{"latitude":1,"longitude":2,"timestamp":1773480420123}},` + moving[1:] + `}`, want: shownHere},
		"escapes":             {body: `{"\u006cocation":{"time\u0073tamp":"2026\u002d03-14T09:27:00Z","co\u006frds":{"latitude":1,"longitude":2,"x":"\ud83d\ude00\"}\\"}}}`, want: "(1,2 09:27:00)"},
		"bad_members":         {body: `{"location":[{"coords":{"latitude":"north","longitude":2},"timestamp":1773480420123},null,{"coords":[1,2],"timestamp":1773480420123},{"coords":{"latitude":1,"longitude":2}},{"coords":{"latitude":1,"longitude":2},"timestamp":"soon"},{},` + moving + `]}`, want: shownHere + " malformed=6"},
		"no_location":         {body: `{"location":{}}`, want: ""},
		"empty":               {body: ``, want: ""},
		"text":                {body: `"location"`, want: "unreadable"},
		"too_deep":            {body: `{"location":` + moving + `,"x":` + strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100) + `}`, want: shownHere + " malformed=1"},
		"cut":                 {body: `{"location":[` + moving + `,{"coords":{`, want: shownHere + " unreadable"},
		"bad_syntax":          {body: `{"location":[` + moving + `,{"coords" 7}]}`, want: shownHere + " unreadable"},
	})
}

func FuzzTransistorsoft(f *testing.F) {
	f.Add("", `{"location":`+moving+`}`)
	f.Add("", `{"data":[`+moving+`,{"sample":1},{"lat":1,"lng":2,"timestamp":1773480420123}]}`)
	fuzz(f, sessions.Transistorsoft)
}
