package consumers_test

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/gateway/consumers"
	"doorstep/sessions"
)

// follow registers a device of a user that shows an activity about s.
func (h *fixture) follow(t testing.TB, user sessions.ID, s sessions.Session, token, activity string) {
	t.Helper()
	require.NoError(t, h.PutPushToken(t.Context(), sessions.PushToken{
		Token: token, UserID: user, Platform: sessions.IOS, RegisteredAt: noon,
		LiveActivity: sessions.LiveActivity{SessionID: s.ID, Token: activity},
	}))
}

// activities are the pushes to activities, and how many others there were.
func (p *pusher) activities() (list []consumers.Activity, others int) {
	for _, push := range p.sent {
		if push.Kind == consumers.LiveActivity {
			list = append(list, push.Activity)
		} else {
			others++
		}
	}
	return list, others
}

func (h *fixture) activityOf(t testing.TB, user sessions.ID) string {
	t.Helper()
	list, err := h.PushTokensOf(t.Context(), user)
	require.NoError(t, err)
	require.Len(t, list, 1, "the device stays")
	return list[0].LiveActivity.Token
}

// Each event reaches the student's activity of that session, beside the ordinary push and
// once, and what ends it leaves none registered.
func TestNotify_updates_a_live_activity(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
		later := noon.Add(time.Minute)
		after := func(f func(*sessions.Session) ([]sessions.Event, error)) func() sessions.Session {
			return func() sessions.Session { return h.change(t, h.arrived(t).ID, f) }
		}
		event := func(of sessions.EventType, s *sessions.Session) []sessions.Event {
			return []sessions.Event{{
				ID: sessions.NewID(), Type: of, SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID, At: later, JourneyStartedAt: s.JourneyStartedAt,
			}}
		}
		for name, row := range map[string]struct {
			raise func() sessions.Session
			want  consumers.Activity
		}{
			"started":  {func() sessions.Session { return h.started(t) }, consumers.Activity{Phase: sessions.OnTheWay, Since: noon}},
			"arriving": {func() sessions.Session { return h.arriving(t) }, consumers.Activity{Phase: sessions.Arriving, Since: later}},
			"arrived":  {func() sessions.Session { return h.arrived(t) }, consumers.Activity{Phase: sessions.Arrived, Since: later, End: true}},
			"stopped":  {func() sessions.Session { return h.stopped(t, sessions.EndCancelled) }, consumers.Activity{Phase: sessions.Ended, Since: later, End: true}},
			"timeout":  {func() sessions.Session { return h.stopped(t, sessions.EndTimeout) }, consumers.Activity{Phase: sessions.Ended, Since: later, End: true}},
			"begun": {
				after(func(s *sessions.Session) ([]sessions.Event, error) {
					return event(sessions.SessionStarted, s), s.Verify(s.OTP, later)
				}),
				consumers.Activity{Phase: sessions.Arrived, Since: later, End: true},
			},
			"done": {
				after(func(s *sessions.Session) ([]sessions.Event, error) {
					return event(sessions.SessionCompleted, s), errors.Join(s.Verify(s.OTP, later), s.Complete(later))
				}),
				consumers.Activity{Phase: sessions.Ended, Since: later, End: true},
			},
			"called_off": {
				after(func(s *sessions.Session) ([]sessions.Event, error) { return s.Cancel(admin, "", later) }),
				consumers.Activity{Phase: sessions.Ended, Since: later.Add(time.Millisecond), End: true},
			},
			"no_show": {
				after(func(s *sessions.Session) ([]sessions.Event, error) { return s.MarkNoShow(admin, later) }),
				consumers.Activity{Phase: sessions.Ended, Since: later.Add(time.Millisecond), End: true},
			},
		} {
			s := row.raise()
			h.follow(t, s.StudentID, s, "phone of "+string(s.ID), "0f")
			push := &pusher{}
			n, counted := h.notify(push, io.Discard)
			for range 2 {
				require.NoError(t, n.Handle(t.Context(), h.last()), name)
			}
			got, others := push.activities()
			require.Equal(t, []consumers.Activity{row.want}, got, name)
			require.Equal(t, 1, others, name)
			require.Equal(t, 1, counted.all()["live_activity sent"], name)
			require.Equal(t, row.want.End, h.activityOf(t, s.StudentID) == "", name)
		}
	})
}

