package consumers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/consumers"
	"doorstep/geo"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/outbox"
	"doorstep/sessions/postgres"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// fixture is a repository with its Once and its events in order.
type fixture struct {
	sessions.Repository
	once outbox.Once

	raised []sessions.Event
}

// onBoth runs a test in memory and on PostgreSQL, beside each other.
func onBoth(t *testing.T, test func(t *testing.T, h *fixture)) {
	t.Helper()
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, &fixture{Repository: memory.NewRepository(nil), once: outbox.NewMemoryOnce()})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := postgrestest.New(t)
		require.NoError(t, postgres.Migrate(t.Context(), url, nil))
		repo, err := postgres.Open(t.Context(), postgres.Options{URL: url})
		require.NoError(t, err)
		t.Cleanup(repo.Close)
		test(t, &fixture{Repository: repo, once: postgres.NewOnce(repo, 0)})
	})
}

// booked is a fresh session.
func (h *fixture) booked(t testing.TB) sessions.Session {
	t.Helper()
	s, _, err := h.Create(t.Context(), sessions.Session{
		ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Status: sessions.Scheduled,
		Home: geo.MustPoint(12.9352, 77.6245), Mode: sessions.Car, CreatedAt: noon,
	})
	require.NoError(t, err)
	return s
}

// change makes a transition, and keeps its events.
func (h *fixture) change(t testing.TB, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error)) sessions.Session {
	t.Helper()
	s, err := h.Change(t.Context(), id, func(s *sessions.Session) ([]sessions.Event, error) {
		events, err := f(s)
		h.raised = append(h.raised, events...)
		return events, err
	})
	require.NoError(t, err)
	return s
}

func (h *fixture) last() sessions.Event { return h.raised[len(h.raised)-1] }

func (h *fixture) started(t testing.TB) sessions.Session {
	t.Helper()
	return h.change(t, h.booked(t).ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", noon) })
}

// arriving is a journey that has reached the fence, with its event.
func (h *fixture) arriving(t testing.TB) sessions.Session {
	t.Helper()
	s := h.started(t)
	e := h.last()
	e.ID, e.Type, e.At = sessions.ArrivingID(sessions.JourneyKey{SessionID: s.ID, StartedAt: s.JourneyStartedAt}), sessions.JourneyArriving, noon.Add(time.Minute)
	first, err := h.Record(t.Context(), e)
	require.NoError(t, err)
	require.True(t, first)
	h.raised = append(h.raised, e)
	return s
}

func (h *fixture) arrived(t testing.TB) sessions.Session {
	t.Helper()
	return h.change(t, h.started(t).ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Arrive(noon.Add(time.Minute)) })
}

// renewed is a journey that arrived, whose first code has expired.
func (h *fixture) renewed(t testing.TB) sessions.Session {
	t.Helper()
	s := h.change(t, h.started(t).ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Arrive(noon.Add(-10 * time.Minute)) })
	return h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Arrive(noon.Add(time.Minute)) })
}

func (h *fixture) stopped(t testing.TB, reason sessions.EndReason) sessions.Session {
	t.Helper()
	return h.change(t, h.started(t).ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Stop(reason, noon.Add(time.Minute)) })
}

func (h *fixture) device(t testing.TB, s sessions.Session, token, language string) {
	t.Helper()
	require.NoError(t, h.PutPushToken(t.Context(), sessions.PushToken{
		Token: token, UserID: s.StudentID, Platform: sessions.Web, Language: language, RegisteredAt: noon,
	}))
}

// pusher keeps what it is given, and fails as told.
type pusher struct {
	mu    sync.Mutex
	sent  []consumers.Push
	to    []string
	fault func(to sessions.PushToken) error
	slow  time.Duration

	faultOf map[consumers.Kind]error
}

func (p *pusher) Push(_ context.Context, to sessions.PushToken, push consumers.Push) error {
	time.Sleep(p.slow)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.faultOf[push.Kind]; err != nil {
		return err
	}
	if p.fault != nil {
		if err := p.fault(to); err != nil {
			return err
		}
	}
	p.sent, p.to = append(p.sent, push), append(p.to, to.Token)
	return nil
}

