package scripts

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/geo"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// TestJudgement plays random journeys on update.lua and on geo.Judge, by way of
// sessions/memory. Both give the same receipt and the same snapshot for every fix. The
// journeys drive, stand, jump, come back, hide, lie and lose their clock.
func TestJudgement(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		now := time.Date(2026, 3, 14, 9, 26, 53, 589e6, time.UTC)
		store := storeFor(t, url, func() time.Time { return now })
		rapid.Check(t, func(rt *rapid.T) { playJourney(rt, store, &now) })
	})
}

func playJourney(rt *rapid.T, store *Store, now *time.Time) {
	memory := memory.NewLive(sessions.LiveOptions{}, func() time.Time { return *now })

	home := geo.MustPoint(rapid.SampledFrom([]float64{0, 52.1, -33.9, 89.9}).Draw(rt, "lat"), rapid.SampledFrom([]float64{5.1, 179.9999}).Draw(rt, "lng"))
	j := sessions.Journey{
		Ref: sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()}, Home: home,
		Mode:      rapid.SampledFrom([]sessions.Mode{sessions.Car, sessions.Bike, sessions.Walk}).Draw(rt, "mode"),
		StartedAt: *now, Restored: rapid.Bool().Draw(rt, "restored"),
	}
	ctx := context.Background()
	for _, live := range []sessions.Live{memory, store} {
		opened, err := live.Open(ctx, j)
		require.NoError(rt, err)
		require.True(rt, opened)
	}
	at := geo.Offset(home, rapid.Float64Range(0, 360).Draw(rt, "from"), rapid.SampledFrom([]float64{100, 400, 3000}).Draw(rt, "away"))
	before := at
	for range rapid.IntRange(3, 40).Draw(rt, "fixes") {
		*now = now.Add(time.Duration(rapid.SampledFrom([]int{4200, 5000, 5000, 5000, 9000, 16000, 31000, 61000, 130000, -3000, 500, 1500}).Draw(rt, "gap_ms")) * time.Millisecond)
		before, at = at, nextPlace(rt, before, at, home)
		fix := drawFix(rt, at, *now)
		want, err := memory.Update(ctx, j.Ref, fix)
		require.NoError(rt, err)
		if want.Verdict == sessions.VerdictUnknown {
			return // expired; the server's own expiry is on real time
		}
		got, err := store.Update(ctx, j.Ref, fix)
		require.NoError(rt, err)
		require.Equal(rt, want, got)
		wantSnap, err := memory.Latest(ctx, j.Ref)
		require.NoError(rt, err)
		gotSnap, err := store.Latest(ctx, j.Ref)
		require.NoError(rt, err)
		require.Equal(rt, wantSnap, gotSnap)
	}
}

func nextPlace(rt *rapid.T, before, at, home geo.Point) geo.Point {
	switch rapid.SampledFrom([]string{"go", "go", "go", "go", "home", "stay", "back", "jump"}).Draw(rt, "move") {
	case "home":
		return geo.Offset(at, geo.BearingDeg(at, home), rapid.Float64Range(10, 600).Draw(rt, "metres"))
	case "stay":
		return at
	case "back":
		return before
	case "jump":
		return geo.Offset(at, rapid.Float64Range(0, 360).Draw(rt, "bearing"), rapid.Float64Range(300, 20000).Draw(rt, "metres"))
	default:
		return geo.Offset(at, 90, rapid.SampledFrom([]float64{2, 20, 60, 150, 190, 250, 290}).Draw(rt, "metres"))
	}
}

func drawFix(rt *rapid.T, at geo.Point, now time.Time) sessions.Fix {
	f := sessions.Fix{Point: at, Mock: rapid.IntRange(0, 19).Draw(rt, "mock") == 0}
	f.AccuracyM = rapid.SampledFrom([]float64{0, 4, 12.3, 25, 99.9, 150, 250}).Draw(rt, "accuracy")
	if rapid.Bool().Draw(rt, "has_speed") {
		v := rapid.SampledFrom([]float64{0, 8, 30.5, 60, 110, 180}).Draw(rt, "speed")
		f.SpeedKMH = &v
	}
	if rapid.IntRange(0, 3).Draw(rt, "has_clock") > 0 {
		f.RecordedAt = now.Add(-time.Duration(rapid.SampledFrom([]int{0, 200, 900, 4000, 12000, 70000, 310000, -1500, -9000, 40000, 40000, 41000, -3600000}).Draw(rt, "age_ms")) * time.Millisecond)
	}
	if !f.RecordedAt.IsZero() && rapid.IntRange(0, 2).Draw(rt, "has_sent") == 0 {
		f.SentAt = f.RecordedAt.Add(time.Duration(rapid.SampledFrom([]int{0, 100, 5000, 60000, -1}).Draw(rt, "sent_ms")) * time.Millisecond)
	}
	f.AtArrival = rapid.IntRange(0, 9).Draw(rt, "at_arrival") == 9
	f.Continued = rapid.IntRange(0, 3).Draw(rt, "continued") == 0
	f, err := sessions.NewFix(f)
	require.NoError(rt, err)
	return f
}

// storeFor is a connected store that ends with the test.
func storeFor(t *testing.T, url string, now func() time.Time) *Store {
	t.Helper()
	s, err := New(Options{URL: url, Now: now, Timeout: 5 * time.Second})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, s.Ready)
	return s
}
