package edge

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/bench/load/drive"
	"doorstep/bench/load/figures"
	"doorstep/bench/rig"
	"doorstep/sessions"
)

// The phases of a run, in their order.
const (
	starting  = "start"
	beforeCut = "before"
	duringCut = "cut off"
	afterCut  = "healed"
)

// way is where a journey is, and where its student is.
type way struct{ home, at int }

func (w way) String() string { return names[w.home] + " seen in " + names[w.at] }

// records is what the callers saw. Safe for concurrent use.
type records struct {
	mu      sync.Mutex
	phase   string
	updates map[string]*drive.Histogram // until the answer, by phase and region
	answers map[string]map[string]int   // by phase and what was called, and by answer
	sights  map[way]*drive.Histogram    // from the fix to the eye, while all ways are whole
	later   map[way]*drive.Histogram    // how much later than the student at home saw the same fix
	homes   map[sessions.ID]int         // the region of each journey
}

func newRecords() *records {
	return &records{
		phase: starting, updates: map[string]*drive.Histogram{}, answers: map[string]map[string]int{},
		sights: map[way]*drive.Histogram{}, later: map[way]*drive.Histogram{}, homes: map[sessions.ID]int{},
	}
}

func (r *records) enter(phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phase
}

func (r *records) belongs(id sessions.ID, home int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.homes[id] = home
}

// updated counts an update and returns in which phase it was.
func (r *records) updated(home int, a rig.Answer) (phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.phase + ": update in " + names[home]
	r.count(key, a.Label())
	record(r.updates, key, a.Took)
	return r.phase
}

func (r *records) read(w way, a rig.Answer, degraded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	label := a.Label()
	if degraded {
		label += " degraded"
	}
	r.count(r.phase+": "+w.String(), label)
}

func (r *records) count(key, label string) {
	if r.answers[key] == nil {
		r.answers[key] = map[string]int{}
	}
	r.answers[key][label]++
}

// saw compares what the students at both ends of a way saw of one journey.
func (r *records) saw(w way, sent, atHome, abroad map[int64]time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for version, at := range sent {
		here, ok := atHome[version]
		if ok {
			record(r.sights, way{w.home, w.home}, here.Sub(at))
		}
		there, both := abroad[version]
		if both {
			record(r.sights, w, there.Sub(at))
		}
		if ok && both {
			record(r.later, w, there.Sub(here))
		}
	}
}

func record[K comparable](all map[K]*drive.Histogram, key K, d time.Duration) {
	if all[key] == nil {
		all[key] = drive.NewHistogram()
	}
	_ = all[key].RecordValue(min(max(d.Microseconds(), 1), all[key].HighestTrackableValue())) // in range
}

// locationsStayed looks for journeys of other regions in each live store.
func (w *world) locationsStayed(ctx context.Context) {
	for here, r := range w.regions {
		option, err := valkey.ParseURL(r.store.URL())
		require.NoError(w, err)
		option.DisableCache = true
		client, err := valkey.NewClient(option)
		require.NoError(w, err)
		keys, err := client.Do(ctx, client.B().Keys().Pattern("location:*").Build()).AsStrSlice()
		client.Close()
		require.NoError(w, err)
		assert.GreaterOrEqual(w, len(keys), *journeys/len(names), "journeys in the live store of %s", r.name)
		for _, key := range keys {
			id := sessions.ID(key[strings.LastIndex(key, ":")+1:])
			if home, played := w.homes[id]; played {
				assert.Equal(w, here, home, "the live store of %s has %s", r.name, key)
			}
		}
	}
}

// judge asks whether the run has shown what it should.
func (w *world) judge() {
	for _, phase := range []string{beforeCut, duringCut, afterCut} {
		for _, name := range names {
			for label, n := range w.answers[phase+": update in "+name] {
				behindLease := phase != beforeCut && name == names[len(names)-1] && *cut > leaseEnds
				assert.True(w, label == "201" || label == "202" && behindLease, "%s: %d updates in %s were answered %s", phase, n, name, label)
			}
		}
	}
	last := len(names) - 1
	for home := range names {
		for at := range names {
			way := way{home, at}
			assert.Positive(w, w.sights[way].TotalCount(), "fixes of %s", way)
			for _, phase := range []string{beforeCut, duringCut, afterCut} {
				allowed := []string{"200", "304"}
				if phase != beforeCut {
					allowed = append(allowed, "200 degraded")
				}
				for label, n := range w.answers[phase+": "+way.String()] {
					assert.Contains(w, allowed, label, "%s: %d reads of %s", phase, n, way)
				}
			}
			if home != at && (home == last || at == last) { // nothing but what was under way when the cut began
				assert.LessOrEqual(w, w.answers[duringCut+": "+way.String()]["200"], *journeys, "seen of %s, while %s is cut off", way, names[last])
			}
		}
	}
}

// leaseEnds is how long a region serves without the database.
const leaseEnds = 90 * time.Second

// write writes the table and draws the picture.
func (w *world) write() {
	var text strings.Builder
	fmt.Fprintf(&text, "%d journeys, a fix each %s; each seen by a student at home and one abroad; %s whole, %s with %s cut off, %s healed.\n",
		*journeys, *pace, *whole, *cut, names[len(names)-1], *whole)
	figures.Head(&text, "Journey seen", "Trip, ms", "Fixes", "Fix to eye p50, ms", "p99", "Later than at home p50, ms", "p99")
	var lines []figures.Line
	for home := range names {
		for at := range names {
			way := way{home, at}
			h, l := w.sights[way], w.later[way]
			cells := []any{way, figures.MS(trip(home, at)), h.TotalCount(), figures.MS(figures.At(h, 50)), figures.MS(figures.At(h, 99)), "–", "–"}
			if home != at {
				cells[5], cells[6] = figures.MS(figures.At(l, 50)), figures.MS(figures.At(l, 99))
			}
			figures.Row(&text, cells...)
			lines = append(lines, figures.Line{Name: fmt.Sprintf("%s, trip %s", way, trip(home, at)), Histogram: h})
		}
	}
	figures.Head(&text, "Updates at home", "Answers", "p50, ms", "p99")
	for _, key := range slices.Sorted(maps.Keys(w.updates)) {
		h := w.updates[key]
		figures.Row(&text, key, labels(w.answers[key]), figures.MS(figures.At(h, 50)), figures.MS(figures.At(h, 99)))
	}
	figures.Head(&text, "Reads", "Answers")
	for _, key := range slices.Sorted(maps.Keys(w.answers)) {
		if w.updates[key] == nil {
			figures.Row(&text, key, labels(w.answers[key]))
		}
	}
	w.Log("\n" + text.String())
	if *table != "" {
		require.NoError(w, os.MkdirAll(filepath.Dir(*table), 0o755))
		require.NoError(w, os.WriteFile(*table, []byte(text.String()), 0o600))
	}
	if *picture != "" {
		require.NoError(w, figures.DrawLatencies(*picture, "From the fix to the eye, at home and abroad", lines))
	}
}

func labels(counts map[string]int) string {
	var parts []string
	for _, label := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d × %s", counts[label], label))
	}
	return strings.Join(parts, ", ")
}
