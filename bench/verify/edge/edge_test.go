// Package edge tests three regions on one machine: each with its own gateway and live
// store, one PostgreSQL for all, and long ways between them.
package edge

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/internal/pause"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/process"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

var (
	journeys = flag.Int("journeys", 30, "journeys at the same time, in all regions together; each with a student at home and one abroad")
	pace     = flag.Duration("pace", 500*time.Millisecond, "time between two fixes of a journey")
	whole    = flag.Duration("whole", 5*time.Second, "how long the ways are whole, before the cut and after it")
	cut      = flag.Duration("cut", 5*time.Second, "how long the last region is cut off")
	table    = flag.String("table", "", "write the table to this file")
	picture  = flag.String("picture", "", "draw the latencies into this file, an SVG")
)

// apart is between two starts.
const apart = 50 * time.Millisecond

// patience bounds every wait for what must happen.
const patience = 30 * time.Second

func TestMain(m *testing.M) { postgrestest.Main(m) }

// region is one of the three.
type region struct {
	name    string
	listen  string // of its gateway
	gateway *rig.Gateway
	store   *valkeyserver.Server
	links   []*Link // all ways into it and out of it
}

func (r *region) base() string { return "http://" + r.listen }

// names are the regions; PostgreSQL is in the first, and the last is cut off.
var names = []string{"eu", "us", "ap"}

// trips are the ways between two regions: half of a round trip of 80, 150 and 40 ms.
var trips = map[[2]int]time.Duration{{0, 1}: 40 * time.Millisecond, {0, 2}: 75 * time.Millisecond, {1, 2}: 20 * time.Millisecond}

func trip(a, b int) time.Duration { return trips[[2]int{min(a, b), max(a, b)}] }

// world is the regions with their journeys.
type world struct {
	*testing.T
	*records
	regions  []*region
	database string // as the first region reaches it
	admin    *rig.Caller
	http     *http.Client
	closing  chan struct{} // closed: journeys end
}

// TestRegions plays journeys in three regions, with a student at home and a student abroad
// each, and cuts one region off meanwhile.
func TestRegions(t *testing.T) {
	w := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2**whole+*cut+4*patience)
	defer cancel()
	w.oneJourneyATrainer(ctx)

	playing, playCtx := errgroup.WithContext(ctx)
	defer func() { cancel(); _ = playing.Wait() }() // where the test ends early
	var begun sync.WaitGroup
	for i := range *journeys {
		begun.Add(1)
		playing.Go(func() error { return w.play(playCtx, i, begun.Done) })
	}
	begun.Wait()
	w.phase(playCtx, beforeCut, *whole)
	for _, l := range w.regions[len(names)-1].links {
		l.Cut()
	}
	w.phase(playCtx, duringCut, *cut)
	for _, l := range w.regions[len(names)-1].links {
		l.Heal()
	}
	w.phase(playCtx, afterCut, *whole)
	w.locationsStayed(ctx)
	close(w.closing)
	require.NoError(t, playing.Wait())
	w.judge()
	w.write()
}

// phase lets the journeys go on.
func (w *world) phase(ctx context.Context, name string, d time.Duration) {
	w.enter(name)
	w.Logf("%s, %s", name, d)
	select {
	case <-time.After(d):
	case <-ctx.Done(): // playing.Wait says why
		w.Logf("ended early: %v", context.Cause(ctx))
	}
}

func build(t *testing.T) *world {
	program, err := rig.Build(t.Context())
	require.NoError(t, err)
	t.Cleanup(program.Remove)
	w := &world{
		T: t, records: newRecords(), closing: make(chan struct{}), database: postgrestest.New(t),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10_000, IdleConnTimeout: time.Minute}},
	}
	w.admin, err = rig.NewCaller(sessions.Admin, w.http)
	require.NoError(t, err)
	require.NoError(t, program.Run(t.Context(), []string{"DATABASE_URL=" + w.database}, "migrate"))
	var public []string
	for _, name := range names {
		r := &region{name: name, store: valkeytest.Private(t, valkeyserver.Valkey)}
		r.listen, err = process.FreeAddr()
		require.NoError(t, err)
		w.regions = append(w.regions, r)
		public = append(public, name+"="+r.base())
	}
	for here, r := range w.regions {
		database, internal := w.database, []string(nil)
		for there, other := range w.regions {
			if here != there {
				internal = append(internal, other.name+"=http://"+w.link(here, there, other.listen))
			}
		}
		if here != 0 {
			database = w.farDatabase(here)
		}
		r.gateway, err = program.Start(t.Context(), "LISTEN="+r.listen, "REGION="+r.name, "REGIONS="+strings.Join(public, ","), "REGIONS_INTERNAL="+strings.Join(internal, ","),
			"DATABASE_URL="+database, "VALKEY_URL="+r.store.URL(), "RATE_INTERVAL="+(*pace/2).String())
		require.NoError(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s: %s", r.name, r.gateway.LogTail())
			}
			_ = r.gateway.Kill()
		})
	}
	return w
}

