package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"doorstep/geo"
)

const (
	labelStored   = "201 stored"
	labelVague    = "201 ignored: low_accuracy"
	labelStale    = "200 stale"
	labelUnstored = "202 accepted, not stored"
)

// settle takes the service's answer to a fix.
func (p *phone) settle(a answer, i, try int) (again time.Duration, err error) {
	var r receipt
	if a.Status < 300 && json.Unmarshal(a.Data, &r) != nil {
		return 0, unexpected{"update", a}
	}
	p.comeBack(a, r)
	switch {
	case a.Status == http.StatusCreated && r.Ignored == "":
		p.stored(i)
	case a.Status == http.StatusCreated:
		p.ignored(i)
	case a.Status == http.StatusOK && r.Stale:
		p.stale(a, i, try)
	case a.Status == http.StatusAccepted:
		p.counted(labelUnstored)
		p.unsure(i)
		p.journey.sayf("fix not stored: the live store is away")
		return time.Duration(r.NextUpdateMS) * time.Millisecond, nil
	default:
		return p.refused(a, i, try)
	}
	return 0, nil
}

// comeBack keeps when the next fix is due, as the service does: one cadence
// after the last one was. A fix that was not believed counts against the rate
// like any other, but its answer does not say when to come back.
func (p *phone) comeBack(a answer, r receipt) {
	now := p.clock().Now()
	switch {
	case a.RetryMS > 0:
		p.next = now.Add(time.Duration(a.RetryMS) * time.Millisecond)
	case r.NextUpdateMS > 0:
		p.next = now.Add(time.Duration(r.NextUpdateMS)*time.Millisecond - early)
	case strings.HasPrefix(a.Code, codeImplausible):
		p.next = later(p.next.Add(early), now).Add(cadence - early)
	}
}

// codeImplausible begins the code of every refusal of what a fix says.
const codeImplausible = "IMPLAUSIBLE_"

func (p *phone) counted(label string) {
	p.journey.report.count(func(t *totals) { t.sent[label]++ })
}

func (p *phone) stored(i int) {
	p.sure(i)
	p.journey.report.count(func(t *totals) { t.sent[labelStored]++; t.stored++ })
	p.journey.line(func(l *Line) { l.Stored++ })
}

func (p *phone) ignored(i int) {
	p.counted(labelVague)
	p.doubt()
	p.journey.sayf("fix ignored: its accuracy is %.0f m", p.fixes()[i].AccuracyM)
}

func (p *phone) doubt() {
	p.doubted++
	p.journey.line(func(l *Line) { l.Refused++ })
}

// stale is right for a fix whose first answer was lost, and for no other.
func (p *phone) stale(a answer, i, try int) {
	p.counted(labelStale)
	if try == 1 {
		p.journey.odd(unexpected{"update", a}.Error() + " (stale, and sent for the first time)")
		return
	}
	p.sure(i)
}

// sure and unsure keep what the service holds.
func (p *phone) sure(i int) { p.known = []believed{{fix: p.fixes()[i], by: p.clock().Now()}} }

func (p *phone) unsure(i int) {
	p.known = append(p.known, believed{fix: p.fixes()[i], by: p.clock().Now(), may: true})
}

// refused takes a failure: told to wait, not believed, or in trouble.
func (p *phone) refused(a answer, i, try int) (again time.Duration, err error) {
	p.counted(a.label())
	switch {
	case a.Code == "RATE_LIMITED":
		wait := max(time.Duration(a.RetryMS)*time.Millisecond, 50*time.Millisecond)
		p.journey.sayf("fix too soon: sent again in %s", wait)
		return wait, nil
	case strings.HasPrefix(a.Code, codeImplausible):
		p.disbelieved(a, i)
		return 0, nil
	case a.Status >= http.StatusInternalServerError:
		p.unsure(i)
		p.journey.odd(unexpected{"update", a}.Error())
		return p.backOff(try), nil
	default:
		return 0, unexpected{"update", a}
	}
}

// disbelieved logs a refusal and what the phone can say for it: how fast it
// would have had to travel since the last fix that was believed. At a speed
// that its mode allows, the refusal is one that nothing explains.
func (p *phone) disbelieved(a answer, i int) {
	p.doubt()
	if len(p.known) == 0 {
		p.journey.odd(a.label() + " for the first fix of a journey")
		return
	}
	way := p.fastest(i)
	limit := geo.DefaultLimits(p.journey.plan.Mode).LimitKMH
	what := fmt.Sprintf("%s: %s, and %s may do %.0f (%s)", a.Code, way, byMode(p.journey.plan.Mode), limit, a.Message)
	if way.kmh() < limit {
		p.journey.odd(what)
		return
	}
	p.journey.sayf("fix refused, %s", what)
}

// leg is the way from a believed fix to a refused one, as the service may see
// it: by the phone's clock, but no more than the service's own and a little.
type leg struct {
	m        float64
	took     time.Duration // by the phone's clock
	seen     time.Duration // what the service can have counted, at least
	doubtful bool          // whether the first fix was stored is not known
}

func (l leg) kmh() float64 { return l.m / min(l.took, l.seen).Seconds() * 3.6 }

func (l leg) String() string {
	text := fmt.Sprintf("%.0f m in %s is %.0f km/h", l.m, l.took, l.kmh())
	if l.seen < l.took {
		text = fmt.Sprintf("%.0f m in %s, for the fix before came late, is %.0f km/h", l.m, l.seen.Round(time.Second), l.kmh())
	}
	if l.doubtful {
		text += " from a fix that may have been stored"
	}
	return text
}

// fastest is the leg to fix i that explains a refusal best.
func (p *phone) fastest(i int) leg {
	var out leg
	catchUp := time.Duration(geo.DefaultLimits(p.journey.plan.Mode).CatchUpMS) * time.Millisecond
	for n, from := range p.known {
		l := leg{
			m: geo.DistanceM(from.fix.Point, p.fixes()[i].Point), took: span(from.fix, p.fixes()[i]),
			seen: max(0, p.sentAt.Sub(from.by)) + catchUp, doubtful: from.may,
		}
		if n == 0 || l.kmh() > out.kmh() {
			out = l
		}
	}
	return out
}

func byMode(m geo.Mode) string {
	if m == geo.Walk {
		return "a walk"
	}
	return "a " + string(m)
}
