package consumers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"doorstep/sessions"
)

// Kind is what a push is about.
type Kind string

// The kinds; texts.txt has the words.
const (
	Started   Kind = "started"
	Arriving  Kind = "arriving"
	Arrived   Kind = "arrived"
	Code      Kind = "code" // a new code, or the code once more
	Cancelled Kind = "cancelled"
	TimedOut  Kind = "timeout"

	Begun     Kind = "begun" // the lesson; this and the rest go to both parties
	Done      Kind = "done"
	CalledOff Kind = "called_off"
	NoShow    Kind = "no_show"

	LiveActivity Kind = "live_activity" // an activity's update or end, beside the push of the event's own kind
)

// Push is one notification in the device's language. Its body may hold the code, so it
// must not be logged.
type Push struct {
	Kind      Kind
	EventID   sessions.ID
	SessionID sessions.ID
	Title     string
	Body      string
	// ExpiresAt is when the push is of no use any more.
	ExpiresAt time.Time
	// Activity is, of LiveActivity, what the device's activity becomes. Title and Body are
	// empty then.
	Activity Activity
}

// collapseKey is the same for a repeat, which then replaces the first push on the device.
// At most 64 bytes, which is APNs' limit.
func (p Push) collapseKey() string { return string(p.SessionID) + "." + string(p.Kind) }

// interruption is Apple's level: what is of no use minutes later is shown through a
// Focus, too, in an app that has the entitlement for time-sensitive notifications.
func (p Push) interruption() string {
	switch p.Kind {
	case Arriving, Arrived, Code:
		return "time-sensitive"
	default:
		return "active"
	}
}

// Pusher sends to a device, a push of the kind LiveActivity to its LiveActivity. Errors: ErrNotRegistered, ErrNotOurs and ErrUnavailable,
// wrapped; any other is a fault of this program or its settings.
type Pusher interface {
	Push(ctx context.Context, to sessions.PushToken, p Push) error
}

// ErrNotRegistered is a token that no device has any more.
var ErrNotRegistered = errors.New("push token is not registered")

// ErrNotOurs is a device that this sender can never reach: it is registered with another
// sender, or its platform's key is missing.
var ErrNotOurs = errors.New("push token belongs to another sender")

// Notify pushes a journey's start, approach and end and the codes to the student, and
// what becomes of the session to both parties. It pushes once for each event
// and device: Once drops the repeats, and where it cannot know (a crash between the push
// and its mark) the second push replaces the first on the device.
//
// A push must still be true: an event is passed over when its journey is no longer the
// session's last, or is no longer as the event says. So after an outage no student gets
// a push about a trainer that set off an hour ago, and none is told "almost there" after
// the journey has ended.
type Notify struct {
	repo Devices
	once Once
	push Pusher
	opts NotifyOptions
}

// Devices is the part of the repository that Notify reads.
type Devices interface {
	Sessions
	PushTokensOf(ctx context.Context, userID sessions.ID) ([]sessions.PushToken, error)
	PushTokenUsed(ctx context.Context, userID sessions.ID, token string, at time.Time) error
	DeletePushToken(ctx context.Context, userID sessions.ID, token string) error
	DropLiveActivity(ctx context.Context, userID sessions.ID, token, activity string) error
}

// Once is outbox.Once: it calls do unless that has succeeded for this consumer and id.
type Once interface {
	Once(ctx context.Context, consumer string, id sessions.ID, do func(context.Context) error) error
}

// NotifyOptions are the settings of Notify. Zero means default.
type NotifyOptions struct {
	Now func() time.Time // nil: the wall clock
	Log *slog.Logger     // nil: discarded
	// Unregistered pushes to a student without a device as well, with an empty token: for
	// a Pusher that only shows.
	Unregistered bool
	Metrics      PushMetrics // nil: none
}

// PushMetrics counts pushes by kind and outcome, from PushKinds and PushOutcomes.
type PushMetrics interface {
	Pushed(kind, outcome string)
}

// The outcomes.
const (
	outcomeSent         = "sent"
	outcomeNoDevice     = "no_device"
	outcomeLate         = "late"
	outcomeUnregistered = "unregistered"
	outcomeUnavailable  = "unavailable"
	outcomeFailed       = "failed"
)

