// Package ingest reads what stock phone apps report and writes what they need
// back: pure functions between bytes and fixes, one file a format. It knows no
// HTTP, no clock and no store.
//
// A stock app keeps what was refused and sends it again for ever, so nothing here
// refuses a member for good: what cannot be read is counted and skipped.
package ingest

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

const (
	// MaxBody is the longest body in bytes, after decompression: 24 hours at one
	// point in 5 s are 17,280 points, some 12 MB as transistorsoft writes them.
	MaxBody = 32 << 20
	// MaxOsmAndBody is the longest body of OsmAnd, whose credential may stand in the
	// body. It is read before anybody is known, and holds 100 points at most.
	MaxOsmAndBody = 1 << 20
	// MaxPoints is how many points of a request are kept.
	MaxPoints = sessions.MaxBatch
	// KeptFor is how much older than the newest point of a request another may be.
	// What is older is stale in the live store, whose setting may say less.
	KeptFor = 5 * time.Minute
)

// Errors of Decode. The report beside them holds what was read before.
var (
	// ErrTooLarge is the error of a body over its limit.
	ErrTooLarge = errors.New("ingest: the body is too large")
	// ErrUnreadable is the error of a body that is not of the format at all, or stops
	// being so. The phone would send it again for ever, so it is answered as read.
	ErrUnreadable = errors.New("ingest: the body cannot be read")
)

// Request is what Decode reads.
type Request struct {
	Query string    // as in the URL, without the question mark
	Body  io.Reader // after decompression; nil for none
}

// Report is what one request held.
type Report struct {
	// Points are the newest point and what is up to KeptFor older, oldest first, at
	// most MaxPoints of them. A point without an instant counts as taken now, and
	// comes last.
	Points []Point
	// Total counts the points that the request held, those that were left out for
	// their age included.
	Total int
	// Malformed counts the members that are of no use: no place, or an instant that
	// cannot be read. Without its instant a point of an old queue would count as
	// taken now.
	Malformed int
	// Other counts the messages that are no fix: a status, a waypoint, a heartbeat
	// without a place, and an old place that is reported with the present instant.
	Other int
	// Encrypted counts the payloads of OwnTracks that only their sender can read.
	Encrypted int
	// DeviceID is the credential of OsmAnd, from the query or the body; else empty.
	DeviceID string
}

// Point is one position as an app reported it. Its SentAt is zero: no format tells
// when a request was sent.
type Point struct {
	Fix     sessions.Fix
	Present bool // the app says that the phone is there now (Overland's current)
}

// Decode reads a request. It reads the body as a stream; memory is bounded by what
// is kept, whatever the body is. An empty body is an empty report.
//
// Errors: ErrTooLarge, ErrUnreadable, and those of r.Body as they are.
func Decode(f sessions.Format, r Request) (Report, error) {
	if r.Body == nil {
		r.Body = strings.NewReader("")
	}
	var c collector
	var err error
	switch f {
	case sessions.OwnTracks:
		err = decodeOwnTracks(newJSONReader(r.Body, MaxBody), &c)
	case sessions.OsmAnd:
		err = decodeOsmAnd(r, &c)
	case sessions.Transistorsoft:
		err = decodeTransistorsoft(newJSONReader(r.Body, MaxBody), &c)
	case sessions.Overland:
		err = decodeOverland(newJSONReader(r.Body, MaxBody), &c)
	default:
		return Report{}, fmt.Errorf("ingest: no format %q", f)
	}
	return c.finished(), err
}

// Steer is what a phone shall do next. Its zero value says nothing. Apps save what
// they are told and start their receiver anew, so say it only when it changes.
type Steer struct {
	Interval time.Duration // between two fixes
	// SpeedKMH is how fast the phone moves, 0 where that is not known. What steers by
	// distance (transistorsoft) needs it.
	SpeedKMH float64
	// Stop ends the tracking. The app then reports nothing of the next journey
	// either, until somebody turns it on.
	Stop bool
}

