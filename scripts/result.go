package scripts

import (
	"context"
	"errors"

	"doorstep/scripts/valkeyconn"
)

// Verbs is the closed list of what is asked of the live store, for Metrics.
func Verbs() []string { return []string{"open", "update", "latest", "end", "meta", "set_meta"} }

// Results is the closed list of how a call can end, for Metrics: "ok" is an
// answer of any verdict, "left" a caller that went, "behind" a process too busy
// to read the reply, and the last three were not sent at all.
func Results() []string {
	return []string{"ok", "timeout", "error", "left", "behind", "busy", "breaker_open", "not_connected"}
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, valkeyconn.ErrTooManyCalls):
		return "busy"
	case errors.Is(err, valkeyconn.ErrNotConnected):
		return "not_connected"
	case errors.Is(err, valkeyconn.ErrBreakerOpen):
		return "breaker_open"
	case errors.Is(err, valkeyconn.ErrCallerLeft):
		return "left"
	case errors.Is(err, valkeyconn.ErrBehind):
		return "behind"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	default:
		return "error"
	}
}

// InFlight is how many calls are on their way, and how many may be.
func (s *Store) InFlight() (calls, limit int) { return s.conn.InFlight() }
