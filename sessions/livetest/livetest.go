// Package livetest is the contract suite of sessions.Live. Run has a test for each
// clause of the comments on Live, Verdict and Receipt. Histories plays random
// histories on the store and on memory.Live, which must agree.
//
//	func TestStore(t *testing.T)           { livetest.Run(t, open) }
//	func TestStore_Histories(t *testing.T) { livetest.Histories(t, open) }
//	func BenchmarkStore(b *testing.B)      { livetest.Bench(b, open) }
//
// Plausibility has its own specification, geo.Judge. plausibleTests has what a live
// store must do about it.
package livetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/testclock"
	"doorstep/sessions"
)

// Fixture is a live store under test. The suite uses fresh ids throughout, so
// the store may hold other journeys, and fixtures may share a server.
type Fixture struct {
	Live sessions.Live
	// Clock is the only clock that the store reads. What has expired by it must be
	// gone when Advance returns.
	Clock *testclock.Clock
	// Kept returns all that the store holds of a journey, as text, as a reader of
	// the server's memory would see it. Empty when there is nothing.
	Kept func(ref sessions.Ref) string
	// Forget makes the store lose all that was written through this fixture, as a
	// restart would.
	Forget func()
}

// Open makes a fixture with these rules and a new clock, and cleans it up when t ends.
type Open func(t testing.TB, rules sessions.LiveOptions) Fixture

// Run runs the contract suite with the default rules. Each test opens its own fixture
// and runs in parallel with the others; use -race.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests map[string]func(*testing.T, journey)
	}{
		{"Open", openTests},
		{"Update", updateTests},
		{"Rate", rateTests},
		{"Order", orderTests},
		{"Phone", phoneTests},
		{"Batch", batchTests},
		{"Plausible", plausibleTests},
		{"Expiry", expiryTests},
		{"Arriving", arrivingTests},
		{"Move", moveTests},
		{"End", endTests},
		{"Latest", latestTests},
		{"Version", versionTests},
		{"Watch", watchTests},
		{"CachedView", cachedViewTests},
		{"Meta", metaTests},
		{"Race", raceTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range group.tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, fresh(t, open(t, sessions.LiveOptions{})))
				})
			}
		})
	}
}

// home is Cubbon Park, Bengaluru.
var home = geo.MustPoint(12.9763472, 77.5929284)

// metreNorth is a metre of latitude in degrees, on the sphere of geo.DistanceM.
const metreNorth = 180 / (math.Pi * geo.EarthRadiusM)

// north is the point that many metres north of home.
func north(metres float64) geo.Point {
	return geo.MustPoint(home.Lat()+metres*metreNorth, home.Lng())
}

// journey is a fixture with a journey by car that starts now and is not opened yet.
type journey struct {
	Fixture
	sessions.Journey
}

func fresh(t testing.TB, f Fixture) journey {
	t.Helper()
	return journey{Fixture: f, Journey: sessions.Journey{
		Ref:  sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()},
		Home: home, Mode: sessions.Car, StartedAt: f.Clock.Now(),
	}}
}

// startedAgo is a journey of the same session that started d ago.
func (j journey) startedAgo(d time.Duration) journey {
	j.StartedAt = j.Clock.Now().Add(-d)
	return j
}

// sameTrainer is a journey of another session of the same trainer.
func (j journey) sameTrainer() journey {
	j.SessionID = sessions.NewID()
	return j
}

func (j journey) open(t testing.TB) bool {
	t.Helper()
	opened, err := j.Live.Open(t.Context(), j.Journey)
	require.NoError(t, err)
	return opened
}

// begun opens the journey; that must succeed.
func (j journey) begun(t testing.TB) journey {
	t.Helper()
	require.True(t, j.open(t))
	return j
}

func (j journey) end(t testing.TB) { t.Helper(); j.endIn(t, sessions.Ended) }

func (j journey) endIn(t testing.TB, p sessions.Phase) {
	t.Helper()
	j.Phase = p
	require.NoError(t, j.Live.End(t.Context(), j.Journey))
}

func (j journey) update(t testing.TB, fix sessions.Fix) sessions.Receipt {
	t.Helper()
	fix, err := sessions.NewFix(fix)
	require.NoError(t, err)
	receipt, err := j.Live.Update(t.Context(), j.Ref, fix)
	require.NoError(t, err)
	return receipt
}

// stored sends a fix that many metres north of home; it must be stored.
func (j journey) stored(t testing.TB, metres float64) sessions.Receipt {
	t.Helper()
	receipt := j.update(t, sessions.Fix{Point: north(metres)})
	require.Equal(t, sessions.VerdictStored.String(), receipt.Verdict.String())
	return receipt
}

// confirmed sends two fixes, a metre apart, the second after 5 s: the first one is a
// guess, and a position that repeats counts as silence.
func (j journey) confirmed(t testing.TB, metres float64) sessions.Receipt {
	t.Helper()
	j.stored(t, metres+1)
	j.Clock.Advance(5 * time.Second)
	return j.stored(t, metres)
}

func (j journey) latest(t testing.TB) sessions.Snapshot {
	t.Helper()
	snap, err := j.Live.Latest(t.Context(), j.Ref)
	require.NoError(t, err)
	require.Equal(t, j.Clock.Now(), snap.Now)
	snap.Now = time.Time{}                                                       // it would change with every step of the clock
	require.Equal(t, snap.Active, !snap.StartedAt.IsZero() && snap.Home.Valid()) // which ones: the differential test
	snap.Home, snap.StartedAt = geo.Point{}, time.Time{}
	return snap
}

// state is all that can be seen of the journey. A call that changes nothing leaves it
// equal.
func (j journey) state(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("%s %s", describe(j.latest(t)), j.Kept(j.Ref))
}

// unchanged runs a call that must change nothing.
func (j journey) unchanged(t testing.TB, call func()) {
	t.Helper()
	before := j.state(t)
	call()
	require.Equal(t, before, j.state(t))
}

func (j journey) requireVerdict(t testing.TB, want sessions.Verdict, fix sessions.Fix) sessions.Receipt {
	t.Helper()
	receipt := j.update(t, fix)
	require.Equal(t, want.String(), receipt.Verdict.String())
	return receipt
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
