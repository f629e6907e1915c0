package scripts

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/importer"
	goparser "go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// Every constant of update.lua that is not a setting is a Go constant, too, of
// the same name and value; and every verdict, flag and suspicion of Go is in
// update.lua.
func TestTwins_constants(t *testing.T) {
	t.Parallel()
	twins := map[string]*types.Const{} // by the name in Lua
	for _, dir := range []string{".", "../geo", "../sessions", "../sessions/memory"} {
		for _, c := range constantsOf(t, dir) {
			twins[luaName(c)] = c
		}
	}
	inLua := constantsIn(updateLua)
	for name := range updateSettings(sessions.LiveOptions{}.WithDefaults()) {
		delete(inLua, name)
	}
	for name, value := range inLua {
		if assert.Contains(t, twins, name) {
			assertValue(t, twins[name], value)
		}
	}
	for name, c := range twins {
		if mustBeInLua(c) {
			assert.Contains(t, inLua, name, "the twin of %s", c.Name())
		}
	}
	for _, source := range []string{openLua, endLua} {
		for name, value := range constantsIn(source) {
			if strings.HasPrefix(name, "LAYOUT") {
				assertValue(t, twins[name], value)
			}
		}
	}
}

func mustBeInLua(c *types.Const) bool {
	_, kind, _ := strings.Cut(c.Type().String(), ".")
	return slices.Contains([]string{"Suspicions", "Flags"}, kind) && c.Name() != "flagEnd" || strings.HasPrefix(c.Name(), "Verdict")
}

func assertValue(t *testing.T, c *types.Const, value string) {
	t.Helper()
	want, _ := constant.Float64Val(c.Val())
	got, err := strconv.ParseFloat(value, 64)
	require.NoError(t, err)
	assert.Equal(t, want, got, c.Name()) //nolint:testifylint // the same bits, not nearly the same
}

// luaName turns VerdictTooSoon into TOO_SOON, hashLayout into LAYOUT and
// minLegMS into MIN_LEG_MS.
func luaName(c *types.Const) string {
	name := strings.TrimPrefix(strings.TrimPrefix(c.Name(), "Verdict"), "hash")
	return strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "${1}_$2"))
}

// constantsOf lists the numbers among a package's constants. Nothing but math is
// imported for that, so what depends on more has no type and is left out.
func constantsOf(t *testing.T, dir string) []*types.Const {
	t.Helper()
	files := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var parsed []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := goparser.ParseFile(files, path, nil, goparser.SkipObjectResolution)
		require.NoError(t, err)
		parsed = append(parsed, file)
	}
	config := types.Config{Importer: onlyMath{importer.ForCompiler(files, "source", nil)}, Error: func(error) {}}
	pkg, _ := config.Check(dir, files, parsed, nil)
	var found []*types.Const
	for _, name := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(name).(*types.Const); ok && (c.Val().Kind() == constant.Int || c.Val().Kind() == constant.Float) {
			found = append(found, c)
		}
	}
	return found
}

type onlyMath struct{ types.Importer }

func (m onlyMath) Import(path string) (*types.Package, error) {
	if path != "math" {
		return nil, errors.ErrUnsupported
	}
	return m.Importer.Import(path)
}

var step = regexp.MustCompile(`(?m)^\s*(?:--|//) Steps? (\d+)(?: and (\d+))?[:.]`)

// The steps of an update are numbered, and they are the same on both sides.
func TestTwins_steps(t *testing.T) {
	t.Parallel()
	require.Equal(t, upTo(15, 1), stepsIn(updateLua), "in order")
	var twin []int
	for _, path := range []string{"../sessions/memory/update.go", "../geo/judge.go"} {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		twin = append(twin, stepsIn(string(source))...)
	}
	slices.Sort(twin)
	require.Equal(t, upTo(15, 1), slices.Compact(twin))
}

func stepsIn(source string) []int {
	var found []int
	for _, m := range step.FindAllStringSubmatch(source, -1) {
		for _, text := range m[1:] {
			if n, err := strconv.Atoi(text); err == nil {
				found = append(found, n)
			}
		}
	}
	return found
}

// Constants are put into the text of update.lua by name, so a name must not be
// in a string, too.
func TestWithSettings(t *testing.T) {
	t.Parallel()
	text := withSettings(updateLua, updateSettings(sessions.LiveOptions{RateInterval: 7e9}.WithDefaults()))
	assert.Contains(t, text, "if due > now + 7000 + 1000 then")
	assert.Equal(t, strings.Count(updateLua, "\n"), strings.Count(text, "\n"), "line numbers stay")
	names := slices.Collect(maps.Keys(constantsIn(updateLua)))
	for _, name := range constantName.FindAllString(text, -1) {
		assert.NotContains(t, names, name)
	}
	for _, m := range regexp.MustCompile(`'[^'\n]*'`).FindAllString(code(strings.Split(updateLua, "\n")), -1) {
		for _, name := range constantName.FindAllString(m, -1) {
			assert.NotContains(t, names, name, "in %s", m)
		}
	}
	assert.Panics(t, func() { withSettings(updateLua, map[string]string{"NO_SUCH": "1"}) })
}
