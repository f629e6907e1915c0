package ingest_test

import (
	"testing"

	"doorstep/sessions"
)

const owntracksHere = `"lat":12.9716,"lon":77.5946,"tst":1773480420`

func TestDecode_ownTracks(t *testing.T) {
	t.Parallel()
	decoded(t, sessions.OwnTracks, map[string]golden{
		"android": {
			body: `{"_type":"location","BSSID":"b0:f2:08:45:94:33","SSID":"home","_id":"3f9a","acc":8,"alt":905,"batt":81,"bs":1,"cog":271,"conn":"w","created_at":1773480421,` +
				owntracksHere + `,"m":2,"t":"t","tid":"t1","topic":"owntracks/t1/phone","vac":3,"vel":35}`,
			want: "(12.9716,77.5946 8m 35km/h 271° 09:27:00)",
		},
		"ios":              {body: `{"_type":"location","tid":"t1","t":"v","conn":"m","p":101.2,"vac":-1,"m":1,"inregions":["home"],"motionactivities":["automotive"],` + owntracksHere + `,"acc":5,"vel":-1,"cog":-1}`, want: "(12.9716,77.5946 5m 09:27:00)"},
		"speed_not_known":  {body: `{"_type":"location",` + owntracksHere + `,"vel":0,"cog":0}`, want: "(12.9716,77.5946 09:27:00)"},
		"floats_for_ints":  {body: `{"_type":"location","lat":12.9716,"lon":77.5946,"tst":1773480420.0,"acc":8.0,"vel":35.0,"cog":0.0}`, want: "(12.9716,77.5946 8m 35km/h 0° 09:27:00)"},
		"texts_for_floats": {body: `{"_type":"location","lat":"12.9716","lon":"77.5946","tst":"1773480420"}`, want: "(12.9716,77.5946 09:27:00)"},
		"type_last":        {body: `{` + owntracksHere + `,"_type":"location"}`, want: "(12.9716,77.5946 09:27:00)"},
		"array":            {body: `[{"_type":"location",` + owntracksHere + `},{"_type":"lwt","tst":1},7]`, want: "(12.9716,77.5946 09:27:00) malformed=1 other=1"},
		"ping":             {body: `{"_type":"location","t":"p",` + owntracksHere + `}`, want: "other=1"},
		"encrypted":        {body: `{"_type":"encrypted","data":"XoBQZZ0c=="}`, want: "encrypted=1"},
		"transition":       {body: `{"_type":"transition","event":"enter","wtst":1,` + owntracksHere + `}`, want: "other=1"},
		"waypoints":        {body: `{"_type":"waypoints","waypoints":[{"_type":"waypoint","desc":"home","lat":1,"lon":2,"rad":50,"tst":5}]}`, want: "other=1"},
		"status":           {body: `{"_type":"status","android":{"hib":1}}`, want: "other=1"},
		"unknown_type":     {body: `{"_type":"tomorrow"}`, want: "other=1"},
		"no_type":          {body: `{` + owntracksHere + `}`, want: "malformed=1"},
		"no_instant":       {body: `{"_type":"location","lat":1,"lon":2}`, want: "malformed=1"},
		"absurd_instant":   {body: `{"_type":"location","lat":1,"lon":2,"tst":12}`, want: "malformed=1"},
		"no_place":         {body: `{"_type":"location","tst":1773480420}`, want: "malformed=1"},
		"out_of_range":     {body: `{"_type":"location","lat":91,"lon":2,"tst":1773480420}`, want: "malformed=1"},
		"empty":            {body: ``, want: ""},
		"blank":            {body: " \r\n", want: ""},
		"no_json":          {body: `hello`, want: "unreadable"},
		"cut":              {body: `{"_type":"location",` + owntracksHere, want: "unreadable"},
	})
}

func FuzzOwnTracks(f *testing.F) {
	f.Add("", `{"_type":"location",`+owntracksHere+`,"vel":35}`)
	f.Add("", `[{"_type":"encrypted","data":"\u00e9\\"},{"_type":"location","t":"p"},null]`)
	fuzz(f, sessions.OwnTracks)
}
