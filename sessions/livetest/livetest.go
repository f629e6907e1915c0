// Package livetest holds any sessions.Live to its contract: each clause of the
// comments on Live, Verdict and Receipt is a test here, and Histories plays
// random ones beside memory.Live, which must agree.
//
//	func TestStore(t *testing.T)           { livetest.Run(t, open) }
//	func TestStore_Histories(t *testing.T) { livetest.Histories(t, open) }
//	func BenchmarkStore(b *testing.B)      { livetest.Bench(b, open) }
//
// Plausibility has its own specification, geo.Judge; what of it a live store
// must keep is in plausible.go and nowhere else here.
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
	// Clock is the only one the store reads. What has expired by it must be
	// gone when Advance returns.
	Clock *testclock.Clock
	// Kept is all that the store holds of a journey, as text: what a reader of
	// the server's memory would see. Empty when there is nothing.
	Kept func(ref sessions.Ref) string
	// Forget makes the store lose all that was put in through this fixture, as
	// a restart would.
	Forget func()
}

// Open makes a fixture with these rules and a fresh clock, and ends it with t.
type Open func(t testing.TB, rules sessions.LiveOptions) Fixture

// Run is the contract suite, under the default rules. Each test opens its own
// fixture and runs beside the others; use -race.
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
		{"Plausible", plausibleTests},
		{"Expiry", expiryTests},
		{"Arriving", arrivingTests},
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

// north is the place so many metres north of home.
func north(metres float64) geo.Point {
	return geo.MustPoint(home.Lat()+metres*metreNorth, home.Lng())
}

// journey is a fixture with a journey to drive: by car, started now, not yet
// opened.
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

// startedAgo is the same session's journey, started earlier.
func (j journey) startedAgo(d time.Duration) journey {
	j.StartedAt = j.Clock.Now().Add(-d)
	return j
}

// sameTrainer is another session of the trainer's.
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

// begun opens the journey, which must succeed.
func (j journey) begun(t testing.TB) journey {
	t.Helper()
	require.True(t, j.open(t))
	return j
}

func (j journey) end(t testing.TB) {
	t.Helper()
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

// stored publishes a fix so far north of home, which must be believed.
func (j journey) stored(t testing.TB, metres float64) sessions.Receipt {
	t.Helper()
	receipt := j.update(t, sessions.Fix{Point: north(metres)})
	require.Equal(t, sessions.VerdictStored.String(), receipt.Verdict.String())
	return receipt
}

func (j journey) latest(t testing.TB) sessions.Snapshot {
	t.Helper()
	snap, err := j.Live.Latest(t.Context(), j.Ref)
	require.NoError(t, err)
	return snap
}

// state is all that can be seen of the journey: what a call that changes
// nothing must leave as it was.
func (j journey) state(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("%s %s", describe(j.latest(t)), j.Kept(j.Ref))
}

// unchanged runs what must change nothing.
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
