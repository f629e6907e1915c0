package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"doorstep/sessions"
)

// Inbox takes events for one consumer. Where it is also a Store, a relay
// carries them on.
type Inbox interface {
	// Add takes rows; those that it has had already are left as they are.
	Add(ctx context.Context, rows []Row) error
}

// InProcess is the bus without AWS: it puts each event into every inbox. An
// event that reached some of them is published again, and they drop it.
type InProcess struct{ inboxes []Inbox }

var _ Publisher = (*InProcess)(nil)

// NewInProcess makes the bus of these inboxes; without any, events end there.
func NewInProcess(inboxes ...Inbox) *InProcess { return &InProcess{inboxes} }

// Publish keeps the contract of Publisher. An inbox that fails is a store that
// is down, never an event that is wrong.
func (p *InProcess) Publish(ctx context.Context, rows []Row) []error {
	errs := make([]error, len(rows))
	for _, inbox := range p.inboxes {
		if err := inbox.Add(ctx, rows); err != nil {
			for i := range errs {
				errs[i] = Down(err)
			}
			break
		}
	}
	return errs
}

// handling is the Publisher at the end of an inbox.
type handling struct{ to Handler }

// NewHandling carries rows to a handler, those of a batch at the same time: a
// batch never holds two of one session. A handler that is cut short by the
// relay's stop was not at fault.
func NewHandling(to Handler) Publisher { return handling{to} }

// Publish keeps the contract of Publisher.
func (h handling) Publish(ctx context.Context, rows []Row) []error {
	errs := make([]error, len(rows))
	var all sync.WaitGroup
	for i, row := range rows {
		all.Go(func() {
			errs[i] = Handle(ctx, h.to, row.Event)
			if errs[i] != nil && errors.Is(ctx.Err(), context.Canceled) {
				errs[i] = Down(errs[i])
			}
		})
	}
	all.Wait()
	return errs
}

// Handle calls a handler and turns its panic into an error: one event must not
// end the process.
func Handle(ctx context.Context, to Handler, e sessions.Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the consumer panicked: %T", p) // its value may hold anything
		}
	}()
	return to.Handle(ctx, e)
}
