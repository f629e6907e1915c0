package ingest

import (
	"fmt"
	"time"
)

// decodeOverland reads a batch of GeoJSON features; current and trip beside a long
// queue say where the phone is now.
func decodeOverland(r *jsonReader, c *collector) error {
	if empty, err := r.empty(); empty || err != nil {
		return err
	}
	switch first, err := r.next(); {
	case err != nil:
		return err
	case first != '{':
		return ErrUnreadable
	}
	return r.object(func(key []byte) error {
		switch string(key) {
		case "locations":
			return r.array(func() error { return objectOnly(r, c, func() error { return feature(r, c, false) }) })
		case "current":
			return present(r, c)
		case "trip":
			return trip(r, c)
		}
		return r.skip()
	})
}

// trip reads the place in a trip. Its start_location is long ago.
func trip(r *jsonReader, c *collector) error {
	return r.object(func(key []byte) error {
		if string(key) == "current_location" {
			return present(r, c)
		}
		return r.skip()
	})
}

// present reads a feature that may be null.
func present(r *jsonReader, c *collector) error {
	first, err := r.next()
	switch {
	case err != nil:
		return err
	case first != '{':
		return r.skip()
	}
	return feature(r, c, true)
}

func feature(r *jsonReader, c *collector, now bool) error {
	p := newPosition()
	p.present = now
	record := false
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "geometry":
			return r.object(func(key []byte) error {
				if string(key) == "coordinates" {
					return coordinates(r, &p)
				}
				return r.skip()
			})
		case "properties":
			return properties(r, &p, &record)
		}
		return r.skip()
	})
	switch {
	case err != nil:
		return err
	case record:
		c.report.Other++
	default:
		c.add(p)
	}
	return nil
}

// coordinates reads longitude, latitude and perhaps an altitude, in GeoJSON's order.
func coordinates(r *jsonReader, p *position) error {
	n := 0
	return r.array(func() error {
		v, err := r.number()
		switch n++; n {
		case 1:
			p.lng = v
		case 2:
			p.lat = v
		}
		return err
	})
}

// properties reads metres, metres a second and degrees; negative is not known.
// record says that the feature is a note (an action of the app, a visit, the end of
// a trip), which carries the last place under the present time.
func properties(r *jsonReader, p *position, record *bool) error {
	return r.object(func(key []byte) (err error) {
		switch string(key) {
		case "timestamp":
			p.at, err = r.instant()
		case "horizontal_accuracy":
			p.accuracyM, err = r.number()
		case "speed":
			p.speedKMH, err = r.number()
			p.speedKMH *= kmhPerMPS
		case "course":
			p.headingDeg, err = r.number()
		case "action", "type":
			*record = true
			err = r.skip()
		default:
			err = r.skip()
		}
		return err
	})
}

// sendIntervals are those that Overland knows, in the words that it wants.
var sendIntervals = []struct {
	pause time.Duration
	word  string
}{
	{5 * time.Minute, "5m"},
	{2 * time.Minute, "2m"},
	{time.Minute, "1m"},
	{30 * time.Second, "30s"},
	{15 * time.Second, "15s"},
	{10 * time.Second, "10s"},
	{5 * time.Second, "5s"},
}

// answerOverland must hold the result, or the batch is sent again. The interval is
// the longest that is not over what is asked for.
func answerOverland(s Steer) []byte {
	if s.Stop {
		return []byte(`{"result":"ok","set":{"main":{"tracking_mode":"off"}}}`)
	}
	if s.Interval <= 0 {
		return []byte(`{"result":"ok"}`)
	}
	word := "1s"
	for _, known := range sendIntervals {
		if known.pause <= s.Interval {
			word = known.word
			break
		}
	}
	return fmt.Appendf(nil, `{"result":"ok","set":{"send_interval":%q}}`, word)
}