// Answer is the body of the answer with status 200, and its type. The caller may
// not write into it.
func Answer(f sessions.Format, s Steer) (contentType string, body []byte) {
	const jsonType = "application/json"
	switch f {
	case sessions.OwnTracks:
		return jsonType, answerOwnTracks(s)
	case sessions.Transistorsoft:
		return jsonType, answerTransistorsoft(s)
	case sessions.Overland:
		return jsonType, answerOverland(s)
	default: // OsmAnd's apps read none
		return "text/plain", nil
	}
}

// seconds are those of a pause, for apps that count in them: 1 at least.
func seconds(d time.Duration) int64 { return max(1, int64(d/time.Second)) }

const (
	kmhPerMPS  = 3.6
	kmhPerKnot = 1.852
)

// position is one point as it stands in a request. NaN is a number that was not
// said.
type position struct {
	lat, lng                        float64
	accuracyM, speedKMH, headingDeg float64
	at                              instant
	mock, present                   bool
}

var unsaid = math.NaN()

func newPosition() position {
	return position{lat: unsaid, lng: unsaid, accuracyM: unsaid, speedKMH: unsaid, headingDeg: unsaid}
}

// placed reports whether the position names a place, if only half or badly.
func (p *position) placed() bool { return !math.IsNaN(p.lat) || !math.IsNaN(p.lng) }

// zeroIsUnknown is for apps that write 0 for a speed that they do not know, and for
// the heading with it.
func (p *position) zeroIsUnknown() {
	if !(p.speedKMH > 0) {
		p.speedKMH, p.headingDeg = unsaid, unsaid
	}
}

// fix is the position as a fix; false where it is none. NewFix drops an instant that
// cannot be meant.
func (p *position) fix() (sessions.Fix, bool) {
	at, err := geo.NewPoint(p.lat, p.lng)
	if err != nil {
		return sessions.Fix{}, false
	}
	f, err := sessions.NewFix(sessions.Fix{
		Point: at, AccuracyM: p.accuracyM, SpeedKMH: &p.speedKMH, HeadingDeg: &p.headingDeg, RecordedAt: p.at.Time, Mock: p.mock,
	})
	return f, err == nil && p.at.said != f.RecordedAt.IsZero()
}

// collector keeps the newest points of a request.
type collector struct {
	report Report
	newest time.Time
	// untimed takes points without an instant. Only OsmAnd does; in the other formats
	// it is required.
	untimed bool
}

func (c *collector) add(p position) {
	f, ok := p.fix()
	if !ok || !p.at.said && !c.untimed {
		c.report.Malformed++
		return
	}
	c.report.Total++
	if p.at.said && f.RecordedAt.Before(c.newest.Add(-KeptFor)) {
		return
	}
	c.report.Points = append(c.report.Points, Point{Fix: f, Present: p.present})
	if f.RecordedAt.After(c.newest) {
		c.newest = f.RecordedAt
	}
	if len(c.report.Points) == 2*MaxPoints {
		c.shrink()
	}
}

// shrink sorts the points and leaves the newest.
func (c *collector) shrink() {
	oldest := c.newest.Add(-KeptFor)
	points := slices.DeleteFunc(c.report.Points, func(p Point) bool {
		return !p.Fix.RecordedAt.IsZero() && p.Fix.RecordedAt.Before(oldest)
	})
	slices.SortStableFunc(points, func(a, b Point) int { return order(a).Compare(order(b)) })
	c.report.Points = slices.Delete(points, 0, max(0, len(points)-MaxPoints))
}

// order is when a point was taken: in the far future, as it were, without an
// instant.
func order(p Point) time.Time {
	if p.Fix.RecordedAt.IsZero() {
		return time.Unix(1<<40, 0)
	}
	return p.Fix.RecordedAt
}

func (c *collector) finished() Report {
	c.shrink()
	return c.report
}
