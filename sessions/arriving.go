package sessions

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

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
// arriving update offers it again, so there is nothing to try again here.
func (s *Service) reportArriving(ctx context.Context, n news) {
	session, err := s.repo.Session(ctx, n.sessionID)
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
