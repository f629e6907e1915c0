package api

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/bytedance/sonic"

	"doorstep/geo"
	"doorstep/sessions"
)

// fixBody is one fix as phones send it. Only the coordinates can be wrong. What is
// said in an optional field and cannot be read is not known.
type fixBody struct {
	coordinates
	Accuracy   number `json:"accuracy"`
	Speed      number `json:"speed"`
	Heading    number `json:"heading"`
	RecordedAt scalar `json:"recordedAt"`
	SentAt     scalar `json:"sentAt"`
	Mock       scalar `json:"mock"`
}

// fix reads the body. sentAt is that of the request.
func (b *fixBody) fix(sentAt, now time.Time) (sessions.Fix, error) {
	at, err := b.point("")
	if err != nil {
		return sessions.Fix{}, err
	}
	return sessions.NewFix(sessions.Fix{
		Point: at, AccuracyM: b.Accuracy.value, SpeedKMH: b.Speed.optional(), HeadingDeg: b.Heading.optional(),
		RecordedAt: phoneInstant(string(b.RecordedAt), now), SentAt: sentAt, Mock: b.Mock.isTrue(),
	})
}

// coordinates is a place in a body.
type coordinates struct {
	Latitude  number `json:"latitude"`
	Longitude number `json:"longitude"`
}

// point checks the coordinates. prefix is what stands before their names in a
// message.
func (p coordinates) point(prefix string) (geo.Point, error) {
	if err := p.Latitude.within(prefix+"latitude", 90); err != nil {
		return geo.Point{}, err
	}
	if err := p.Longitude.within(prefix+"longitude", 180); err != nil {
		return geo.Point{}, err
	}
	at, err := geo.NewPoint(p.Latitude.value, p.Longitude.value)
	if err != nil {
		return geo.Point{}, invalid(prefix+"latitude", prefix+"latitude and "+prefix+"longitude are no place")
	}
	return at, nil
}

// number is a number in a body. It takes any JSON value: whether one that is no
// number is an error depends on the field. The zero value was not said.
type number struct {
	value float64 // NaN: no number; ±Inf: too large for a float64
	said  bool    // false: absent or null
	bare  bool    // a JSON number, and not a number in a string
}

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (n *number) UnmarshalJSON(raw []byte) error {
	*n = number{}
	if string(raw) == "null" {
		return nil
	}
	text := string(raw)
	n.said, n.bare = true, raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9'
	if raw[0] == '"' {
		text = strings.TrimSpace(plain(unquoted(raw)))
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(value, 0) {
		value = math.NaN()
	}
	n.value = value
	return nil
}

// optional is nil for what was not said. NewFix drops what is no number.
func (n *number) optional() *float64 {
	if !n.said {
		return nil
	}
	return &n.value
}

// within refuses a coordinate that is absent, no JSON number, or out of range.
func (n *number) within(field string, limit float64) error {
	switch {
	case !n.said:
		return invalid(field, field+" is required")
	case !n.bare:
		return invalid(field, field+" must be a number")
	case !(math.Abs(n.value) <= limit):
		most := strconv.FormatFloat(limit, 'f', -1, 64)
		return invalid(field, field+" must be in [-"+most+", "+most+"]")
	}
	return nil
}

// scalar is a JSON string without its quotes, or any other JSON value as it stands;
// empty for null and what was not said.
type scalar string

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (s *scalar) UnmarshalJSON(raw []byte) error {
	switch {
	case string(raw) == "null":
		*s = ""
	case raw[0] == '"':
		*s = scalar(unquoted(raw))
	default:
		*s = scalar(raw)
	}
	return nil
}

// isTrue reads a switch: true, "true", "yes" and every number but 0.
func (s scalar) isTrue() bool {
	switch text := strings.ToLower(strings.TrimSpace(string(s))); text {
	case "", "false":
		return false
	case "true", "yes":
		return true
	default:
		n, err := strconv.ParseFloat(text, 64)
		return err == nil && n != 0
	}
}

// unquoted is the text of a JSON string.
func unquoted(raw []byte) string {
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var text string
	_ = sonic.Unmarshal(raw, &text) // the decoder has found the string to be valid
	return text
}

// fixList is the fixes of a batch. A member that is no fix does not cost the
// others.
type fixList struct {
	said    bool       // false: absent or null, so the body is one fix
	members []*fixBody // nil for a member that is not an object
	array   bool
	tooMany bool
}

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (l *fixList) UnmarshalJSON(raw []byte) error {
	*l = fixList{said: string(raw) != "null"}
	if raw[0] != '[' {
		return nil
	}
	l.array = true
	var members []sonic.NoCopyRawMessage
	_ = sonic.Unmarshal(raw, &members) // the decoder has found the array to be valid
	if l.tooMany = len(members) > sessions.MaxBatch; l.tooMany {
		return nil
	}
	for _, m := range members {
		var one *fixBody
		if len(m) > 0 && m[0] == '{' {
			one = new(fixBody)
			if strict.Unmarshal(m, one) != nil {
				one = nil
			}
		}
		l.members = append(l.members, one)
	}
	return nil
}

// fixes reads the members. malformed are the indices of those that are no fix.
func (l *fixList) fixes(sentAt, now time.Time) (fixes []sessions.Fix, malformed []int, err error) {
	if !l.array || l.tooMany || len(l.members) == 0 {
		return nil, nil, invalid("fixes", "fixes must be an array of 1 to "+strconv.Itoa(sessions.MaxBatch)+" fixes")
	}
	for i, m := range l.members {
		if m == nil {
			malformed = append(malformed, i)
			continue
		}
		fix, err := m.fix(sentAt, now)
		if err != nil {
			malformed = append(malformed, i)
			continue
		}
		fixes = append(fixes, fix)
	}
	if len(fixes) == 0 {
		return nil, nil, invalid("fixes", "no member of fixes has a valid latitude and longitude")
	}
	return fixes, malformed, nil
}
