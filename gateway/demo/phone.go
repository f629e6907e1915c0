package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"doorstep/client"
	"doorstep/geo"
	"doorstep/geo/trace"
)

// phone is the trainer's app on one journey. It gives each fix to a
// client.Reporter at the fix's time, and knows enough to explain a refusal.
type phone struct {
	*client.Client
	journey *journey
	late    time.Duration // how much later than the others this phone begins, virtual
	began   time.Time     // virtual; the first fix's time
	known   []believed    // the last fix that was stored, and later ones that may have been
	doubted int           // fixes that were refused or ignored
	giveUp  context.CancelCauseFunc
	stock   *stockApp // nil: an app of our own
}

// believed is a fix that the service holds, or may hold: a lost answer and a
// 202 leave that open.
type believed struct {
	client.Fix
	by  time.Time // virtual; the service had it by then
	may bool
}

// drive reports all fixes of the plan and returns when the last one is
// answered. Refusals are part of a drive; an error is what ended it.
func (p *phone) drive(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.giveUp = cancel
	clock, fixes := p.journey.clock, p.journey.plan.Fixes
	reporter := client.NewReporter(p, p.journey.booking.SessionID, client.ReporterOptions{
		Queue: 1, // each fix has an answer of its own, which is explained
		Now:   clock.Now, Sleep: clock.Sleep, OnAttempt: p.answered,
		OnOvertaken: func(client.Fix) { p.journey.report.count(func(t *totals) { t.overtaken++ }) },
	})
	ended := make(chan error, 1)
	go func() {
		err := reporter.Run(ctx)
		cancel(err) // ends the loop below
		ended <- err
	}()
	for _, fix := range fixes {
		if clock.Until(ctx, p.due(fix)) != nil {
			break
		}
		reporter.Report(p.fixOf(fix))
	}
	reporter.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return err
	}
	return context.Cause(ctx)
}

// due is when a fix was taken, on the virtual clock.
func (p *phone) due(fix trace.Fix) time.Time { return p.began.Add(span(p.journey.plan.Fixes[0], fix)) }

func (p *phone) fixOf(fix trace.Fix) client.Fix {
	f := client.Fix{
		Point:    client.Point{Latitude: fix.Point.Lat(), Longitude: fix.Point.Lng()},
		SpeedKMH: known(fix.SpeedKMH), HeadingDeg: known(fix.HeadingDeg), RecordedAt: p.due(fix), Mock: fix.Mock,
	}
	if p.stock != nil {
		f.RecordedAt = f.RecordedAt.Truncate(time.Second) // some of the formats tell no more
	}
	if fix.AccuracyM > 0 {
		f.AccuracyM = &fix.AccuracyM
	}
	return f
}

func known(r geo.Reading) *float64 {
	if v, ok := r.Get(); ok {
		return &v
	}
	return nil
}

// Update notes when the fix leaves and sends it: the phone is the Reporter's
// Updater.
func (p *phone) Update(ctx context.Context, session string, fix client.Fix) (client.Receipt, error) {
	p.journey.sends.note(fix.RecordedAt, time.Now())
	if p.journey.index == 0 && p.journey.paints != nil {
		p.journey.paints.note(fix.RecordedAt, time.Now())
	}
	if p.stock != nil {
		return p.stock.update(ctx, fix)
	}
	return p.Client.Update(ctx, session, fix)
}

// arrive asks to be let in, from where the way ended.
func (p *phone) arrive(ctx context.Context, session string) (client.Arrival, error) {
	fixes := p.journey.plan.Fixes
	at := p.fixOf(fixes[len(fixes)-1])
	at.RecordedAt = p.journey.clock.Now()
	at.SentAt = at.RecordedAt
	return p.Arrive(ctx, session, &at)
}

// The names of the answers to fixes in the summary.
const (
	labelStored   = "stored"
	labelVague    = "201 ignored: low_accuracy"
	labelStale    = "200 stale"
	labelUnstored = "202 accepted, not stored"
	// implausible begins the code of every refusal of what a fix says.
	implausible = "IMPLAUSIBLE_"
)

var errUndelivered = errors.New("the last fix could not be delivered")

// answered takes what came of one try: the Reporter's OnAttempt.
func (p *phone) answered(a client.Attempt) {
	again := true // will the fix be repeated?
	var refusal *client.Error
	switch {
	case errors.As(a.Err, &refusal):
		again = p.refused(a, refusal)
	case a.Err != nil:
		p.journey.report.count(func(t *totals) { t.failures++ })
		p.unsure(a)
		p.journey.sayf("no answer to a fix, try %d: %v", a.Try, a.Err)
	default:
		again = p.taken(a)
	}
	fixes := p.journey.plan.Fixes
	if again && a.Try >= tries && a.Fix.RecordedAt.Equal(p.fixOf(fixes[len(fixes)-1]).RecordedAt) {
		p.giveUp(errUndelivered)
	}
}

func (p *phone) counted(label string) {
	p.journey.report.count(func(t *totals) { t.sent[label]++ })
}

