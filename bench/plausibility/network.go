package main

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"doorstep/sessions"
)

// This file makes phones with bad networks: a recording with outages, a queue, a wrong
// clock, repeats and reorderings. All of it is drawn from the recording's name, so every
// run is the same. Times are Unix ms by a clock that is right, the store's.

// order is how a phone sends what it had to keep.
type order int

const (
	oldestFirst order = iota
	newestFirst
	batched
)

func (o order) String() string { return [...]string{"oldest first", "newest first", "batched"}[o] }

// clockKind is how wrong a phone's clock is.
type clockKind int

const (
	rightClock clockKind = iota // within 1 s
	nearClock                   // within 5 min
	farClock                    // within 6 h
)

// badPhone is a kind of phone: one row of the table.
type badPhone struct {
	order    order
	clock    clockKind
	saysSent bool // sends sentAt
}

func badPhones() []badPhone {
	var all []badPhone
	for _, o := range []order{oldestFirst, newestFirst, batched} {
		for _, c := range []clockKind{rightClock, nearClock, farClock} {
			for _, says := range []bool{true, false} {
				all = append(all, badPhone{o, c, says})
			}
		}
	}
	return all
}

func (p badPhone) String() string { return fmt.Sprint(p.order, p.clock, p.saysSent) }

// request is what reaches the gateway at one time.
type request struct {
	fixes  []int // indices in the journey
	sentMS int64
	atMS   int64 // when it arrives
	repeat bool  // the answer to the first one was lost
}

// drill is one journey on a bad network.
type drill struct {
	recording
	phone    badPhone
	startMS  int64
	offMS    int64 // the phone's clock less the right one
	requests []request
}

// How long an outage is, in ms.
const (
	outageLeast = 10_000
	outageMost  = 1_200_000
	outages     = 3 // of a journey, at most
)

// span is a time without network.
type span struct{ from, to int64 }

// drillOf draws what happens to one journey.
func drillOf(r recording, p badPhone, startMS int64, rng *rand.Rand) drill {
	d := drill{recording: r, phone: p, startMS: startMS, offMS: p.clock.draw(rng)}
	last := r.fixes[len(r.fixes)-1].RecordedMS
	var away []span
	for range 1 + rng.IntN(outages) {
		from := startMS + rng.Int64N(max(1, last-startMS))
		long := int64(outageLeast * math.Pow(outageMost/outageLeast, rng.Float64()))
		away = append(away, span{from, from + long})
	}
	d.send(away, rng)
	return d
}

func (k clockKind) draw(rng *rand.Rand) int64 {
	most := [...]int64{1_000, 300_000, 6 * 3_600_000}[k]
	return rng.Int64N(2*most+1) - most
}

// send plays the phone. It sends one request after the other, and every fifth answer
// or so it has bad luck: the request is slow, or its answer is lost.
func (d *drill) send(away []span, rng *rand.Rand) {
	var queue []int
	now, next := d.startMS, 0
	for next < len(d.fixes) || len(queue) > 0 {
		for ; next < len(d.fixes) && d.fixes[next].RecordedMS+50 <= now; next++ {
			queue = append(queue, next)
		}
		if len(queue) == 0 {
			now = d.fixes[next].RecordedMS + 50
			continue
		}
		if end := networkAt(away, now); end > now {
			now = end
			continue
		}
		var r request
		r, queue = d.pick(queue)
		r.sentMS = now
		r.atMS = now + 50 + rng.Int64N(900)
		now = r.atMS + 30
		d.misfortune(&r, rng)
		d.requests = append(d.requests, r)
	}
	slices.SortStableFunc(d.requests, func(a, b request) int { return cmp.Compare(a.atMS, b.atMS) })
}

// misfortune makes a request slow, so that the next ones overtake it, or repeats it.
func (d *drill) misfortune(r *request, rng *rand.Rand) {
	again := *r
	switch rng.IntN(20) {
	case 0:
		r.atMS += 1000 + rng.Int64N(15_000)
		return
	case 1: // the same bytes
	case 2:
		again.sentMS += 1000 + rng.Int64N(15_000)
	default:
		return
	}
	again.repeat = true
	again.atMS = max(again.sentMS, r.atMS) + 1000 + rng.Int64N(20_000)
	d.requests = append(d.requests, again)
}

// networkAt is the end of the outage at a time, and 0 where there is none.
func networkAt(away []span, now int64) (end int64) {
	for _, s := range away {
		if s.from <= now && now < s.to {
			end = max(end, s.to)
		}
	}
	return end
}

func (d *drill) pick(queue []int) (request, []int) {
	n := 1
	switch d.phone.order {
	case newestFirst:
		last := len(queue) - 1
		return request{fixes: []int{queue[last]}}, queue[:last]
	case batched:
		n = min(len(queue), sessions.MaxBatch)
	case oldestFirst:
	}
	return request{fixes: slices.Clone(queue[:n])}, queue[n:]
}

// journeys cuts a recording into its hours.
func journeys(r recording) []recording {
	var all []recording
	from := 0
	for i, f := range r.fixes {
		if f.RecordedMS-r.fixes[from].RecordedMS >= journeyMS-60_000 {
			all, from = append(all, r.part(from, i)), i
		}
	}
	return append(all, r.part(from, len(r.fixes)))
}

func (r recording) part(from, to int) recording {
	out := r
	out.fixes = r.fixes[from:to]
	return out
}

// said is fix i as the phone says it, in a request that is sent at sentMS.
func (d *drill) said(i int, sentMS int64) (sessions.Fix, error) {
	f := d.fixes[i].Fix
	f.RecordedMS += d.offMS
	out := fixOf(f)
	if d.phone.saysSent {
		out.SentAt = time.UnixMilli(sentMS + d.offMS).UTC()
	}
	return sessions.NewFix(out)
}

// calmed is the same journey on a good network.
func (d *drill) calmed() *drill {
	calm := &drill{recording: d.recording, phone: badPhone{saysSent: true}, startMS: d.startMS}
	for i, at := range d.arrivals() {
		calm.requests = append(calm.requests, request{fixes: []int{i}, sentMS: d.fixes[i].RecordedMS + 50, atMS: at})
	}
	return calm
}
