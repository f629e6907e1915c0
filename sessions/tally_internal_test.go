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

// written is what a tally brings to the repository.
type written struct {
	Analytics
	mu      sync.Mutex
	batches [][]Tallied
}

func (w *written) all() [][]Tallied {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.batches)
}

func (w *written) AddTallies(_ context.Context, list []Tallied) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches = append(w.batches, list)
	return nil
}

// whileTallying runs a test beside a tally that runs, on a clock of their own.
func whileTallying(t *testing.T, test func(t *testing.T, repo *written, tally *Tally)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		repo := &written{}
		tally := NewTally(repo, TallyOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = tally.Run(ctx) }()
		test(t, repo, tally)
		cancel()
		<-done
	})
}

// The end of a journey has its own counts written, and nobody else's.
func TestTally_ended(t *testing.T) {
	t.Parallel()
	whileTallying(t, func(t *testing.T, repo *written, tally *Tally) {
		ends, goesOn := Ref{SessionID: NewID()}, Ref{SessionID: NewID()}
		for _, ref := range []Ref{ends, goesOn} {
			tally.count(ref, Receipt{Verdict: VerdictStored}, time.Now())
		}
		tally.ended(ends)
		tally.ended(Ref{SessionID: NewID()}) // never counted
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

// Each journey's counts are written every half minute, whatever else is, and not
// all at the same instant.
func TestTally_flushes_in_turns(t *testing.T) {
	t.Parallel()
	whileTallying(t, func(t *testing.T, repo *written, tally *Tally) {
		refs := make([]Ref, 500)
		for i := range refs {
			refs[i] = Ref{SessionID: NewID()}
		}
		for round := 1; round <= 3; round++ {
			for _, ref := range refs {
				tally.count(ref, Receipt{Verdict: VerdictStored}, time.Now())
			}
			before := len(repo.all())
			for range 30 { // ends come in between, and must not put anybody's turn off
				time.Sleep(time.Second)
				tally.ended(Ref{SessionID: NewID()})
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			var journeys int
			for _, batch := range repo.all()[before:] {
				journeys += len(batch)
				require.Less(t, len(batch), 100)
			}
			require.Equal(t, len(refs), journeys)
			require.Zero(t, tally.Journeys())
		}
	})
}
