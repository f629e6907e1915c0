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
// Order: of one session's events only the oldest that is neither published nor
// dead may be claimed, so they reach the bus in the order in which they
// happened, whichever relay carries them. Between sessions there is no order.
package outbox

import (
	"context"
	"time"

	"doorstep/sessions"
)

// Row is an event on its way.
type Row struct {
	Seq      int64 // rises within a session
	Event    sessions.Event
	Attempts int // this one included
}

// Store is the part of the store of record that holds the outbox. Safe for
// concurrent use by any number of relays.
type Store interface {
	// Claim takes up to limit rows that are due, for lease: no other claim
	// gets them until then. Never two rows of one session, and never a row
	// whose session has an older one waiting.
	Claim(ctx context.Context, limit int, lease time.Duration) ([]Row, error)
	// Published marks rows as done.
	Published(ctx context.Context, seqs []int64) error
	// Retry gives a row back, due again after wait.
	Retry(ctx context.Context, seq int64, wait time.Duration, reason string) error
	// Bury puts a row among the dead letters: it is not tried again and no
	// longer holds up its session.
	Bury(ctx context.Context, seq int64, reason string) error
	// Lag is how many rows wait, since when the oldest does (zero: none), and
	// how many dead letters there are.
	Lag(ctx context.Context) (waiting int, oldest time.Time, dead int, err error)
}

// Publisher is the way to a bus. It answers one error a row, in order; nil for
// those that the bus has taken. Permanent says that trying again is no use.
type Publisher interface {
	Publish(ctx context.Context, rows []Row) []error
}

// Handler is a consumer. It must be safe to call again with the same event,
// also at the same time: at least once means sometimes twice. An error means
// "again, later".
type Handler interface {
	Handle(ctx context.Context, e sessions.Event) error
}
