package ingest_test

import (
	"testing"

	"doorstep/sessions"
)

// feature is one of Overland's, with more properties.
func feature(at, more string) string {
	return `{"type":"Feature","geometry":{"type":"Point","coordinates":[77.5946,12.9716]},"properties":{"timestamp":"2026-03-14T` + at + `Z","altitude":905,"speed":10,"course":90,"horizontal_accuracy":8,"vertical_accuracy":-1,"motion":["driving","stationary"],"battery_state":"unplugged","battery_level":0.81,"wifi":"","device_id":"phone"` + more + `}}`
}

func TestDecode_overland(t *testing.T) {
	t.Parallel()
	const shown0, shown5 = "(12.9716,77.5946 8m 36km/h 90° 09:27:00", "(12.9716,77.5946 8m 36km/h 90° 09:27:05"
	decoded(t, sessions.Overland, map[string]golden{
		"batch":        {body: `{"locations":[` + feature("09:27:00", "") + `,` + feature("09:27:05", "") + `]}`, want: shown0 + ") " + shown5 + ")"},
		"offset":       {body: `{"locations":[{"geometry":{"coordinates":[2,1,905]},"properties":{"timestamp":"2026-03-14T14:57:00+0530","speed":-1,"course":-1,"horizontal_accuracy":-1}}]}`, want: "(1,2 09:27:00)"},
		"current":      {body: `{"locations":[` + feature("06:27:00", "") + `,` + feature("06:27:05", "") + `],"current":` + feature("09:27:05", "") + `}`, want: shown5 + " present) old=2"},
		"trip":         {body: `{"locations":[],"current":null,"trip":{"distance":10,"mode":"car","start":"2026-03-14T09:00:00Z","start_location":` + feature("09:00:00", "") + `,"current_location":` + feature("09:27:00", "") + `}}`, want: shown0 + " present)"},
		"trip_first":   {body: `{"trip":{"current_location":` + feature("09:27:05", "") + `},"locations":[` + feature("09:27:00", "") + `]}`, want: shown0 + ") " + shown5 + " present)"},
		"action":       {body: `{"locations":[` + feature("09:27:00", `,"action":"paused_location_updates"`) + `]}`, want: "other=1"},
		"visit":        {body: `{"locations":[` + feature("09:27:00", `,"action":"visit","arrival_date":"2026-03-14T09:00:00Z"`) + `]}`, want: "other=1"},
		"ended_trip":   {body: `{"locations":[` + feature("09:27:00", `,"type":"trip","mode":"car"`) + `]}`, want: "other=1"},
		"bad_members":  {body: `{"locations":[{},null,{"geometry":null,"properties":{"timestamp":"2026-03-14T09:27:00Z"}},{"geometry":{"coordinates":[[2,1]]},"properties":{"timestamp":"2026-03-14T09:27:00Z"}},{"geometry":{"coordinates":[2,1]}},` + feature("09:27:00", "") + `]}`, want: shown0 + ") malformed=5"},
		"no_locations": {body: `{"something":1}`, want: ""},
		"array":        {body: `[` + feature("09:27:00", "") + `]`, want: "unreadable"},
		"empty":        {body: ``, want: ""},
		"cut":          {body: `{"locations":[` + feature("09:27:00", "") + `,{"ty`, want: shown0 + ") unreadable"},
	})
}

func FuzzOverland(f *testing.F) {
	f.Add("", `{"locations":[`+feature("09:27:00", "")+`],"current":`+feature("09:27:05", "")+`,"trip":{"current_location":null}}`)
	fuzz(f, sessions.Overland)
}
