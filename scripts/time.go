package scripts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
)

// ScriptTime asks the server how many scripts it has run since it started, and
// how long they took in all: its own time, without the way there. Whoever else
// runs scripts on it is counted, too. Errors where the server may not be asked
// (INFO), and on a cluster, where each node would have to be. One round trip,
// bounded by Options.Timeout; it is no call of a caller's and counts as none.
func (s *Store) ScriptTime(ctx context.Context) (ran int64, took time.Duration, err error) {
	client := s.client.Load()
	switch {
	case client == nil || !s.Ready():
		return 0, 0, errNotConnected
	case (*client).Mode() == valkey.ClientModeCluster:
		return 0, 0, errors.New("not on a cluster")
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	info, err := (*client).Do(ctx, (*client).B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		return 0, 0, fmt.Errorf("script time: %w", err)
	}
	ran, took = scriptTime(info)
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
