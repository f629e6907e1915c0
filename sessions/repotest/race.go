package repotest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// racers is how many callers do the same at once: more than the pool of a small gateway
// has connections, so that some of them wait for one.
const racers = 12

var raceTests = map[string]func(*testing.T, Fixture){
	"create": func(t *testing.T, f Fixture) {
		s := booking()
		var created counter
		atOnce(func(int) {
			stored, isNew, err := f.Repo.Create(t.Context(), s)
			if err != nil || stored != s {
				t.Errorf("create: %v, %+v", err, stored)
			}
			if isNew {
				created.add("new")
			}
		})
		require.Equal(t, map[string]int{"new": 1}, created.counts)
	},
	"start": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		var codes counter
		atOnce(func(int) {
			stood, err := f.start(t, s.ID, now)
			codes.add(string(sessions.CodeOf(err)))
			if !stood.JourneyActive() {
				t.Error("whoever lost is shown the running journey")
			}
		})
		require.Equal(t, map[string]int{"": 1, string(sessions.JourneyAlreadyStarted): racers - 1}, codes.counts)
		require.Len(t, f.Events(t, s.ID), 1)
	},
	"one_trainer": func(t *testing.T, f Fixture) {
		trainer := sessions.NewID()
		booked := make([]sessions.Session, racers)
		for i := range booked {
			booked[i] = f.create(t, bookingOf(trainer))
		}
		var codes counter
		atOnce(func(i int) {
			_, err := f.start(t, booked[i].ID, now)
			codes.add(string(sessions.CodeOf(err)))
		})
		require.Equal(t, map[string]int{"": 1, string(sessions.TrainerBusy): racers - 1}, codes.counts)
		events, running := 0, 0
		for _, s := range booked {
			events += len(f.Events(t, s.ID))
			if f.read(t, s.ID).JourneyActive() {
				running++
			}
		}
		require.Equal(t, 1, events)
		require.Equal(t, 1, running)
	},
	"arrive": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		var otps counter
		atOnce(func(int) {
			arrived, err := f.arrive(t, s.ID, now.Add(time.Minute))
			if err != nil {
				t.Error(err)
			}
			otps.add(arrived.OTP)
		})
		require.Len(t, otps.counts, 1, "one code, whoever asked")
		require.Len(t, f.Events(t, s.ID), 2)
	},
	"arrive_and_stop": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		var ended counter
		atOnce(func(i int) {
			end := f.stop
			if i%2 == 0 {
				end = f.arrive
			}
			if _, err := end(t, s.ID, now.Add(time.Minute)); err == nil {
				ended.add("ended")
			}
		})
		require.NotZero(t, ended.counts["ended"])
		events := f.Events(t, s.ID)
		require.Len(t, events, 2, "a journey ends once")
		require.Equal(t, events[1].Reason, f.read(t, s.ID).JourneyEndReason)
	},
	"wrong_otp": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		arrived, err := f.arrive(t, s.ID, now)
		require.NoError(t, err)
		var codes counter
		atOnce(func(int) {
			_, refused := f.verify(t, s.ID, wrong(arrived.OTP), now)
			codes.add(string(sessions.CodeOf(refused)))
		})
		require.Equal(t, map[string]int{
			string(sessions.OTPWrong): 4, string(sessions.OTPLocked): racers - 4,
		}, codes.counts)
		require.Equal(t, 5, f.read(t, s.ID).OTPAttempts)
	},
	"no_lost_change": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		atOnce(func(int) {
			_, err := f.Repo.Change(t.Context(), s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
				s.OTPAttempts++
				return nil, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		require.Equal(t, racers, f.read(t, s.ID).OTPAttempts)
	},
	"events_in_order": eventsInOrder,
}

// eventsInOrder starts and stops one session from all racers at once. The stored events
// must be start, end, start, end, with rising instants.
func eventsInOrder(t *testing.T, f Fixture) {
	s := f.create(t, booking())
	atOnce(func(i int) {
		for range 4 {
			if i%2 == 0 {
				_, _ = f.start(t, s.ID, now)
			} else {
				_, _ = f.stop(t, s.ID, now)
			}
		}
	})
	last := time.Time{}
	for i, e := range f.Events(t, s.ID) {
		want := sessions.JourneyStarted
		if i%2 == 1 {
			want = sessions.JourneyEnded
		}
		require.Equal(t, want, e.Type, "event %d", i)
		require.True(t, e.At.After(last), "event %d at %s, the one before at %s", i, e.At, last)
		last = e.At
	}
	require.False(t, last.IsZero(), "nobody started")
}

// atOnce runs all racers at the same time and waits for them.
func atOnce(do func(i int)) {
	var ready, done sync.WaitGroup
	ready.Add(racers)
	for i := range racers {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			do(i)
		})
	}
	done.Wait()
}

type counter struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *counter) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[what]++
}