// notify is the handler on h, two minutes past noon.
func (h *fixture) notify(push consumers.Pusher, log io.Writer, edit ...func(*consumers.NotifyOptions)) (*consumers.Notify, *outcomes) {
	counted := &outcomes{}
	opts := consumers.NotifyOptions{
		Now: func() time.Time { return noon.Add(2 * time.Minute) }, Metrics: counted,
		Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range edit {
		f(&opts)
	}
	return consumers.NewNotify(h, h.once, push, opts), counted
}

func TestNotify_tells_both_parties(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		push := &pusher{}
		n, _ := h.notify(push, io.Discard)
		admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
		event := func(of sessions.EventType, s *sessions.Session, status sessions.Status) []sessions.Event {
			return []sessions.Event{{
				ID: sessions.NewID(), Type: of, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID,
				At: noon, JourneyStartedAt: s.JourneyStartedAt, Status: status,
			}}
		}
		for kind, change := range map[consumers.Kind]func(*sessions.Session) ([]sessions.Event, error){
			consumers.Begun: func(s *sessions.Session) ([]sessions.Event, error) {
				return event(sessions.SessionStarted, s, ""), s.Verify(s.OTP, noon.Add(time.Minute))
			},
			consumers.Done: func(s *sessions.Session) ([]sessions.Event, error) {
				err := errors.Join(s.Verify(s.OTP, noon.Add(time.Minute)), s.Complete(noon.Add(2*time.Minute)))
				return event(sessions.SessionCompleted, s, ""), err
			},
			consumers.CalledOff: func(s *sessions.Session) ([]sessions.Event, error) { return s.Cancel(admin, "", noon.Add(time.Minute)) },
			consumers.NoShow:    func(s *sessions.Session) ([]sessions.Event, error) { return s.MarkNoShow(admin, noon.Add(time.Minute)) },
		} {
			s := h.change(t, h.arrived(t).ID, change)
			h.device(t, s, "student of "+string(s.ID), "de")
			require.NoError(t, h.PutPushToken(t.Context(), sessions.PushToken{
				Token: "trainer of " + string(s.ID), UserID: s.TrainerID, Platform: sessions.Web, RegisteredAt: noon,
			}))
			push.sent, push.to = nil, nil
			require.NoError(t, n.Handle(t.Context(), h.last()))
			require.ElementsMatch(t, []string{"student of " + string(s.ID), "trainer of " + string(s.ID)}, push.to)
			require.Equal(t, kind, push.sent[0].Kind)
		}
	})
}

func TestNotify_tells_the_student(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		push := &pusher{}
		n, counted := h.notify(push, io.Discard)
		for kind, raise := range map[consumers.Kind]func() sessions.Session{
			consumers.Started:   func() sessions.Session { return h.started(t) },
			consumers.Arriving:  func() sessions.Session { return h.arriving(t) },
			consumers.Arrived:   func() sessions.Session { return h.arrived(t) },
			consumers.Code:      func() sessions.Session { return h.renewed(t) },
			consumers.Cancelled: func() sessions.Session { return h.stopped(t, sessions.EndCancelled) },
			consumers.TimedOut:  func() sessions.Session { return h.stopped(t, sessions.EndTimeout) },
		} {
			s := raise()
			h.device(t, s, string(s.ID)+"a", "de")
			h.device(t, s, string(s.ID)+"b", "")
			push.sent = nil
			require.NoError(t, n.Handle(t.Context(), h.last()))
			require.Len(t, push.sent, 2)
			for _, p := range push.sent {
				require.Equal(t, []any{kind, s.ID, h.last().ID}, []any{p.Kind, p.SessionID, p.EventID})
				require.Equal(t, kind == consumers.Arrived || kind == consumers.Code, s.OTP != "" && strings.Contains(p.Body, s.OTP))
			}
			require.NotEqual(t, push.sent[0].Title, push.sent[1].Title, "each in its own language")
			require.Equal(t, 2, counted.all()[string(kind)+" sent"])
		}
	})
}

func TestNotify_once_an_event_and_device(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		s := h.arrived(t)
		for _, token := range []string{"a", "b", "c"} {
			h.device(t, s, string(s.ID)+token, "en")
		}
		push := &pusher{slow: 5 * time.Millisecond}
		n, _ := h.notify(push, io.Discard)
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				for { // as the bus does: again until it is done
					err := n.Handle(context.WithoutCancel(t.Context()), h.last())
					if err == nil {
						return
					}
					if !assert.ErrorIs(t, err, outbox.ErrInProgress) {
						return
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		all.Wait()
		require.ElementsMatch(t, []string{string(s.ID) + "a", string(s.ID) + "b", string(s.ID) + "c"}, push.to)
	})
}

