package sessions

import (
	"sync"
	"time"

	"doorstep/geo"
)

const (
	// askEvery is how often the repository is asked about a session that is served.
	askEvery = 15 * time.Second
	// servedFor is how long a session counts as served after its last update, read
	// or wait. A wait lasts 30 s at most.
	servedFor = time.Minute
	// answerFor is how long the repository's last answer holds while it cannot be
	// asked. Then no location is shown.
	answerFor = 300 * time.Second
)

// served are the journeys that this process serves: updated, read or waited on
// lately. The Reconciler compares them with the repository. Instants are by this
// process's monotonic clock. Safe for concurrent use.
type served struct {
	now    func() time.Time
	asking bool // a Reconciler asks about them; set before any use
	shards [shards]servedShard
}

type servedShard struct {
	mu       sync.Mutex
	journeys map[Ref]*serving
}

// serving is what is remembered of one journey.
type serving struct {
	used  time.Time
	asked time.Time // of the repository's last answer; before the first, when it was first used
	known bool      // the repository has answered
	home  geo.Point // in that answer
	began time.Time // the journey's start in that answer
	told  Meta      // the parties in that answer
	meta  Meta      // the parties that readers were checked against; zero for none
}

func newServed() *served {
	s := &served{now: time.Now}
	for i := range s.shards {
		s.shards[i].journeys = map[Ref]*serving{}
	}
	return s
}

func (s *served) shard(ref Ref) *servedShard { return &s.shards[shardOf(ref.SessionID)] }

// use notes that a journey is served. meta is zero for an update.
func (s *served) use(ref Ref, meta Meta) {
	if !s.asking {
		return
	}
	now := s.now()
	shard := s.shard(ref)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	one := shard.journeys[ref]
	if one == nil {
		one = &serving{asked: now}
		shard.journeys[ref] = one
	}
	one.used = now
	if meta != (Meta{}) {
		one.meta = meta
	}
}

// holds reports whether the repository's last answer about a journey still counts.
func (s *served) holds(ref Ref) bool {
	if !s.asking {
		return true
	}
	shard := s.shard(ref)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	one := shard.journeys[ref]
	return one == nil || s.now().Sub(one.asked) < answerFor
}

// due lists the journeys that the repository is to be asked about: the new ones, and
// those whose answer is old. It forgets those that are not served any more.
func (s *served) due() map[Ref]serving {
	now, due := s.now(), map[Ref]serving{}
	for i := range s.shards {
		s.shards[i].due(now, due)
	}
	return due
}

func (s *servedShard) due(now time.Time, into map[Ref]serving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, one := range s.journeys {
		switch {
		case now.Sub(one.used) > servedFor:
			delete(s.journeys, ref)
		case !one.known || now.Sub(one.asked) >= askEvery:
			into[ref] = *one
		}
	}
}

// answered notes an answer that was asked for at the instant given.
func (s *served) answered(ref Ref, at time.Time, session Session) {
	shard := s.shard(ref)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if one := shard.journeys[ref]; one != nil {
		if !one.known {
			// The second question comes at a time of its shard's own. Else all that a gateway
			// serves from its start on would be asked about in one second of fifteen.
			at = at.Add(-askEvery / shards * time.Duration(shardOf(ref.SessionID)))
		}
		one.asked, one.known, one.home, one.began, one.told = at, true, session.Home, session.JourneyStartedAt, session.Meta()
		if one.meta != (Meta{}) { // the Reconciler has just corrected it
			one.meta = one.told
		}
	}
}
