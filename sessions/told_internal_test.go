package sessions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A silence counts from the interval that the phone was last told. Where another gateway
// has answered the fix before, that may have been the longest.
func TestFixCounter_silence_from_what_was_told(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		told    time.Duration // by this gateway; 0: by another one
		verdict Verdict
		after   time.Duration
		fixed   bool
		silent  bool
	}{
		"fixed":               {5 * time.Second, VerdictStored, 20 * time.Second, true, false},
		"fixed_silent":        {0, VerdictStored, 21 * time.Second, true, true},
		"watched":             {5 * time.Second, VerdictStored, 20 * time.Second, false, false},
		"watched_silent":      {5 * time.Second, VerdictStored, 21 * time.Second, false, true},
		"far":                 {15 * time.Second, VerdictStored, 30 * time.Second, false, false},
		"far_silent":          {15 * time.Second, VerdictStored, 31 * time.Second, false, true},
		"standing":            {25 * time.Second, VerdictStored, 40 * time.Second, false, false},
		"a_queue":             {time.Second, VerdictStored, 21 * time.Second, false, true},
		"a_refused_fix":       {5 * time.Second, VerdictSpeed, 21 * time.Second, false, true},
		"a_stale_fix":         {5 * time.Second, VerdictStale, 40 * time.Second, false, false},
		"by_another":          {0, VerdictStored, 40 * time.Second, false, false},
		"by_another_silent":   {0, VerdictStored, 41 * time.Second, false, true},
		"over_the_rate_a_bit": {15 * time.Second, VerdictStored, 29 * time.Second, false, false},
	} {
		counter := NewFixCounter(&written{}, FixCounterOptions{Steer: !row.fixed})
		ref, at := Ref{SessionID: NewID()}, time.Now()
		if row.told > 0 {
			counter.count(ref, Receipt{Verdict: row.verdict, At: at, NextUpdate: row.told}, at)
		}
		counter.count(ref, Receipt{Verdict: VerdictStored, At: at.Add(row.after), SeenAgo: row.after, NextUpdate: row.told}, at)
		silent := false
		for _, m := range takeAll(counter)[0].Moments {
			silent = silent || m.Kind == AuditSilenceBegan
		}
		assert.Equal(t, row.silent, silent, name)
	}
}

// What was told is forgotten once it makes no difference.
func TestFixCounter_forgets_what_was_told(t *testing.T) {
	t.Parallel()
	now := time.Now()
	counter := NewFixCounter(&written{}, FixCounterOptions{Steer: true, Now: func() time.Time { return now }})
	ref := Ref{SessionID: NewID()}
	counter.count(ref, Receipt{Verdict: VerdictStored, At: now}, now)
	now = now.Add(40 * time.Second)
	takeAll(counter)
	require.Len(t, counter.shard(ref).told, 1)
	now = now.Add(time.Second)
	takeAll(counter)
	require.Empty(t, counter.shard(ref).told)
}

func takeAll(counter *FixCounter) (list []JourneyCounts) {
	for i := range counter.shards {
		list = append(list, counter.take(i, time.Time{})...)
	}
	return list
}
