package hub_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/gateway/hub"
	"doorstep/sessions"
)

// tab polls for as long as told to, as integrate.md tells an app to: again at
// once after an answer, and after ComeBack and late more when it was displaced. It
// returns how often it was displaced.
func tab(ctx context.Context, h *hub.Hub, s *source, until time.Time, late time.Duration) <-chan int {
	displaced := make(chan int, 1)
	go func() {
		n := 0
		for time.Now().Before(until) {
			seen := s.version.Load()
			if r := h.Wait(ctx, caller, ref, 25*time.Second, newerThan(seen)); r.Err != nil {
				n++
				time.Sleep(hub.ComeBack + late)
			}
		}
		displaced <- n
	}()
	return displaced
}

// As many honest tabs as twice the places live side by side: each displaces
// another once at most, and none goes on doing so.
func TestPlaces_tabs_do_not_displace_each_other_for_ever(t *testing.T) {
	for name, tc := range map[string]struct {
		tabs   int
		every  time.Duration // between two changes; 0: none, and every wait times out
		late   time.Duration
		atMost int // displacements in an hour
	}{
		"five":                       {5, 0, 0, 1},
		"five, of which one is late": {5, 0, 2 * time.Second, 1},
		"five, with a fix every 5 s": {5, 5 * time.Second, time.Second, 1},
		"five, with a fix every 2 m": {5, 2 * time.Minute, time.Second, 1},
		"eight":                      {8, 0, time.Second, 7},
		"eight, with fixes":          {8, 5 * time.Second, time.Second, 7},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
				until := time.Now().Add(time.Hour)
				tabs := make([]<-chan int, tc.tabs)
				for i := range tabs {
					tabs[i] = tab(t.Context(), h, s, until, tc.late*time.Duration(i)/time.Duration(len(tabs)))
					synctest.Wait()
					time.Sleep(100 * time.Millisecond)
				}
				for tc.every > 0 && time.Now().Before(until) {
					time.Sleep(tc.every)
					s.change(true)
				}
				total := 0
				for _, displaced := range tabs {
					total += <-displaced
				}
				require.LessOrEqual(t, total, tc.atMost)
			})
		})
	}
}

// More tabs than that take turns. What it costs is bounded: one displacement per
// tab too many and ComeBack.
func TestPlaces_many_tabs_take_turns(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
		const count = 12
		until := time.Now().Add(time.Hour)
		tabs := make([]<-chan int, count)
		for i := range tabs {
			tabs[i] = tab(t.Context(), h, s, until, time.Duration(i)*10*time.Millisecond)
			time.Sleep(100 * time.Millisecond)
		}
		require.LessOrEqual(t, h.Waiting(), 2*hub.DefaultPerCaller)
		for _, displaced := range tabs {
			require.LessOrEqual(t, <-displaced, 3600/int(hub.ComeBack/time.Second))
		}
	})
}

// A phone that loses its network leaves its wait open: the load balancer keeps the
// connection. Its newest wait is the one that is answered, however often that
// happens, and there are never more than twice as many waits as places.
func TestPlaces_newest_wait_is_answered(t *testing.T) {
	for _, lost := range []time.Duration{10 * time.Millisecond, time.Second, 5 * time.Second, 6 * time.Second, 11 * time.Second} {
		t.Run(lost.String(), func(t *testing.T) {
			inBubble(t, hub.Options{}, func(t *testing.T, s *source, h *hub.Hub) {
				for range 30 {
					s.version.Store(0)
					newest := started(t.Context(), h)
					require.LessOrEqual(t, h.Waiting(), 2*hub.DefaultPerCaller)
					time.Sleep(lost)
					select {
					case r := <-newest:
						t.Fatalf("the newest wait has ended: %v", r)
					default:
					}
				}
				newest := started(t.Context(), h)
				s.change(true)
				require.Equal(t, hub.Changed, (<-newest).outcome)
			})
		})
	}
}

func TestPlaces_are_by_session(t *testing.T) {
	inBubble(t, hub.Options{PerCaller: 1}, func(t *testing.T, _ *source, h *hub.Hub) {
		done := started(t.Context(), h)
		another := sessions.Ref{TrainerID: ref.TrainerID, SessionID: sessions.NewID()}
		require.Equal(t, hub.Result{Outcome: hub.TimedOut}, h.Wait(t.Context(), caller, another, time.Second, newerThan(0)))
		require.Equal(t, result{hub.TimedOut, nil, wait}, <-done)
	})
}

func TestPlaces_of_an_admin(t *testing.T) {
	inBubble(t, hub.Options{}, func(t *testing.T, _ *source, h *hub.Hub) {
		admin := sessions.Caller{ID: caller.ID, Role: sessions.Admin}
		ended := make(chan hub.Outcome, hub.PerMany+1)
		for range hub.PerMany {
			go func() {
				ended <- waitAs(t.Context(), h, admin, wait).outcome
			}()
		}
		synctest.Wait()
		require.Equal(t, hub.PerMany, h.Waiting())
		go func() {
			ended <- waitAs(t.Context(), h, admin, wait).outcome
		}()
		require.Equal(t, hub.Displaced, <-ended)
		require.Equal(t, hub.PerMany, h.Waiting())
		for range hub.PerMany {
			require.Equal(t, hub.TimedOut, <-ended)
		}
	})
}

// What is remembered of a reader goes a minute after its last wait, and a reader
// who was never displaced is forgotten at once.
func TestPlaces_are_forgotten(t *testing.T) {
	inBubble(t, hub.Options{PerCaller: 1}, func(t *testing.T, _ *source, h *hub.Hub) {
		waitFor(t.Context(), h, time.Second)
		require.Zero(t, h.Readers())
		first, second := started(t.Context(), h), started(t.Context(), h)
		<-first
		<-second
		require.Equal(t, 1, h.Readers())
		time.Sleep(30 * time.Second)
		waitFor(t.Context(), h, time.Second)
		time.Sleep(59 * time.Second)
		require.Equal(t, 1, h.Readers())
		time.Sleep(2 * time.Second)
		require.Zero(t, h.Readers())
	})
}
