package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The files are what go run ./metrics/dashboards writes. That their queries find
// data is bench/verify/dashboards's to prove.
func TestWrite_is_what_is_kept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, write(dir))
	fresh, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	kept, err := filepath.Glob("*.json")
	require.NoError(t, err)
	require.Len(t, kept, len(fresh))
	for _, file := range fresh {
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Base(file))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "run go run ./metrics/dashboards")
	}
}

func TestDashboards(t *testing.T) {
	t.Parallel()
	variable := regexp.MustCompile(`\$\{?(\w+)`)
	for _, d := range []dashboard{service(), journeys(), liveStore(), events()} {
		titles := map[string]bool{}
		for _, row := range d.rows {
			require.Zero(t, width%len(row), "%s: the panels of a row share its width", d.name)
			for _, p := range row {
				assert.False(t, titles[p.title], "%s: %s is there twice", d.name, p.title)
				titles[p.title] = true
				assert.NotEmpty(t, p.unit, p.title)
				for _, q := range p.queries {
					assert.Contains(t, q.expr, chosen, p.title)
					for _, v := range variable.FindAllStringSubmatch(q.expr, -1) {
						assert.Contains(t, []string{"instance", "__rate_interval"}, v[1], p.title)
					}
				}
			}
		}
	}
}
