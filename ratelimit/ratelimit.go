// Package ratelimit limits how often each caller may do something.
package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// shardCount keeps cores from queueing for one lock.
	shardCount = 16
	// shardKeys bounds the memory: 65,536 keys in all shards are 8 MB. With more
	// active callers than that, the least recently used keys are removed. A caller
	// whose key was removed has its full burst again, and that is the only effect.
	// An attacker gains nothing by causing it: the full burst comes back anyway
	// after burst times every (2 s for 100 requests at 50 a second), and within
	// that time 65,536 other callers would have to send a request.
	shardKeys = 4096
)

// Limit is a rate for each key, by GCRA (the generic cell rate algorithm, as in
// the live store's own script). Its memory is bounded. Safe for concurrent use; a
// call takes some 100 ns and allocates only for a key that is not remembered.
//
// A key is kept as a 64-bit hash with a random seed for each Limit. That takes a
// third of the memory of a UUID, and without the seed it is not possible to
// construct two keys with one hash. The probability that two of 65,536 keys
// share a hash, and so a rate, is one in 8,000 million.
//
// golang.org/x/time/rate was not used for three reasons: what was taken can be
// given back only before its instant has passed, a refusal allocates, and each
// caller costs a whole limiter instead of one number.
type Limit struct {
	every  time.Duration // the average time between two requests
	burst  time.Duration // how far a key may be ahead of that average
	seed   maphash.Seed
	shards [shardCount]shard
}

// shard maps a key's hash to the instant, in Unix nanoseconds, at which the key
// has its full burst again.
type shard struct {
	mu   sync.Mutex
	paid *simplelru.LRU[uint64, int64]
	_    [48]byte // a cache line each
}

// New makes a limit that allows each key burst requests at once, and then one
// request in each interval of length every.
func New(every time.Duration, burst int) *Limit {
	l := &Limit{every: every, burst: time.Duration(burst) * every, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].paid, _ = simplelru.NewLRU[uint64, int64](shardKeys, nil) // fails only for a size of 0 or less
	}
	return l
}

// Take counts one request of key and returns 0. If the key is over its rate,
// Take counts nothing and returns the time until the next request is allowed.
func (l *Limit) Take(key string, now time.Time) (wait time.Duration) {
	return l.TakeN(key, 1, now)
}

// TakeN takes n for key and returns 0, or takes nothing and returns how long it is
// until there are n. More than burst counts as burst: there are never more.
func (l *Limit) TakeN(key string, n int, now time.Time) (wait time.Duration) {
	s, hash := l.shard(key)
	at := now.UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	paid := l.due(s, hash, at) + int64(min(time.Duration(n)*l.every, l.burst))
	if wait := time.Duration(paid-at) - l.burst; wait > 0 {
		return wait
	}
	s.paid.Add(hash, paid)
	return 0
}

// Wait is how long it is until Take would return 0. It counts nothing.
func (l *Limit) Wait(key string, now time.Time) time.Duration {
	s, hash := l.shard(key)
	at := now.UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, time.Duration(l.due(s, hash, at)+int64(l.every)-at)-l.burst)
}

// apart is by how much the clocks of two calls at once may differ: each reads its own
// before it has the shard.
const apart = time.Second

// due is the instant at which a key has its full burst again, at least at. One that is
// further ahead than a burst means that the clock was set back: the key begins anew, and
// does not have to wait until the clock has caught up. Call it with the shard's lock.
func (l *Limit) due(s *shard, hash uint64, at int64) int64 {
	paid, _ := s.paid.Get(hash)
	if time.Duration(paid-at) > l.burst+apart {
		return at
	}
	return max(paid, at)
}

// GiveBack undoes one Take that returned 0.
func (l *Limit) GiveBack(key string) {
	s, hash := l.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if paid, ok := s.paid.Get(hash); ok {
		s.paid.Add(hash, paid-int64(l.every))
	}
}

func (l *Limit) shard(key string) (s *shard, hash uint64) {
	hash = maphash.String(l.seed, key)
	return &l.shards[hash%shardCount], hash
}
