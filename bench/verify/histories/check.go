package histories

import (
	"fmt"
	"slices"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// Limits for what takes time.
const (
	// wakeWithin is how long a wait may go on after a change, when nothing failed: the
	// hops of the wake-up and of two reads.
	wakeWithin = time.Second
	// settleWithin is how long the clean-up may take after an end while both stores
	// answer: some repeats, a few seconds apart.
	settleWithin = time.Minute
	// keptFor is how long a hash lives without a fix, less what its clock may step.
	keptFor = 300*time.Second - time.Minute
	// timeOutWithin is how long after its hour a journey may end: the sweepers look
	// every few minutes.
	timeOutWithin = 15 * time.Minute
)

// Check lists what is wrong with a history, in words; nothing when every promise
// was kept.
func Check(r Record) []string {
	c := &checker{
		Record: r, changes: map[sessions.ID][]Change{}, journeys: map[sessions.ID][]journey{},
		edits: map[sessions.ID][]Edit{}, uses: map[sessions.ID][]Call{}, polls: map[sessions.ID][]Call{}, taken: map[sessions.ID]taken{},
	}
	c.Outages = slices.SortedStableFunc(slices.Values(r.Outages), func(a, b Outage) int { return a.From.Compare(b.From) })
	c.oneRegionASession()
	for _, e := range r.Edits {
		c.edits[e.Session] = append(c.edits[e.Session], e)
	}
	for _, call := range r.Calls {
		if (call.Verb == Live || call.Verb == Update) && !c.crosses(call) {
			c.uses[call.Session] = append(c.uses[call.Session], call)
		}
		if call.Verb == Live && call.Forwarded {
			c.polls[call.Session] = append(c.polls[call.Session], call)
		}
	}
	for _, list := range c.uses {
		slices.SortStableFunc(list, func(a, b Call) int { return a.From.Compare(b.From) })
	}
	for _, change := range r.Changes {
		if of, known := c.taken[change.Ref.SessionID]; change.Ref.SessionID != "" && (!known || change.Region == of.region) {
			c.changes[change.Ref.SessionID] = append(c.changes[change.Ref.SessionID], change)
		}
	}
	c.onlyInItsRegion()
	c.leasesEnd()
	c.storedUnlessAway()
	c.oneEndAStart()
	c.oneJourneyATrainer()
	c.arrivingOnce()
	c.answers()
	c.versionsOnlyRise()
	c.whatIsShown()
	c.nothingAfterTheEnd()
	c.partiesOfNow()
	c.onePushACode()
	c.ratesWereKept()
	c.waitsEndInTime()
	return c.found
}

// findings is the most that a broken run lists.
const findings = 20

type checker struct {
	Record
	changes  map[sessions.ID][]Change // in the live store of its region
	journeys map[sessions.ID][]journey
	edits    map[sessions.ID][]Edit
	uses     map[sessions.ID][]Call // that a gateway of its region serves the session by, by their begin
	polls    map[sessions.ID][]Call // reads and waits of the other region's gateway
	taken    map[sessions.ID]taken
	found    []string
}

// journey is one journey according to the outbox.
type journey struct {
	trainer      sessions.ID
	id           time.Time // its start, which names it
	began, ended time.Time // when that was committed; ended is zero while it runs
	over         time.Time // ended, or before that, when another service has ended it
	reason       sessions.EndReason
}

func (c *checker) wrongf(format string, args ...any) {
	if len(c.found) < findings {
		c.found = append(c.found, fmt.Sprintf(format, args...))
	}
}

// oneEndAStart: a session's events are start, end, start, end …, each later than
// the one before, and at the end of the day all journeys have ended.
func (c *checker) oneEndAStart() {
	ids := map[sessions.ID]bool{}
	last := map[sessions.ID]sessions.Event{}
	for _, commit := range c.Commits {
		e := commit.Event
		if ids[e.ID] {
			c.wrongf("event committed twice: %s", commit)
		}
		ids[e.ID] = true
		if e.Type != sessions.JourneyStarted && e.Type != sessions.JourneyEnded {
			continue
		}
		before := last[e.SessionID]
		list := c.journeys[e.SessionID]
		switch {
		case e.Type == before.Type, before.Type == "" && e.Type == sessions.JourneyEnded:
			c.wrongf("not start, end, start, end: %s", commit)
		case !e.At.After(before.At):
			c.wrongf("not later than the one before: %s", commit)
		case e.Type == sessions.JourneyStarted:
			c.journeys[e.SessionID] = append(list, journey{trainer: e.TrainerID, id: e.JourneyStartedAt, began: commit.At})
		case !e.JourneyStartedAt.Equal(list[len(list)-1].id):
			c.wrongf("the end of another journey: %s", commit)
		default:
			j := &list[len(list)-1]
			j.ended, j.over, j.reason = commit.At, commit.At, e.Reason
			for _, edit := range c.edits[e.SessionID] {
				if edit.Ends && edit.At.After(j.began) && edit.At.Before(j.over) {
					j.over = edit.At
				}
			}
		}
		last[e.SessionID] = e
	}
	for id, list := range c.journeys {
		for _, j := range list {
			switch over := j.began.Add(time.Hour); {
			case j.ended.IsZero():
				c.wrongf("the journey of %.8s that began at %s never ended", id, clock(j.began))
			case j.ended.After(c.available(over, timeOutWithin, anything)):
				c.wrongf("the journey of %.8s that began at %s ended at %s, long past its hour", id, clock(j.began), clock(j.ended))
			}
		}
	}
}

// oneJourneyATrainer: no two journeys of a trainer overlap, by their commits and by SQL.
func (c *checker) oneJourneyATrainer() {
	of := map[sessions.ID][]journey{}
	for _, list := range c.journeys {
		for _, j := range list {
			of[j.trainer] = append(of[j.trainer], j)
		}
	}
	for trainer, list := range of {
		slices.SortFunc(list, func(a, b journey) int { return a.began.Compare(b.began) })
		for i := 1; i < len(list); i++ {
			if before := list[i-1].over; before.IsZero() || before.After(list[i].began) {
				c.wrongf("trainer %s has two journeys at %s", short(trainer), clock(list[i].began))
			}
		}
	}
}

// answers: no update has a 5xx, no call an internal error; callers who are not
// parties are refused whatever is down; and what is answered has happened.
func (c *checker) answers() {
	for _, call := range c.Calls {
		switch {
		case call.Code == sessions.Internal, call.Verb == Update && call.Status >= 500 && call.Status != callerGone:
			c.wrongf("a server error: %s", call)
		case call.Status < 400 && call.Status != 202 && !c.isParty(call): // 202: nothing was checked, nothing shown
			c.wrongf("a stranger was let in: %s", call)
		case call.Stored && !c.happened(call):
			c.wrongf("answered as stored, and is not: %s", call)
		case call.Verb == Start && call.Status == 201 && !c.committed(call, sessions.JourneyStarted, 0),
			call.Verb == Stop && call.Status == 200 && !c.stopped(call),
			call.Verb == Cancel && call.Status == 200 && !c.committed(call, sessions.SessionCancelled, 24*time.Hour):
			c.wrongf("answered as done, and there is no event of it: %s", call)
		}
	}
}

// stopRepeats is how long a repeated stop is answered as the first one.
const stopRepeats = 10 * time.Minute

// callerGone is the status of a call whose caller is gone.
const callerGone = 499

func (c *checker) happened(call Call) bool {
	list := c.changes[call.Session]
	from, _ := slices.BinarySearchFunc(list, call.From, func(ch Change, at time.Time) int { return ch.At.Compare(at) })
	for _, ch := range list[from:] {
		if ch.At.After(call.To) {
			break
		}
		if ch.Verdict == sessions.VerdictStored && ch.Fix == call.Fix && ch.Version == call.Version && ch.Ref.TrainerID == call.Caller.ID {
			return true
		}
	}
	return false
}

func (c *checker) committed(call Call, what sessions.EventType, before time.Duration) bool {
	return slices.ContainsFunc(c.Commits, func(commit Commit) bool {
		return commit.Event.Type == what && commit.Event.SessionID == call.Session &&
			!commit.At.Before(call.From.Add(-before)) && !commit.At.After(call.To)
	})
}

// stopped reports whether a stop that was answered as done has happened: by this caller,
// in this call, or in an earlier one which this one repeats and since which nothing has
// happened.
func (c *checker) stopped(call Call) bool {
	last := Commit{}
	for _, commit := range c.Commits {
		what := commit.Event.Type
		if commit.Event.SessionID != call.Session || what != sessions.JourneyStarted && what != sessions.JourneyEnded && what != sessions.SessionCancelled {
			continue
		}
		if !commit.At.After(call.From) {
			last = commit
			continue
		}
		if !commit.At.After(call.To) && c.stoppedBy(commit, call) {
			return true
		}
	}
	return !last.At.Before(call.From.Add(-stopRepeats)) && c.stoppedBy(last, call)
}

// stoppedBy reports whether the event is of a stop by the caller of the call.
func (c *checker) stoppedBy(commit Commit, call Call) bool {
	e := commit.Event
	by := call.Caller.Role == sessions.Admin && e.ByID == call.Caller.ID || call.Caller.Role == sessions.Trainer && e.By == ""
	return e.Type == sessions.JourneyEnded && e.Reason == sessions.EndCancelled && by &&
		slices.ContainsFunc(c.Calls, func(stop Call) bool {
			return stop.Verb == Stop && stop.Session == call.Session && stop.Caller == call.Caller &&
				!stop.From.After(commit.At) && !stop.To.Before(commit.At)
		})
}

// versionsOnlyRise: a call that begins after a version was answered, by either
// gateway to any caller, is answered with that version or a later one.
func (c *checker) versionsOnlyRise() {
	answers, asked, abroad := []Call{}, []Call{}, []Call{}
	for _, call := range c.Calls {
		_, before := c.trainers(call.Session, call.From)
		_, after := c.trainers(call.Session, call.To)
		switch {
		case !before || !after || call.Version == 0 || c.cameBack(call.Session, call.To) || c.strays(call):
			continue
		case c.crosses(call) && call.Wait > 0:
			abroad = append(abroad, call)
		default:
			asked = append(asked, call)
		}
		answers = append(answers, call)
	}
	slices.SortFunc(answers, func(a, b Call) int { return a.To.Compare(b.To) })
	c.onlyRise(answers, asked, 0)
	c.riseAbroad(answers, abroad)
}

// onlyRise compares calls with the answers that were given more than lag before they began.
func (c *checker) onlyRise(answers, asked []Call, lag time.Duration) {
	type reader struct {
		session sessions.ID
		trainer int
	}
	of := func(call Call) reader {
		n, _ := c.trainers(call.Session, call.From)
		return reader{call.Session, n}
	}
	slices.SortFunc(asked, func(a, b Call) int { return a.From.Compare(b.From) })
	highest, witness := map[reader]int64{}, map[reader]Call{}
	next := 0
	for _, call := range asked {
		for ; next < len(answers) && answers[next].To.Before(call.From.Add(-lag)); next++ {
			if a := answers[next]; a.Version > highest[of(a)] {
				highest[of(a)], witness[of(a)] = a.Version, a
			}
		}
		if call.Version < highest[of(call)] {
			c.wrongf("the version went back: %s\n      after %s", call, witness[of(call)])
		}
	}
}

// whatIsShown: a version names one state, the one that a change left, and a place
// that is shown was sent by the session's trainer for that session.
func (c *checker) whatIsShown() {
	sentFor := map[geo.Point]Call{}
	states := map[sessions.ID]map[int64]Change{}
	for _, call := range c.Calls {
		if call.Verb == Update || call.Verb == Arrived {
			sentFor[call.Fix] = call
		}
	}
	for _, ch := range c.Changes { // in both live stores, while no region has the session
		id := ch.Ref.SessionID
		if states[id] == nil {
			states[id] = map[int64]Change{}
		}
		if ch.Kind != Back && ch.Kind != Judged || ch.Verdict == sessions.VerdictStored {
			states[id][ch.Version] = ch
		}
	}
	for _, call := range c.Calls {
		if call.Verb != Live || call.Status != 200 {
			continue
		}
		state, known := states[call.Session][call.Version]
		origin := sentFor[call.Location]
		switch {
		case call.Location.Valid() && (origin.Session != call.Session || !c.isParty(Call{
			Caller: origin.Caller, Verb: Update, Session: call.Session, Region: origin.Region, From: origin.From, To: call.To,
		})):
			c.wrongf("a place that was not sent for this session: %s\n      but by %s", call, origin)
		case call.Degraded && (call.Location.Valid() || call.Version != 0):
			c.wrongf("degraded, but with a place or a version: %s", call)
		case call.Degraded:
		case !known:
			c.wrongf("a version that no change made: %s", call)
		case call.Location != state.Fix || call.Active != (state.Kind != Ended):
			c.wrongf("not what its version names: %s\n      %s", call, state)
		}
	}
}

// nothingAfterTheEnd: once the live store knows of an end, and in any case once there
// was time to tell it, no fix is stored and none is shown.
func (c *checker) nothingAfterTheEnd() {
	for id, list := range c.journeys {
		for i, j := range list {
			if j.ended.IsZero() {
				continue
			}
			until := time.Unix(1<<40, 0)
			if i+1 < len(list) {
				until = list[i+1].began
			}
			c.nothingBetween(id, j, until)
		}
		for _, ch := range c.changes[id] {
			if ch.Verdict == sessions.VerdictStored && ch.At.Before(list[0].began) {
				c.wrongf("stored before the start: %s", ch)
			}
		}
	}
}

func (c *checker) nothingBetween(id sessions.ID, j journey, until time.Time) {
	limit := c.available(j.ended, settleWithin, c.home(id))
	seen := c.bound(id, j.over, "", c.home(id))
	if limit.Before(until) && c.holds(id, limit) && !c.cameBack(id, limit) && !c.expired(id, j, limit) {
		c.wrongf("the live store still holds the journey of %.8s that ended at %s", id, clock(j.ended))
	}
	for _, ch := range c.changes[id] {
		gone := c.bound(id, ch.At, "", c.home(id))
		old := gone.Sub(ch.At) + time.Duration(ch.StoreMS-ch.Version)*time.Millisecond // its version is when it last changed
		if ch.Kind == Back && ch.At.After(j.over) && gone.Before(until) && old < keptFor && c.holds(id, gone) {
			c.wrongf("the live store still holds what came back: %s", ch)
		}
	}
	quiet := seen
	if told, ok := c.told(id, j); ok && told.Before(quiet) {
		quiet = told
	}
	for _, ch := range c.changes[id] {
		if ch.Verdict == sessions.VerdictStored && ch.At.After(quiet) && ch.At.Before(until) && !c.cameBack(id, ch.At) {
			c.wrongf("stored after the end of %s, of which the store knew at %s: %s", clock(j.ended), clock(quiet), ch)
		}
	}
	for _, call := range c.Calls {
		bound := quiet
		switch {
		case call.Degraded && !c.lastWord(call): // then the repository answers, which knew at once
			bound = j.ended
		case call.Degraded || c.crosses(call): // what came last over a way that is cut is shown until that is noticed
			bound = seen
		}
		if call.Session == id && call.Verb == Live && call.Status == 200 && call.readAt().After(bound) && call.To.Before(until) &&
			(call.Active || call.Location.Valid()) && !c.cameBack(id, call.readAt()) && !c.cameBack(id, call.To) {
			c.wrongf("shown after the end of %s, of which the store knew at %s: %s", clock(j.ended), clock(quiet), call)
		}
	}
}

// told is when the live store was told of a journey's end.
func (c *checker) told(id sessions.ID, j journey) (time.Time, bool) {
	for _, ch := range c.changes[id] {
		if ch.Kind == Ended && ch.Ref.TrainerID == j.trainer && !ch.Journey.Before(j.id) && !ch.At.Before(j.ended) {
			return ch.At, true
		}
	}
	return time.Time{}, false
}

// holds reports whether the live store has a journey of the session at an instant,
// by its changes up to then. Expiry is not followed: an end leaves a tombstone even
// then.
func (c *checker) holds(id sessions.ID, at time.Time) bool {
	held := false
	for _, ch := range c.Changes {
		switch {
		case ch.At.After(at):
			return held
		case ch.Region != c.taken[id].region: // another live store
		case ch.Kind == Lost, ch.Ref.SessionID == id && ch.Kind == Ended:
			held = false
		case ch.Ref.SessionID == id && (ch.Kind == Opened || ch.Kind == Back):
			held = true
		}
	}
	return held
}

// available is from plus d, not counting the outages that are selected.
func (c *checker) available(from time.Time, d time.Duration, of which) time.Time {
	until, counted := from.Add(d), from
	for _, o := range c.Outages {
		if of(o) && o.From.Before(until) && o.To.After(counted) {
			begin := o.From
			if counted.After(from) {
				begin = later(begin, counted) // two at once count once
			}
			until, counted = until.Add(o.To.Sub(begin)), o.To
		}
	}
	return until
}

// waitsEndInTime: a long poll that no fault touched ends soon after a change, and
// one that ends as 304 missed no change.
func (c *checker) waitsEndInTime() {
	for _, call := range c.Calls {
		if call.Verb != Live || call.Wait == 0 || call.Faulted || call.Version == 0 || c.cameBack(call.Session, call.From) || c.cameBack(call.Session, call.To) {
			continue
		}
		if n, _ := c.trainers(call.Session, call.To); n > 0 { // the changes do not say whose
			continue
		}
		settled, slack := call.From.Add(wakeWithin), wakeWithin // by then it has registered and read
		if c.crosses(call) {
			if !party(call, c.partiesAt(call.Session, call.To)) { // its token is refused there, and it ends by its time
				continue
			}
			settled, slack = later(settled, c.foundBy(call)), wakeWithin+tripsWithin
		}
		for _, ch := range c.changes[call.Session] {
			if ch.Kind == Judged && ch.Verdict != sessions.VerdictStored || !ch.At.After(call.From.Add(-time.Hour)) {
				continue
			}
			if ch.At.After(call.To) {
				break
			}
			since := later(ch.At, settled)
			isNew := ch.Version > call.Seen && (call.Seen != 0 || ch.At.After(settled))
			switch {
			case ch.Region != c.asks(call):
			case isNew && call.To.Sub(since) > slack && !c.disturbed(call, since):
				c.wrongf("waited %s after a change: %s\n      %s", call.To.Sub(since), call, ch)
			case call.Version < ch.Version && ch.At.Before(call.From.Add(call.Wait-(slack-wakeWithin))) && call.Status == 304 &&
				(!c.crosses(call) || !c.sentElsewhere(call) && !c.disturbed(call, call.From)):
				c.wrongf("304, though there was a change: %s\n      %s", call, ch)
			}
		}
	}
}

// later is the later of two instants.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (c *checker) away(from, to time.Time, of which) bool {
	return slices.ContainsFunc(c.Outages, func(o Outage) bool { return of(o) && o.From.Before(to) && o.To.After(from) })
}
