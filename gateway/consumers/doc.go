// Package consumers is what consumes the events: notify pushes to the student,
// clean-up keeps the live store in step, analytics keeps a row a journey. Each
// is a handler of the outbox, in a gateway when there is no other bus and in
// `gateway worker` behind a queue each.
//
// At least once means sometimes twice, sometimes at the same time, sometimes
// late. Each handler says how it stands that. All of them read what is so from
// the repository when they handle: an event says that something happened, not
// that it still matters.
package consumers

import (
	"context"
	"errors"

	"doorstep/sessions"
)

// ErrUnavailable is a push service that cannot be reached, answers with faults
// or asks for less. Wrapped with the cause.
var ErrUnavailable = errors.New("push service unavailable")

// Down reports whether err is the fault of something that a handler needs, not
// of its event: the same event will do later.
func Down(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, sessions.ErrUnavailable) ||
		errors.Is(err, context.Canceled) || sessions.CodeOf(err) == sessions.DatabaseUnavailable
}
