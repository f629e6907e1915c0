package scripts

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
)

// ScriptTime asks the servers how many scripts they have run since they started,
// and how long those took in all: their own time, without the way there. Whoever
// else runs scripts on them is counted, too. Errors where one is away or may not
// be asked (INFO): a sum without it would look like a restart. One round trip a
// server, together bounded by Options.Timeout; they are no call of a caller's
// and count as none.
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
