package scripts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/scripts/valkeyconn"
)

// Verbs returns the closed list of calls to the live store, for Metrics.
func Verbs() []string { return []string{"open", "update", "latest", "move", "end", "meta", "set_meta"} }

// Results returns the closed list of how a call can end, for Metrics. "ok" is a
// reply with any verdict, "left" a caller that went away, "behind" a process too
// busy to read the reply. "no_writes" is a server that takes no writes, so that no call
// but the first is sent to it. The last three were not sent at all.
func Results() []string {
	return []string{"ok", "timeout", "error", "left", "behind", "no_writes", "busy", "breaker_open", "not_connected"}
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
	case errors.Is(err, valkeyconn.ErrNoWrites):
		return "no_writes"
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

// InFlight returns how many calls are under way, and how many may be.
func (s *Store) InFlight() (calls, limit int) { return s.conn.InFlight() }

// ScriptTime asks the servers how many scripts they have run since they started,
// and how long those took in all. This is the servers' own time, without the
// network, and includes the scripts of other clients. It fails if one server is
// away or does not allow INFO, because a sum without that server would look like
// a restart. It takes one round trip to each server, all within Options.Timeout.
// These are not calls for Metrics, nor for the bulkhead.
func (s *Store) ScriptTime(ctx context.Context) (ran int64, took time.Duration, err error) {
	err = s.conn.EachServer(ctx, func(ctx context.Context, c valkey.Client) error {
		info, err := c.Do(ctx, c.B().Info().Section("commandstats").Build()).ToString()
		if err != nil {
			return fmt.Errorf("script time: %w", err)
		}
		count, us := scriptTime(info)
		ran, took = ran+count, took+us
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return ran, took, nil
}

// scriptTime reads the line of EVALSHA in the section; both are 0 before the
// first call.
func scriptTime(info string) (ran int64, took time.Duration) {
	for line := range strings.Lines(info) {
		if stats, ok := strings.CutPrefix(line, "cmdstat_evalsha:"); ok {
			var us int64
			if n, _ := fmt.Sscanf(stats, "calls=%d,usec=%d", &ran, &us); n == 2 {
				return ran, time.Duration(us) * time.Microsecond
			}
		}
	}
	return 0, 0
}
