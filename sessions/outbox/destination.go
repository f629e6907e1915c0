package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"doorstep/sessions"
)

// Destination is where a relay takes events: the bus, or one consumer in this
// process. Zero means default.
type Destination struct {
	Name string // Bus, or a consumer's name; required
	To   Publisher
	// Timeout bounds one call of To. 10 s.
	Timeout time.Duration
	// Lease is how long a claim holds; it must be longer than a publish and the
	// mark that follows it. Timeout + 20 s.
	Lease time.Duration
	// MaxAttempts is how often a row may be rejected before it is buried. 10: some
	// 8 minutes with the relay's back-off.
	MaxAttempts int
	// Recorded says that events are addressed to it as they are recorded: the relay
	// does not fan them out to it.
	Recorded bool
	// Older has only rows claimed whose event was recorded at least that long ago.
	// 0: all.
	Older time.Duration
}

func (d Destination) withDefaults() Destination {
	d.Timeout = cmp.Or(d.Timeout, 10*time.Second)
	d.Lease = cmp.Or(d.Lease, d.Timeout+20*time.Second)
	d.MaxAttempts = cmp.Or(d.MaxAttempts, 10)
	return d
}

func (d Destination) validate() error {
	switch {
	case d.Name == "":
		return errors.New("outbox: a destination needs a Name")
	case d.Lease <= d.Timeout:
		return fmt.Errorf("outbox: Lease %s of %s must be longer than its Timeout %s", d.Lease, d.Name, d.Timeout)
	case d.MaxAttempts < 1:
		return fmt.Errorf("outbox: MaxAttempts %d of %s is less than 1", d.MaxAttempts, d.Name)
	}
	return nil
}

// Nowhere is the Publisher to a destination that was turned off: what still waits for it
// becomes dead letters, with this reason, which can be requeued once it is on again.
func Nowhere(reason string) Publisher { return nowhere(reason) }

type nowhere string

// Publish implements Publisher.
func (n nowhere) Publish(_ context.Context, rows []Row) []error {
	errs := make([]error, len(rows))
	for i := range errs {
		errs[i] = Permanent(errors.New(string(n)))
	}
	return errs
}

// ToHandler makes a handler a Publisher. The rows of a batch are handled at the same
// time: a batch never holds two of one session. A handler that is cut short by the
// relay's stop counts as down, not as a failure of its event.
func ToHandler(h Handler) Publisher { return handling{h} }

type handling struct{ to Handler }

// Publish implements Publisher.
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

// Handle calls a handler and turns its panic into an error: one event must not end
// the process.
func Handle(ctx context.Context, to Handler, e sessions.Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the consumer panicked: %T", p) // its value may hold personal data
		}
	}()
	return to.Handle(ctx, e)
}
