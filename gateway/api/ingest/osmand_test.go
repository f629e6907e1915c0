package ingest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/api/ingest"
	"doorstep/sessions"
)

func TestDecode_osmAnd(t *testing.T) {
	t.Parallel()
	const here = "lat=12.9716&lon=77.5946&timestamp=1773480420"
	decoded(t, sessions.OsmAnd, map[string]golden{
		"traccar_8":            {query: "id=s&timestamp=1773480420&lat=12.9716&lon=77.5946&speed=10.0&bearing=271.3&altitude=905.2&accuracy=0.0&batt=81.0&mock=true&charge=true", want: "(12.9716,77.5946 18.5km/h 271.3° 09:27:00 mock) id=s"},
		"traccar_9":            {body: `{"location":{"timestamp":"2026-03-14T09:27:00.120Z","coords":{"latitude":12.9716,"longitude":77.5946,"accuracy":8.4,"speed":-1,"heading":-1,"altitude":905.2},"is_moving":true,"odometer":0,"event":"motionchange","battery":{"level":0.81,"is_charging":false},"activity":{"type":"still"},"extras":{},"_":"&id=s&lat=12.9716&lon=77.5946"},"device_id":"s"}`, want: "(12.9716,77.5946 8.4m 09:27:00.12) id=s"},
		"traccar_9_moving":     {body: `{"device_id":"s","location":{"timestamp":"2026-03-14T09:27:00.120Z","coords":{"latitude":12.9716,"longitude":77.5946,"speed":0,"heading":0}}}`, want: "(12.9716,77.5946 0km/h 0° 09:27:00.12) id=s"},
		"traccar_10":           {body: "id=s&" + here + "&accuracy=8.4&altitude=905.2&speed=10.53&bearing=271.3&batt=81.0&charge=false", want: "(12.9716,77.5946 8.4m 19.5km/h 271.3° 09:27:00) id=s"},
		"traccar_10_heartbeat": {body: "id=s&timestamp=1773480420&batt=81.0", want: "other=1 id=s"},
		"array":                {body: `[{"id":"s","lat":12.9716,"lon":77.5946,"timestamp":1773480420,"speed":10,"bearing":90,"imei":"1"},{"id":"s","batt":3,"timestamp":1773480425},{"id":"s","location":"12.97,77.59","timestamp":"1773480430"},{},4]`, want: "(12.9716,77.5946 18.5km/h 90° 09:27:00) (12.97,77.59 09:27:10) malformed=2 other=1 id=s"},
		"flat_object":          {body: `{"id":"s","lat":12.9716,"lon":77.5946}`, want: "(12.9716,77.5946) id=s"},
		"id_in_query":          {query: "id=s", body: here + "&id=other", want: "(12.9716,77.5946 09:27:00) id=s"},
		"id_in_query_json":     {query: "deviceid=s", body: `[{"id":"other","lat":1,"lon":2,"timestamp":1773480420}]`, want: "(1,2 09:27:00) id=s"},
		"other_names":          {query: "deviceid=s&location=12.9716,77.5946&timestamp=1773480420&heading=90&speed=1", want: "(12.9716,77.5946 1.9km/h 90° 09:27:00) id=s"},
		"no_instant":           {query: "lat=1&lon=2", want: "(1,2)"},
		"milliseconds":         {query: "lat=1&lon=2&timestamp=1773480420123", want: "(1,2 09:27:00.123)"},
		"iso":                  {query: "lat=1&lon=2&timestamp=2026-03-14T14:57:00.5%2B05:30", want: "(1,2 09:27:00.5)"},
		"date_and_time":        {query: "lat=1&lon=2&timestamp=2026-03-14+09:27:00", want: "(1,2 09:27:00)"},
		"no_fix":               {query: "lat=1&lon=2&valid=0", want: "other=1"},
		"no_fix_json":          {body: `[{"lat":1,"lon":2,"valid":false}]`, want: "other=1"},
		"malformed_instant":    {query: "lat=1&lon=2&timestamp=yesterday", want: "malformed=1"},
		"malformed_place":      {query: "lat=north&lon=2", want: "malformed=1"},
		"malformed_query":      {query: "%zz&id=s&lat=1;lon=2", want: "other=1 id=s"},
		"json_typed_as_form":   {body: ` {"location":{"timestamp":1773480420123,"coords":{"latitude":1,"longitude":2}}}`, want: "(1,2 09:27:00.123)"},
		"nothing":              {want: ""},
		"cut":                  {query: "id=s", body: `[{"lat":1,"lon":2,"timestamp":1773480420},{"lat`, want: "(1,2 09:27:00) id=s unreadable"},
	})
	report, err := ingest.Decode(sessions.OsmAnd, ingest.Request{Query: here}) // GET
	assert.True(t, err == nil && report.Total == 1)
	assert.Equal(t, "s", ingest.DeviceID("lat=1&id=s"))
	assert.Equal(t, "s", ingest.DeviceID("deviceid=s&%zz"))
	assert.Empty(t, ingest.DeviceID(""))
}

func FuzzOsmAnd(f *testing.F) {
	f.Add("id=s&timestamp=2026-03-14+09:27:00&lat=12.9&lon=77.5&speed=10", "")
	f.Add("id=s", `[{"lat":1,"lon":2,"timestamp":1773480420,"valid":1}]`)
	f.Add("", "id=s&location=1,2&timestamp=1773480420123&mock=1")
	fuzz(f, sessions.OsmAnd)
}
