package ingest

import (
	"fmt"
	"math"
)

// decodeTransistorsoft reads what background-geolocation posts: a location or an
// array of them, below a root property of any name, or at the root.
//
// A location is an object with coords; or, because a template may rename things,
// one with a place and an instant of its own. Other objects beside it are the app's
// own parameters.
func decodeTransistorsoft(r *jsonReader, c *collector) error {
	return locations{r: r, c: c}.root()
}

// locations reads transistorsoft's objects, which Traccar Client 9 sends, too, and
// flat ones.
type locations struct {
	r      *jsonReader
	c      *collector
	osmAnd bool // flat objects are OsmAnd's
}

// level is where an object stands.
type level int

const (
	rootObject level = iota
	below            // the value of a property of the root
	member           // of an array
)

func (l locations) root() error {
	at := member
	if first, err := l.r.next(); err == nil && first == '{' {
		at = rootObject
	}
	return eachObject(l.r, l.c, func() error { return l.object(at) })
}

// record is an object that may be a location.
type record struct {
	position
	coords  bool // it has transistorsoft's coords
	event   bool // it says why it was sent
	sample  bool // one of several tries at a fix that the app has not settled on
	invalid bool // OsmAnd's word that the receiver has no fix
}

func (l locations) object(at level) error {
	o := record{position: newPosition()}
	if err := l.r.object(func(key []byte) error { return l.field(&o, key, at) }); err != nil {
		return err
	}
	described := o.at.said || o.event
	switch {
	case o.sample, o.invalid:
		l.c.report.Other++
	case o.coords, o.placed() && (o.at.said || l.osmAnd || at == member):
		if !o.coords {
			l.flat(&o.position)
		}
		l.c.add(o.position)
	case described && (at != below || o.event):
		l.c.report.Other++
	case at == member:
		l.c.report.Malformed++
	}
	return nil
}

// flat turns the numbers of a flat object into ours. A template of transistorsoft
// keeps its unit.
func (l locations) flat(p *position) {
	if !l.osmAnd {
		p.speedKMH *= kmhPerMPS
		return
	}
	p.speedKMH *= kmhPerKnot
	p.zeroIsUnknown()
}

func (l locations) field(o *record, key []byte, at level) (err error) {
	r := l.r
	switch string(key) {
	case "coords":
		o.coords = true
		return l.coords(&o.position)
	case "timestamp":
		o.at, err = r.instant()
	case "event":
		o.event = true
		return r.skip()
	case "mock":
		o.mock, err = r.truth()
	case "sample":
		o.sample, err = r.truth()
	case "latitude", "lat":
		o.lat, err = r.number()
	case "longitude", "lon", "lng":
		o.lng, err = r.number()
	case "accuracy":
		o.accuracyM, err = r.number()
	case "speed":
		o.speedKMH, err = r.number()
	case "heading", "bearing":
		o.headingDeg, err = r.number()
	case "id", "deviceid", "device_id":
		return l.credential()
	case "valid":
		valid, err := r.label()
		o.invalid = l.osmAnd && saysInvalid(valid)
		return err
	case "location":
		return l.location(o, at)
	case "extras", "activity", "battery", "geofence", "provider", "timestampMeta": // may hold places that are not the phone's
		return r.skip()
	default:
		return l.property(at)
	}
	return err
}

// location is the usual root property, or OsmAnd's place as one text.
func (l locations) location(o *record, at level) error {
	first, err := l.r.next()
	if err != nil || first != '"' || !l.osmAnd {
		return l.property(at)
	}
	text, err := l.r.label()
	if lat, lng, ok := placeOf(text); ok {
		o.lat, o.lng = lat, lng
	}
	return err
}

// property is a value under a key that no location has: at the root, the locations
// themselves or a parameter.
func (l locations) property(at level) error {
	first, err := l.r.next()
	switch {
	case err != nil:
		return err
	case at == rootObject && first == '{':
		return l.object(below)
	case at == rootObject && first == '[':
		return l.r.array(func() error { return objectOnly(l.r, l.c, func() error { return l.object(member) }) })
	}
	return l.r.skip()
}

// credential keeps the first.
func (l locations) credential() error {
	id, err := l.r.label()
	if l.osmAnd && l.c.report.DeviceID == "" {
		l.c.report.DeviceID = id
	}
	return err
}

// coords reads transistorsoft's: metres, metres a second, degrees; -1 is not known.
func (l locations) coords(p *position) error {
	return l.r.object(func(key []byte) (err error) {
		switch string(key) {
		case "latitude":
			p.lat, err = l.r.number()
		case "longitude":
			p.lng, err = l.r.number()
		case "accuracy":
			p.accuracyM, err = l.r.number()
		case "speed":
			p.speedKMH, err = l.r.number()
			p.speedKMH *= kmhPerMPS
		case "heading":
			p.headingDeg, err = l.r.number()
		default:
			err = l.r.skip()
		}
		return err
	})
}

// answerTransistorsoft is a command that the SDK carries out. It is steered by
// distance: with one, Android ignores the interval, and iOS knows no other way.
// Elasticity would multiply the distance by the speed once more. The settings stand
// twice, because version 5 groups them and those before do not.
func answerTransistorsoft(s Steer) []byte {
	switch {
	case s.Stop:
		return []byte(`{"background_geolocation":[["stop"]]}`)
	case s.Interval > 0:
		settings := fmt.Sprintf(`"distanceFilter":%d,"disableElasticity":true`, distanceFilterM(s))
		return fmt.Appendf(nil, `{"background_geolocation":[["setConfig",{%s,"geolocation":{%[1]s}}]]}`, settings)
	}
	return []byte(`{}`)
}

// distanceFilterM is how far the phone gets in the interval, to 5 m. Where its speed
// is not known, or is that of standing still, it is a slow cyclist's, so that a start
// is not missed.
func distanceFilterM(s Steer) int {
	const leastMPS, step = 4, 5
	metres := s.Interval.Seconds() * max(leastMPS, s.SpeedKMH/kmhPerMPS)
	return int(math.Round(min(metres, 5000)/step)) * step
}
