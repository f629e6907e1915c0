package scripts

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// ScriptTime asks the servers how many scripts they have run since they started,
// and how long those took in all: their own time, without the way there. Whoever
// else runs scripts on them is counted, too. Errors where one is away or may not
// be asked (INFO): a sum without it would look like a restart. One round trip a
// server, together bounded by Options.Timeout; they are no call of a caller's
// and count as none.
func (s *Store) ScriptTime(ctx context.Context) (ran int64, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	nodes := s.nodes.inUse()
	if len(nodes) == 0 {
		return 0, 0, errNotConnected
	}
	for _, n := range nodes {
		client := n.client.Load()
		if client == nil || !n.alive.Load() {
			return 0, 0, errNotConnected
		}
		info, err := (*client).Do(ctx, (*client).B().Info().Section("commandstats").Build()).ToString()
		if err != nil {
			return 0, 0, fmt.Errorf("script time: %w", err)
		}
		count, us := scriptTime(info)
		ran, took = ran+count, took+us
	}
	return ran, took, nil
}

// scriptTime reads EVALSHA's line of the section; nothing before the first.
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
