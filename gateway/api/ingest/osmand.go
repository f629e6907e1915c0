package ingest

import (
	"io"
	"net/url"
	"strings"
)

// maxForm is the longest form in bytes: the keys of one position need some 300.
const maxForm = 64 << 10

// DeviceID is the credential in a query of OsmAnd; empty where it is in the body.
func DeviceID(query string) string {
	values, _ := url.ParseQuery(query) // what can be read of it
	return firstOf(values, "id", "deviceid")
}

// decodeOsmAnd reads OsmAnd's protocol in its four shapes: all in the query
// (Traccar Client for Android up to 8, and any tracker that says GET), a form (10),
// one JSON object in transistorsoft's words (9), and a JSON array of the form's
// keys. The body is looked at, and not its type: apps set it wrongly.
func decodeOsmAnd(q Request, c *collector) error {
	c.untimed = true
	values, _ := url.ParseQuery(q.Query)
	c.report.DeviceID = firstOf(values, "id", "deviceid")
	r := newJSONReader(q.Body, MaxOsmAndBody)
	empty, err := r.empty()
	if err != nil {
		return err
	}
	if !empty && (r.buffer[r.pos] == '{' || r.buffer[r.pos] == '[') {
		return locations{r: r, c: c, osmAnd: true}.root()
	}
	err = addForm(values, r)
	c.report.DeviceID = firstOf(values, "id", "deviceid")
	osmAndForm(values, c)
	return err
}

// addForm adds what the query does not say.
func addForm(values url.Values, r *jsonReader) error {
	text, err := r.rest(maxForm)
	if err != nil {
		return err
	}
	form, _ := url.ParseQuery(string(text))
	for key, value := range form {
		if !values.Has(key) {
			values[key] = value
		}
	}
	return nil
}

func osmAndForm(values url.Values, c *collector) {
	number := func(keys ...string) float64 { return numberOf([]byte(firstOf(values, keys...))) }
	p := newPosition()
	p.lat, p.lng = number("lat"), number("lon")
	if lat, lng, ok := placeOf(values.Get("location")); ok {
		p.lat, p.lng = lat, lng
	}
	p.at = instantOf([]byte(values.Get("timestamp")))
	p.accuracyM = number("accuracy")
	p.speedKMH = number("speed") * kmhPerKnot
	p.headingDeg = number("bearing", "heading")
	p.mock = truthOf([]byte(values.Get("mock")))
	p.zeroIsUnknown()
	switch {
	case values.Has("lat") || values.Has("lon") || p.placed():
		if saysInvalid(values.Get("valid")) {
			c.report.Other++
			return
		}
		c.add(p)
	case len(values) > 0: // a heartbeat has no place
		c.report.Other++
	}
}

// saysInvalid reads OsmAnd's valid.
func saysInvalid(text string) bool { return text == "0" || strings.EqualFold(text, "false") }

// placeOf reads OsmAnd's location: latitude and longitude with a comma between.
func placeOf(text string) (lat, lng float64, ok bool) {
	first, second, ok := strings.Cut(text, ",")
	return numberOf([]byte(first)), numberOf([]byte(second)), ok
}

func firstOf(values url.Values, keys ...string) string {
	for _, key := range keys {
		if v := values.Get(key); v != "" {
			return v
		}
	}
	return ""
}

// rest is what is left of the body, if it is no longer than limit.
func (r *jsonReader) rest(limit int) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(io.MultiReader(strings.NewReader(string(r.buffer[r.pos:r.end])), r.in), int64(limit)+1))
	if err == nil && len(text) > limit {
		return nil, ErrTooLarge
	}
	return text, err
}