// PushKinds is the closed list of kinds in PushMetrics.
func PushKinds() []string {
	return []string{
		string(Started), string(Arriving), string(Arrived), string(Code), string(Cancelled), string(TimedOut),
		string(Begun), string(Done), string(CalledOff), string(NoShow),
		string(LiveActivity),
	}
}

// PushOutcomes is the closed list of outcomes in PushMetrics.
func PushOutcomes() []string {
	return []string{outcomeSent, outcomeNoDevice, outcomeLate, outcomeUnregistered, outcomeUnavailable, outcomeFailed}
}

// NotifyConsumer is Notify's name as a consumer, also with Once.
const NotifyConsumer = "notify"

// NewNotify makes the consumer.
func NewNotify(repo Devices, once Once, push Pusher, opts NotifyOptions) *Notify {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = noPushMetrics{}
	}
	return &Notify{repo: repo, once: once, push: push, opts: opts}
}

// Handle pushes the event to all devices of those whom it concerns at the same time. An error means
// that some have not been reached yet.
func (n *Notify) Handle(ctx context.Context, e sessions.Event) error {
	kind := kindOf(e)
	if kind == "" {
		return nil
	}
	session, err := n.repo.Session(ctx, e.SessionID)
	switch {
	case sessions.CodeOf(err) == sessions.SessionNotFound, err == nil && !n.stillSo(session, e, kind):
		n.opts.Metrics.Pushed(string(kind), outcomeLate)
		return nil
	case err != nil:
		return err
	}
	devices, err := n.devices(ctx, kind, session)
	if err != nil {
		return err
	}
	if len(devices) == 0 && n.opts.Unregistered {
		devices = []sessions.PushToken{{UserID: session.StudentID}}
	}
	if len(devices) == 0 {
		n.opts.Metrics.Pushed(string(kind), outcomeNoDevice)
	}
	return n.toAll(ctx, devices, e, kind, session)
}

// devices are the student's, and the trainer's where the kind goes to both.
func (n *Notify) devices(ctx context.Context, kind Kind, s sessions.Session) ([]sessions.PushToken, error) {
	devices, err := n.repo.PushTokensOf(ctx, s.StudentID)
	if err != nil || !kind.toBoth() {
		return devices, err
	}
	trainers, err := n.repo.PushTokensOf(ctx, s.TrainerID)
	return append(devices, trainers...), err
}

func (k Kind) toBoth() bool { return k == Begun || k == Done || k == CalledOff || k == NoShow }

func kindOf(e sessions.Event) Kind {
	switch e.Type {
	case sessions.JourneyStarted:
		return Started
	case sessions.CodeIssued:
		return Code
	case sessions.SessionStarted:
		return Begun
	case sessions.SessionCompleted:
		return Done
	case sessions.SessionCancelled:
		if e.Status == sessions.NoShow {
			return NoShow
		}
		return CalledOff
	case sessions.JourneyArriving:
		return Arriving
	case sessions.JourneyEnded:
		switch e.Reason {
		case sessions.EndArrived:
			return Arrived
		case sessions.EndCancelled:
			return Cancelled
		case sessions.EndTimeout:
			return TimedOut
		}
	}
	return ""
}

// stillSo reports whether the session's last journey is the event's and is as the event
// says. A code that is pushed must still be valid, and be the event's.
func (n *Notify) stillSo(s sessions.Session, e sessions.Event, kind Kind) bool {
	switch {
	case kind.toBoth():
		return s.Status == statusOf[kind]
	case !s.JourneyStartedAt.Equal(e.JourneyStartedAt):
		return false
	case kind == Started || kind == Arriving:
		return s.JourneyActive()
	case kind == Arrived:
		return n.hasCode(s)
	case kind == Code:
		return n.hasCode(s) && s.OTPExpiresAt.Equal(e.ExpiresAt)
	default: // a session that is cancelled has an event of its own
		return s.JourneyEndReason == e.Reason && s.Status != sessions.Cancelled
	}
}

// statusOf is the status that a push to both parties tells.
var statusOf = map[Kind]sessions.Status{
	Begun: sessions.InProgress, Done: sessions.Completed, CalledOff: sessions.Cancelled, NoShow: sessions.NoShow,
}

