package histories

import (
	"cmp"
	"slices"
	"time"

	"doorstep/sessions"
)

const (
	// foundWithin is how long a gateway may take to find that a session of no region was
	// started in another one: 17 s, by docs/adr/0022.
	foundWithin = 17*time.Second + wakeWithin
	// metaFor is how long a live store remembers who the parties of a session are.
	metaFor = 300 * time.Second
	// tripsWithin is what the way to another region adds to a wake-up: the slowest trip of
	// the answer, and of the next question and its answer.
	tripsWithin = 2 * time.Second
	// hungFor is how long a poll to another region may hang before that region counts as
	// away: its wait, and 5 s. Until then its last answer holds.
	hungFor = 30 * time.Second
	// againWithin is how long after the end of an outage calls may still fail: the longest
	// pause between two polls, or the breaker's probes, or the next try to renew a lease.
	againWithin = 10 * time.Second
	// leaseWithin is a lease of 120 s, and 10 s more.
	leaseWithin = 130 * time.Second
)

// taken is the region that has a session, and since when; zero for a booking that names it.
type taken struct {
	region string
	at     time.Time
}

// oneRegionASession: the region of a session is that of its booking, or else that of its
// first start, and never changes.
func (c *checker) oneRegionASession() {
	for id, meta := range c.Sessions {
		if meta.Region != "" {
			c.taken[id] = taken{region: meta.Region}
		}
	}
	for _, commit := range c.Commits {
		id := commit.Event.SessionID
		if commit.Event.Type != sessions.JourneyStarted {
			continue
		}
		of, known := c.taken[id]
		if !known {
			of = taken{commit.Region, commit.At}
			c.taken[id] = of
		}
		if commit.Region != of.region {
			c.wrongf("a session of region %s is in another one: %s", of.region, commit)
		}
	}
}

// onlyInItsRegion: nothing of a journey is in the live store of another region. An end
// without a place may be: what a reader was told before the first start.
func (c *checker) onlyInItsRegion() {
	for _, ch := range c.Changes {
		if of, known := c.taken[ch.Ref.SessionID]; known && ch.Region != of.region && ch.Kind != Ended {
			c.wrongf("in the live store of another region than %s: %s", of.region, ch)
		}
	}
}

// leasesEnd: a region that is cut off from the repository for longer than its lease judges
// no fix, and shows neither a place nor a version; nor does the other region for it, once
// two polls have ended.
func (c *checker) leasesEnd() {
	for _, o := range c.Outages {
		if o.Of != TheRepository || o.Region == "" || o.To.Sub(o.From) < leaseWithin {
			continue
		}
		for _, call := range c.Calls {
			until := o.From.Add(leaseWithin)
			if c.crosses(call) {
				until = until.Add(2 * hungFor)
			}
			if c.asks(call) != o.Region || call.From.Before(until) || call.To.After(o.To) {
				continue
			}
			judged := call.Verb == Update && call.Status < 300 && call.Status != 202
			if judged || call.Verb == Live && (call.Version != 0 || call.Location.Valid()) {
				c.wrongf("served without a lease: %s\n      %s", call, o)
			}
		}
	}
}

// storedUnlessAway: a fix is judged, wherever it comes to, unless something is away.
func (c *checker) storedUnlessAway() {
	for _, call := range c.Calls {
		of := in(call.Region)
		if c.crosses(call) {
			of = anything
		}
		if call.Verb == Update && call.Status == 202 && !call.Faulted && !c.away(call.From.Add(-againWithin), call.To, of) && !c.probing(call) {
			c.wrongf("not judged, though nothing was away: %s", call)
		}
	}
}

// riseAbroad is versionsOnlyRise for waits that a poll to the other region feeds. Their
// reader is never shown what is older than what it says it has seen. What others were
// shown meanwhile may still be on its way.
func (c *checker) riseAbroad(answers, waits []Call) {
	whole := []Call{}
	for _, call := range waits {
		if !c.disturbed(call, call.From.Add(-hungFor)) {
			whole = append(whole, call)
		}
		n, _ := c.trainers(call.Session, call.To)
		own := slices.ContainsFunc(c.changes[call.Session], func(ch Change) bool { return ch.Version == call.Seen })
		if call.Status == 200 && call.Version < call.Seen && own && n == 0 {
			c.wrongf("the version went back for who had seen a newer one: %s", call)
		}
	}
	c.onlyRise(answers, whole, tripsWithin)
}

// regionOf is the region that has a session at an instant; empty for none.
func (c *checker) regionOf(id sessions.ID, at time.Time) string {
	if of := c.taken[id]; !of.at.After(at) {
		return of.region
	}
	return ""
}

// asks is the region whose live store answers a call.
func (c *checker) asks(call Call) string {
	return cmp.Or(c.regionOf(call.Session, call.To), call.Region)
}

// crosses reports whether a call came to another region than its session's.
func (c *checker) crosses(call Call) bool { return c.asks(call) != call.Region }

