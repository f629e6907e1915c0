package auth

import (
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"doorstep/sessions"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// number makes a digest that is spread over the shards as real ones are.
func number(n uint64) digest { return digestOf(binary.LittleEndian.AppendUint64(nil, n)) }

var always = entry{from: math.MinInt64, until: math.MaxInt64, caller: testCaller}

func TestCache_Get(t *testing.T) {
	t.Parallel()
	c := newCache(8)
	c.put(number(1), entry{from: 100, until: 200, caller: testCaller})
	for name, row := range map[string]struct {
		key digest
		now int64
		hit bool
	}{
		"hit when just made":             {number(1), 100, true},
		"hit to the last moment":         {number(1), 199, true},
		"miss at its end":                {number(1), 200, false},
		"miss when the clock went back":  {number(1), 99, false},
		"miss for what was not put":      {number(2), 150, false},
		"miss for one that differs late": {func() digest { d := number(1); d[15] ^= 1; return d }(), 150, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caller, ok := c.get(row.key, row.now)
			require.Equal(t, row.hit, ok)
			if !row.hit {
				require.Zero(t, caller)
			}
		})
	}
}

func TestCache_NeverGrowsBeyondItsSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 15, 16, 17, 1000} {
		c := newCache(size)
		for n := range uint64(5 * size) {
			c.put(number(n), always)
			require.LessOrEqual(t, c.len(), size)
			_, ok := c.get(number(n), 0)
			require.True(t, ok, "size %d: what was put last is there", size)
		}
	}
}

func TestCache_PutAgainReplacesWithoutEvicting(t *testing.T) {
	t.Parallel()
	c := newCache(1)
	c.put(number(1), entry{from: 0, until: 10})
	c.put(number(1), entry{from: 10, until: 20, caller: testCaller})
	caller, ok := c.get(number(1), 15)
	require.True(t, ok)
	require.Equal(t, testCaller, caller)
}

// A put removes the entries at the tail that have ended, and no others.
func TestCache_PutRemovesTheEnded(t *testing.T) {
	t.Parallel()
	const end = 100
	for name, row := range map[string]struct {
		now  int64
		left []uint64 // of entry 1, which ends at 100, and entry 2, which does not end
	}{
		"none has ended":                         {99, []uint64{1, 2}},
		"one has ended":                          {100, []uint64{2}},
		"ended by a clock that was set far back": {-1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCache(1 << 10)
			c.shards = c.shards[:1]
			c.put(number(1), entry{from: 0, until: end})
			c.put(number(2), entry{from: 0, until: math.MaxInt64})
			c.put(number(3), entry{from: row.now, until: math.MaxInt64})
			require.Equal(t, 1+len(row.left), c.len())
			for _, n := range row.left {
				require.True(t, c.shards[0].entries.Contains(number(n)))
			}
		})
	}
}

// A full shard gives up the entry that was not used for longest.
func TestCache_PutEvictsTheLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	c := newCache(2)
	c.shards = c.shards[:1]
	c.shards[0].entries.Resize(2)
	c.put(number(1), always)
	c.put(number(2), always)
	_, ok := c.get(number(1), 0)
	require.True(t, ok)
	c.put(number(3), always)
	_, ok = c.get(number(1), 0)
	require.True(t, ok, "used last")
	_, ok = c.get(number(2), 0)
	require.False(t, ok)
}

// The model: an unbounded map. The cache may have forgotten, never invented,
// and its answers are alive.
func TestCache_AgreesWithAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 40).Draw(t, "size")
		c, model := newCache(size), map[uint64]entry{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				n := rapid.Uint64Range(0, 60).Draw(t, "n")
				from := rapid.Int64Range(0, 100).Draw(t, "from")
				e := entry{
					from: from, until: from + rapid.Int64Range(1, 50).Draw(t, "life"),
					caller: sessions.Caller{ID: testCaller.ID, Role: sessions.Role(rapid.SampledFrom([]string{"trainer", "student"}).Draw(t, "role"))},
				}
				c.put(number(n), e)
				model[n] = e
			},
			"get": func(t *rapid.T) {
				n, now := rapid.Uint64Range(0, 60).Draw(t, "n"), rapid.Int64Range(0, 160).Draw(t, "now")
				caller, ok := c.get(number(n), now)
				want, known := model[n]
				if ok && (!known || now < want.from || now >= want.until || caller != want.caller) {
					t.Fatalf("get(%d) at %d = %v, the map has %v", n, now, caller, want)
				}
			},
			"": func(t *rapid.T) {
				if c.len() > size {
					t.Fatalf("%d entries, want at most %d", c.len(), size)
				}
			},
		})
	})
}

func TestCache_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	c := newCache(64)
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			for n := range uint64(2000) {
				c.put(number(g*n%200), always)
				c.get(number(n%200), 0)
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, c.len(), 64)
}

func TestVerify_CachedTokenStillExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := tokenSpec{claims: map[string]any{"exp": testNow.Add(10 * time.Second).Unix()}}.sign(t)
	b.accepts(t, token)
	b.clock.Advance(15*time.Second - time.Nanosecond) // exp and 5 s of leeway
	b.accepts(t, token)
	b.clock.Advance(time.Nanosecond)
	b.refuses(t, token, ErrExpired)
}

func TestVerify_CachedTokenIsJudgedAgainWhenTheClockGoesBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := tokenSpec{claims: map[string]any{"nbf": testNow.Unix(), "iat": nil}}.sign(t)
	b.accepts(t, token)
	b.clock.Advance(-time.Minute)
	b.refuses(t, token, ErrNotYetValid)
}

func TestVerify_CacheHoldsWhatWasProvenOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.cacheSize = 32 })
	good := tokenSpec{}.sign(t)
	for range 3 {
		b.refuses(t, good[:len(good)-4]+"AAAA", ErrSignature)
		b.refuses(t, tokenSpec{claims: map[string]any{"role": "root"}}.sign(t), ErrRole)
		b.refuses(t, "garbage", ErrMalformed)
	}
	require.Zero(t, b.cache.len())
	b.accepts(t, good)
	require.Equal(t, 1, b.cache.len())
}

// A phone gets a new token each quarter of an hour. The old ones must not stay
// until there is no more room.
func TestVerify_ForgetsTheTokensThatWereReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const callers = 10 * cacheShards
	for round := range 5 {
		for n := range callers {
			b.accepts(t, tokenSpec{claims: map[string]any{"jti": round*callers + n}}.sign(t))
		}
		b.clock.Advance(b.opts.cacheTTL)
	}
	require.LessOrEqual(t, b.cache.len(), 2*callers)
}

func TestVerify_ManyValidTokensDoNotGrowTheCache(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.cacheSize = 32 })
	for n := range 500 {
		b.accepts(t, tokenSpec{claims: map[string]any{"jti": n}}.sign(t))
	}
	require.LessOrEqual(t, b.cache.len(), 32)
}

// Not parallel: AllocsPerRun counts the whole process.
func TestVerify_CacheHitAllocatesNothing(t *testing.T) {
	b := setup(t)
	for name, claims := range map[string]map[string]any{
		"a usual token":               nil,
		"one as long as a header may": {"x": strings.Repeat("x", 5800)},
	} {
		t.Run(name, func(t *testing.T) {
			token, ctx := []byte(tokenSpec{claims: claims}.sign(t)), t.Context()
			b.accepts(t, string(token))
			require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = b.Verify(ctx, token) }))
		})
	}
}

// len counts the entries, ended ones too.
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