// One device that cannot be reached keeps no other from its push, and what is
// tried again is that one only.
// The use of a token is noted, once a day, and only where a push arrived.
func TestNotify_notes_the_use_of_a_token(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		s := h.started(t)
		h.device(t, s, "phone", "en")
		h.device(t, s, "tablet", "en")
		push := &pusher{fault: func(to sessions.PushToken) error {
			if to.Token == "tablet" {
				return consumers.ErrNotOurs
			}
			return nil
		}}
		used := func(at time.Time) map[string]time.Time {
			e := h.last()
			e.ID = sessions.NewID()
			n, _ := h.notify(push, io.Discard, func(o *consumers.NotifyOptions) { o.Now = func() time.Time { return at } })
			require.NoError(t, n.Handle(t.Context(), e))
			list, err := h.PushTokensOf(t.Context(), s.StudentID)
			require.NoError(t, err)
			when := map[string]time.Time{}
			for _, d := range list {
				when[d.Token] = d.LastUsedAt
			}
			return when
		}
		require.Equal(t, map[string]time.Time{"phone": noon, "tablet": noon}, used(noon.Add(23*time.Hour)))
		later := noon.Add(25 * time.Hour)
		require.Equal(t, map[string]time.Time{"phone": later, "tablet": noon}, used(later))
		require.Equal(t, map[string]time.Time{"phone": later, "tablet": noon}, used(later.Add(time.Hour)))
	})
}

func TestNotify_tries_again_what_failed(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		s := h.started(t)
		h.device(t, s, string(s.ID)+"good", "en")
		h.device(t, s, string(s.ID)+"bad", "en")
		push := &pusher{fault: func(to sessions.PushToken) error {
			if strings.HasSuffix(to.Token, "bad") {
				return consumers.ErrUnavailable
			}
			return nil
		}}
		n, counted := h.notify(push, io.Discard)
		for range 3 {
			err := n.Handle(t.Context(), h.last())
			require.ErrorIs(t, err, consumers.ErrUnavailable)
			require.True(t, consumers.Down(err))
		}
		push.fault = nil
		require.NoError(t, n.Handle(t.Context(), h.last()))
		require.Equal(t, []string{string(s.ID) + "good", string(s.ID) + "bad"}, push.to)
		require.Equal(t, map[string]int{"started sent": 2, "started unavailable": 3}, counted.all())
	})
}

func TestNotify_forgets_a_device_that_is_gone(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		s := h.started(t)
		h.device(t, s, string(s.ID), "en")
		push := &pusher{fault: func(sessions.PushToken) error { return consumers.ErrNotRegistered }}
		n, counted := h.notify(push, io.Discard)
		require.NoError(t, n.Handle(t.Context(), h.last()))
		left, err := h.PushTokensOf(t.Context(), s.StudentID)
		require.NoError(t, err)
		require.Empty(t, left)
		require.NoError(t, n.Handle(t.Context(), h.last()))
		require.Equal(t, map[string]int{"started unregistered": 1, "started no_device": 1}, counted.all())
	})
}

// A device that cannot be reached at all must not hold up the others, nor the
// code that comes next: told, kept, and not tried again.
func TestNotify_leaves_a_device_of_another_sender(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		s := h.started(t)
		h.device(t, s, string(s.ID), "en")
		n, counted := h.notify(&pusher{fault: func(sessions.PushToken) error { return consumers.ErrNotOurs }}, io.Discard)
		require.NoError(t, n.Handle(t.Context(), h.last()))
		left, err := h.PushTokensOf(t.Context(), s.StudentID)
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.Equal(t, map[string]int{"started failed": 1}, counted.all())
	})
}

// A fault of ours is the event's own, so that it ends among the dead letters;
// beside one that only asks to come again, too.
func TestNotify_fault(t *testing.T) {
	t.Parallel()
	h := &fixture{Repository: memory.NewRepository(nil), once: outbox.NewMemoryOnce()}
	s := h.arrived(t)
	h.device(t, s, "one-device", "en")
	h.device(t, s, "two-device", "en")
	push := &pusher{fault: func(to sessions.PushToken) error {
		if to.Token == "one-device" {
			return errors.New("sender mismatch")
		}
		return consumers.ErrUnavailable
	}}
	var log bytes.Buffer
	n, counted := h.notify(push, &log)
	err := n.Handle(t.Context(), h.last())
	require.ErrorContains(t, err, "sender mismatch")
	require.False(t, consumers.Down(err))
	require.Equal(t, 1, counted.all()["arrived failed"])
	require.Contains(t, log.String(), "push failed")
	for _, secret := range []string{s.OTP, "one-device", "two-device"} {
		require.NotContains(t, log.String(), `"`+secret)
	}
}

