// Package consumers is the consumers of the events: notify pushes to the student, and
// what becomes of the session to the trainer, too; clean-up removes ended journeys from the live store, analytics keeps a row for each
// journey. Each is a handler of the outbox: in every gateway when there is no bus, and in
// `gateway worker` behind a queue.
//
// Events come at least once: sometimes twice, also at the same time, and sometimes late.
// Each handler says why that is safe. All of them read the session's present state from
// the repository: an event says that something happened, not that it is still true.
package consumers

import (
	"context"
	"errors"

	"doorstep/sessions"
)

// ErrUnavailable is a push service that cannot be reached, answers with faults or asks for
// fewer calls. Wrapped with the cause.
var ErrUnavailable = errors.New("push service unavailable")

// Down reports whether err is the fault of a service that a handler needs, not of the
// event: the same event can be handled later.
func Down(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) || sessions.Unavailable(err)
}
