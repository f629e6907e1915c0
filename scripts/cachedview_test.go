package scripts

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
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
	t.Run("equals_a_read", func(t *testing.T) {
		t.Parallel()
		valkeytest.Each(t, func(t *testing.T, url string) {
			t.Parallel()
			s := connected(t, Options{URL: url})
			ref := driven(t, s)
			want, err := s.Latest(t.Context(), ref)
			require.NoError(t, err)
			got, ok := s.CachedView(ref)
			require.True(t, ok)
			want.Evidence, want.Now, got.Now = sessions.Evidence{}, time.Time{}, time.Time{} // Now moves on
			require.Equal(t, want, got)
		})
	})
	t.Run("not_after_10_s", func(t *testing.T) {
		t.Parallel()
		s := connected(t, Options{URL: valkeytest.Valkey(t)})
		m, ok := s.conn.LastMessage(liveChannel(driven(t, s)))
		require.True(t, ok)
		_, ok = s.viewAt(m, m.Received.Add(maxViewAge-time.Millisecond))
		require.True(t, ok)
		_, ok = s.viewAt(m, m.Received.Add(maxViewAge))
		require.False(t, ok)
	})
	t.Run("not_longer_than_the_hash", func(t *testing.T) {
		t.Parallel()
		for _, live := range []sessions.LiveOptions{{JourneyTTL: 500 * time.Millisecond}, {LocationTTL: 500 * time.Millisecond}} {
			s := connected(t, Options{URL: valkeytest.Valkey(t), Live: live})
			ref := driven(t, s)
			eventually(t, func() bool { _, ok := s.CachedView(ref); return !ok })
			snap, err := s.Latest(t.Context(), ref)
			require.NoError(t, err)
			require.False(t, snap.Known && snap.Location != nil && time.Since(snap.Location.At) < 400*time.Millisecond, "the view was given until shortly before the hash expired")
		}
	})
	t.Run("not_unwatched", func(t *testing.T) {
		t.Parallel()
		s := connected(t, Options{URL: valkeytest.Valkey(t)})
		_, ok := s.CachedView(newRef())
		require.False(t, ok)
	})
}

// messageOf is a message as update.lua publishes it.
func messageOf(seq string) string {
	return seq + " 0 1773480000000 1 car 12.9763472 77.5929284 12.9786000 77.5929284 10.0 1 1773480412589 36.0 180.0 " +
		"360000 12.9790452 77.5929284 100 - 9800 60000"
}

func TestParseMessage(t *testing.T) {
	t.Parallel()
	view := parseMessage(messageOf("1773480413590"))
	require.NotNil(t, view)
	assert.Equal(t, time.UnixMilli(1773480000000).UTC(), view.started)
	snap := view.snap
	assert.Equal(t, int64(1773480413590), snap.Version)
	assert.True(t, snap.Known && snap.Active)
	assert.False(t, snap.Arriving)
	assert.Equal(t, sessions.Pace{MMS: 9800, OverMS: 60000, Mode: sessions.Car}, snap.Pace)
	assert.Equal(t, time.UnixMilli(1773480413589).UTC(), snap.Location.At)
	assert.InDelta(t, 250.5, snap.DistanceM, 0.1)

	view = parseMessage(messageOf("1773480413590") + " 1773480410000")
	require.NotNil(t, view)
	assert.Equal(t, time.UnixMilli(1773480410000).UTC(), view.snap.Location.RecordedAt, "of a phone whose clock is off")

	whole := messageOf("1")
	for end := range strings.LastIndexByte(whole, ' ') + 2 { // the last word cut short is another number
		assert.Nil(t, parseMessage(whole[:end]), whole[:end])
	}
	for _, text := range []string{"", " ", "x", "1773480413590", whole + " 1 1", whole + " x", " " + whole, messageOf("x"), messageOf(""), strings.Replace(whole, " 1 car", " 3 car", 1)} {
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
