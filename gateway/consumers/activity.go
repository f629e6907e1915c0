package consumers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	fcm "google.golang.org/api/fcm/v1"
	"google.golang.org/api/googleapi"

	"doorstep/sessions"
)

// Activity is the content of a Live Activity. It has no place and no code.
type Activity struct {
	Phase sessions.Phase
	Since time.Time // when the phase began
	End   bool      // the activity is over, and goes from the lock screen after endShown
}

// endShown is how long an activity that is over still shows its last phase.
const endShown = 5 * time.Minute

// activityOf is what an event of that kind makes of an activity about its session. Only a
// journey that runs has an activity: whatever comes after it ends one that is left.
func activityOf(kind Kind, e sessions.Event) (a Activity, ok bool) {
	a = Activity{Since: e.At, End: true}
	switch kind {
	case Started:
		a.Phase, a.End = sessions.OnTheWay, false
	case Arriving:
		a.Phase, a.End = sessions.Arriving, false
	case Arrived, Begun:
		a.Phase = sessions.Arrived
	case Cancelled, TimedOut, CalledOff, NoShow, Done:
		a.Phase = sessions.Ended
	default: // a code changes no phase
		return Activity{}, false
	}
	return a, true
}

// activityPush is the push to the activity of a device. Only the session's student gets
// one: anybody may register an activity with any session's id.
func (n *Notify) activityPush(to sessions.PushToken, e sessions.Event, kind Kind, s sessions.Session) (Push, bool) {
	if to.LiveActivity.SessionID != s.ID || to.UserID != s.StudentID {
		return Push{}, false
	}
	a, ok := activityOf(kind, e)
	return Push{Kind: LiveActivity, EventID: e.ID, SessionID: s.ID, ExpiresAt: n.opts.Now().Add(pushFor), Activity: a}, ok
}

// activityName stands for the device's activity in deviceEvent. No push token has a space.
func activityName(to sessions.PushToken) string { return "activity " + to.LiveActivity.Token }

// toActivity pushes to the device's activity. An activity that is over, or that cannot be
// reached, is dropped; the device stays, whatever FCM says: which of the two tokens it
// means is not certain, and the ordinary push finds out about the device. No failure but
// ErrUnavailable is the event's: an activity's token is the app's word, and it lives for an
// hour.
func (n *Notify) toActivity(ctx context.Context, to sessions.PushToken, p Push) error {
	err := n.push.Push(ctx, to, p)
	outcome := outcomeSent
	switch {
	case errors.Is(err, ErrUnavailable):
		n.opts.Metrics.Pushed(string(LiveActivity), outcomeUnavailable)
		return err
	case errors.Is(err, ErrNotRegistered):
		outcome = outcomeUnregistered
	case err != nil:
		outcome = outcomeFailed
		n.opts.Log.ErrorContext(ctx, "push to a live activity failed",
			slog.String("session_id", string(p.SessionID)), slog.Any("error", err))
	}
	n.opts.Metrics.Pushed(string(LiveActivity), outcome)
	if outcome == outcomeSent && !p.Activity.End {
		return nil
	}
	return n.repo.DropLiveActivity(ctx, to.UserID, to.Token, to.LiveActivity.Token)
}

// activityMessage is the push to an activity, as Apple's "Starting and updating Live
// Activities with ActivityKit push notifications" has it. FCM adds the push type and the
// topic.
func activityMessage(to sessions.PushToken, p Push) *fcm.Message {
	// Instants are in seconds since 1970. The timestamp is the event's, not that of the
	// push: a device passes over what is older than what it shows, so a repeat that comes
	// late changes nothing.
	since, event, dismissal := p.Activity.Since.Unix(), "update", ""
	if p.Activity.End {
		event, dismissal = "end", fmt.Sprintf(`,"dismissal-date":%d`, p.Activity.Since.Add(endShown).Unix())
	}
	aps := fmt.Sprintf(`{"timestamp":%d,"event":%q,"content-state":{"phase":%q,"since":%d}%s}`, since, event, p.Activity.Phase, since, dismissal)
	return &fcm.Message{
		Token: to.Token,
		Apns: &fcm.ApnsConfig{
			LiveActivityToken: to.LiveActivity.Token,
			Headers:           map[string]string{"apns-priority": "10", "apns-expiration": strconv.FormatInt(p.ExpiresAt.Unix(), 10)},
			Payload:           googleapi.RawMessage(`{"aps":` + aps + `}`),
		},
	}
}
