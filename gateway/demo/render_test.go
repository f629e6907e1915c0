package demo

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"doorstep/geo"
)

var plain = ascii

func sample() frame {
	t := newReport().now()
	t.sent[labelStored], t.sent["400 IMPLAUSIBLE_SPEED"], t.stored = 1234, 7, 1234
	for range 100 {
		t.fixToEye.add(1300 * time.Microsecond)
	}
	return frame{
		About: []string{"4 journeys, made up (seed 1), at 15x", "live store: in memory"},
		Lines: []Line{
			{Name: "car-1", Mode: geo.Car, State: OnTheWay, Located: true, LeftM: 1240, FromM: 3000, ETA: 190 * time.Second, Guess: true, Stored: 34, Refused: 2, FixToEye: 1300 * time.Microsecond},
			{Name: "bike-2", Mode: geo.Bike, State: Arriving, Located: true, LeftM: 94, FromM: 2000, ETA: 20 * time.Second, Stored: 80, FixToEye: 14 * time.Millisecond},
			{Name: "car-3", Mode: geo.Car, State: Verified, Located: true, FromM: 4000, Stored: 114, FixToEye: 900 * time.Microsecond, Note: "code 0042"},
			{Name: "walk-4", Mode: geo.Walk, State: Stopped, Located: true, LeftM: 400, FromM: 800, Stored: 3, Refused: 60, Note: "NOT_WITHIN_RADIUS"},
			{Name: "walk-5", Mode: geo.Walk, State: Waiting},
		},
		Totals: t, Virtual: 3725 * time.Second, Recent: []string{"    0.27s  car-1   started"},
	}
}

func TestFrame_render(t *testing.T) {
	t.Parallel()
	want := `Doorstep
  4 journeys, made up (seed 1), at 15x
  live store: in memory

  journey way                                left     ETA  state       stored refused     eye
  car-1   [===============>............]   1.2 km   ~3:10  on the way      34       2  1.3 ms
  bike-2  [=========================>..]     94 m    0:20  arriving        80       0   14 ms
  car-3   [============================]        -       -  verified       114       0  0.9 ms  code 0042
  walk-4  [=============>..............]        -       -  stopped          3      60       -  NOT_WITHIN_RADIUS
  walk-5  [............................]        -       -  waiting          0       0       -

  1:02:05 of virtual time   fixes: 1 234 stored, 7 refused   fix to eye: p50 1.3 ms, p99 1.3 ms
  0.27s  car-1   started`
	assert.Equal(t, want, strings.Join(sample().render(119, 30, plain), "\n"))
}

func TestFrame_render_narrow(t *testing.T) {
	t.Parallel()
	want := `Doorstep
  4 journeys, made up (seed 1), at 15x
  live store: in memory

  journey way          left     ETA  state       stored refused     eye
  car-1   [==>...]   1.2 km   ~3:10  on the way      34       2  1.3 ms
  and 4 more: 1 under way, 1 waiting, 2 done

  1:02:05 of virtual time   fixes: 1 234 stored, 7 refused   fix to eye: p50 1~`
	f := sample()
	f.Lines[0].Changed = 1
	assert.Equal(t, want, strings.Join(f.render(79, 9, plain), "\n"))
}

func TestFrame_render_in_colour(t *testing.T) {
	t.Parallel()
	s := utf
	s.colour = true
	text := strings.Join(sample().render(119, 30, s), "\n")
	assert.Contains(t, text, "\x1b[36mon the way \x1b[0m")
	assert.Contains(t, text, "━╸\x1b[0m\x1b[2m──")
	s.colour = false
	assert.NotContains(t, strings.Join(sample().render(119, 30, s), "\n"), "\x1b")
}

// No line may wrap and no frame may scroll, or the next would not be drawn over
// it.
func TestFrame_render_stays_in_its_window(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := sample()
		states := []State{Waiting, Booked, OnTheWay, Arriving, Arrived, Verified, Stopped, Interrupted, Failed}
		f.Lines = nil
		for range rapid.IntRange(0, 60).Draw(t, "journeys") {
			f.Lines = append(f.Lines, Line{
				Name:  rapid.StringN(0, 50, -1).Filter(func(s string) bool { return !strings.ContainsAny(s, "\n") }).Draw(t, "name"),
				State: rapid.SampledFrom(states).Draw(t, "state"), Located: rapid.Bool().Draw(t, "located"),
				LeftM: rapid.Float64Range(0, 2e7).Draw(t, "left"), FromM: 2e7, ETA: time.Duration(rapid.Int64Range(-1, 1e13).Draw(t, "eta")),
				Stored: rapid.IntRange(0, 9999).Draw(t, "stored"), Note: strings.Repeat("n", rapid.IntRange(0, 60).Draw(t, "note")),
			})
		}
		columns, rows := rapid.IntRange(1, 200).Draw(t, "columns"), rapid.IntRange(1, 80).Draw(t, "rows")
		lines := f.render(columns, rows, plain)
		assert.LessOrEqual(t, len(lines), rows)
		for _, line := range lines {
			assert.LessOrEqual(t, utf8.RuneCountInString(line), columns, "%q", line)
		}
	})
}

func TestMostRecent(t *testing.T) {
	t.Parallel()
	lines := []Line{
		{Name: "done early", State: Verified, Changed: 1},
		{Name: "under way", State: OnTheWay, Changed: 2},
		{Name: "waiting", State: Waiting},
		{Name: "done late", State: Stopped, Changed: 9},
		{Name: "just left", State: OnTheWay, Changed: 8},
	}
	names := func(n int) (out []string) {
		for _, l := range mostRecent(lines, n) {
			out = append(out, l.Name)
		}
		return out
	}
	assert.Equal(t, []string{"just left"}, names(1))
	assert.Equal(t, []string{"under way", "done late", "just left"}, names(3))
	assert.Len(t, names(9), 5)
}

func TestStyleOf(t *testing.T) {
	t.Parallel()
	of := func(env map[string]string) style {
		return styleOf(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	}
	assert.Equal(t, "=", of(nil).full)
	assert.True(t, of(nil).colour)
	assert.Equal(t, "━", of(map[string]string{"LANG": "en_US.UTF-8"}).full)
	assert.Equal(t, "━", of(map[string]string{"LC_CTYPE": "C.utf8"}).full)
	assert.Equal(t, "=", of(map[string]string{"LC_ALL": "C", "LANG": "C.UTF-8"}).full, "LC_ALL wins")
	assert.False(t, of(map[string]string{"NO_COLOR": "1"}).colour)
	assert.True(t, of(map[string]string{"NO_COLOR": ""}).colour, "empty is not set: no-color.org")
}

func TestRedraw(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "\ra\x1b[K\n\rb\x1b[K\n\x1b[J", redraw(0, []string{"a", "b"}))
	assert.Equal(t, "\x1b[2A\rc\x1b[K\n\x1b[J", redraw(2, []string{"c"}), "over the last frame, and what was below is gone")
}
