package main

import (
	"context"
	"errors"

	"doorstep/sessions"
)

// answers counts what phones with bad networks were answered.
type answers struct {
	fixes         int
	back          int   // pins that went back
	limited       int   // 429 to a fix that was not taken just now
	failed        int   // any other answer that is no 2xx and refuses no place
	refused       int   // refusals of a place
	refusedCalm   int   // refusals of the same fixes on a good network
	unstored      int   // oldest first: under 5 min old, in order, room in the rate, and not stored
	late          int   // times when the newest fix had come and the pin was older for over 1 s
	longestLateMS int64 // of those
}

func (a *answers) add(b answers) {
	a.fixes += b.fixes
	a.back += b.back
	a.limited += b.limited
	a.failed += b.failed
	a.refused += b.refused
	a.refusedCalm += b.refusedCalm
	a.unstored += b.unstored
	a.late += b.late
	a.longestLateMS = max(a.longestLateMS, b.longestLateMS)
}

// networkRow is a row of the table. A clock is known that is right within 1 s, that is
// sent along, or that learntFixes prompt fixes over learntMS have told since the store
// last knew nothing of the journey.
type networkRow struct {
	order order
	known bool
}

const (
	learntFixes = 6
	learntMS    = 60_000
)

// networks plays every hour of a recording as each kind of bad phone.
func (j *judge) networks(by map[networkRow]*answers, r recording) error {
	for h, hour := range journeys(r) {
		var calm *player
		for k, p := range badPhones() {
			d := drillOf(hour, p, hour.fixes[0].RecordedMS-1000, luck(r.file, p.String(), 100*h+k))
			if calm == nil {
				var err error
				if calm, err = j.drill(d.calmed(), nil); err != nil {
					return err
				}
			}
			played, err := j.drill(&d, calm.refused)
			if err != nil {
				return err
			}
			for known, a := range played.out {
				row := networkRow{p.order, known}
				if by[row] == nil {
					by[row] = &answers{}
				}
				by[row].add(*a)
			}
		}
	}
	return nil
}

// player plays one drill through the product's service.
type player struct {
	*drill
	sessions.Live // the service's: the player notes what becomes of each fix
	judge         *judge
	visit         visit
	calm          map[int]bool // the fixes that are refused on a good network
	refused       map[int]bool
	out           map[bool]*answers // by whether the clock is known
	index         map[int64]int     // of a fix, by its recordedAt
	told          map[int]bool      // fixes that have been judged
	prompts       int               // prompt fixes since the store knew nothing of the journey
	promptMS      int64             // the first of them
	highest       int               // the newest fix that was stored; -1 = none
	judged        int               // the newest that was judged, stored or not
	newest        int               // that has come
	dueMS         int64             // a GCRA on the right times
	wantMS        int64             // since when the pin should have been newer; 0 = it is
	want          int
	wants         *answers // where a late pin counts
}

const (
	staleMS   = 300_000
	presentMS = 2_000
	rateMS    = 5_000
	slackMS   = 1_000  // a clock is known to about as much
	slowMS    = 10_000 // of a late request, and of a clock that is not corrected
)

func (j *judge) drill(d *drill, calm map[int]bool) (*player, error) {
	p := &player{
		drill: d, Live: j.newLive(), judge: j, calm: calm, refused: map[int]bool{}, told: map[int]bool{},
		out: map[bool]*answers{true: {}, false: {}}, index: map[int64]int{}, judged: -1, highest: -1, newest: -1,
	}
	for i, f := range d.fixes {
		p.index[f.RecordedMS+d.offMS] = i
	}
	var err error
	if p.visit, err = j.visit(p, d.mode, elsewhere, d.startMS); err != nil {
		return nil, err
	}
	for _, r := range d.requests {
		if r.atMS >= d.startMS+journeyMS {
			break
		}
		j.clockMS = r.atMS
		if err := p.request(r); err != nil {
			return nil, err
		}
		p.present(r)
	}
	return p, nil
}

// Open implements sessions.Live.
func (p *player) Open(ctx context.Context, j sessions.Journey) (bool, error) {
	p.prompts = 0
	return p.Live.Open(ctx, j)
}

// Update implements sessions.Live.
func (p *player) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	r, err := p.Live.Update(ctx, ref, fix)
	if err == nil && r.Verdict > sessions.VerdictEnded {
		p.note(p.index[fix.RecordedAt.UnixMilli()], r.Verdict)
	}
	return r, err
}

