package sessions

import (
	"hash/maphash"
	"sync"
	"time"
)

// CallerLimit is a rate for each caller (GCRA, as the scripts' own), bounded in
// memory: in each of sixteen shards two generations of at most limitGeneration
// callers, of which the older is dropped whole when the younger is full.
// Dropping one forgives a caller its past, no more; one who keeps asking is not
// dropped. 262,144 callers are some 10 MB; with fewer than there are callers who
// ask at the same time, every generation would be made in vain (3 % of the CPU
// of 20,000 callers with 1,024 in a shard's). Safe for concurrent use; a call
// takes some 50 ns and allocates only for a caller it has not seen.
//
// A caller is known by a hash of the id, with a seed that each limit draws: a
// third of the memory that ids would take, and no pointer that the garbage
// collector had to follow. Two of 262,144 callers have the same one, and so share
// a rate, in one limit of 500 million, and nobody can aim at it without the seed.
//
// It is not golang.org/x/time/rate for three things: what was taken can be given
// back after its instant, a refusal allocates nothing, and a caller costs one
// number instead of a limiter.
type CallerLimit struct {
	every  time.Duration // between two in the long run
	burst  time.Duration // how far ahead of that a caller may be
	seed   maphash.Seed
	shards [16]callerShard
}

const limitGeneration = 8192

// callerShard maps a caller's hash to the instant, in Unix nanoseconds, at which
// all that they took is paid for.
type callerShard struct {
	mu         sync.Mutex
	young, old map[uint64]int64
	_          [40]byte // a cache line each
}

// NewCallerLimit lets each caller burst at once and then one in every.
func NewCallerLimit(every time.Duration, burst int) *CallerLimit {
	return &CallerLimit{every: every, burst: time.Duration(burst) * every, seed: maphash.MakeSeed()}
}

// Take spends one of the caller's, or says how long until there is one: then
// nothing was spent.
func (l *CallerLimit) Take(id ID, now time.Time) time.Duration {
	s, key := l.shard(id)
	at := now.UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	paid := max(s.of(key), at) + int64(l.every)
	if wait := time.Duration(paid-at) - l.burst; wait > 0 {
		return wait
	}
	s.young[key] = paid
	return 0
}

// GiveBack undoes one Take that spent.
func (l *CallerLimit) GiveBack(id ID) {
	s, key := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.young[key] = s.of(key) - int64(l.every)
}

// shard is where a caller is, and by which hash.
func (l *CallerLimit) shard(id ID) (s *callerShard, key uint64) {
	key = maphash.String(l.seed, string(id))
	return &l.shards[key%uint64(len(l.shards))], key
}

// shardOf shares ids out among n, a divisor of 256. It goes by the last two hex
// digits, which are random in every kind of UUID that is not made up.
func shardOf(id ID, n int) int {
	sum := 0
	for _, c := range []byte(id[max(0, len(id)-2):]) {
		sum = sum<<4 + int(c&15+c>>6*9)
	}
	return sum % n
}

// of moves the caller to the young, so that who asks is remembered.
func (s *callerShard) of(key uint64) int64 {
	if paid, ok := s.young[key]; ok {
		return paid
	}
	if s.young == nil || len(s.young) >= limitGeneration {
		s.young, s.old = map[uint64]int64{}, s.young
	}
	paid := s.old[key]
	s.young[key] = paid
	return paid
}
