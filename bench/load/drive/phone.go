package drive

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// schedule is a heap of journeys by when their next fix is due.
type schedule []*journey

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(a, b int) bool { return s[a].intended.Before(s[b].intended) }
func (s schedule) Swap(a, b int)      { s[a], s[b] = s[b], s[a] }
func (s *schedule) Push(x any)        { *s = append(*s, x.(*journey)) } //nolint:forcetypeassert // only journeys are pushed
func (s *schedule) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

// pace sends each journey's fixes as they fall due, open loop: an answer that
// is late makes the fixes behind it on this connection late, and their
// latencies include that.
func (p *play) pace(ctx context.Context, w *wire, mine schedule, at time.Time) {
	for _, j := range mine {
		j.due = at.Add(fraction(p.plan.Every))
		j.intended = j.due.Add(fraction(p.plan.Jitter))
		j.depart(j.intended)
	}
	heap.Init(&mine)
	for {
		j := mine[0]
		if j.intended.After(p.until) || !sleep(ctx, time.Until(j.intended)) {
			return
		}
		if !j.ends.IsZero() && j.intended.After(j.ends) {
			p.change(ctx, j)
		}
		p.fix(ctx, w, j, j.intended, j.intended.After(p.from))
		j.due = j.due.Add(p.plan.Every)
		j.intended = j.due.Add(fraction(p.plan.Jitter))
		heap.Fix(&mine, 0)
	}
}

// change ends a leg, by an arrival or by a stop, and begins the next one.
func (p *play) change(ctx context.Context, j *journey) {
	verb := "stop-journey"
	if j.arrives {
		verb = "arrived"
	}
	began := time.Now()
	err := p.ask(ctx, j.number, verb, j.trainerToken, sessionPath(j, verb), nil)
	if err == nil {
		p.latencies[Ending].record(time.Since(began))
	} else if verb == "arrived" {
		_ = p.ask(ctx, j.number, "stop-journey", j.trainerToken, sessionPath(j, "stop-journey"), nil) // counted
	}
	if err := p.begin(ctx, j, j.intended); err == nil {
		j.underway()
	}
}

// flood sends the fixes of its journeys in turns, each as soon as the one
// before is answered.
func (p *play) flood(ctx context.Context, w *wire, mine []*journey, at time.Time) {
	sleep(ctx, time.Until(at))
	for i := 0; ctx.Err() == nil; i++ {
		now := time.Now()
		if now.After(p.until) {
			return
		}
		if !p.fix(ctx, w, mine[i%len(mine)], now, now.After(p.from)) {
			sleep(ctx, 10*time.Millisecond)
		}
	}
}

// once sends one fix for each journey, due at the same instant. Where it is not stored, the
// phone's next one follows, from the same place: a student who sees only that one has
// waited since that instant.
func (p *play) once(ctx context.Context, w *wire, mine []*journey) {
	for at := p.from; len(mine) > 0 && at.Before(p.until) && sleep(ctx, time.Until(at)); at = at.Add(p.plan.Every) {
		mine = slices.DeleteFunc(mine, func(j *journey) bool { return p.fix(ctx, w, j, p.from, true) })
	}
}

// fix sends where the trainer is at the instant at which this was due. It reports whether
// the fix was stored.
func (p *play) fix(ctx context.Context, w *wire, j *journey, intended time.Time, metered bool) (stored bool) {
	lat, lng := j.position(intended, p.plan.SpeedMPS)
	setDegrees(j.update[j.lat:j.lat+len(latHere)], lat)
	setDegrees(j.update[j.lng:j.lng+len(lngHere)], lng)
	if j.send(lat, lng, intended, metered) {
		p.unseen.Add(1)
	}
	left := time.Now()
	a, err := w.call(ctx, j.update, callWithin)
	now := time.Now()
	if metered {
		p.count(ctx, Update, a.status, codeOf(a), err)
	}
	if err != nil || a.status != http.StatusCreated {
		return false
	}
	j.answered(now)
	if metered {
		p.accepted.Add(1)
		p.latencies[Update].record(now.Sub(intended))
		p.latencies[Service].record(now.Sub(left))
		p.latencies[Late].record(left.Sub(intended))
	}
	return true
}

// sleep waits, and reports whether it was for all of d.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fraction is a uniform part of d.
func fraction(d time.Duration) time.Duration {
	return time.Duration(rand.Float64() * float64(d))
}
