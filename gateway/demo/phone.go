package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"doorstep/geo"
	"doorstep/geo/trace"
)

// phone is the trainer's app on one journey: it reports each fix at its time,
// comes back no earlier than it was told to, and when it falls behind sends its
// newest fix and not the ones before.
type phone struct {
	*client
	journey *journey
	rng     *rand.Rand
	began   time.Time  // virtual; the fixes' first
	next    time.Time  // virtual; the next fix is due, less early
	sentAt  time.Time  // virtual; of the last try
	known   []believed // the last fix that was stored, and later ones that may have been
	doubted int        // fixes that were not believed or ignored
}

// believed is a fix that the service holds, or may hold: an answer that was lost,
// or a 202, leaves that open.
type believed struct {
	fix trace.Fix
	by  time.Time // virtual; it was there by then
	may bool
}

// early is how much before the time it was told the phone comes: half of the
// second that the contract tolerates. Without it every round trip would push
// all later fixes back; with all of it, any jitter would be a refusal.
const early = 500 * time.Millisecond

// drive reports all fixes of the plan. Refusals are part of a drive; an error
// is what ended it.
func (p *phone) drive(ctx context.Context) error {
	for i := 0; i < len(p.fixes()); i++ {
		if err := p.clock().Until(ctx, later(p.due(i), p.next)); err != nil {
			return err
		}
		i = p.newest(i)
		if err := p.report(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (p *phone) fixes() []trace.Fix { return p.journey.plan.Fixes }
func (p *phone) clock() *Clock      { return p.journey.clock }

// due is when fix i was taken, on the virtual clock.
func (p *phone) due(i int) time.Time { return p.began.Add(span(p.fixes()[0], p.fixes()[i])) }

// newest skips the fixes that a newer one has overtaken.
func (p *phone) newest(i int) int {
	now := p.clock().Now()
	for i+1 < len(p.fixes()) && !p.due(i+1).After(now) {
		i++
		p.journey.report.count(func(t *totals) { t.overtaken++ })
	}
	return i
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// tries is how often the last fix is sent; any other is tried until a newer one
// is there.
const tries = 8

// report sends fix i until it is settled, or a newer one is due.
func (p *phone) report(ctx context.Context, i int) error {
	for try := 1; ; try++ {
		again, err := p.send(ctx, i, try)
		if err != nil || again == 0 {
			return err
		}
		final := i == len(p.fixes())-1
		if final && try == tries {
			return errors.New("the last fix could not be delivered")
		}
		if err := p.clock().Sleep(ctx, again); err != nil {
			return err
		}
		if !final && !p.due(i+1).After(p.clock().Now()) {
			p.journey.report.count(func(t *totals) { t.overtaken++ })
			return nil
		}
	}
}

// update is the body of a fix.
type update struct {
	SessionID  string   `json:"sessionId"`
	Latitude   float64  `json:"latitude"`
	Longitude  float64  `json:"longitude"`
	Accuracy   *float64 `json:"accuracy,omitempty"`
	Speed      *float64 `json:"speed,omitempty"`
	Heading    *float64 `json:"heading,omitempty"`
	RecordedAt string   `json:"recordedAt"`
	Mock       bool     `json:"mock,omitempty"`
}

func updateOf(session string, fix trace.Fix, at time.Time) update {
	u := update{
		SessionID: session, Latitude: fix.Point.Lat(), Longitude: fix.Point.Lng(),
		Speed: reading(fix.SpeedKMH), Heading: reading(fix.HeadingDeg), RecordedAt: at.UTC().Format(instantFormat), Mock: fix.Mock,
	}
	if fix.AccuracyM > 0 {
		u.Accuracy = &fix.AccuracyM
	}
	return u
}

// instantFormat is RFC 3339 with milliseconds, UTC.
const instantFormat = "2006-01-02T15:04:05.000Z"

func reading(r geo.Reading) *float64 {
	if v, known := r.Get(); known {
		return &v
	}
	return nil
}

// receipt is the data of an accepted update.
type receipt struct {
	Ignored      string `json:"ignored"`
	Stale        bool   `json:"stale"`
	NextUpdateMS int64  `json:"nextUpdateMs"`
}

// send reports fix i once. again is how long to wait before the same fix may be
// sent another time; 0 when it is settled.
func (p *phone) send(ctx context.Context, i, try int) (again time.Duration, err error) {
	fix, at := p.fixes()[i], p.due(i)
	p.sentAt = p.clock().Now()
	p.journey.sightings.sent(at, time.Now())
	a, err := p.post(ctx, "/admin/location-tracking/journey/updates", updateOf(p.journey.session, fix, at))
	if err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		p.journey.report.count(func(t *totals) { t.failures++ })
		p.unsure(i)
		p.journey.sayf("no answer to a fix, try %d: %v", try, err)
		return p.backOff(try), nil
	}
	return p.settle(a, i, try)
}

// backOff doubles from a second to half a minute, and scatters, as apps do.
func (p *phone) backOff(try int) time.Duration {
	d := min(time.Second<<min(try-1, 5), 30*time.Second)
	return d/2 + time.Duration(p.rng.Int64N(int64(d)))
}

// fresh is how old the live location may be at an arrival.
const fresh = time.Minute

// doubts explains a refused arrival from what the phone knows was believed.
func (p *phone) doubts(a answer) (why string, explained bool) {
	if len(p.known) == 0 {
		return "no fix was believed", a.Code == "NO_FRESH_LOCATION"
	}
	last := p.known[len(p.known)-1]
	away, age := geo.DistanceM(last.fix.Point, p.journey.plan.Home), p.clock().Now().Sub(last.by)
	why = fmt.Sprintf("the last fix that was believed is %s old and %.0f m from the home; %d were not believed or ignored",
		age.Round(time.Second), away, p.doubted)
	switch a.Code {
	case "NOT_WITHIN_RADIUS":
		return why, away > arrivalRadiusM-1
	case "NO_FRESH_LOCATION":
		return why, age > fresh-time.Second
	case "SUSPICIOUS_LOCATION":
		// What began the track anew is for the service to know: fixes that
		// agreed against it, a silence, or a receiver that stood still.
		return why, true
	default:
		return why, false
	}
}
