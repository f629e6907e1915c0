package scripts

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// driven is a watched journey with one fix, whose message has arrived.
func driven(t *testing.T, s *Store) sessions.Ref {
	t.Helper()
	j := sessions.Journey{Ref: newRef(), Home: home, Mode: sessions.Car, StartedAt: time.Now()}
	opened, err := s.Open(t.Context(), j)
	require.NoError(t, err)
	require.True(t, opened)
	w := watch(t, s, j.Ref)
	receipt, err := s.Update(t.Context(), j.Ref, sessions.Fix{Point: geo.Offset(home, 0, 500)})
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStored, receipt.Verdict)
	w.requireWoken(t, 1)
	return j.Ref
}

func TestStore_CachedView(t *testing.T) {
	t.Parallel()
	t.Run("what_is_read", func(t *testing.T) {
		t.Parallel()
		valkeytest.Each(t, func(t *testing.T, url string) {
			t.Parallel()
			s := connected(t, Options{URL: url})
			ref := driven(t, s)
			want, err := s.Latest(t.Context(), ref)
			require.NoError(t, err)
			got, ok := s.CachedView(ref)
			require.True(t, ok)
			require.Equal(t, want, got)
		})
	})
	t.Run("not_for_long", func(t *testing.T) {
		t.Parallel()
		s := connected(t, Options{URL: valkeytest.Valkey(t)})
		ref := driven(t, s)
		s.watch.mu.Lock()
		sub := s.watch.subs[liveChannel(ref)]
		sub.cached = &cachedView{snap: sub.cached.snap, started: sub.cached.started, received: time.Now().Add(-maxViewAge)}
		s.watch.mu.Unlock()
		_, ok := s.CachedView(ref)
		require.False(t, ok)
	})
	t.Run("not_by_a_connection_that_is_lost", func(t *testing.T) {
		t.Parallel()
		server := valkeytest.Private(t, valkeyserver.Valkey)
		s := connected(t, Options{URL: server.URL()}, patient)
		ref := driven(t, s)
		before := s.watch.current()
		killSubscriber(t, rawClient(t, server.URL()))
		eventually(t, func() bool { l := s.watch.current(); return l != nil && l != before })
		_, ok := s.CachedView(ref)
		require.False(t, ok, "what came meanwhile was missed")

		// A message of the old one's that comes late.
		s.watch.deliver(before, liveChannel(ref), messageOf("1773480413589"))
		_, ok = s.CachedView(ref)
		require.False(t, ok)
	})
	t.Run("not_past_the_hour", func(t *testing.T) {
		t.Parallel()
		for _, live := range []sessions.LiveOptions{{JourneyTTL: 500 * time.Millisecond}, {LocationTTL: 500 * time.Millisecond}} {
			s := connected(t, Options{URL: valkeytest.Valkey(t), Live: live})
			ref := driven(t, s)
			eventually(t, func() bool { _, ok := s.CachedView(ref); return !ok })
			snap, err := s.Latest(t.Context(), ref)
			require.NoError(t, err)
			require.False(t, snap.Known && snap.Location != nil && time.Since(snap.Location.At) < 400*time.Millisecond, "and not long before")
		}
	})
	t.Run("not_by_another_server's_connection", func(t *testing.T) {
		t.Parallel()
		s := connected(t, Options{URL: valkeytest.Valkey(t)})
		ref := driven(t, s)
		f := s.nodes.at(0).feed
		other := &link{node: f.node, useless: make(chan error, 1)}
		mine := f.link.Swap(other)
		defer f.link.Store(mine)
		s.watch.mu.Lock()
		sub := s.watch.subs[liveChannel(ref)]
		s.watch.mu.Unlock()
		require.True(t, s.watch.settle(f, other, liveChannel(ref), sub, nil))
		_, ok := s.CachedView(ref)
		require.False(t, ok, "the slot has moved, and what was published there meanwhile did not reach us")
		s.watch.deliver(other, liveChannel(ref), messageOf("1773480413590"))
		s.watch.deliver(mine, liveChannel(ref), "1773480413591")
		snap, ok := s.CachedView(ref)
		require.True(t, ok, "a message of the old server does not count")
		require.EqualValues(t, 1773480413590, snap.Version)
	})
	t.Run("not_after_a_channel_was_left", func(t *testing.T) {
		t.Parallel()
		s := connected(t, Options{URL: valkeytest.Valkey(t)}, hasty)
		ref := driven(t, s)
		s.watch.mu.Lock()
		for e := range s.watch.subs[liveChannel(ref)].entries {
			delete(s.watch.subs[liveChannel(ref)].entries, e)
		}
		s.watch.mu.Unlock()
		eventually(t, func() bool { _, ok := s.CachedView(ref); return !ok })
	})
}

// messageOf is a message as update.lua publishes it.
func messageOf(seq string) string {
	return seq + " 0 1773480000000 car 12.9763472 77.5929284 12.9786000 77.5929284 10.0 1 1773480412589 36.0 180.0 " +
		"360000 12.9790452 77.5929284 100 - 9800 60000"
}

func TestParseMessage(t *testing.T) {
	t.Parallel()
	v := parseMessage(messageOf("1773480413590"))
	require.NotNil(t, v)
	assert.Equal(t, int64(1773480413590), v.snap.Version)
	assert.True(t, v.snap.Known && v.snap.Active)
	assert.False(t, v.snap.Arriving)
	assert.Equal(t, sessions.Pace{MMS: 9800, OverMS: 60000}, v.snap.Pace)
	assert.Equal(t, time.UnixMilli(1773480413589).UTC(), v.snap.Location.At)
	assert.InDelta(t, 250.5, v.snap.DistanceM, 0.1)

	whole := messageOf("1")
	for end := range strings.LastIndexByte(whole, ' ') + 2 { // the last word cut short is another number
		assert.Nil(t, parseMessage(whole[:end]), whole[:end])
	}
	for _, text := range []string{"", " ", "x", "1773480413590", whole + " 1", " " + whole, messageOf("x"), messageOf("")} {
		assert.Nil(t, parseMessage(text), text)
	}
}

// A message of anybody is either read whole or ignored; it never panics.
func FuzzParseMessage(f *testing.F) {
	f.Add(messageOf("1773480413590"))
	f.Add("1773480413590")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if v := parseMessage(text); v != nil && (!v.snap.Known || !v.snap.Active || v.snap.Location == nil) {
			t.Errorf("half a journey: %+v", v.snap)
		}
	})
}
