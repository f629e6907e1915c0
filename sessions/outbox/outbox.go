// Package outbox brings events from the store of record to the bus, at least
// once, whatever crashes and whenever.
//
//	transaction ──► outbox row ──► Relay ──► Publisher ──► bus ──► queues ──► consumers
//	                   ▲   claim ────┘ │
//	                   └── published ◄─┘
//
// A transition writes its event in its own transaction. Relay, one in every
// gateway, claims rows for a while, publishes them, and marks them published.
// Whoever dies in between leaves rows whose claim runs out, and another relay
// publishes them again: so consumers drop repeats by the event's id.
//
// There are two buses. EventBridge is the one with AWS settings: rules fan out
// to queues, and a Consumer takes from each. Without them InProcess fans out to
// an inbox of each consumer in the same store of record, and a second Relay
// carries each inbox to its Handler: the same claim, order, back-off and dead
// letters once more, so a consumer that fails holds up nobody else.
//
// Order: of one session's events only the oldest that is neither published nor
// dead may be claimed, so they reach the bus in the order in which they
// happened, whichever relay carries them. Between sessions there is no order,
// and a dead letter that is requeued comes after what has passed it.
package outbox

import (
	"context"
	"errors"
	"time"

	"doorstep/sessions"
)

// Row is an event on its way.
type Row struct {
	Seq      int64 // rises within a session
	Event    sessions.Event
	Attempts int // this one included; attempts that only found the bus down do not count
	// Unreadable says why Event could not be read from the store: a relay
	// buries such a row.
	Unreadable error
}

// Store is the part of the store of record that holds the outbox, or one
// consumer's inbox. Safe for concurrent use by any number of relays. Package
// outboxtest holds every one to what is said here.
type Store interface {
	// Claim takes up to limit rows that are due, lowest seq first, for lease:
	// no other claim gets them until then. Never two rows of one session, and
	// never a row whose session has an older one waiting.
	Claim(ctx context.Context, limit int, lease time.Duration) ([]Row, error)
	// Published marks rows as done. It holds whoever else has claimed them.
	Published(ctx context.Context, seqs []int64) error
	// Retry gives a row back, due again after wait, and counts the attempt.
	Retry(ctx context.Context, seq int64, wait time.Duration, reason string) error
	// Release gives rows back, due again after wait; the attempt was not the
	// rows' fault and does not count.
	Release(ctx context.Context, seqs []int64, wait time.Duration) error
	// Bury puts a row among the dead letters: it is not tried again and no
	// longer holds up its session.
	Bury(ctx context.Context, seq int64, reason string) error
	// Lag is how many rows wait, since when the oldest does (zero: none), and
	// how many dead letters there are.
	Lag(ctx context.Context) (waiting int, oldest time.Time, dead int, err error)
	// Sweep deletes up to limit rows that were published longer than age ago.
	Sweep(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Publisher is the way to a bus. It answers one error a row, in order; nil for
// those that the bus has taken. Down and Permanent say more about an error; one
// that says nothing counts as the row's own and is tried again.
type Publisher interface {
	Publish(ctx context.Context, rows []Row) []error
}

// Handler is a consumer. It must be safe to call again with the same event,
// also at the same time: at least once means sometimes twice. An error means
// "again, later"; Down and Permanent say more. Its text goes to logs and dead
// letters, so no personal data belongs in it.
type Handler interface {
	Handle(ctx context.Context, e sessions.Event) error
}

// Named is a consumer with the name of its inbox, a few letters of a to z and _.
type Named struct {
	Name    string
	Handler Handler
}

// Once does what must have one effect an event: it calls do unless a call for
// this consumer and event has succeeded already, and answers what do does. When
// another call for them is under way, it does nothing and answers
// ErrInProgress.
//
// What it cannot do: between do's effect (a push that has left) and the mark
// that it succeeded, a crash leaves no trace of the effect, so after the lease
// do is called again. Every effect happens; after such a crash, or when do
// takes longer than the lease, it may happen twice. An effect that is itself a
// row in the store of record does better with an upsert by event id.
type Once interface {
	Once(ctx context.Context, consumer string, event sessions.ID, do func(context.Context) error) error
}

// ErrInProgress is Once's answer while another call has the same event in hand.
var ErrInProgress = errors.New("the same event is being handled by another call")

// Down marks an error that is not the event's fault: the bus, or what a
// handler depends on, cannot be reached, refuses everything, or asks for less.
// A row is never buried for it, however long it lasts.
func Down(err error) error { return &classed{err, down} }

// Permanent marks an error that trying again cannot mend: the row is buried.
func Permanent(err error) error { return &classed{err, permanent} }

type class int

const (
	rejected class = iota
	down
	permanent
)

type classed struct {
	error
	class class
}

func (c *classed) Unwrap() error { return c.error }

// IsDown reports whether err is marked with Down.
func IsDown(err error) bool { return classOf(err) == down }

// IsPermanent reports whether err is marked with Permanent.
func IsPermanent(err error) bool { return classOf(err) == permanent }

func classOf(err error) class {
	if c, ok := errors.AsType[*classed](err); ok {
		return c.class
	}
	return rejected
}
