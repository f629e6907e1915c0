package auth

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"doorstep/sessions"
)

// cacheShards keeps cores from queueing for one lock.
const cacheShards = 16

// digest stands for a token in the cache. SHA-256 was chosen over maphash with
// the token beside it, although that is ten times as fast (42 ns against 0.45 µs
// for 528 bytes). With SHA-256 an entry has one size whatever the token's (8 KiB
// tokens would make 1.6 GB of 200,000 entries), a heap dump holds no usable
// token, and nobody can construct two tokens with one digest.
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

// entry is valid from the moment it was made until its end, both in nanoseconds
// of Unix time. The lower bound matters when the clock is set back: without it
// the entry would outlive CacheTTL by as much, and nbf would not be checked again.
type entry struct {
	from, until int64
	caller      sessions.Caller
}

func (e entry) alive(now int64) bool { return e.from <= now && now < e.until }

// cache remembers verified tokens, the most recently used ones. It keeps no
// refused token: a stranger can make any number of different ones. Safe for
// concurrent use.
//
// It is hashicorp's plain LRU and not its expirable one, which runs a goroutine
// that never ends and reads the wall clock.
type cache struct{ shards []shard }

type shard struct {
	mu      sync.Mutex
	entries *simplelru.LRU[digest, entry]
	_       [48]byte // a cache line to itself: neighbours' locks don't slow it
}

// newCache makes a cache of at most size entries, size > 0. It grows as it is
// filled.
func newCache(size int) *cache {
	c := &cache{shards: make([]shard, min(cacheShards, size))}
	for i := range c.shards {
		c.shards[i].entries, _ = simplelru.NewLRU[digest, entry](size/len(c.shards), nil) // fails only for a size of 0 or less
	}
	return c
}

// get finds the caller of a token. It costs one lock and one map access, and
// allocates nothing.
func (c *cache) get(key digest, now int64) (sessions.Caller, bool) {
	s := c.shard(key)
	s.mu.Lock()
	e, ok := s.entries.Get(key)
	s.mu.Unlock()
	if !ok || !e.alive(now) {
		return sessions.Caller{}, false
	}
	return e.caller, true
}

// put adds an entry and removes the least recently used ones that have ended. An
// entry lives for CacheTTL at most, so one that was not used for that long has
// ended, and all such are at the tail. So the number of entries follows the
// number of callers, not the number of tokens they have had.
func (c *cache) put(key digest, e entry) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		_, oldest, ok := s.entries.GetOldest()
		if !ok || oldest.alive(e.from) {
			break
		}
		s.entries.RemoveOldest()
	}
	s.entries.Add(key, e)
}

// shard is chosen by the digest's first byte, which is as good as random.
func (c *cache) shard(key digest) *shard { return &c.shards[int(key[0])%len(c.shards)] }

// len counts the entries, ended ones too. For tests.
func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.entries.Len()
		s.mu.Unlock()
	}
	return n
}

// remember makes an entry that lasts for ttl, and not beyond the token's own end.
func remember(proven grant, now time.Time, ttl time.Duration) entry {
	until := now.Add(ttl)
	if proven.expires.Before(until) {
		until = proven.expires
	}
	return entry{from: now.UnixNano(), until: until.UnixNano(), caller: proven.caller}
}