// What is no longer so is not told.
func TestNotify_late(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]func(t *testing.T, h *fixture) sessions.Session{
		"started_but_ended_since": func(t *testing.T, h *fixture) sessions.Session {
			s := h.stopped(t, sessions.EndCancelled)
			h.raised = h.raised[:1]
			return s
		},
		"stopped_by_a_cancellation": func(t *testing.T, h *fixture) sessions.Session {
			s := h.change(t, h.started(t).ID, func(s *sessions.Session) ([]sessions.Event, error) {
				return s.Cancel(sessions.Caller{ID: s.StudentID, Role: sessions.Student}, "", noon.Add(time.Minute))
			})
			h.raised = h.raised[:2] // the end of the journey, and not that of the session
			return s
		},
		"arriving_but_ended_since": func(t *testing.T, h *fixture) sessions.Session {
			s := h.arriving(t)
			events := h.raised
			h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Arrive(noon.Add(2 * time.Minute)) })
			h.raised = events
			return s
		},
		"arriving_but_started_again": func(t *testing.T, h *fixture) sessions.Session {
			s := h.arriving(t)
			events := h.raised
			h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
				return s.Stop(sessions.EndCancelled, noon.Add(time.Hour))
			})
			h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", noon.Add(time.Hour)) })
			h.raised = events
			return s
		},
		"cancelled_but_started_again": func(t *testing.T, h *fixture) sessions.Session {
			s := h.stopped(t, sessions.EndCancelled)
			events := h.raised
			h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) { return s.Start("", noon.Add(time.Hour)) })
			h.raised = events
			return s
		},
		"arrived_and_verified": func(t *testing.T, h *fixture) sessions.Session {
			s := h.arrived(t)
			return h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
				return nil, s.Verify(s.OTP, noon.Add(time.Minute))
			})
		},
		"the_session_is_gone": func(t *testing.T, h *fixture) sessions.Session {
			s := h.started(t)
			e := h.last()
			e.SessionID = sessions.NewID()
			h.raised = append(h.raised, e)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &fixture{Repository: memory.NewRepository(nil), once: outbox.NewMemoryOnce()}
			h.device(t, late(t, h), "a", "en")
			push := &pusher{}
			n, counted := h.notify(push, io.Discard)
			require.NoError(t, n.Handle(t.Context(), h.last()))
			require.Empty(t, push.sent)
			require.Len(t, counted.all(), 1)
		})
	}
	t.Run("the_code_has_expired", func(t *testing.T) {
		t.Parallel()
		h := &fixture{Repository: memory.NewRepository(nil), once: outbox.NewMemoryOnce()}
		h.device(t, h.arrived(t), "a", "en")
		push := &pusher{}
		n, counted := h.notify(push, io.Discard, func(o *consumers.NotifyOptions) { o.Now = func() time.Time { return noon.Add(11 * time.Minute) } })
		require.NoError(t, n.Handle(t.Context(), h.last()))
		require.Empty(t, push.sent)
		require.Equal(t, map[string]int{"arrived late": 1}, counted.all())
	})
}

func TestNotify_says_nothing_of_a_suspicion(t *testing.T) {
	t.Parallel()
	h := &fixture{Repository: memory.NewRepository(nil), once: outbox.NewMemoryOnce()}
	h.started(t)
	e := h.last()
	e.Type, e.Verdict = sessions.LocationSuspicious, "mock"
	push := &pusher{}
	n, counted := h.notify(push, io.Discard, func(o *consumers.NotifyOptions) { o.Unregistered = true })
	require.NoError(t, n.Handle(t.Context(), e))
	require.Empty(t, push.sent)
	require.Empty(t, counted.all())
}

func TestShow(t *testing.T) {
	t.Parallel()
	h := &fixture{Repository: memory.NewRepository(nil), once: outbox.NewMemoryOnce()}
	s := h.arrived(t)
	var log bytes.Buffer
	show := consumers.NewShow(func() time.Time { return noon }, slog.New(slog.NewTextHandler(&log, nil)))
	n, _ := h.notify(show, &log, func(o *consumers.NotifyOptions) { o.Unregistered = true })
	require.NoError(t, n.Handle(t.Context(), h.last()))
	require.NoError(t, n.Handle(t.Context(), h.last()))
	require.Len(t, show.Last(), 1, "without a device, too, and once")
	require.Contains(t, show.Last()[0].Body, s.OTP)
	require.Contains(t, log.String(), "push not sent")
	require.NotContains(t, log.String(), s.OTP+"\n")
	require.NotContains(t, log.String(), "code")
	for range 300 {
		require.NoError(t, show.Push(t.Context(), phone, hello))
	}
	require.Len(t, show.Last(), 256)
	require.NotContains(t, log.String(), "0417")
	require.NotContains(t, log.String(), "secret-device")
}
