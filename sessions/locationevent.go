package sessions

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"doorstep/geo"
)

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
