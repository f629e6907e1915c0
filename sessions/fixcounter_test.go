package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// countsRepo is a repository that can be made to fail, and the metrics of the counter.
type countsRepo struct {
	*memory.Repository

	mu      sync.Mutex
	fault   error
	flushed []int
	seen    []time.Duration // since stored
	taken   []string        // the clock, and since when
	off     []time.Duration
	dropped int
}

func (r *countsRepo) AddCounts(ctx context.Context, list []sessions.JourneyCounts) error {
	r.mu.Lock()
	fault := r.fault
	r.mu.Unlock()
	if fault != nil {
		return fault
	}
	return r.Repository.AddCounts(ctx, list)
}

func (r *countsRepo) breakWith(err error) { r.mu.Lock(); defer r.mu.Unlock(); r.fault = err }

func (r *countsRepo) FixSeen(clock string, sinceTaken, sinceStored time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, sinceStored)
	r.taken = append(r.taken, clock+" "+sinceTaken.String())
}

func (r *countsRepo) ETAOff(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.off = append(r.off, by)
}

func (r *countsRepo) CountsWritten(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.flushed = append(r.flushed, n)
	}
}
func (r *countsRepo) CountDropped() { r.mu.Lock(); defer r.mu.Unlock(); r.dropped++ }

// counted is a running journey, with a counter that counts it.
type counted struct {
	*countsRepo
	*sessions.Service
	counter *sessions.FixCounter
	now     time.Time
	session sessions.Session
	trainer sessions.Caller
}

func startCounted(t *testing.T) *counted {
	t.Helper()
	c := &counted{countsRepo: &countsRepo{Repository: memory.NewRepository(nil)}, now: noon}
	c.counter = sessions.NewFixCounter(c.countsRepo, sessions.FixCounterOptions{Metrics: c.countsRepo})
	clock := func() time.Time { return c.now }
	c.Service = sessions.NewService(c.countsRepo, memory.NewLive(sessions.LiveOptions{}, clock), sessions.ServiceOptions{Now: clock, Counter: c.counter})
	c.session, c.trainer = c.begin(t)
	return c
}

func (c *counted) begin(t *testing.T) (sessions.Session, sessions.Caller) {
	t.Helper()
	trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	s, _, err := c.Service.Create(t.Context(), sessions.Caller{Role: sessions.Admin}, sessions.Booking{
		TrainerID: trainer.ID, StudentID: sessions.NewID(), Home: geo.MustPoint(12.9352, 77.6245),
	})
	require.NoError(t, err)
	s, err = c.Start(t.Context(), trainer, s.ID, "")
	require.NoError(t, err)
	return s, trainer
}

func (c *counted) fix(t *testing.T, lat float64, edit ...func(*sessions.Fix)) sessions.Verdict {
	t.Helper()
	f := sessions.Fix{Point: geo.MustPoint(lat, 77.6245), RecordedAt: c.now}
	for _, e := range edit {
		e(&f)
	}
	f, err := sessions.NewFix(f)
	require.NoError(t, err)
	r, err := c.Update(t.Context(), c.trainer, c.session.ID, f)
	require.NoError(t, err)
	return r.Verdict
}

func (c *counted) record(t *testing.T) sessions.JourneyRecord {
	t.Helper()
	r, _, err := c.JourneyRecord(t.Context(), sessions.JourneyKey{SessionID: c.session.ID, StartedAt: c.session.JourneyStartedAt})
	require.NoError(t, err)
	return r
}

func TestFixCounter_counts_what_became_of_fixes(t *testing.T) {
	t.Parallel()
	c := startCounted(t)
	require.Equal(t, sessions.VerdictStored, c.fix(t, 12.9400))
	c.now = c.now.Add(time.Second)
	require.Equal(t, sessions.VerdictTooSoon, c.fix(t, 12.9400))
	for range 2 {
		c.now = c.now.Add(10 * time.Second)
	}
	require.Equal(t, sessions.VerdictStored, c.fix(t, 12.9410)) // 111.2 m on
	c.now = c.now.Add(5 * time.Second)
	require.Equal(t, sessions.VerdictVague, c.fix(t, 12.9410, func(f *sessions.Fix) { f.AccuracyM = 5000 }))
	c.now = c.now.Add(5 * time.Second)
	require.Equal(t, sessions.VerdictStale, c.fix(t, 12.9410, func(f *sessions.Fix) { f.RecordedAt = noon }))
	require.Equal(t, sessions.VerdictJump, c.fix(t, 13.5))
	require.NoError(t, c.counter.Flush(t.Context()))
	r := c.record(t)
	require.InDelta(t, 111.2, r.DistanceM, 0.1)
	require.Equal(t, []int64{2, 1, 1, 1, 1}, []int64{r.Accepted, r.TooSoon, r.Vague, r.Stale, r.Refused})
	require.Equal(t, c.now, r.LastSeen)
	require.NoError(t, c.counter.Flush(t.Context()))
	require.Equal(t, r, c.record(t), "what was written is not written again")
}

func TestFixCounter_keeps_what_it_cannot_write(t *testing.T) {
	t.Parallel()
	c := startCounted(t)
	require.Equal(t, sessions.VerdictStored, c.fix(t, 12.94))
	c.breakWith(errors.New("away"))
	require.Error(t, c.counter.Flush(t.Context()))
	c.now = c.now.Add(5 * time.Second)
	require.Equal(t, sessions.VerdictStored, c.fix(t, 12.94))
	c.breakWith(nil)
	require.NoError(t, c.counter.Flush(t.Context()))
	require.EqualValues(t, 2, c.record(t).Accepted)
}