// Anybody can register any session's id, and a code changes no phase.
func TestNotify_updates_no_other_live_activity(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		s := h.started(t)
		h.follow(t, s.StudentID, h.booked(t), "student", "0f")
		push := &pusher{}
		n, _ := h.notify(push, io.Discard)
		require.NoError(t, n.Handle(t.Context(), h.last()))

		s = h.change(t, s.ID, func(s *sessions.Session) ([]sessions.Event, error) {
			return s.Cancel(sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, "", noon.Add(time.Minute))
		})
		h.follow(t, s.TrainerID, s, "trainer", "1f")
		require.NoError(t, n.Handle(t.Context(), h.last()))

		s = h.renewed(t)
		h.follow(t, s.StudentID, s, "other student", "2f")
		require.NoError(t, n.Handle(t.Context(), h.last()))
		got, others := push.activities()
		require.Empty(t, got)
		require.Equal(t, 4, others)
	})
}

// What FCM says of an activity's push never takes the device, nor the event.
func TestNotify_drops_a_live_activity_that_fails(t *testing.T) {
	onBoth(t, func(t *testing.T, h *fixture) {
		for outcome, fault := range map[string]error{
			"unregistered": consumers.ErrNotRegistered, "failed": errors.New("fcm answered 400 INVALID_ARGUMENT"), "unavailable": consumers.ErrUnavailable,
		} {
			s := h.started(t)
			h.follow(t, s.StudentID, s, "phone of "+string(s.ID), "0f")
			push := &pusher{faultOf: map[consumers.Kind]error{consumers.LiveActivity: fault}}
			n, counted := h.notify(push, io.Discard)
			err := n.Handle(t.Context(), h.last())
			require.Equal(t, map[string]int{"started sent": 1, "live_activity " + outcome: 1}, counted.all())
			if outcome != "unavailable" {
				require.NoError(t, err)
				require.Empty(t, h.activityOf(t, s.StudentID))
				continue
			}
			require.ErrorIs(t, err, consumers.ErrUnavailable)
			require.Equal(t, "0f", h.activityOf(t, s.StudentID))
			push.faultOf = nil
			require.NoError(t, n.Handle(t.Context(), h.last()))
			got, others := push.activities()
			require.Equal(t, []int{1, 1}, []int{len(got), others}, "again, and the ordinary push not")
		}
	})
}

func TestFCM_sends_to_a_live_activity(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	f := g.fcm(t)
	to := phone
	to.Platform, to.LiveActivity = sessions.IOS, sessions.LiveActivity{SessionID: hello.SessionID, Token: "0aF1"}
	for name, row := range map[string]struct {
		activity consumers.Activity
		aps      string
	}{
		"update": {
			consumers.Activity{Phase: sessions.Arriving, Since: noon},
			`{"timestamp":1773489600,"event":"update","content-state":{"phase":"arriving","since":1773489600}}`,
		},
		"end": {
			consumers.Activity{Phase: sessions.Arrived, Since: noon, End: true},
			`{"timestamp":1773489600,"event":"end","content-state":{"phase":"arrived","since":1773489600},"dismissal-date":1773489900}`,
		},
	} {
		p := consumers.Push{Kind: consumers.LiveActivity, EventID: hello.EventID, SessionID: hello.SessionID, ExpiresAt: hello.ExpiresAt, Activity: row.activity}
		require.NoError(t, f.Push(t.Context(), to, p), name)
		sent := g.messages()
		text, err := json.Marshal(sent[len(sent)-1])
		require.NoError(t, err)
		require.JSONEq(t, `{"token":"secret-device","apns":{"liveActivityToken":"0aF1",
			"headers":{"apns-priority":"10","apns-expiration":"`+strconv.FormatInt(hello.ExpiresAt.Unix(), 10)+`"},
			"payload":{"aps":`+row.aps+`}}}`, string(text), "nothing else, and no place and no code")
	}
}
