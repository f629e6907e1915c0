package scripts

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeytest"
	"doorstep/internal/testclock"
	"doorstep/sessions"
	"doorstep/sessions/livetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		livetest.Run(t, virtualOn(url))
	})
}

func TestStore_Histories(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		livetest.Histories(t, virtualOn(url))
	})
}

func BenchmarkStore(b *testing.B) {
	livetest.Bench(b, func(t testing.TB, rules sessions.LiveOptions) livetest.Fixture {
		clock := testclock.New()
		return livetest.Fixture{Live: connected(t, Options{URL: valkeytest.Valkey(t), Live: rules, Now: clock.Now}), Clock: clock}
	})
}

// virtual is a store on a clock that the test moves. The scripts take their time as
// an argument, but the server expires keys by its own clock. So virtual compares
// the TTL that each call gave a key with what the rules say, to the milliseconds
// that the call took. It notes when the key expires by the test's clock, and
// deletes it when that clock gets there.
type virtual struct {
	*Store
	t     testing.TB
	raw   valkey.Client
	clock *testclock.Clock

	mu    sync.Mutex
	lives map[string]life
	alone sync.Mutex
	// loose: calls ran at once, so that the effect of one call is not known. There
	// are no checks from then on.
	loose atomic.Bool
}

type life struct {
	untilMS  int64 // by the test's clock
	serverMS int64 // PEXPIRETIME, by the server's
}

func virtualOn(url string) livetest.Open { return virtualAs(Options{URL: url}, url) }

// virtualAs is a store with these options, and a raw client that may do everything
// at url.
func virtualAs(opts Options, url string) livetest.Open {
	return func(t testing.TB, rules sessions.LiveOptions) livetest.Fixture {
		t.Helper()
		clock := testclock.New()
		opts := opts // each test's own
		opts.Live, opts.Now = rules, clock.Now
		v := &virtual{
			Store: connected(t, opts),
			t:     t, raw: rawClient(t, url), clock: clock, lives: map[string]life{},
		}
		clock.OnMove(v.expire)
		return livetest.Fixture{Live: v, Clock: clock, Kept: v.kept, Forget: v.forget}
	}
}

func (v *virtual) Open(ctx context.Context, j sessions.Journey) (opened bool, err error) {
	v.call(journeyKey(j.Ref), func() time.Duration {
		if opened, err = v.Store.Open(ctx, j); !opened {
			return 0
		}
		return j.StartedAt.Add(v.opts.Live.JourneyTTL).Sub(v.clock.Now())
	})
	return opened, err
}

func (v *virtual) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (r sessions.Receipt, err error) {
	v.call(journeyKey(ref), func() time.Duration {
		if r, err = v.Store.Update(ctx, ref, fix); r.Verdict != sessions.VerdictStored {
			return 0
		}
		return r.TTL
	})
	return r, err
}

func (v *virtual) UpdateAll(ctx context.Context, ref sessions.Ref, fixes []sessions.Fix) (all []sessions.Receipt, err error) {
	v.call(journeyKey(ref), func() (ttl time.Duration) {
		all, err = v.Store.UpdateAll(ctx, ref, fixes)
		for _, r := range all {
			if r.Verdict == sessions.VerdictStored {
				ttl = r.TTL
			}
		}
		return ttl
	})
	return all, err
}

func (v *virtual) End(ctx context.Context, j sessions.Journey) (err error) {
	v.call(journeyKey(j.Ref), func() time.Duration {
		err = v.Store.End(ctx, j)
		return v.opts.Live.LocationTTL
	})
	return err
}

func (v *virtual) SetMeta(ctx context.Context, id sessions.ID, m sessions.Meta) (err error) {
	v.call(metaKey(id), func() time.Duration {
		err = v.Store.SetMeta(ctx, id, m)
		return v.opts.Live.LocationTTL
	})
	return err
}

// call runs f, which returns the TTL that the key has if f wrote it, or 0 when f
// cannot have written it.
func (v *virtual) call(key string, f func() time.Duration) {
	if !v.alone.TryLock() {
		v.loose.Store(true)
		f()
		return
	}
	defer v.alone.Unlock()
	began := time.Now().UnixMilli()
	ttl := f()
	v.note(key, ttl.Milliseconds(), began)
}

func (v *virtual) note(key string, ttlMS, beganMS int64) {
	server, err := do(v.t, v.raw, "PEXPIRETIME", key).AsInt64()
	took := time.Now().UnixMilli() - beganMS
	v.mu.Lock()
	defer v.mu.Unlock()
	if !assert.NoError(v.t, err) || v.loose.Load() || server < 0 || server == v.lives[key].serverMS {
		return
	}
	if until := server - beganMS; ttlMS == 0 || until < ttlMS-1 || until > ttlMS+took+1 {
		assert.Fail(v.t, "wrong TTL", "%s lives %d ms, want %d (the call took %d)", key, until, ttlMS, took)
	}
	v.lives[key] = life{untilMS: v.clock.Now().UnixMilli() + ttlMS, serverMS: v.spare(key, server)}
}

// spare makes a key live a day longer by the server's clock. So the server never
// expires it before the test's clock does, and the next call that sets its TTL is
// noticed, even within the same millisecond.
func (v *virtual) spare(key string, server int64) int64 {
	server += (24 * time.Hour).Milliseconds()
	assert.NoError(v.t, do(v.t, v.raw, "PEXPIREAT", key, strconv.FormatInt(server, 10)).Error())
	return server
}

// expire deletes the keys whose TTL is over by the test's clock.
func (v *virtual) expire(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, life := range v.lives {
		if life.untilMS <= now.UnixMilli() {
			assert.NoError(v.t, do(v.t, v.raw, "DEL", key).Error())
			delete(v.lives, key)
		}
	}
}

func (v *virtual) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.lives {
		assert.NoError(v.t, do(v.t, v.raw, "DEL", key).Error())
	}
	clear(v.lives)
}

func (v *virtual) kept(ref sessions.Ref) string {
	fields, err := do(v.t, v.raw, "HGETALL", journeyKey(ref)).AsStrMap()
	require.NoError(v.t, err)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(&b, "%s=%s ", name, fields[name])
	}
	return b.String()
}
