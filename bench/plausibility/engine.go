package main

import (
	"doorstep/geo"
)

// outcome is what the phone is told about one fix. The verdict begins with
// accepted, ignored or refused.
type outcome struct {
	verdict string
	refused bool
	flags   geo.Flags
}

func (o outcome) accepted() bool { return o.verdict == string(geo.Accepted) }

// engine judges one journey after another. The laboratory plays the same journeys
// to each: the pure function, the naive rule, and the script in a real store whose
// clock is injected.
type engine interface {
	name() string
	// begin starts a journey and forgets the one before.
	begin(mode geo.Mode, nowMS int64) error
	// publish judges a fix that arrives at nowMS, which rises.
	publish(fix geo.Fix, nowMS int64) (outcome, error)
	// arrived reports whether an arrival at home would be granted now.
	arrived(home geo.Point, nowMS int64) (bool, error)
}

const (
	// locationTTLMS is how long a live location lives after its last fix. After that
	// a track begins anew.
	locationTTLMS = 300_000
	// staleMS and futureMS are the order rule's, docs/contract.md, section 1.
	staleMS  = 300_000
	futureMS = 2_000
	// reanchorWaitMS is how long after a re-anchor no arrival is granted.
	reanchorWaitMS = 60_000
	// radiusM is the radius of the fence around a home.
	radiusM = 150
)

const verdictStale = "ignored_stale"

// judge is the pure function, with the order rule before it as in the script.
type judge struct {
	limits     geo.Limits
	expiryMS   int64   // 0 = a live location never expires
	scale      float64 // of both speeds, for the ROC; 0 = 1
	track      geo.Track
	acceptedMS int64
}

func (*judge) name() string { return "doorstep" }

func (j *judge) begin(mode geo.Mode, _ int64) error {
	j.limits, j.track, j.acceptedMS = geo.DefaultLimits(mode), geo.Track{}, 0
	if j.scale > 0 {
		j.limits.LimitKMH *= j.scale
		j.limits.CeilingKMH *= j.scale
	}
	return nil
}

func (j *judge) publish(fix geo.Fix, nowMS int64) (outcome, error) {
	if j.expired(nowMS) {
		j.track = geo.Restored(nowMS)
	}
	if stale(fix, j.track.Last.RecordedMS, nowMS) {
		return outcome{verdict: verdictStale}, nil
	}
	ruling, track := geo.Judge(j.track, fix, j.limits, nowMS)
	j.track = track
	if ruling.Verdict == geo.Accepted {
		j.acceptedMS = nowMS
	}
	return outcome{string(ruling.Verdict), ruling.Verdict.IsRefused(), ruling.Flags}, nil
}

func (j *judge) expired(nowMS int64) bool {
	return j.expiryMS > 0 && j.acceptedMS > 0 && nowMS-j.acceptedMS > j.expiryMS
}

// stale is the order rule: too old, or not newer than the live fix.
func stale(fix geo.Fix, lastMS, nowMS int64) bool {
	if fix.RecordedMS == 0 || fix.RecordedMS > nowMS+futureMS {
		return false
	}
	return fix.RecordedMS < nowMS-staleMS || lastMS > 0 && fix.RecordedMS <= lastMS
}

func (j *judge) arrived(home geo.Point, nowMS int64) (bool, error) {
	fresh := j.acceptedMS > 0 && nowMS-j.acceptedMS <= locationTTLMS
	near := fresh && geo.DistanceM(j.track.Last.Point, home) <= radiusM
	doubted := j.track.ReanchoredMS > 0 && nowMS-j.track.ReanchoredMS < reanchorWaitMS
	return near && !doubted, nil
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

func (n *naive) begin(mode geo.Mode, _ int64) error {
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
