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

// Any number of concurrent readers cost two reads: one for the first reader, and
// one for all others.
func TestSharedReads_two_reads_for_a_thousand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all sharedReads
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
		synctest.Wait() // the first reader has read version 0
		version.Store(1)
		for range 1000 {
			done.Go(func() {
				snap, err := all.read(t.Context(), ref, read)
				assert.NoError(t, err)
				assert.EqualValues(t, 1, snap.Version, "read after it asked")
			})
		}
		done.Wait()
		require.Equal(t, 2, reads)
		version.Store(2)
		snap, err := all.read(t.Context(), ref, read)
		require.NoError(t, err)
		require.EqualValues(t, 2, snap.Version, "nothing is left behind")
		require.Equal(t, 3, reads)
	})
}

// A reader that leaves does not cancel the read of the others, and does not wait
// for it.
func TestSharedReads_leaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all sharedReads
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
	})
}

// Concurrent readers and a rising version: no reader gets a version that is older
// than the one when it asked.
func TestSharedReads_race(t *testing.T) {
	t.Parallel()
	var all sharedReads
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
}