func (n *Notify) hasCode(s sessions.Session) bool {
	return s.OTP != "" && s.CodeState(n.opts.Now()) == sessions.CodeActive
}

// pushFor is how long a push without a code is of use.
const pushFor = 15 * time.Minute

func (n *Notify) toAll(ctx context.Context, devices []sessions.PushToken, e sessions.Event, kind Kind, s sessions.Session) error {
	errs := make([]error, 2*len(devices)) // a device's push, and its activity's
	var all sync.WaitGroup
	for i, device := range devices {
		p := Push{Kind: kind, EventID: e.ID, SessionID: e.SessionID, ExpiresAt: n.opts.Now().Add(pushFor)}
		otp := ""
		if kind == Arrived || kind == Code {
			otp, p.ExpiresAt = s.OTP, s.OTPExpiresAt
		}
		p.Title, p.Body = write(kind, device.Language, otp)
		all.Go(func() {
			errs[i] = n.once.Once(ctx, NotifyConsumer, deviceEvent(e.ID, device.Token), func(ctx context.Context) error {
				return n.toOne(ctx, device, p)
			})
		})
		if p, ok := n.activityPush(device, e, kind, s); ok {
			all.Go(func() {
				errs[len(devices)+i] = n.once.Once(ctx, NotifyConsumer, deviceEvent(e.ID, activityName(device)), func(ctx context.Context) error {
					return n.toActivity(ctx, device, p)
				})
			})
		}
	}
	all.Wait()
	return worst(errs)
}

// deviceSpace is the namespace of the ids below; drawn once at random.
var deviceSpace = uuid.MustParse("b9a54f0c-7a43-4b1e-8d55-9d1c6a1be4a7")

// deviceEvent is an id for an event on its way to one device.
func deviceEvent(event sessions.ID, token string) sessions.ID {
	return sessions.ID(uuid.NewSHA1(deviceSpace, []byte(string(event)+" "+token)).String())
}

func (n *Notify) toOne(ctx context.Context, to sessions.PushToken, p Push) error {
	err := n.push.Push(ctx, to, p)
	outcome := outcomeSent
	switch {
	case errors.Is(err, ErrNotRegistered):
		outcome = outcomeUnregistered
		err = n.repo.DeletePushToken(ctx, to.UserID, to.Token)
	case errors.Is(err, ErrUnavailable):
		outcome = outcomeUnavailable
	case errors.Is(err, ErrNotOurs):
		// Logged and not tried again: the student's other devices, and the push with the
		// code, must not wait for this device.
		outcome = outcomeFailed
		n.opts.Log.ErrorContext(ctx, "push cannot reach a device",
			slog.String("platform", string(to.Platform)), slog.Any("error", err))
		err = nil
	case err != nil:
		outcome = outcomeFailed
		n.opts.Log.ErrorContext(ctx, "push failed", slog.String("kind", string(p.Kind)),
			slog.String("session_id", string(p.SessionID)), slog.String("platform", string(to.Platform)), slog.Any("error", err))
	}
	n.opts.Metrics.Pushed(string(p.Kind), outcome)
	if outcome == outcomeSent {
		n.used(ctx, to)
	}
	return err
}

// usedEvery is how often the use of a token is noted.
const usedEvery = 24 * time.Hour

// used notes that a push has reached a device. When that fails, the next push notes it:
// an error would only repeat this one.
func (n *Notify) used(ctx context.Context, to sessions.PushToken) {
	now := n.opts.Now()
	if to.Token == "" || now.Sub(to.LastUsedAt) < usedEvery {
		return
	}
	if err := n.repo.PushTokenUsed(ctx, to.UserID, to.Token, now); err != nil {
		n.opts.Log.WarnContext(ctx, "use of a push token not noted", slog.Any("error", err))
	}
}

// worst is one error for all devices: one that is the event's own rather than one of a
// service that is away.
func worst(errs []error) error {
	var down error
	for _, err := range errs {
		switch {
		case err == nil:
		case Down(err):
			down = err
		default:
			return fmt.Errorf("push: %w", err)
		}
	}
	if down != nil {
		return fmt.Errorf("push: %w", down)
	}
	return nil
}

type noPushMetrics struct{}

func (noPushMetrics) Pushed(string, string) {}
