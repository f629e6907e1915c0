package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// short is a demo of about a minute and a half of virtual time, in three
// seconds. Not faster: an OTP and a fresh location must outlive a busy machine's
// pauses, and they too run on the virtual clock.
func short(store string) Options {
	return Options{Journeys: 2, Mode: "car", Speed: 30, Parallel: 10, Seed: 3, Store: store, lengthM: 700}
}

func TestRun(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"memory", "auto"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			if store == "auto" {
				requireServer(t)
			}
			var out bytes.Buffer
			o := short(store)
			o.Out, o.Log, o.Metrics = &out, filepath.Join(t.TempDir(), "log"), true
			require.NoError(t, Run(t.Context(), o))
			text := out.String()
			for _, want := range []string{"2 journeys, made up (seed 3), at 30x", "started by car", "metrics: http://127.0.0.1:", "map: http://127.0.0.1:", "/t#", "2 verified", "unexplained nothing"} {
				assert.Contains(t, text, want)
			}
			assert.Equal(t, store == "auto", strings.Contains(text, "-server "), "says which store it has")
			assert.NotRegexp(t, `\bcode \d|\b5\.12|Bearer`, text, "no code, coordinate or token in the log")
			log, err := os.ReadFile(o.Log)
			require.NoError(t, err)
			assert.Contains(t, string(log), "verified by the student's code")
			assert.Contains(t, string(log), "2 verified", "and the summary")
			assert.NotContains(t, string(log), "/t#", "a link is a secret")
		})
	}
}

func TestRun_regions(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := short("memory")
	o.Out, o.Regions, o.Journeys = &out, 3, 3
	require.NoError(t, Run(t.Context(), o))
	text := out.String()
	for _, want := range []string{
		"gateway of eu: http://127.0.0.1:", "gateway of us: ", "gateway of ap: ", "each student begins in another region", "3 verified", "unexplained nothing",
	} {
		assert.Contains(t, text, want)
	}
}

func TestRun_a_recording_with_a_leap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record(t, dir, "car-honest.csv", 90)
	leap := record(t, dir, "walk-and-leap.csv", 0, 5000, 4995, 4990, 4985, 4980, 4975, 4970, 4965, 4960, 4955, 4950, 4945, 0)
	var out bytes.Buffer
	require.NoError(t, Run(t.Context(), Options{Trace: []string{filepath.Join(dir, "car-*.csv"), leap}, Speed: 60, Parallel: 1, Store: "memory", Out: &out}))
	text := out.String()
	assert.Contains(t, text, "1 verified", "the car")
	assert.Contains(t, text, "1 stopped, not let in at the door: 1 IMPLAUSIBLE_JUMP")
	assert.Regexp(t, `fix refused, IMPLAUSIBLE_\w+: 4945 m in 5s is 3560 km/h, and a walk may do 15 \(`, text, "the log says what was refused and why")
	assert.Contains(t, text, "arrival refused, IMPLAUSIBLE_JUMP: the last fix that was believed is")
	assert.Contains(t, text, "unexplained nothing")
}

func TestRun_interrupted(t *testing.T) { // not parallel: it sets TMPDIR
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &trigger{on: "started by car", do: cancel}
	o := short("auto")
	o.Out, o.Journeys, o.Parallel = out, 3, 1
	require.NoError(t, Run(ctx, o))
	assert.Contains(t, out.String(), "1 interrupted")
	assert.Contains(t, out.String(), "interrupted; 2 journeys not begun")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left, "the store's folder is gone")
}

// trigger is an output that does something when it reads a word.
type trigger struct {
	mu  sync.Mutex
	all bytes.Buffer
	on  string
	do  func()
}

func (t *trigger) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if bytes.Contains(p, []byte(t.on)) {
		t.do()
	}
	return t.all.Write(p)
}

func (t *trigger) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.String()
}

func TestRun_refuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no speed":        {func(o *Options) { o.Speed = 0 }, "speed"},
		"nobody at once":  {func(o *Options) { o.Parallel = 0 }, "parallel"},
		"no journey":      {func(o *Options) { o.Journeys = 0 }, "journeys"},
		"no recording":    {func(o *Options) { o.Trace = []string{"/none"} }, "/none"},
		"a log in no dir": {func(o *Options) { o.Log = "/none/log" }, "log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := short("memory")
			o.Out = &bytes.Buffer{}
			c.change(&o)
			require.ErrorContains(t, Run(t.Context(), o), c.want)
		})
	}
}

func TestRandomness(t *testing.T) {
	t.Parallel()
	first, again := newID(randomness(1, 2)), newID(randomness(1, 2))
	assert.Equal(t, first, again)
	assert.NotEqual(t, newID(randomness(1, 2)), newID(randomness(1, 3)))
}

// The phones report as apps from the store: nothing is left to explain.
func TestRun_as_a_stock_app(t *testing.T) {
	t.Parallel()
	for name := range stockApps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o := short("memory")
			o.Out, o.As = &out, name
			require.NoError(t, Run(t.Context(), o), "%s", &out)
			assert.Contains(t, out.String(), "2 verified")
			assert.Contains(t, out.String(), "  stored\n")
		})
	}
}
