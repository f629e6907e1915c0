package main

import (
	"context"
	"errors"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// outcome is what the phone is told about one fix. The verdict begins with
// accepted, ignored or refused.
type outcome struct {
	verdict string
	refused bool
	flags   geo.Flags
}

func (o outcome) accepted() bool { return o.verdict == string(geo.Accepted) }

// engine is something that judges one journey after another. The laboratory runs the
// same journeys through each: the product's, and the naive rule.
type engine interface {
	name() string
	// begin forgets the journey before and starts one. home is where the fence is.
	begin(mode geo.Mode, home geo.Point, nowMS int64) error
	// publish judges a fix that arrives at nowMS, which rises.
	publish(fix geo.Fix, nowMS int64) (outcome, error)
	// arrived reports whether an arrival at home would be granted now.
	arrived(home geo.Point, nowMS int64) (bool, error)
}

const (
	// locationTTLMS is how long a live location lives after its last fix. After that
	// a track begins anew.
	locationTTLMS = 300_000
	// radiusM is the fence around a home.
	radiusM = 150
)

const verdictStale = "ignored_stale"

// judge is a live store in memory, which calls the pure function; and where store is
// set, update.lua beside it.
type judge struct {
	scale   float64 // of both speeds, for the ROC; 0 = 1
	store   sessions.Live
	live    sessions.Live
	clockMS int64
	journey sessions.Journey
}

func (*judge) name() string { return "doorstep" }

func (j *judge) begin(mode geo.Mode, home geo.Point, nowMS int64) error {
	j.live, j.clockMS = j.newLive(), nowMS
	j.journey = sessions.Journey{
		Ref:  sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()},
		Home: home, Mode: mode, StartedAt: j.now(),
	}
	return openedIn(j.live, j.journey)
}

// newLive is an empty live store on the judge's clock.
func (j *judge) newLive() sessions.Live {
	rules := sessions.LiveOptions{}.WithDefaults()
	if j.scale > 0 {
		for _, v := range []*float64{
			&rules.LimitKMH.Car, &rules.LimitKMH.Bike, &rules.LimitKMH.Walk, &rules.CeilingKMH.Car, &rules.CeilingKMH.Bike, &rules.CeilingKMH.Walk,
		} {
			*v *= j.scale
		}
	}
	live := memory.NewLive(rules, j.now)
	if j.store == nil {
		return live
	}
	return &twins{Live: live, store: j.store, names: map[sessions.Ref]sessions.Ref{}}
}

func openedIn(live sessions.Live, j sessions.Journey) error {
	ok, err := live.Open(context.Background(), j)
	if err == nil && !ok {
		err = errors.New("the journey was not opened")
	}
	return err
}

func (j *judge) publish(fix geo.Fix, nowMS int64) (outcome, error) {
	sent, err := sessions.NewFix(fixOf(fix))
	if err != nil {
		return outcome{}, err
	}
	receipt, err := j.update(sent, nowMS)
	return outcomeOf(receipt), err
}

// update restores an expired journey, as Service does.
func (j *judge) update(sent sessions.Fix, nowMS int64) (sessions.Receipt, error) {
	j.clockMS = nowMS
	receipt, err := j.live.Update(context.Background(), j.journey.Ref, sent)
	if err == nil && receipt.Verdict == sessions.VerdictUnknown {
		j.journey.Restored = true
		if err := openedIn(j.live, j.journey); err != nil {
			return receipt, err
		}
		receipt, err = j.live.Update(context.Background(), j.journey.Ref, sent)
	}
	if receipt.Verdict == sessions.VerdictStored {
		j.journey.Last = receipt.Last() // as FixCounter keeps it
	}
	return receipt, err
}

func outcomeOf(r sessions.Receipt) outcome {
	refused := r.Verdict >= sessions.VerdictJump && r.Verdict <= sessions.VerdictCeiling
	return outcome{verdicts[r.Verdict], refused, r.Flags}
}

// arrived asks as Service.Arrive does, and ends no journey.
func (j *judge) arrived(home geo.Point, nowMS int64) (bool, error) {
	j.clockMS = nowMS
	snap, err := j.live.Latest(context.Background(), j.journey.Ref)
	if err != nil || snap.Location == nil {
		return false, err
	}
	snap.DistanceM = geo.DistanceM(snap.Location.Point, home)
	return sessions.CheckArrival(snap, j.journey.StartedAt, sessions.ArrivalRules{}) == nil, nil
}

// naive is the rule of docs/origin.md: a fix that is too fast since the last
// accepted one is refused, without an end.
type naive struct {
	limitKMH   float64
	expiryMS   int64
	scale      float64
	last       geo.Fix
	acceptedMS int64
}

func (*naive) name() string { return "naive" }

func (n *naive) begin(mode geo.Mode, _ geo.Point, _ int64) error {
	n.limitKMH, n.last, n.acceptedMS = geo.DefaultLimits(mode).LimitKMH, geo.Fix{}, 0
	if n.scale > 0 {
		n.limitKMH *= n.scale
	}
	return nil
}

func (n *naive) publish(fix geo.Fix, nowMS int64) (outcome, error) {
	if n.expiryMS > 0 && nowMS-n.acceptedMS > n.expiryMS {
		n.last = geo.Fix{}
	}
	if n.last.Point.Valid() {
		hours := float64(fix.RecordedMS-n.last.RecordedMS) / 3_600_000
		if geo.DistanceM(n.last.Point, fix.Point)/1000 > n.limitKMH*hours {
			return outcome{verdict: string(geo.RefusedSpeed), refused: true}, nil
		}
	}
	n.last, n.acceptedMS = fix, nowMS
	return outcome{verdict: string(geo.Accepted)}, nil
}

func (n *naive) arrived(home geo.Point, _ int64) (bool, error) {
	return n.last.Point.Valid() && geo.DistanceM(n.last.Point, home) <= radiusM, nil
}
