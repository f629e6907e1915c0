package sessions

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"doorstep/geo"
	"doorstep/internal/pause"
)

// newsQueue is how much news may wait for Report. A phone has a few in a journey, so
// the queue fills only while the repository is away. Further suspicions are then
// dropped and logged, and the next update offers further arrivings again: the outbox
// guarantees the events about starts and ends, not these.
const newsQueue = 4096

// news is what an update has found out that becomes an event: new suspicions, or
// that the journey is arriving.
type news struct {
	sessionID  ID
	suspicions Suspicions
	arriving   bool
	at         time.Time // the live store's clock
	toldAt     time.Time // this process's clock
}

// tell hands news to Report. It does not block, because an update waits for it; it
// reports false where there is no room.
func (s *Service) tell(n news) bool {
	n.toldAt = s.opts.Now()
	return s.put(n)
}

// put puts news behind what waits; it reports false where there is no room.
func (s *Service) put(n news) bool {
	select {
	case s.news <- n:
		return true
	default:
		return false
	}
}

// Report records the events about what updates have found out, each once for a
// journey, until ctx ends. Then it reports what is still waiting, for at most two
// seconds. Run some in every gateway: one may have to wait for a session whose row another
// transaction has locked. What fails is tried again behind the others, each time after a
// longer pause.
func (s *Service) Report(ctx context.Context) error {
	for wait := leastPause; ; {
		select {
		case n := <-s.news:
			wait = s.reportOrPutBack(ctx, n, wait)
		case <-ctx.Done():
			s.reportRest(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// The pause after news that could not be reported doubles from the least to the most.
const leastPause, mostPause = 100 * time.Millisecond, 10 * time.Second

// reportOrPutBack reports news. What fails it puts back after a pause of wait or, where there
// is no room, tries again. It returns the next pause.
func (s *Service) reportOrPutBack(ctx context.Context, n news, wait time.Duration) time.Duration {
	for s.report(ctx, n) != nil {
		_ = pause.For(ctx, wait)
		wait = min(2*wait, mostPause)
		if s.put(n) || ctx.Err() != nil {
			return wait
		}
	}
	return leastPause
}

func (s *Service) reportRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		select {
		case n := <-s.news:
			if s.report(ctx, n) != nil {
				return // the repository is away: the rest would fail too
			}
		default:
			return
		}
	}
}

// report returns an error where the same news must be tried again.
func (s *Service) report(ctx context.Context, n news) error {
	if n.arriving {
		s.reportArriving(ctx, n)
		return nil
	}
	return s.reportSuspicions(ctx, n)
}

// Suspicions is a set of what a journey can be suspected of: the flags of its
// fixes, and the kinds of refusal. It is stored as the sum of its members.
type Suspicions uint32

// The refusals among the suspicions. The other members are geo.Flags.
const (
	SuspectSpeed   Suspicions = 512
	SuspectCeiling Suspicions = 1024
	SuspectJump    Suspicions = 2048
	// SuspectNoApproach: a journey arrived that was never seen outside the fence.
	// Arrive raises it, and no fix.
	SuspectNoApproach Suspicions = 8192
)

// Names lists the members by the name that they have as an event's verdict.
func (s Suspicions) Names() []string {
	if s == 0 {
		return nil // the usual case, once for each update
	}
	var names []string
	for _, f := range geo.AllFlags() {
		if s&Suspicions(f) != 0 {
			names = append(names, f.String())
		}
	}
	for _, r := range []struct {
		bit     Suspicions
		verdict Verdict
	}{{SuspectSpeed, VerdictSpeed}, {SuspectCeiling, VerdictCeiling}, {SuspectJump, VerdictJump}} {
		if s&r.bit != 0 {
			names = append(names, r.verdict.String())
		}
	}
	if s&SuspectNoApproach != 0 {
		names = append(names, "no_approach")
	}
	return names
}

// VerdictSilent is the verdict of a LocationSuspicious event that no fix raised:
// the journey's phone has sent nothing for too long.
const VerdictSilent = "silent"

// suspicionSpace is the namespace of the ids below. It was drawn once, at random.
var suspicionSpace = uuid.MustParse("6f1b0d1e-5c1f-4a63-9a53-2f1d7a0c9b54")

// SuspicionID is the event id of a suspicion. It is the same whichever process
// raises it, so the repository and every consumer accept one event for each journey
// and verdict.
func SuspicionID(session ID, startedAt time.Time, verdict string) ID {
	return journeyEventID(suspicionSpace, JourneyKey{session, startedAt}, verdict)
}

// journeyEventID is the id of an event that a journey has once, by its name in a
// namespace.
func journeyEventID(space uuid.UUID, key JourneyKey, name string) ID {
	text := fmt.Sprintf("%s %d %s", key.SessionID, key.StartedAt.UnixMilli(), name)
	return ID(uuid.NewSHA1(space, []byte(text)).String())
}

// silenceID is the event id of one silence. A phone that sends again and then falls
// silent again is reported again.
func silenceID(key JourneyKey, since time.Time) ID {
	return SuspicionID(key.SessionID, key.StartedAt, fmt.Sprintf("%s %d", VerdictSilent, since.UnixMilli()))
}

// suspect hands an update's suspicions to Report.
func (s *Service) suspect(id ID, r Receipt) {
	if r.Suspicions != 0 && !s.tell(news{sessionID: id, suspicions: r.Suspicions, at: r.At}) {
		s.opts.Log.Warn("suspicion dropped", slog.String("session_id", string(id)))
	}
}

// reportSuspicions records one event for each verdict. The event's id is made of the
// journey and the verdict, so a repeated suspicion is stored once.
func (s *Service) reportSuspicions(ctx context.Context, n news) error {
	session, err := s.repo.Session(ctx, n.sessionID)
	if err != nil {
		return retryable(err)
	}
	for _, verdict := range n.suspicions.Names() {
		e := session.event(LocationSuspicious, n.at)
		e.ID = SuspicionID(session.ID, session.JourneyStartedAt, verdict)
		e.Verdict, e.Count = verdict, 1
		if _, err := s.record(ctx, e); err != nil {
			return retryable(err)
		}
	}
	return nil
}

// retryable is err where another try may help, otherwise nil.
func retryable(err error) error {
	if CodeOf(err) == SessionNotFound {
		return nil
	}
	return err
}

// arrivingSpace is the namespace of ArrivingID. It was drawn once, at random.
var arrivingSpace = uuid.MustParse("31e8f180-e953-4393-96d2-1d9090f685ea")

// ArrivingID is the event id of a journey's JourneyArriving. It is the same whichever
// process raises it, so a journey has one.
func ArrivingID(key JourneyKey) ID { return journeyEventID(arrivingSpace, key, "arriving") }

// offerArriving hands an arriving journey to Report, unless this process has done so
// lately. It costs no round trip.
func (s *Service) offerArriving(id ID, r Receipt) {
	switch {
	case r.Verdict < VerdictStale: // not judged: the receipt does not say
	case !r.Arriving:
		s.arrivings.forget(id) // it is another journey than the one that was offered
	case s.arrivings.due(id, s.opts.Now()):
		if !s.tell(news{sessionID: id, arriving: true, at: r.At}) {
			s.arrivings.forget(id)
		}
	}
}

// reportArriving records the event while the journey runs. Where that fails the next
// arriving update offers it again, so there is nothing to try again here. What waited while
// the repository was away may be news of the journey before.
func (s *Service) reportArriving(ctx context.Context, n news) {
	session, err := s.repo.Session(ctx, n.sessionID)
	if err == nil && n.toldAt.Before(session.JourneyStartedAt) {
		s.arrivings.forget(n.sessionID)
		return
	}
	if err == nil && s.running(session) && !s.arrivings.recorded(session) {
		e := session.event(JourneyArriving, n.at)
		e.ID = ArrivingID(JourneyKey{session.ID, session.JourneyStartedAt})
		if _, err = s.record(ctx, e); err == nil {
			s.arrivings.put(session)
		}
	}
	if err != nil {
		s.arrivings.forget(n.sessionID)
	}
}

const (
	// arrivingAgain is how long a journey is not offered again. An update does not
	// tell one journey of a session from the next. Where another gateway has ended
	// the journey and started a new one at the door, its event is at most so late.
	arrivingAgain = 2 * time.Minute
	// arrivingsRoom is the largest number of journeys remembered: some 20 MB. One
	// that is forgotten is offered again, and recorded once all the same.
	arrivingsRoom = 131_072
)

// arrivings remembers the sessions whose arriving journey was handed to Report, so
// that it is not looked up again at each update. Safe for concurrent use.
type arrivings struct {
	mu       sync.Mutex
	sessions *simplelru.LRU[ID, arrivingSeen]
}

type arrivingSeen struct {
	offeredAt int64     // Unix nanoseconds
	recorded  time.Time // the start of the journey whose event is known to be recorded; zero: none
}

func newArrivings() *arrivings {
	l, _ := simplelru.NewLRU[ID, arrivingSeen](arrivingsRoom, nil) // fails only for a size of 0 or less
	return &arrivings{sessions: l}
}

// due reports whether the session's journey is to be offered now, and notes that it
// is. A clock that was set back by more than arrivingAgain makes it due, too.
func (a *arrivings) due(id ID, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen, ok := a.sessions.Get(id)
	if ok && time.Duration(now.UnixNano()-seen.offeredAt).Abs() < arrivingAgain {
		return false
	}
	seen.offeredAt = now.UnixNano()
	a.sessions.Add(id, seen)
	return true
}

// forget makes the session's next arriving update an offer.
func (a *arrivings) forget(id ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions.Remove(id)
}

// recorded reports whether the event of the session's journey was put.
func (a *arrivings) recorded(s Session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen, _ := a.sessions.Peek(s.ID)
	return seen.recorded.Equal(s.JourneyStartedAt)
}

// put notes that the event of the session's journey is recorded.
func (a *arrivings) put(s Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen, _ := a.sessions.Peek(s.ID)
	seen.recorded = s.JourneyStartedAt
	a.sessions.Add(s.ID, seen)
}

// LocationUpdated is the detail-type of a LocationEvent.
const LocationUpdated EventType = "TrainerLocationUpdated"

// LocationEvent is where a trainer is, for an operator that asks for it. It is no
// Event: it holds a coordinate, so no store, no dead letter and no log may have it. It
// goes from memory to the bus, and is lost where that is slow or away.
type LocationEvent struct {
	ID        ID
	TrainerID ID
	SessionID ID
	Point     geo.Point
	At        time.Time // the live store's clock when it stored the fix
}

// locationDetail is a LocationEvent on the wire: docs/contract.md, section 4.
type locationDetail struct {
	EventID       ID      `json:"eventId"`
	SchemaVersion int     `json:"schemaVersion"`
	TrainerID     ID      `json:"trainerId"`
	SessionID     ID      `json:"sessionId"`
	Latitude      float64 `json:"latitude"`
	Longitude     float64 `json:"longitude"`
	Timestamp     string  `json:"timestamp"`
}

// Detail is the event's detail as JSON.
func (e LocationEvent) Detail() []byte {
	b, err := json.Marshal(locationDetail{
		EventID: e.ID, SchemaVersion: EventSchema, TrainerID: e.TrainerID, SessionID: e.SessionID,
		Latitude: e.Point.Lat(), Longitude: e.Point.Lng(), Timestamp: e.At.UTC().Format(wireTime),
	})
	if err != nil {
		panic("sessions: a point is two finite numbers: " + err.Error())
	}
	return b
}

// locationSpace is the namespace of locationID. It was drawn once, at random.
var locationSpace = uuid.MustParse("1e1103ab-e765-4f3c-ac89-70d64da63210")

// locationID is the id of the event of a session's journey in the stretch of time that
// the instant is in. Stretches have the length of every and are the same for all
// gateways: where two of them raise an event in one stretch, the ids are the same.
func locationID(session ID, at time.Time, every time.Duration) ID {
	stretch := at.UnixMilli() / every.Milliseconds() * every.Milliseconds()
	return ID(uuid.NewSHA1(locationSpace, fmt.Appendf(nil, "%s %d", session, stretch)).String())
}

// publishLocation hands a stored fix to OnLocation, at most one of a journey in
// LocationEvery. A fix that the phone has kept for longer than that is not where the
// trainer is.
func (s *Service) publishLocation(ref Ref, fix Fix, r Receipt) {
	if s.opts.OnLocation == nil || r.Verdict != VerdictStored || fix.SentAt.Sub(fix.RecordedAt) > s.opts.LocationEvery ||
		!s.locations.due(ref.SessionID, r.At, s.opts.LocationEvery) {
		return
	}
	s.opts.OnLocation(LocationEvent{
		ID: locationID(ref.SessionID, r.At, s.opts.LocationEvery), TrainerID: ref.TrainerID, SessionID: ref.SessionID,
		Point: fix.Point, At: r.At,
	})
}

// locationsRoom is the largest number of journeys whose last event is remembered: some
// 15 MB. One that is forgotten may have an event too soon.
const locationsRoom = 131_072

// locationTimes remembers when each session's last LocationEvent was. Safe for
// concurrent use.
type locationTimes struct {
	mu   sync.Mutex
	last *simplelru.LRU[ID, int64] // Unix milliseconds
}

func newLocationTimes() *locationTimes {
	l, _ := simplelru.NewLRU[ID, int64](locationsRoom, nil) // fails only for a size of 0 or less
	return &locationTimes{last: l}
}

// due reports whether the last event was at least every ago, and then notes this one.
// A clock that was set back by more than that makes it due, too.
func (l *locationTimes) due(id ID, at time.Time, every time.Duration) bool {
	now := at.UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.last.Get(id); ok && max(now-last, last-now) < every.Milliseconds() {
		return false
	}
	l.last.Add(id, now)
	return true
}
