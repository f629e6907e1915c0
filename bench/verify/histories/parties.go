package histories

import (
	"slices"
	"time"

	"doorstep/sessions"
)

const (
	// seenWithin is how long after a change, whoever made it, a place may still be seen by
	// who is no party any more, or after the journey's end by anybody.
	seenWithin = 30 * time.Second
	// readWithin is how long before its answer a long poll may have read its last.
	readWithin = 2 * time.Second
	// servedFor is how long before a change a gateway may have served a session and still
	// ask about it by itself.
	servedFor = 40 * time.Second
)

// readAt is when a call may have read what it answered, at the earliest. A 304 shows
// nothing: it counts as answered when it was let in.
func (call Call) readAt() time.Time {
	if call.Status == 304 {
		return call.From
	}
	return later(call.From, call.To.Add(-readWithin))
}

// bound is until when a change of a session may go unnoticed: seenWithin after it, or
// after the first use of the session behind it, by anybody or by the caller given. A
// gateway asks about what it serves. The outages selected do not count.
func (c *checker) bound(id sessions.ID, change time.Time, by sessions.ID, of which) time.Time {
	for _, use := range c.uses[id] {
		if use.From.After(change.Add(-servedFor)) && (by == "" || use.Caller.ID == by) {
			return c.available(later(change, use.From), seenWithin, of)
		}
	}
	return c.available(change, seenWithin, of)
}

// isParty reports whether the caller may make the call: by the row as it is while the
// call is made, or, where the live store and the gateways' memory decide, as it was until
// the bound.
func (c *checker) isParty(call Call) bool {
	meta, since := c.Sessions[call.Session], time.Time{}
	for _, e := range append(c.edits[call.Session], Edit{}) {
		until := e.At
		limit, from := until, call.From
		if call.Verb == Live || call.Verb == Update {
			limit, from = c.bound(call.Session, until, call.Caller.ID, c.met(call)), call.readAt()
		}
		if !since.After(call.To) && (until.IsZero() || !from.After(limit)) && party(call, meta) {
			return true
		}
		meta, since = e.Meta, e.At
	}
	return false
}

// party reports whether the caller may make the call in a session with these parties.
func party(call Call, meta sessions.Meta) bool {
	switch call.Caller.Role {
	case sessions.Admin:
		return call.Verb == Live || call.Verb == Stop || call.Verb == Cancel
	case sessions.Trainer:
		return call.Caller.ID == meta.TrainerID && call.Verb != Cancel
	default:
		return (call.Verb == Live || call.Verb == Cancel) && call.Caller.ID == meta.StudentID
	}
}

// partiesOfNow: a party is not shut out while the database answers.
func (c *checker) partiesOfNow() {
	for _, call := range c.Calls {
		if call.Code != sessions.Forbidden || call.Faulted || c.away(call.From, call.To, c.met(call)) {
			continue
		}
		meta, since := c.Sessions[call.Session], time.Time{}
		for _, e := range c.edits[call.Session] {
			if e.At.After(call.From) {
				break
			}
			meta, since = e.Meta, e.At
		}
		next := slices.ContainsFunc(c.edits[call.Session], func(e Edit) bool { return e.At.After(since) && !e.At.After(call.To) })
		if !next && call.Verb == Live && party(call, meta) {
			c.wrongf("a party was shut out: %s", call)
		}
	}
}

// cameBack reports whether a hash of the session had come back at this instant, and there
// was not yet the time to end it again.
func (c *checker) cameBack(id sessions.ID, at time.Time) bool {
	return slices.ContainsFunc(c.changes[id], func(ch Change) bool {
		return ch.Kind == Back && !ch.At.After(at) && !at.After(c.bound(id, ch.At, "", c.home(id)))
	})
}

// trainers is how many trainers the session has had before the instant. Each has versions
// of their own. It reports false where the change may not have been noticed yet.
func (c *checker) trainers(id sessions.ID, at time.Time) (n int, noticed bool) {
	trainer := c.Sessions[id].TrainerID
	for _, e := range c.edits[id] {
		if e.At.After(at) {
			break
		}
		if e.Meta.TrainerID != trainer {
			trainer = e.Meta.TrainerID
			n++
			noticed = at.After(c.bound(id, e.At, "", anything))
		}
	}
	return n, n == 0 || noticed
}

// onePushACode: each code is pushed once, to the student of then, if it could be used for
// long enough; and no code lives after a cancellation.
func (c *checker) onePushACode() {
	pushed, to, cancelled := map[sessions.ID]bool{}, map[[2]sessions.ID]bool{}, map[sessions.ID]time.Time{}
	for _, commit := range c.Commits {
		if commit.Event.Type == sessions.SessionCancelled {
			cancelled[commit.Event.SessionID] = commit.At
		}
	}
	for _, p := range c.Pushes {
		at, over := cancelled[p.Session]
		switch asReader := (Call{Caller: sessions.Caller{ID: p.To, Role: sessions.Student}, Verb: Live, Session: p.Session, From: p.At, To: p.At}); {
		case !p.Code:
		case over && p.At.After(at.Add(readWithin)):
			c.wrongf("a code was pushed after the cancellation: %s", p)
		case !c.isParty(asReader):
			c.wrongf("a code was pushed to a stranger: %s", p)
		}
		if to[[2]sessions.ID{p.Event, p.To}] {
			c.wrongf("pushed twice: %s", p)
		}
		pushed[p.Event], to[[2]sessions.ID{p.Event, p.To}] = true, true
	}
	for _, commit := range c.Commits {
		e := commit.Event
		if (e.Type == sessions.CodeIssued || e.Type == sessions.JourneyEnded && e.Reason == sessions.EndArrived) &&
			!pushed[e.ID] && c.usable(e.SessionID, commit.At) {
			c.wrongf("a code was never pushed: %s", commit)
		}
	}
	for _, call := range c.Calls {
		if at, over := cancelled[call.Session]; over && (call.Verb == Verify || call.Verb == Arrived) && call.Status == 200 && call.From.After(at) {
			c.wrongf("a code after the cancellation: %s", call)
		}
	}
}

// usable reports whether a code that was made at this instant was neither used, replaced
// nor taken back before there was time to push it.
func (c *checker) usable(id sessions.ID, at time.Time) bool {
	until := c.available(at, settleWithin, in(""))
	return !slices.ContainsFunc(c.Calls, func(call Call) bool {
		return call.Session == id && call.Verb == Verify && call.Status == 200 && call.To.After(at) && call.From.Before(until)
	}) && !slices.ContainsFunc(c.Commits, func(commit Commit) bool {
		return commit.Event.SessionID == id && commit.At.After(at) && commit.At.Before(until) &&
			(commit.Event.Type == sessions.CodeIssued || commit.Event.Type == sessions.SessionStarted || commit.Event.Type == sessions.SessionCancelled)
	}) && !slices.ContainsFunc(c.edits[id], func(e Edit) bool { return e.At.After(at) && e.At.Before(until) })
}