// link makes the way from one region to an address of another.
func (w *world) link(here, there int, to string) string {
	l, err := NewLink(to, trip(here, there))
	require.NoError(w, err)
	w.Cleanup(func() { assert.NoError(w, l.Close()) })
	for _, end := range []int{here, there} {
		w.regions[end].links = append(w.regions[end].links, l)
	}
	return l.Addr()
}

// farDatabase is the address of PostgreSQL as a far region sees it.
func (w *world) farDatabase(here int) string {
	u, err := url.Parse(w.database)
	require.NoError(w, err)
	query := u.Query()
	host, port, err := net.SplitHostPort(w.link(here, 0, query.Get("host")+"/.s.PGSQL.5432"))
	require.NoError(w, err)
	query.Set("host", host)
	query.Set("port", port)
	u.RawQuery = query.Encode()
	return u.String()
}

// oneJourneyATrainer starts two journeys of one trainer at once, in two regions.
func (w *world) oneJourneyATrainer(ctx context.Context) {
	for i := range w.regions {
		first, err := rig.NewJourney(geo.MustPoint(10, 10), w.http)
		require.NoError(w, err)
		second, err := rig.NewJourney(geo.MustPoint(11, 10), w.http)
		require.NoError(w, err)
		second.Trainer = first.Trainer
		both := []*rig.Journey{first, second}
		answers := make([]rig.Answer, len(both))
		var starts sync.WaitGroup
		for n, j := range both {
			base := w.regions[(i+n)%len(w.regions)].base()
			require.Equal(w, "201", j.Book(ctx, base, w.admin).Label())
			starts.Go(func() { answers[n] = j.Start(ctx, base) })
		}
		starts.Wait()
		labels := []string{answers[0].Label(), answers[1].Label()}
		assert.ElementsMatch(w, []string{"201", "409 TRAINER_BUSY"}, labels)
		for n, j := range both {
			if answers[n].Status == http.StatusCreated { // stopped from a third region
				assert.Equal(w, "200", j.Stop(ctx, w.regions[(i+2)%len(w.regions)].base()).Label())
			}
		}
	}
}

// play plays one journey: at home in one region, with a student there and one abroad.
func (w *world) play(ctx context.Context, i int, begun func()) error {
	home, abroad := i%len(names), (i%len(names)+1+i/len(names)%2)%len(names)
	base := w.regions[home].base()
	j, err := rig.NewJourney(geo.MustPoint(float64(i%120)/2, float64(i%300)/2), w.http)
	if err != nil {
		begun()
		return err
	}
	t := &travel{world: w, Journey: j, home: home}
	_ = pause.For(ctx, time.Duration(i)*apart) // all at once the starts would wait for connections to the far database
	booked := j.Book(ctx, base, w.admin)
	started := j.Start(ctx, base)
	begun()
	if booked.Label() != "201" || started.Label() != "201" {
		return fmt.Errorf("journey %d in %s: booked %s, started %s: %w", i, names[home], booked.Label(), started.Label(), started.Err)
	}
	w.belongs(j.ID, home)
	var atHome, far, sent map[int64]time.Time
	eyes, eyesCtx := errgroup.WithContext(ctx)
	eyes.Go(func() (err error) { atHome, err = t.watch(eyesCtx, home); return err })
	eyes.Go(func() (err error) { far, err = t.watch(eyesCtx, abroad); return err })
	eyes.Go(func() (err error) { sent, err = t.ride(eyesCtx); return err })
	err = eyes.Wait()
	w.saw(way{home, abroad}, sent, atHome, far)
	return err
}