func TestFixCounter_is_bounded(t *testing.T) {
	t.Parallel()
	c := startCounted(t)
	c.counter.SetLimit(1)
	require.Equal(t, sessions.VerdictStored, c.fix(t, 12.94))
	c.session, c.trainer = c.begin(t)
	require.Equal(t, sessions.VerdictStored, c.fix(t, 12.94))
	require.Equal(t, 1, c.dropped)
	require.NoError(t, c.counter.Flush(t.Context()))
	require.Zero(t, c.record(t).Accepted)
}

func TestFixCounter_in_batches(t *testing.T) {
	t.Parallel()
	c := startCounted(t)
	for range 1100 {
		c.session, c.trainer = c.begin(t)
		c.fix(t, 12.94)
	}
	require.NoError(t, c.counter.Flush(t.Context()))
	require.Equal(t, []int{500, 500, 100}, c.flushed)
}

func TestFixCounter_of_what_a_student_sees(t *testing.T) {
	t.Parallel()
	c := startCounted(t)
	c.fix(t, 12.94)
	student := sessions.Caller{ID: c.session.StudentID, Role: sessions.Student}
	ref, err := c.Ref(t.Context(), student, c.session.ID)
	require.NoError(t, err)
	for range 3 {
		view, err := c.View(t.Context(), ref)
		require.NoError(t, err)
		c.Seen(student, view)
		c.Seen(c.trainer, view) // the trainer is no student
		c.now = c.now.Add(180 * time.Millisecond)
	}
	require.Equal(t, []time.Duration{0, 180 * time.Millisecond, 360 * time.Millisecond}, c.seen)
	require.NoError(t, c.counter.Flush(t.Context()))
	median, known := c.record(t).FixToEye.MedianMS()
	require.True(t, known)
	require.EqualValues(t, 200, median)
}

func TestFixCounter_Run(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startCounted(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.counter.Run(ctx) }()
		c.fix(t, 12.94)
		time.Sleep(30*time.Second + time.Millisecond)
		synctest.Wait()
		require.EqualValues(t, 1, c.record(t).Accepted, "every half a minute")

		c.now = c.now.Add(5 * time.Second)
		c.fix(t, 12.94)
		_, err := c.Stop(t.Context(), c.trainer, c.session.ID)
		require.NoError(t, err)
		synctest.Wait()
		require.EqualValues(t, 2, c.record(t).Accepted, "and at once when a journey ends")

		again, err := c.Start(t.Context(), c.trainer, c.session.ID, "")
		require.NoError(t, err)
		c.session = again
		c.now = c.now.Add(5 * time.Second)
		c.fix(t, 12.94)
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
		require.EqualValues(t, 1, c.record(t).Accepted, "and at the stop")
	})
}

func TestSession_Complete(t *testing.T) {
	t.Parallel()
	for _, status := range []sessions.Status{sessions.Scheduled, sessions.PendingVerification, sessions.Cancelled} {
		s := sessions.Session{Status: status}
		require.Equal(t, sessions.NotInProgress, sessions.CodeOf(s.Complete(noon)))
		require.Equal(t, sessions.Session{Status: status}, s)
	}
	s := sessions.Session{Status: sessions.InProgress, StartedAt: noon}
	require.NoError(t, s.Complete(noon.Add(-time.Second)))
	require.Equal(t, sessions.Session{Status: sessions.Completed, StartedAt: noon, CompletedAt: noon.Add(time.Millisecond)}, s, "whatever the clock")
	before := s
	require.NoError(t, s.Complete(noon.Add(time.Hour)))
	require.Equal(t, before, s, "a repeat changes nothing")
}

func TestSession_TimeOut(t *testing.T) {
	t.Parallel()
	s := sessions.Session{JourneyStartedAt: noon}
	require.Empty(t, s.TimeOut(time.Hour, noon.Add(time.Hour-1)))
	require.True(t, s.JourneyActive())
	events := s.TimeOut(time.Hour, noon.Add(9*time.Hour))
	require.Len(t, events, 1)
	require.Equal(t, noon.Add(time.Hour), s.JourneyEndedAt)
	require.Empty(t, s.TimeOut(time.Hour, noon.Add(9*time.Hour)), "once")
	never := sessions.Session{}
	require.Empty(t, never.TimeOut(time.Hour, noon))
}

func TestSuspicionID(t *testing.T) {
	t.Parallel()
	id, seen := sessions.NewID(), map[sessions.ID]string{}
	for _, at := range []time.Time{noon, noon.Add(time.Millisecond)} {
		for _, verdict := range []string{"mock", "silent"} {
			made := sessions.SuspicionID(id, at, verdict)
			require.Equal(t, made, sessions.SuspicionID(id, at.In(time.FixedZone("", 3600)), verdict))
			_, ok := sessions.ParseID(string(made))
			require.True(t, ok)
			require.Empty(t, seen[made])
			seen[made] = fmt.Sprint(at, verdict)
		}
	}
}

func TestLatencies(t *testing.T) {
	t.Parallel()
	var l sessions.Latencies
	_, known := l.MedianMS()
	require.False(t, known)
	for _, d := range []time.Duration{-time.Second, 25 * time.Millisecond, 26 * time.Millisecond, time.Hour} {
		l.Count(d)
	}
	require.Equal(t, []int64{2, 1, 1}, []int64{l[0], l[1], l[len(l)-1]})
	median, known := l.MedianMS()
	require.True(t, known)
	require.EqualValues(t, 25, median)
}
