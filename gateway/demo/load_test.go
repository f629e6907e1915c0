package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/geo/trace"
)

// record writes a recording: so many seconds at 8 m/s, or a fix every five
// seconds at these places, metres from the home.
func record(t *testing.T, dir, name string, seconds int, northM ...float64) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("seq,unix_ms,lat,lng,accuracy_m\n")
	row := func(f trace.Fix) {
		fmt.Fprintf(&b, "%d,%d,%.7f,%.7f,5\n", f.Seq, 1_700_000_000_000+f.RecordedMS, f.Point.Lat(), f.Point.Lng())
	}
	for i, m := range northM {
		row(fix(5*i, m))
	}
	for s := 0; s <= seconds && northM == nil; s++ {
		row(fix(s, float64(8*(seconds-s))))
	}
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	car, walk := record(t, dir, "car-a.csv", 120), record(t, dir, "walk-b.csv", 90)
	record(t, dir, "car-short.csv", 10)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("not a recording"), 0o600))
	for name, c := range map[string]struct {
		names []string
		want  []string
		short int
	}{
		"a file":    {[]string{walk}, []string{"walk-b walk"}, 0},
		"two files": {[]string{walk, car}, []string{"walk-b walk", "car-a car"}, 0},
		"a folder":  {[]string{dir}, []string{"car-a car", "walk-b walk"}, 1},
		"a pattern": {[]string{filepath.Join(dir, "*-?.csv")}, []string{"car-a car", "walk-b walk"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := Load(c.names, "")
			require.NoError(t, err)
			var got []string
			for _, p := range list.Plans {
				got = append(got, p.Name+" "+string(p.Mode))
			}
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.short, list.Dropped)
			assert.Equal(t, len(c.want)+c.short, list.Recordings)
		})
	}
}

func TestLoad_refuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	short := record(t, dir, "car-short.csv", 10)
	broken := filepath.Join(dir, "broken.csv")
	require.NoError(t, os.WriteFile(broken, []byte("unix_ms,lat,lng\n1,2,x\n"), 0o600))
	for name, c := range map[string]struct{ file, want string }{
		"a missing file":   {filepath.Join(dir, "none.csv"), "none.csv"},
		"an empty folder":  {t.TempDir(), "no such recording"},
		"a bad pattern":    {filepath.Join(dir, "[.csv"), "syntax error"},
		"a broken file":    {broken, "broken.csv: trace: line 2"},
		"nothing to watch": {short, "no journey of a minute"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load([]string{c.file}, geo.Car)
			require.ErrorContains(t, err, c.want)
		})
	}
}
