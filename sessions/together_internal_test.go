package sessions

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// However many read at once: one read for the first, and one for all others.
func TestTogether_two_reads_for_a_thousand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all together
		var version atomic.Int64
		ref := Ref{TrainerID: NewID(), SessionID: NewID()}
		reads := 0
		read := func(context.Context) (Snapshot, error) {
			reads++
			seen := version.Load()
			time.Sleep(time.Millisecond)
			return Snapshot{Version: seen}, nil
		}
		var done sync.WaitGroup
		done.Go(func() { _, _ = all.read(t.Context(), ref, read) })
		synctest.Wait() // it has read version 0
		version.Store(1)
		for range 1000 {
			done.Go(func() {
				snap, err := all.read(t.Context(), ref, read)
				assert.NoError(t, err)
				assert.EqualValues(t, 1, snap.Version, "what was read before it asked")
			})
		}
		done.Wait()
		require.Equal(t, 2, reads)
		require.Empty(t, all.reads, "nothing is left behind")
	})
}

// A reader that leaves takes nobody's read along, and waits for nobody's.
func TestTogether_leaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all together
		ref := Ref{TrainerID: NewID(), SessionID: NewID()}
		read := func(ctx context.Context) (Snapshot, error) {
			time.Sleep(time.Second)
			return Snapshot{Known: true}, ctx.Err()
		}
		var done sync.WaitGroup
		leaving, leave := context.WithCancel(t.Context())
		for range 3 {
			done.Go(func() { _, _ = all.read(leaving, ref, read) })
			synctest.Wait()
		}
		done.Go(func() {
			snap, err := all.read(t.Context(), ref, read)
			assert.NoError(t, err)
			assert.True(t, snap.Known)
		})
		synctest.Wait()
		leave()
		done.Wait()
		require.Empty(t, all.reads)
	})
}

// Against each other, under the race detector: nobody is told an old version.
func TestTogether_race(t *testing.T) {
	t.Parallel()
	var all together
	var version atomic.Int64
	refs := []Ref{{TrainerID: NewID()}, {TrainerID: NewID()}}
	var done sync.WaitGroup
	for i := range 8 {
		done.Go(func() {
			for range 2000 {
				before := version.Add(1)
				snap, err := all.read(t.Context(), refs[i%2], func(context.Context) (Snapshot, error) {
					return Snapshot{Version: version.Load()}, nil
				})
				assert.NoError(t, err)
				assert.GreaterOrEqual(t, snap.Version, before)
			}
		})
	}
	done.Wait()
	require.Empty(t, all.reads)
}
