package sessions

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// written is a repository that records what a counter writes.
type written struct {
	Analytics
	takes time.Duration // a call

	mu      sync.Mutex
	batches [][]JourneyCounts
}

func (w *written) all() [][]JourneyCounts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.batches)
}

func (w *written) AddCounts(_ context.Context, list []JourneyCounts) error {
	time.Sleep(w.takes)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches = append(w.batches, list)
	return nil
}

// whileCounting runs a test beside a running counter, on a synthetic clock.
func whileCounting(t *testing.T, test func(t *testing.T, repo *written, counter *FixCounter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		repo := &written{}
		counter := NewFixCounter(repo, FixCounterOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = counter.Run(ctx) }()
		defer func() { cancel(); <-done }()
		test(t, repo, counter)
	})
}

// The end of a journey writes the counts of that journey, and no others.
func TestFixCounter_ended(t *testing.T) {
	t.Parallel()
	whileCounting(t, func(t *testing.T, repo *written, counter *FixCounter) {
		ends, goesOn := Ref{SessionID: NewID()}, Ref{SessionID: NewID()}
		for _, ref := range []Ref{ends, goesOn} {
			counter.count(ref, Receipt{Verdict: VerdictStored}, time.Now())
		}
		counter.ended(ends)
		counter.ended(Ref{SessionID: NewID()}) // never counted
		synctest.Wait()
		require.Len(t, repo.all(), 1)
		require.Len(t, repo.all()[0], 1)
		require.Equal(t, ends, repo.all()[0][0].Ref)

		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, repo.all(), 2)
		require.Equal(t, goesOn, repo.all()[1][0].Ref)
	})
}

// The counts of each journey are written every half minute, whatever else happens,
// and not all at the same instant.
func TestFixCounter_flushes_in_turns(t *testing.T) {
	t.Parallel()
	whileCounting(t, func(t *testing.T, repo *written, counter *FixCounter) {
		refs := make([]Ref, 500)
		for i := range refs {
			refs[i] = Ref{SessionID: NewID()}
		}
		for round := 1; round <= 3; round++ {
			for _, ref := range refs {
				counter.count(ref, Receipt{Verdict: VerdictStored}, time.Now())
			}
			before := len(repo.all())
			for range 30 { // ends come in between, and must not delay the other journeys
				time.Sleep(time.Second)
				counter.ended(Ref{SessionID: NewID()})
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			var journeys int
			for _, batch := range repo.all()[before:] {
				journeys += len(batch)
				require.Less(t, len(batch), 100)
			}
			require.Equal(t, len(refs), journeys)
			require.Zero(t, counter.Journeys())
		}
	})
}

// A database whose calls take longer than a step gets several shards at once, so that
// a round of all shards takes no longer.
func TestFixCounter_Run_keeps_its_pace_on_a_slow_database(t *testing.T) {
	t.Parallel()
	whileCounting(t, func(t *testing.T, repo *written, counter *FixCounter) {
		repo.takes = 2 * time.Second
		for range 500 {
			counter.count(Ref{SessionID: NewID()}, Receipt{Verdict: VerdictStored}, time.Now())
		}
		time.Sleep(30*time.Second + 2*repo.takes)
		synctest.Wait()
		var journeys int
		for _, batch := range repo.all() {
			journeys += len(batch)
		}
		require.Equal(t, 500, journeys)
		require.Greater(t, len(repo.all()), 10, "but not all of them at once")
	})
}
