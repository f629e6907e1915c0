package scripts

import (
	"context"
	"math"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/sessions"
)

// traffic is many journeys at once. Each has a phone that sends a fix every fixEvery,
// and a student who waits for the next one as the gateway waits: for a wake-up,
// never for a timer. Whatever fails, no student may see the trainer of another
// journey.
type traffic struct {
	t     testing.TB
	store *Store
	rides []*ride
}

// ride is one journey. Its lane is a parallel of latitude that no other ride has.
type ride struct {
	sessions.Journey
	lane  int
	woken chan struct{}

	stored, seen    atomic.Int64 // versions: the last one stored, the last one seen
	failed, refused atomic.Int64 // updates without an answer, updates with another answer than "stored"
	backwards       atomic.Int64 // reads of an older version than was seen, which the gateway does not show
}

const (
	laneWidth = 0.001 // degrees: 111 m
	fixEvery  = 200 * time.Millisecond
)

// brisk are rules that allow a fix every fixEvery.
var brisk = sessions.LiveOptions{RateInterval: time.Millisecond}

// rush starts the traffic of so many journeys, or of DOORSTEP_TEST_JOURNEYS if that
// is set. It returns when each student has seen a fix.
func rush(t testing.TB, s *Store, journeys int) *traffic {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("DOORSTEP_TEST_JOURNEYS")); err == nil {
		journeys = n
	}
	tr := &traffic{t: t, store: s, rides: make([]*ride, journeys)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for i := range tr.rides {
		r := &ride{Journey: journeyNow(), lane: i, woken: make(chan struct{}, 1)}
		tr.rides[i] = r
		opened, err := s.Open(t.Context(), r.Journey)
		require.NoError(t, err)
		require.True(t, opened)
		running.Go(func() { tr.drive(ctx, r) })
		running.Go(func() { tr.look(ctx, r) })
	}
	tr.requireFlow()
	return tr
}

func (tr *traffic) drive(ctx context.Context, r *ride) {
	_ = pause.For(ctx, time.Duration(r.lane)*fixEvery/time.Duration(len(tr.rides)))
	for n := 0; ctx.Err() == nil; n++ {
		receipt, err := tr.store.Update(ctx, r.Ref, fixAt(geo.MustPoint(10+float64(r.lane)*laneWidth, 77+float64(n)*1e-5)))
		switch {
		case ctx.Err() != nil:
		case err != nil:
			r.failed.Add(1)
		case receipt.Verdict != sessions.VerdictStored:
			r.refused.Add(1)
		default:
			r.stored.Store(receipt.Version)
		}
		_ = pause.For(ctx, fixEvery)
	}
}

func (tr *traffic) look(ctx context.Context, r *ride) {
	stop, err := tr.store.Watch(ctx, r.Ref, func() {
		select {
		case r.woken <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return
	}
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.woken:
		}
		if snap, err := tr.store.Latest(ctx, r.Ref); err == nil {
			tr.see(r, snap)
		}
	}
}

func (tr *traffic) see(r *ride, snap sessions.Snapshot) {
	if snap.Version < r.seen.Load() {
		r.backwards.Add(1)
		return
	}
	r.seen.Store(snap.Version)
	if snap.Location != nil {
		lane := int(math.Round((snap.Location.Point.Lat() - 10) / laneWidth))
		assert.Equal(tr.t, r.lane, lane, "a fix of another trainer")
	}
}

// untilFlow waits until every phone has stored another update, and until every
// student has seen one after a wake-up. It returns how long the slowest took.
func (tr *traffic) untilFlow() (updates, waits time.Duration) {
	tr.t.Helper()
	began := time.Now()
	before := make([]int64, len(tr.rides))
	for i, r := range tr.rides {
		before[i] = r.stored.Load()
	}
	wait := func(ok func(i int, r *ride) bool) time.Duration {
		i := 0
		eventually(tr.t, func() bool {
			for i < len(tr.rides) && ok(i, tr.rides[i]) {
				i++
			}
			return i == len(tr.rides)
		})
		return time.Since(began)
	}
	updates = wait(func(i int, r *ride) bool { return r.stored.Load() > before[i] })
	waits = wait(func(i int, r *ride) bool { return r.seen.Load() > before[i] })
	return updates.Round(time.Millisecond), waits.Round(time.Millisecond)
}

func (tr *traffic) requireFlow() { tr.t.Helper(); tr.untilFlow() }

// sums are the totals of what went wrong.
func (tr *traffic) sums() (failed, refused, backwards int64) {
	for _, r := range tr.rides {
		failed += r.failed.Load()
		refused += r.refused.Load()
		backwards += r.backwards.Load()
	}
	return failed, refused, backwards
}