// UpdateAll implements sessions.Live.
func (p *player) UpdateAll(ctx context.Context, ref sessions.Ref, fixes []sessions.Fix) ([]sessions.Receipt, error) {
	list, err := p.Live.UpdateAll(ctx, ref, fixes)
	for i, r := range list {
		if r.Verdict > sessions.VerdictEnded {
			p.note(p.index[fixes[i].RecordedAt.UnixMilli()], r.Verdict)
		}
	}
	return list, err
}

func (p *player) known() bool {
	return p.phone.saysSent || max(p.offMS, -p.offMS) <= slackMS ||
		p.prompts >= learntFixes && p.judge.clockMS-p.promptMS >= learntMS
}

func (p *player) counts() *answers { return p.out[p.known()] }

// note counts what became of a fix.
func (p *player) note(i int, v sessions.Verdict) {
	age := p.judge.clockMS - p.fixes[i].RecordedMS
	if age < presentMS {
		p.prompts++
	}
	if p.prompts <= 1 {
		p.promptMS = p.judge.clockMS
	}
	out := p.counts()
	if !isLeftOut(v) {
		p.judged = max(p.judged, i)
	}
	if v == sessions.VerdictStored {
		if i < p.highest {
			out.back++
		}
		p.highest = max(p.highest, i)
	}
	if p.isRefusal(v) && !p.refused[i] {
		out.refused++
		p.refused[i] = true
	}
	if !p.told[i] {
		p.told[i] = true
		out.fixes++
		if p.calm[i] {
			out.refusedCalm++
		}
		p.rate(out, i, age, v)
	}
}

func (*player) isRefusal(v sessions.Verdict) bool {
	return v == sessions.VerdictJump || v == sessions.VerdictSpeed || v == sessions.VerdictCeiling
}

// isLeftOut reports whether a fix was not even judged.
func isLeftOut(v sessions.Verdict) bool {
	switch v {
	case sessions.VerdictTooSoon, sessions.VerdictIgnoredTooSoon, sessions.VerdictStale, sessions.VerdictBeforeStart:
		return true
	}
	return false
}

// rate checks that a fix was left out only where it is old, or was overtaken, or where
// the rate has no room for it.
func (p *player) rate(out *answers, i int, age int64, v sessions.Verdict) {
	taken := p.fixes[i].RecordedMS
	switch {
	case !isLeftOut(v):
		p.dueMS = max(p.dueMS, taken) + rateMS
	case p.phone.order == oldestFirst && age < staleMS-slowMS && i > p.highest && taken >= max(p.dueMS+slackMS, p.startMS):
		out.unstored++
	}
}

func (p *player) request(r request) error {
	list := make([]sessions.Fix, len(r.fixes))
	for k, i := range r.fixes {
		var err error
		if list[k], err = p.said(i, r.sentMS); err != nil {
			return err
		}
	}
	ctx := context.Background()
	var receipt sessions.Receipt
	var err error
	if len(list) > 1 {
		receipt, err = p.visit.UpdateBatch(ctx, p.visit.trainer, p.visit.id, list, func(sessions.Receipt) {})
	} else {
		receipt, err = p.visit.Update(ctx, p.visit.trainer, p.visit.id, list[0])
	}
	if err == nil && (len(list) == 1 || receipt.Version == 0) { // as gateway/api answers
		err = receipt.Refusal()
	}
	return p.answered(r, err)
}

func (p *player) answered(r request, err error) error {
	var e *sessions.Error
	if err == nil || !errors.As(err, &e) {
		return err // the laboratory's own
	}
	switch e.Code {
	case sessions.ImplausibleJump, sessions.ImplausibleSpeed:
	case sessions.RateLimited:
		if newest := r.fixes[len(r.fixes)-1]; r.atMS-p.fixes[newest].RecordedMS > presentMS+slackMS {
			p.counts().limited++
		}
	default:
		p.counts().failed++
	}
	return nil
}

// present checks the pin after a request: where it holds the newest fix, that is shown,
// or was judged and not believed, or the rate had no room for it. Otherwise it is late
// until as new a one is judged.
func (p *player) present(r request) {
	if p.wantMS > 0 && p.judged >= p.want {
		if late := r.atMS - p.wantMS; late > slackMS {
			p.wants.late++
			p.wants.longestLateMS = max(p.wants.longestLateMS, late)
		}
		p.wantMS = 0
	}
	i := r.fixes[len(r.fixes)-1]
	if i <= p.newest || p.fixes[i].RecordedMS < p.startMS {
		return
	}
	p.newest = i
	prompt := r.sentMS-p.fixes[i].RecordedMS <= rateMS
	if prompt && p.judged < i && p.wantMS == 0 && p.fixes[i].RecordedMS >= p.dueMS+slackMS {
		p.wantMS, p.want, p.wants = r.atMS, i, p.counts()
	}
}
