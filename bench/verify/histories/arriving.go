package histories

import (
	"math"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// fenceM is the radius of the fence, and a metre for the difference between two ways to
// measure.
const fenceM = 150 + 1

// arrivingOnce: a journey has at most one TrainerArriving. It is committed while the
// journey runs, and after a stored fix that was within the fence, or whose leg crossed it.
func (c *checker) arrivingOnce() {
	running := map[sessions.ID]Commit{} // the start of each journey that runs
	had := map[sessions.JourneyKey]bool{}
	for _, commit := range c.Commits {
		e := commit.Event
		switch e.Type {
		case sessions.JourneyStarted:
			running[e.SessionID] = commit
		case sessions.JourneyEnded:
			delete(running, e.SessionID)
		case sessions.JourneyArriving:
			key := sessions.JourneyKey{SessionID: e.SessionID, StartedAt: e.JourneyStartedAt}
			began, runs := running[e.SessionID]
			switch {
			case had[key]:
				c.wrongf("the second of a journey: %s", commit)
			case !runs || !began.Event.JourneyStartedAt.Equal(e.JourneyStartedAt):
				c.wrongf("its journey does not run: %s", commit)
			case !c.reached(e.SessionID, began.At, commit.At) && !c.unopened(e.SessionID, e.JourneyStartedAt, commit.At):
				c.wrongf("no fix of its journey has reached the fence: %s", commit)
			}
			had[key] = true
		}
	}
}

// reached reports whether a fix that was stored in this time, or the leg to it, was within
// the fence.
func (c *checker) reached(id sessions.ID, from, to time.Time) bool {
	var before geo.Point
	for _, ch := range c.changes[id] {
		if ch.Verdict != sessions.VerdictStored || ch.At.Before(from) || ch.At.After(to) {
			continue
		}
		if !before.Valid() {
			before = ch.Fix
		}
		if passesM(c.Homes[id], before, ch.Fix) <= fenceM {
			return true
		}
		before = ch.Fix
	}
	return false
}

// passesM is how near the straight line from a to b comes to a home, in metres on a plane,
// which is exact enough for a few kilometres.
func passesM(home, a, b geo.Point) float64 {
	const metresPerDegree = 111_195
	narrow := math.Cos(home.Lat() * math.Pi / 180)
	plane := func(p geo.Point) (x, y float64) {
		return (p.Lng() - home.Lng()) * metresPerDegree * narrow, (p.Lat() - home.Lat()) * metresPerDegree
	}
	ax, ay := plane(a)
	bx, by := plane(b)
	dx, dy := bx-ax, by-ay
	along := 0.0
	if square := dx*dx + dy*dy; square > 0 {
		along = min(1, max(0, -(ax*dx+ay*dy)/square))
	}
	return math.Hypot(ax+along*dx, ay+along*dy)
}
