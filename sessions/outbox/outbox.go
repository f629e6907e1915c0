// Package outbox carries events from the store of record to their consumers, at
// least once, even when processes crash.
//
//	transition ──► outbox row ──► Relay ──► bus ──► queues ──► consumers in workers
//	                     or   ──► deliveries ──► Relay ──► consumers in this process
//	           └► delivery ──────────────────► Relay ──► receiver of webhooks
//
// A transition writes its event in its own transaction. A Relay runs in every
// gateway. With a bus (package aws) the relay claims the outbox's rows for a
// while, publishes them and marks them done. Without a bus it first fans each
// event out: one delivery for each consumer, which is claimed, handled and marked
// done on its own, so a consumer that fails holds up no other consumer. The receiver of
// webhooks (package webhook) gets every event with a bus and without: its delivery is
// written with the event, by gateways that have the setting. When a
// gateway dies its claims run out, and another relay publishes the rows again: so
// consumers drop repeats by the event's id.
//
// Order: of the events of one session to one destination only the oldest that is
// neither done nor dead may be claimed. So they arrive in the order in which they
// happened, whichever relay carries them. There is no order between sessions, and
// a dead letter that is requeued comes after the events that have passed it.
//
// Versions: gateways of two versions may run on one store during a rolling update.
// An event of a type or schema version that this binary does not know is never
// claimed. It waits for a newer binary, and holds up its own session only.
package outbox

import (
	"context"
	"errors"
	"time"

	"doorstep/sessions"
)

// Bus is the name of the bus outside of this process as a destination. All other
// destinations are consumers in this process, with names of a few letters of a to
// z and _.
const Bus = "bus"

// Row is one event on its way to one destination.
type Row struct {
	To       string // Bus, or a consumer's name
	Seq      int64  // of the event; rises within a session
	Event    sessions.Event
	Attempts int // this one included; attempts that only found the destination away do not count
	// Unreadable says why Event could not be read from the store: a relay
	// buries such a row.
	Unreadable error
}

// Look is what a relay asks a Store for.
type Look struct {
	// FanOut are the consumers that each event goes to. Empty: events stay in
	// the outbox for the Bus. Consumers that an event is addressed to as it is
	// recorded are not among them.
	FanOut []string
	// Asks are the destinations to claim rows for, each at most once.
	Asks []Ask
	// Limit is how many rows each Ask gets at most, and how many events are
	// fanned out at most. At least 1.
	Limit int
}

// Ask is one destination of a Look.
type Ask struct {
	To    string
	Lease time.Duration // how long the claim holds
	// Older leaves out rows whose event was recorded more recently than this. Not for
	// the Bus.
	Older time.Duration
	// After leaves out rows up to this Seq. 0: none.
	After int64
}

// Claimed is the answer to a Look.
type Claimed struct {
	Rows      []Row // by destination, then lowest Seq first
	FannedOut int   // events that became deliveries; they may not be in Rows yet
}

// Backlog is how far one destination is behind.
type Backlog struct {
	To      string
	Waiting int // rows that are neither done nor dead
	// Oldest is when the oldest of them happened that this binary can read. Zero: none.
	Oldest time.Time
	// NewerSince is when the oldest of them happened that waits for a newer binary.
	// Zero: none.
	NewerSince time.Time
	Dead       int // dead letters
}

// Store is the part of the store of record that holds events and deliveries. Safe
// for concurrent use by any number of relays in any number of processes. Package
// outboxtest is its contract as tests.
//
// A method that is given a destination changes that destination's rows only.
type Store interface {
	// Claim fans events out and takes rows that are due, for the lease of their
	// Ask: no other claim gets them until then. It never takes two rows of one
	// session and destination, a row whose session has an older one waiting there,
	// or an event that this binary does not know.
	Claim(ctx context.Context, look Look) (Claimed, error)
	// Done marks rows as delivered, also when their claim has run out and another
	// relay has them.
	Done(ctx context.Context, to string, seqs []int64) error
	// Retry gives a row back, due again after wait, and counts the attempt.
	Retry(ctx context.Context, to string, seq int64, wait time.Duration, reason string) error
	// Release gives rows back, due again after wait, and does not count the
	// attempt.
	Release(ctx context.Context, to string, seqs []int64, wait time.Duration) error
	// Bury makes a row a dead letter: it is not tried again and no longer holds
	// up its session.
	Bury(ctx context.Context, to string, seq int64, reason string) error
	// Outcomes tells what has become of events: at the Bus and at every consumer, also
	// one that no relay of this process knows. Rows that were deleted are not told of.
	sessions.Outcomes
	// Backlog measures the outbox, as Bus, and then these consumers' deliveries.
	Backlog(ctx context.Context, consumers []string) ([]Backlog, error)
}

// Publisher delivers rows. It returns one error a row, in order; nil for those
// that were delivered. Down and Permanent classify an error; any other error is
// the row's own and is tried again. Safe for concurrent use.
type Publisher interface {
	Publish(ctx context.Context, rows []Row) []error
}

// Handler is a consumer of events. It must be safe to call again with the same
// event, also at the same time: at least once means sometimes twice. An error means
// that the event is tried again later; Down and Permanent classify it. The error's
// text goes to logs and dead letters, so no personal data belongs in it.
type Handler interface {
	Handle(ctx context.Context, e sessions.Event) error
}

// Once gives an effect that must happen once an event: it calls do unless a call for
// this consumer and event has succeeded already, and returns do's error. While
// another call for them is running it does nothing and returns ErrInProgress.
//
// What it cannot do: a crash between do's effect (a push that was sent) and the mark
// that it succeeded leaves no trace of the effect, so do is called again after the
// lease. Every effect happens; after such a crash, or when do takes longer than the
// lease, it may happen twice. Where the effect is itself a row in the store of
// record, an upsert by the event's id is better.
type Once interface {
	Once(ctx context.Context, consumer string, event sessions.ID, do func(context.Context) error) error
}

// ErrInProgress is Once's error while another call handles the same event.
var ErrInProgress = errors.New("the same event is being handled by another call")

// Down marks an error that is not the event's fault: the bus, or a service that a
// handler needs, is away, refuses everything or asks for fewer calls. A row is never
// buried for it, however long it lasts.
func Down(err error) error { return &classed{err, down} }

// Permanent marks an error that a further attempt cannot change: the row is buried.
func Permanent(err error) error { return &classed{err, permanent} }

// IsDown reports whether err is marked with Down, or says that a service is away.
func IsDown(err error) bool { return classOf(err) == down }

// IsPermanent reports whether err is marked with Permanent.
func IsPermanent(err error) bool { return classOf(err) == permanent }

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

func classOf(err error) class {
	if c, ok := errors.AsType[*classed](err); ok {
		return c.class
	}
	if sessions.Unavailable(err) {
		return down
	}
	return rejected
}

// DeadLetter is a row that was given up, as an operator sees it: nothing of the
// event's detail.
type DeadLetter struct {
	To        string // Bus, or a consumer's name
	Seq       int64
	Type      sessions.EventType
	SessionID sessions.ID
	Attempts  int
	Since     time.Time // when the event happened
	DeadAt    time.Time
	Reason    string
}