// taken takes a receipt and reports whether the fix will be repeated.
func (p *phone) taken(a client.Attempt) (again bool) {
	switch a.Receipt.Verdict {
	case client.Stored:
		p.counted(labelStored)
		p.sure(a)
		p.journey.report.count(func(t *totals) { t.stored++ })
		p.journey.line(func(l *Line) { l.Stored++ })
	case client.Stale:
		p.counted(labelStale)
		if a.Try == 1 { // right for a fix whose first answer was lost, and for no other
			p.journey.odd("update: stale, and sent for the first time")
			return false
		}
		p.sure(a)
	case client.NotStored:
		p.counted(labelUnstored)
		p.unsure(a)
		p.journey.sayf("fix not stored: the live store is away")
		return true
	default:
		p.counted(labelVague)
		p.doubt()
		p.journey.sayf("fix ignored: its accuracy is %.0f m", accuracyOf(a.Fix))
	}
	return false
}

func accuracyOf(f client.Fix) float64 {
	if f.AccuracyM == nil {
		return 0
	}
	return *f.AccuracyM
}

func (p *phone) doubt() {
	p.doubted++
	p.journey.line(func(l *Line) { l.Refused++ })
}

// sure and unsure keep what the service holds.
func (p *phone) sure(a client.Attempt) { p.known = []believed{{a.Fix, p.journey.clock.Now(), false}} }

func (p *phone) unsure(a client.Attempt) {
	p.known = append(p.known, believed{a.Fix, p.journey.clock.Now(), true})
}

// refused takes a refusal and reports whether the fix will be repeated.
func (p *phone) refused(a client.Attempt, refusal *client.Error) (again bool) {
	label := strings.TrimSpace(fmt.Sprintf("%d %s", refusal.Status, refusal.Code))
	p.counted(label)
	switch {
	case refusal.Code == client.RateLimited:
		p.journey.sayf("fix too soon: sent again in %s", refusal.RetryAfter)
		return true
	case strings.HasPrefix(string(refusal.Code), implausible):
		p.disbelieved(a, refusal)
		return false
	}
	p.journey.odd(a.Err.Error())
	p.unsure(a)
	return client.Temporary(refusal)
}

// disbelieved logs a refusal with what the phone can say for it: how fast it
// would have had to travel since a fix that was believed. At a speed that its
// mode allows, nothing explains the refusal.
func (p *phone) disbelieved(a client.Attempt, refusal *client.Error) {
	p.doubt()
	if len(p.known) == 0 {
		p.journey.odd(string(refusal.Code) + " for the first fix of a journey")
		return
	}
	mode := p.journey.plan.Mode
	leg, kmh := p.fastest(a)
	limit := geo.DefaultLimits(mode).LimitKMH
	what := fmt.Sprintf("%s: %s, and a %s may do %.0f (%s)", refusal.Code, leg, mode, limit, refusal.Message)
	if kmh < limit {
		p.journey.odd(what)
		return
	}
	p.journey.sayf("fix refused, %s", what)
}

// fastest returns the leg from an accepted fix to the refused one with the
// highest speed, which explains the refusal best. Its time is that of the
// phone's clock, but at most what the service can have counted: after an earlier
// fix that arrived late, that is little.
func (p *phone) fastest(a client.Attempt) (leg string, kmh float64) {
	const catchUp = 10 * time.Second
	for _, from := range p.known {
		m, took := geo.DistanceM(pointOf(from.Fix), pointOf(a.Fix)), a.Fix.RecordedAt.Sub(from.RecordedAt)
		counted := max(0, a.SentAt.Sub(from.by)) + catchUp
		speed := m / min(took, counted).Seconds() * 3.6
		if took <= 0 || leg != "" && speed <= kmh { // not from an earlier try of the same fix
			continue
		}
		kmh, leg = speed, fmt.Sprintf("%.0f m in %s is %.0f km/h", m, took, speed)
		if counted < took {
			leg = fmt.Sprintf("%.0f m in %s, for the fix before came late, is %.0f km/h", m, counted.Round(time.Second), speed)
		}
		if from.may {
			leg += " from a fix that may have been stored"
		}
	}
	return leg, kmh
}

func pointOf(f client.Fix) geo.Point { return geo.MustPoint(f.Latitude, f.Longitude) }

// fresh is how old the live location may be at an arrival.
const fresh = time.Minute

// doubts explains a refused arrival from what the phone knows was believed.
func (p *phone) doubts(code client.Code) (why string, explained bool) {
	if len(p.known) == 0 {
		return "no fix was believed", code == client.NoFreshLocation
	}
	last := p.known[len(p.known)-1]
	away, age := geo.DistanceM(pointOf(last.Fix), p.journey.plan.Home), p.journey.clock.Now().Sub(last.by)
	why = fmt.Sprintf("the last fix that was believed is %s old and %.0f m from the home; %d were not believed or ignored",
		age.Round(time.Second), away, p.doubted)
	switch code {
	case client.NotWithinRadius:
		return why, away > arrivalRadiusM-1
	case client.NoFreshLocation:
		return why, age > fresh-time.Second
	case client.ImplausibleSpeed, client.ImplausibleJump:
		return why, away > arrivalRadiusM-1
	default:
		// What began the track anew is for the service to know: fixes that agreed
		// against it, a silence, or a receiver that stood still.
		return why, true
	}
}
