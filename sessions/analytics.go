package sessions

import (
	"context"
	"time"
)

// JourneyKey is a journey's identity.
type JourneyKey struct {
	SessionID ID
	StartedAt time.Time
}

// JourneyRecord is what is known of one journey, for those who look back. The
// facts come from the events, the counts from the gateways; either
// may be there first.
type JourneyRecord struct {
	JourneyKey
	TrainerID ID
	StudentID ID
	EndedAt   time.Time // zero: not yet
	Reason    EndReason
	Counts
}

// Duration is how long the journey took; 0 while it has not ended.
func (r JourneyRecord) Duration() time.Duration {
	if r.EndedAt.IsZero() {
		return 0
	}
	return r.EndedAt.Sub(r.StartedAt)
}

// Counts is what became of a journey's fixes. They add up.
type Counts struct {
	Accepted int64 // stored as the live location
	Refused  int64 // implausible
	Stale    int64
	Vague    int64 // too inaccurate to store
	TooSoon  int64
	Flagged  int64 // stored or refused, and odd in some way
	// DistanceM is the way from accepted fix to accepted fix.
	DistanceM float64
	// LastSeen is when the trainer's phone was last heard of, whatever became
	// of what it said; zero for never.
	LastSeen time.Time
	FixToEye Latencies
}

// Add is a with b added.
func (a Counts) Add(b Counts) Counts {
	a.Accepted += b.Accepted
	a.Refused += b.Refused
	a.Stale += b.Stale
	a.Vague += b.Vague
	a.TooSoon += b.TooSoon
	a.Flagged += b.Flagged
	a.DistanceM = RoundM(a.DistanceM + b.DistanceM)
	if b.LastSeen.After(a.LastSeen) {
		a.LastSeen = b.LastSeen
	}
	for i, n := range b.FixToEye {
		a.FixToEye[i] += n
	}
	return a
}

// LatencyBoundsMS are the upper bounds of a Latencies' buckets; the last one
// also holds what is above. Half as much again from one to the next, about: a
// median read from them is that near. The migration has them, too.
var LatencyBoundsMS = [...]int64{25, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000, 60_000}

// Latencies counts latencies by bucket, so that those of several gateways add
// up and still have a median.
type Latencies [len(LatencyBoundsMS)]int64

// Count adds one. A clock behind the store's can make it negative: that is
// among the shortest.
func (l *Latencies) Count(d time.Duration) {
	for i, bound := range LatencyBoundsMS {
		if d.Milliseconds() <= bound || i == len(l)-1 {
			l[i]++
			return
		}
	}
}

// MedianMS is the upper bound of the bucket that the median lies in; false
// without any.
func (l Latencies) MedianMS() (int64, bool) {
	var total, seen int64
	for _, n := range l {
		total += n
	}
	for i, n := range l {
		if seen += n; total > 0 && 2*seen >= total {
			return LatencyBoundsMS[i], true
		}
	}
	return 0, false
}

// JourneyCounts is what one gateway has counted of one journey since it last said.
// A gateway does not know which journey of the session it counts for, so the
// repository takes it for the session's latest: of a journey that is stopped
// and started again within a flush, at most two fixes go to the wrong one.
type JourneyCounts struct {
	Ref
	Counts
}

// Analytics is the part of the Repository that looks back.
type Analytics interface {
	// RecordJourney notes what a JourneyStarted or a JourneyEnded says, and
	// answers with what is known of that journey then. First is false when it
	// had been noted before; other events are not noted.
	RecordJourney(ctx context.Context, e Event) (record JourneyRecord, first bool, err error)
	// AddCounts adds up. Counts of no session, of another trainer's or of a
	// session without a journey is dropped.
	AddCounts(ctx context.Context, list []JourneyCounts) error
	// JourneyRecord reads one; false when nothing is known of it.
	JourneyRecord(ctx context.Context, key JourneyKey) (JourneyRecord, bool, error)
	// LastSeen tells when each journey's phone was last heard of, as far as it
	// was.
	LastSeen(ctx context.Context, keys []JourneyKey) (map[JourneyKey]time.Time, error)
}