// foundBy is when the gateway of a call that crosses has found where the session is.
func (c *checker) foundBy(call Call) time.Time {
	of := c.taken[call.Session]
	if of.at.IsZero() {
		return time.Time{}
	}
	return c.available(of.at, foundWithin, in(call.Region))
}

// sentElsewhere reports whether a wait may have ended early because its gateway has found
// that the session has been started in another region.
func (c *checker) sentElsewhere(call Call) bool {
	found := c.foundBy(call)
	return call.From.Before(found) || call.To.Before(call.From.Add(call.Wait)) && call.From.Before(found.Add(metaFor))
}

// partiesAt are the parties of a session at an instant.
func (c *checker) partiesAt(id sessions.ID, at time.Time) sessions.Meta {
	meta := c.Sessions[id]
	for _, e := range c.edits[id] {
		if !e.At.After(at) {
			meta = e.Meta
		}
	}
	return meta
}

// strays reports whether a read may have been answered by the live store of a region that
// has not got the session, with a version by that store's clock. Before the first start
// each region says by itself that there is no journey, and another one until it asks the
// repository: within seconds where it is waited for, else when its session:meta has gone.
func (c *checker) strays(call Call) bool {
	of, known := c.taken[call.Session]
	return call.Verb == Live && call.Region != of.region && !call.Active && !call.Location.Valid() &&
		(!known || !of.at.IsZero() && call.From.Before(c.foundBy(call).Add(metaFor)))
}

// lastWord reports whether a degraded answer may be the live store's last word: the region
// has no lease, and the repository does not answer.
func (c *checker) lastWord(call Call) bool {
	return call.Region != "" && (call.Faulted || c.away(call.From, call.To, c.met(call)))
}

// expired reports whether a journey's hash was gone by itself at an instant: by its hour, or
// 300 s after its last fix, and a minute for a clock that was set back. The clean-up of its
// end may be another region's, and its own then finds nothing to end.
func (c *checker) expired(id sessions.ID, j journey, at time.Time) bool {
	fixed := slices.ContainsFunc(c.changes[id], func(ch Change) bool {
		return ch.Verdict == sessions.VerdictStored && ch.At.After(at.Add(-6*time.Minute)) && ch.At.Before(at)
	})
	return c.taken[id].region != "" && (j.reason == sessions.EndTimeout || !fixed)
}

// unopened reports whether a journey is not yet in its live store, which has the one before:
// another region has started it by the repository alone, and its own has not seen that yet.
func (c *checker) unopened(id sessions.ID, start, at time.Time) bool {
	return c.taken[id].region != "" && !slices.ContainsFunc(c.changes[id], func(ch Change) bool {
		return ch.Kind == Opened && ch.Journey.Equal(start) && ch.At.Before(at)
	})
}

// probing reports whether a region's breaker may still be trying the other region: it lets
// three calls through before all others.
func (c *checker) probing(call Call) bool {
	last, answered := time.Time{}, 0
	for _, o := range c.Outages {
		if !o.From.After(call.From) {
			last = later(last, o.To)
		}
	}
	for _, other := range c.Calls {
		if other.Forwarded && other.Wait == 0 && other.Region != call.Region && other.From.After(last) && other.To.Before(call.From) {
			answered++
		}
	}
	return c.crosses(call) && !last.IsZero() && answered < 3
}

// disturbed reports whether something that a wait needs was away since an instant, or failed
// the oldest wait of its session at the gateway, which reads for all.
func (c *checker) disturbed(call Call, since time.Time) bool {
	if !c.crosses(call) {
		leaseless := func(o Outage) bool { return o.Of == TheRepository && o.Region != "" && o.Region == call.Region }
		return c.away(since, call.To, in(call.Region)) || c.away(since.Add(-againWithin), call.To, leaseless) || slices.ContainsFunc(c.uses[call.Session], func(other Call) bool {
			return other.Gateway == call.Gateway && other.Wait > 0 && other.Faulted && other.From.Before(call.To) && !other.To.Before(since)
		})
	}
	since = since.Add(-againWithin)
	return c.away(since, call.To, anything) || slices.ContainsFunc(c.polls[call.Session], func(poll Call) bool {
		failed := poll.To.After(since) && (poll.Faulted || poll.Degraded || poll.Status >= 400 && poll.Status != callerGone)
		return poll.From.Before(call.To) && failed
	})
}

// which selects outages.
type which func(Outage) bool

func anything(Outage) bool { return true }

// in selects what a region needs for itself; empty for what is there for all.
func in(region string) which {
	return func(o Outage) bool { return o.Of != TheWay && (o.Region == "" || o.Region == region) }
}

// home is in the region that has a session.
func (c *checker) home(id sessions.ID) which { return in(c.taken[id].region) }

// met selects what the stores and gateways of a call need; of one that crosses those of
// both regions.
func (c *checker) met(call Call) which {
	if !c.crosses(call) {
		return in(call.Region)
	}
	return func(o Outage) bool { return o.Of != TheWay }
}
