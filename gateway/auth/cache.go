package auth

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"doorstep/sessions"
)

const (
	// cacheShards keeps cores from queueing for one lock.
	cacheShards = 16
	// evictionSample is how many entries a full shard looks at for a dead one.
	evictionSample = 8
)

// digest stands for a token in the cache. SHA-256 and not maphash with the
// token beside it, though that is ten times as fast (42 ns against 0.45 µs for
// 528 bytes): an entry then has one size whatever the token's (8 KiB tokens
// would make 1.6 GB of 200,000 entries), a heap dump holds no usable token, and
// nobody can construct two tokens with one digest.
type digest = [sha256.Size]byte

// digestOf hashes from the stack where a usual token fits: the copy that
// []byte(token) makes on the heap would nearly double the cost of a hit.
func digestOf(token string) digest {
	var short [1024]byte
	if len(token) > len(short) {
		return sha256.Sum256([]byte(token))
	}
	return sha256.Sum256(short[:copy(short[:], token)])
}

// entry is believed from the moment it was made until its end, both in
// nanoseconds of Unix time. The lower end matters when the clock is set back:
// without it the entry would outlive CacheTTL by as much, and nbf would not be
// looked at again.
type entry struct {
	from, until int64
	caller      sessions.Caller
}

func (e entry) alive(now int64) bool { return e.from <= now && now < e.until }

// cache remembers proven tokens: bounded, sharded, safe for concurrent use. It
// keeps no refusals: a stranger makes as many different ones as he likes.
type cache struct {
	shards []shard
	room   int           // entries a shard
	sweeps time.Duration // from one sweep of a shard to the next
}

type shard struct {
	mu      sync.Mutex
	entries map[digest]entry
	swept   int64    // when, in nanoseconds of Unix time
	_       [40]byte // a cache line to itself: neighbours' locks don't slow it
}

// newCache holds at most size entries, size > 0. Maps grow as they are filled,
// and are rid of the dead once in every sweeps: so what is kept goes by how many
// callers there are, and not by how many tokens they have had.
func newCache(size int, sweeps time.Duration) *cache {
	c := &cache{shards: make([]shard, min(cacheShards, size)), sweeps: sweeps}
	c.room = size / len(c.shards)
	for i := range c.shards {
		c.shards[i].entries = make(map[digest]entry)
	}
	return c
}

// get costs one lock and one map access, and allocates nothing. Dead entries
// are left to be overwritten, swept or evicted.
func (c *cache) get(key digest, now int64) (sessions.Caller, bool) {
	s := c.shard(key)
	s.mu.Lock()
	e, ok := s.entries[key]
	s.mu.Unlock()
	if !ok || !e.alive(now) {
		return sessions.Caller{}, false
	}
	return e.caller, true
}

// put sweeps first when it is time for it, and makes room when the shard is full.
func (c *cache) put(key digest, e entry) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Duration(e.from-s.swept).Abs() >= c.sweeps { // or the clock was set back
		s.sweep(e.from)
	}
	if _, known := s.entries[key]; !known && len(s.entries) >= c.room {
		s.evict(e.from)
	}
	s.entries[key] = e
}

// sweep drops the dead. A full shard takes a millisecond.
func (s *shard) sweep(now int64) {
	maps.DeleteFunc(s.entries, func(_ digest, e entry) bool { return !e.alive(now) })
	s.swept = now
}

// evict drops a dead entry if a small sample has one, else any. Go starts a
// map's iteration at a random place, which makes this random replacement: no
// list to keep in order on every hit, and nobody can aim at an entry. The worst
// that a lost entry costs is one more signature check.
func (s *shard) evict(now int64) {
	var victim digest
	looked := 0
	for key, e := range s.entries {
		victim = key
		if looked++; looked == evictionSample || !e.alive(now) {
			break
		}
	}
	delete(s.entries, victim)
}

// shard goes by the digest's first byte, which is as good as random.
func (c *cache) shard(key digest) *shard { return &c.shards[int(key[0])%len(c.shards)] }

// len counts entries, dead ones too. For tests.
func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += len(s.entries)
		s.mu.Unlock()
	}
	return n
}
