package ingest

import "fmt"

// decodeOwnTracks reads the messages that OwnTracks posts, one in a request. The
// fields are those of its booklet (its page JSON); a number may be 0.0 where an
// integer is meant.
func decodeOwnTracks(r *jsonReader, c *collector) error {
	return eachObject(r, c, func() error { return ownTracksMessage(r, c) })
}

// eachObject calls one for the object at the root, or for each in an array there.
func eachObject(r *jsonReader, c *collector, one func() error) error {
	if empty, err := r.empty(); empty || err != nil {
		return err
	}
	switch first, err := r.next(); {
	case err != nil:
		return err
	case first == '{':
		return one()
	case first != '[':
		return ErrUnreadable
	}
	return r.array(func() error { return objectOnly(r, c, one) })
}

// objectOnly counts what is no object as malformed, and calls one for what is.
func objectOnly(r *jsonReader, c *collector, one func() error) error {
	first, err := r.next()
	if err != nil {
		return err
	}
	if first == '{' {
		return one()
	}
	c.report.Malformed++
	return r.skip()
}

func ownTracksMessage(r *jsonReader, c *collector) error {
	p := newPosition()
	var kind, trigger string
	err := r.object(func(key []byte) (err error) {
		switch string(key) {
		case "_type":
			kind, err = r.label()
		case "t":
			trigger, err = r.label()
		case "lat":
			p.lat, err = r.number()
		case "lon":
			p.lng, err = r.number()
		case "tst": // of the fix; created_at is when the message was made, which is not when it is sent
			p.at, err = r.instant()
		case "acc":
			p.accuracyM, err = r.number()
		case "vel":
			p.speedKMH, err = r.number()
		case "cog":
			p.headingDeg, err = r.number()
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case kind == "encrypted":
		c.report.Encrypted++
	case kind == "location" && trigger != pingTrigger:
		p.zeroIsUnknown() // Android writes 0 for a speed that it does not know
		c.add(p)
	case kind == "":
		c.report.Malformed++
	default:
		c.report.Other++
	}
	return nil
}

// pingTrigger marks a location that is sent because time has passed. It repeats
// the last place under the present time, so the next real fix would look like a
// jump.
const pingTrigger = "p"

// answerOwnTracks is an array of messages. The app carries out a command only if
// its user has allowed remote configuration. Monitoring 2 is the mode "move", 0 is
// "manual". In that mode Android's interval is moveModeLocatorInterval, that of iOS
// locatorInterval.
func answerOwnTracks(s Steer) []byte {
	const configure = `[{"_type":"cmd","action":"setConfiguration","configuration":{"_type":"configuration",%s}}]`
	switch {
	case s.Stop:
		return fmt.Appendf(nil, configure, `"monitoring":0`)
	case s.Interval > 0:
		return fmt.Appendf(nil, configure, fmt.Sprintf(`"monitoring":2,"moveModeLocatorInterval":%[1]d,"locatorInterval":%[1]d`, seconds(s.Interval)))
	}
	return []byte(`[]`)
}
