// Package histories plays whole days of journeys in virtual time, and checks from
// the record that the promises held: a version never goes back for a reader,
// nothing is shown after the end or to another student, a trainer has one journey at
// a time, no fix exceeds the rate, every waiter sees every change, every start has
// one end, a student is told at most once a journey, and in time, that the trainer is
// almost there, each code is pushed once, and nobody but the parties of now sees a
// place, or any 30 s after the journey's end by whatever means.
//
// The handlers, the service, the hubs, the sweepers and the clean-up of two gateways
// are the product's, over one live store and one repository in memory. On every third day
// each gateway is a region with a live store of its own, and calls that come to the wrong one
// are forwarded over a long way. Then all of this holds across the regions, no journey is in
// the live store of another region, and a region that is cut off from the repository serves
// nothing once its lease has ended. A seed decides the rest: phones with bad networks and wrong clocks that retry, repeat and reorder;
// gateways that are killed; stores that are slow or away, lose an answer, do the work
// late, or lose all data; a hash that comes back after its end; a store's clock that
// steps; regions that are cut off from each other or from the repository; and another
// service that ends, cancels and reassigns by SQL. The checker uses none of
// the product's logic; check_test.go proves that it finds violations.
//
// `go test ./bench/verify/histories -args -seeds=1000` plays the seeds from 1 on, for
// 40 s at most (`-within`). `-seed=N` plays one of them again and prints all that
// happened. A replay of a day without regions is the same to the nanosecond, except for two of a goroutine's
// events that fall into one instant.
package histories

import (
	"fmt"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
)

// Verb is what a call asked for.
type Verb string

// The verbs.
const (
	Start   Verb = "start"
	Update  Verb = "update"
	Live    Verb = "live"
	Arrived Verb = "arrived"
	Stop    Verb = "stop"
	Verify  Verb = "verify"
	Cancel  Verb = "cancel"
)

// Call is one request as a gateway handled it. All instants of this package are on
// the true clock, which no part of the product can read.
type Call struct {
	From, To time.Time
	Gateway  int
	Region   string // of the gateway; empty without regions
	Caller   sessions.Caller
	Verb     Verb
	Session  sessions.ID
	Fix      geo.Point     // Update, Arrived
	Seen     int64         // Live: the version of the If-None-Match, 0 for none
	Wait     time.Duration // Live
	Faulted  bool          // a store failed or stalled it

	// Forwarded: it comes from the other region's gateway, which has a record of its own for
	// each of its callers. One wait that is forwarded may be for many of them.
	Forwarded bool

	Status   int
	Code     sessions.Code
	Version  int64     // of an ETag or a receipt; 0: none was given
	Location geo.Point // Live: as shown
	Active   bool      // Live
	Degraded bool      // Live
	Stored   bool      // Update: 201 and neither ignored nor stale
}

// String is the call on a line of a history.
func (c Call) String() string {
	return fmt.Sprintf("%s … %s  gateway %d %s %s %s %s of %.8s %s seen=%d wait=%s → %d %s version=%d at=%s active=%t degraded=%t faulted=%t forwarded=%t",
		clock(c.From), clock(c.To), c.Gateway, c.Region, c.Caller.Role, short(c.Caller.ID), c.Verb, c.Session, place(c.Fix), c.Seen, c.Wait,
		c.Status, c.Code, c.Version, place(c.Location), c.Active, c.Degraded, c.Faulted, c.Forwarded)
}

// Kind is what changed in the live store.
type Kind string

// The kinds of changes.
const (
	Opened  Kind = "opened"
	Judged  Kind = "judged" // a fix, stored or not
	Ended   Kind = "ended"
	Moved   Kind = "moved"     // only a new version
	Back    Kind = "came back" // the hash of a journey that has ended
	Lost    Kind = "lost all data"
	Stepped Kind = "clock stepped"
)

// Change is one effect in the live store, as its wrapper saw it.
type Change struct {
	At      time.Time
	Region  string // of the live store; empty without regions
	Kind    Kind
	Ref     sessions.Ref
	Journey time.Time // Opened, Ended: its start
	Fix     geo.Point // Judged; Moved: the live location
	Verdict sessions.Verdict
	StoreMS int64 // the store's clock
	TakenMS int64 // when a stored fix counts as taken, on that clock; 0 where it has no rate of its journey
	Version int64 // after it
}

// String is the change on a line of a history.
func (c Change) String() string {
	return fmt.Sprintf("%s                live store %s %s %.8s journey=%s %s %s store_ms=%d taken_ms=%d version=%d",
		clock(c.At), c.Region, c.Kind, c.Ref.SessionID, clock(c.Journey), place(c.Fix), c.Verdict, c.StoreMS, c.TakenMS, c.Version)
}

// Commit is an event of the outbox, with the time of its commit.
type Commit struct {
	At     time.Time
	Event  sessions.Event
	Region string // of the session, as the same transaction leaves it
}

// String is the commit on a line of a history.
func (c Commit) String() string {
	return fmt.Sprintf("%s                outbox %s of %.8s %s journey=%s %s%s", clock(c.At), c.Event.Type, c.Event.SessionID, c.Region,
		clock(c.Event.JourneyStartedAt), c.Event.Reason, c.Event.Verdict)
}

// Edit is a change of a session's row by another service of the operator.
type Edit struct {
	At      time.Time
	Session sessions.ID
	Ends    bool          // it ends the journey that runs
	Meta    sessions.Meta // the parties after it
}

// String is the edit on a line of a history.
func (e Edit) String() string {
	return fmt.Sprintf("%s                SQL of %.8s ends=%t trainer=%s student=%s", clock(e.At), e.Session, e.Ends, short(e.Meta.TrainerID), short(e.Meta.StudentID))
}

// Push is a push that has reached a device.
type Push struct {
	At      time.Time
	To      sessions.ID // the user
	Session sessions.ID
	Event   sessions.ID
	Code    bool // it has the code in it
}

// String is the push on a line of a history.
func (p Push) String() string {
	return fmt.Sprintf("%s                push of %.8s to %s code=%t", clock(p.At), p.Session, short(p.To), p.Code)
}

// Window is a stretch of time.
type Window struct{ From, To time.Time }

// Part is what can be away.
type Part string

// The parts.
const (
	TheLiveStore  Part = "the live store"
	TheRepository Part = "the repository"
	TheGateway    Part = "the gateway"
	TheWay        Part = "the way between the regions" // or one call that was lost on it
)

// Outage is a time in which a part is away.
type Outage struct {
	Window
	Of     Part
	Region string // for which it is; empty: for all
}

// String is the outage on a line of a history.
func (o Outage) String() string {
	return fmt.Sprintf("%s … %s  %s %s is away", clock(o.From), clock(o.To), o.Of, o.Region)
}

// Record is everything that was recorded of one day.
type Record struct {
	Seed     uint64
	Sessions map[sessions.ID]sessions.Meta // as booked, some with a region
	Homes    map[sessions.ID]geo.Point
	Calls    []Call
	Changes  []Change // in order
	Commits  []Commit // in order
	Outages  []Outage
	Edits    []Edit // in order
	Pushes   []Push // in order
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("15:04:05.000000")
}

func short(id sessions.ID) string { return fmt.Sprintf("%.8s", id) }

func place(p geo.Point) string {
	if !p.Valid() {
		return "nowhere"
	}
	return fmt.Sprintf("%.7f,%.7f", p.Lat(), p.Lng())
}
