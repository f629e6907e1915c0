package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "doorstep"

// mayImport says, for each package of ours, which others of ours it may import
// directly: the arrows of docs/architecture.md. A folder that ends in "/..." stands
// for all in it. A package that no row names is a failure: give it its row.
//
// The rows are for what is linked. Tests may import what they like that Go
// itself allows; the language forbids the cycles that would matter.
var mayImport = map[string][]string{
	"gateway": {
		"gateway/app", "gateway/demo", "gateway/auth", "gateway/consumers",
		"sessions", "sessions/postgres", "sessions/outbox",
	},
	"gateway/demo": {"gateway/app", "gateway/auth", "gateway/consumers", "client", "internal/pause", "internal/phoneapps", "sessions", "geo", "geo/trace"},
	"gateway/app": {
		"gateway/api", "gateway/httpserver", "gateway/hub", "gateway/pages", "gateway/regions", "web", "gateway/auth", "gateway/consumers", "scripts", "metrics",
		"sessions", "sessions/memory", "sessions/postgres", "sessions/outbox", "sessions/outbox/aws", "sessions/outbox/webhook", "geo", "internal/pause",
	},
	"gateway/api":        {"gateway/api/ingest", "gateway/httpserver", "gateway/hub", "gateway/pages", "gateway/regions", "gateway/auth", "ratelimit", "sessions", "geo"},
	"gateway/api/ingest": {"sessions", "geo"},
	"gateway/httpserver": {"internal/stack"},
	"gateway/hub":        {"sessions", "internal/stack"},
	"gateway/pages":      {},
	"gateway/regions":    {"gateway/hub", "sessions", "geo", "internal/pause", "internal/retryafter"},
	"web":                {}, // the pages' files
	"gateway/auth":       {"sessions"},
	"gateway/consumers":  {"sessions", "geo", "internal/pause", "internal/retryafter"},

	"scripts":                       {"scripts/valkeyconn", "sessions", "geo"},
	"scripts/valkeyconn":            {"scripts/valkeyconn/flowbuffer", "internal/pause"},
	"scripts/valkeyconn/flowbuffer": {},

	"sessions":          {"geo", "ratelimit", "internal/pause"},
	"sessions/memory":   {"sessions", "geo"},
	"sessions/postgres": {"sessions", "sessions/outbox", "geo", "internal/pause"}, // it is the outbox's Store
	"sessions/outbox":   {"sessions"},

	"sessions/outbox/aws":     {"sessions", "sessions/outbox", "internal/pause"},
	"sessions/outbox/webhook": {"sessions", "sessions/outbox", "internal/retryafter"},

	"geo":       {},
	"geo/trace": {"geo"},
	"metrics":   {},
	"ratelimit": {},

	"internal/phoneapps":  {}, // writes what stock apps send: for the demo, tests and bench
	"internal/retryafter": {},
	"internal/pause":      {}, // one function, that several of the above need
	"internal/stack":      {}, // the same

	"client": {}, // and nothing from outside, see standardOnly

	"metrics/dashboards": {}, // writes the JSON beside it
	"deploy":             {}, // files, and the tests that read them
	"docs":               {}, // the tests that read them

	// Nothing of the product imports these, so they may look at all of it.
	"bench/...": {"..."},
	// Throw-away servers, for tests and bench.
	"internal/servers/process":      {},
	"internal/servers/valkeyserver": {"internal/servers/process"},
	"internal/servers/requiredtest": {},
	"internal/servers/valkeytest":   {"internal/servers/valkeyserver", "internal/servers/requiredtest"},
	"internal/servers/postgrestest": {"internal/servers/process", "internal/servers/requiredtest"},
	"internal/servers/awstest":      {},
	"internal/servers/certtest":     {},
	"internal/servers/haproxy":      {"internal/servers/process"},
	"internal/servers/issuertest":   {},
	"internal/servers/prometheus":   {"internal/servers/process"},

	"internal/testclock":  {}, // the clock that tests inject
	"internal/testlog":    {}, // a log that a test reads
	"internal/budgettest": {}, // a test kit: what a stage of a request may cost
	// Test support: packages named *test.
	"sessions/livetest":          {"internal/testclock", "sessions", "sessions/memory", "geo"},
	"sessions/repotest":          {"sessions", "sessions/memory", "geo"},
	"sessions/outbox/outboxtest": {"sessions", "sessions/outbox"},
}

// homes says which of our packages may import an outside library directly.
var homes = map[string][]string{
	"github.com/cloudwego":                  {"gateway/api", "gateway/httpserver", "bench/..."},
	"github.com/andybalholm/brotli":         {"gateway/api"},
	"rsc.io/qr":                             {"gateway/api"},
	"github.com/valkey-io":                  {"scripts", "scripts/valkeyconn", "bench/..."},
	"github.com/jackc":                      {"sessions/postgres", "internal/servers/postgrestest", "bench/..."},
	"github.com/aws":                        {"sessions/outbox/aws", "internal/servers/awstest"},
	"github.com/uber/h3-go":                 {"geo"},
	"github.com/prometheus":                 {"metrics", "gateway/app"},
	"github.com/sony/gobreaker":             {"scripts/valkeyconn", "sessions/outbox/aws", "sessions/outbox/webhook", "sessions/postgres", "gateway/consumers", "gateway/regions"},
	"github.com/golang-jwt":                 {"gateway/auth", "bench/..."},
	"github.com/MicahParks":                 {"gateway/auth"},
	"github.com/hashicorp":                  {"ratelimit", "gateway/auth", "gateway/api", "sessions"}, // golang-lru
	"github.com/spf13/pflag":                {"gateway"},
	"google.golang.org/api":                 {"gateway/consumers"}, // FCM
	"cloud.google.com/go/auth":              {"gateway/consumers"}, // its sign-in
	"go.opentelemetry.io":                   {"gateway/app"},
	"gonum.org":                             {"bench/..."},
	"github.com/HdrHistogram":               {"bench/..."},
	"testing":                               {},
	"github.com/stretchr/testify":           {},
	"github.com/getkin/kin-openapi":         {},
	"github.com/santhosh-tekuri/jsonschema": {},
	"go.uber.org/goleak":                    {},
	"pgregory.net/rapid":                    {},
}

// standardOnly may import the standard library alone: a stranger who takes the
// package takes no module with it.
var standardOnly = []string{"client"}

// notLinked are modules, and packages of ours, that the binary must not hold,
// at whatever depth.
var notLinked = []string{
	"github.com/stretchr/testify", "github.com/getkin/kin-openapi", "go.uber.org/goleak", "pgregory.net/rapid", "gonum.org/v1/plot",
	module + "/internal/servers", module + "/bench",
}

func TestImports(t *testing.T) {
	t.Parallel()
	packages := list(t)
	require.NotEmpty(t, packages)
	assert.Empty(t, broken(packages), "an import points where docs/architecture.md has no arrow: turn it round, or change the page and the table together")
}

// A checker that finds nothing is only worth something if it can find.
func TestImports_finds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		from    string
		imports []string
		deps    []string
		want    string
	}{
		"upwards":                       {"sessions", []string{"doorstep/scripts"}, nil, "sessions imports scripts"},
		"sideways":                      {"gateway/api", []string{"doorstep/scripts"}, nil, "gateway/api imports scripts"},
		"a_leaf":                        {"metrics", []string{"doorstep/geo"}, nil, "metrics imports geo"},
		"the_program":                   {"gateway/demo", []string{"doorstep/gateway"}, nil, "gateway/demo imports gateway"},
		"a_bench":                       {"gateway/app", []string{"doorstep/bench/load"}, nil, "gateway/app imports bench/load"},
		"test_support":                  {"gateway/demo", []string{"doorstep/internal/servers/valkeytest"}, nil, "gateway/demo imports internal/servers/valkeytest"},
		"a_package_without_a_row":       {"gateway/misc", nil, nil, "gateway/misc has no row"},
		"outside_its_home":              {"gateway/app", []string{"github.com/jackc/pgx/v5/pgxpool"}, nil, "gateway/app imports github.com/jackc/pgx/v5/pgxpool, whose home is [sessions/postgres internal/servers/postgrestest bench/...]"},
		"below_its_home":                {"geo/trace", []string{"github.com/uber/h3-go/v4"}, nil, "geo/trace imports github.com/uber/h3-go/v4, whose home is [geo]"},
		"testing_in_the_product":        {"sessions", []string{"testing"}, nil, "sessions imports testing, whose home is []"},
		"a_test_module_in_the_binary":   {"gateway", nil, []string{"fmt", "pgregory.net/rapid"}, "gateway links pgregory.net/rapid"},
		"more_than_the_standard":        {"client", []string{"net/http", "golang.org/x/sync/errgroup"}, nil, "client imports golang.org/x/sync/errgroup, which is not of the standard library"},
		"a_test_server_in_the_binary":   {"gateway", nil, []string{"doorstep/internal/servers/process"}, "gateway links doorstep/internal/servers/process"},
		"as_it_should_be":               {"scripts", []string{"context", "doorstep/sessions", "doorstep/geo", "github.com/valkey-io/valkey-go"}, nil, ""},
		"bench_may":                     {"bench/load", []string{"doorstep/gateway/app", "github.com/cloudwego/hertz/pkg/app"}, nil, ""},
		"test_support_may":              {"sessions/livetest", []string{"testing", "pgregory.net/rapid", "doorstep/sessions"}, nil, ""},
		"a_name_that_only_begins_alike": {"geo", []string{"github.com/awslabs/x"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := broken([]listed{{ImportPath: path.Join(module, row.from), Imports: row.imports, Deps: row.deps}})
			assert.Equal(t, row.want, strings.Join(found, "; "))
		})
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string // by its non-test files
	Deps       []string // all that is linked with it
}

// list asks go for every package of the module, as this machine builds it.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var packages []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

// broken lists the imports that break a rule, one line each.
func broken(packages []listed) (found []string) {
	for _, p := range packages {
		from := ours(p.ImportPath)
		allowed, known := row(from)
		if !known {
			found = append(found, from+" has no row")
			continue
		}
		for _, imported := range p.Imports {
			if room := ours(imported); room != "" {
				if !slices.ContainsFunc(allowed, covers(room)) {
					found = append(found, fmt.Sprintf("%s imports %s", from, room))
				}
				continue
			}
			if slices.Contains(standardOnly, from) && strings.Contains(strings.Split(imported, "/")[0], ".") {
				found = append(found, fmt.Sprintf("%s imports %s, which is not of the standard library", from, imported))
				continue
			}
			if home, restricted := homeOf(imported); restricted && !slices.ContainsFunc(home, covers(from)) && !mayTest(from, home) {
				found = append(found, fmt.Sprintf("%s imports %s, whose home is %v", from, imported, home))
			}
		}
		if from == "gateway" {
			found = append(found, linked(p)...)
		}
	}
	return found
}

func linked(binary listed) (found []string) {
	for _, dep := range binary.Deps {
		if slices.ContainsFunc(notLinked, func(m string) bool { return within(dep, m) }) {
			found = append(found, "gateway links "+dep)
		}
	}
	return found
}

// ours is a package's path inside the module, or empty for an outside one.
func ours(importPath string) string {
	if rest, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return rest
	}
	return ""
}

func row(from string) (allowed []string, known bool) {
	if allowed, known = mayImport[from]; known {
		return allowed, true
	}
	for pattern, allowed := range mayImport {
		if strings.HasSuffix(pattern, "/...") && covers(from)(pattern) {
			return allowed, true
		}
	}
	return nil, false
}

// homeOf finds the rule for an outside package; paths of several words are
// matched by whole words.
func homeOf(imported string) (home []string, restricted bool) {
	for library, home := range homes {
		if within(imported, library) {
			return home, true
		}
	}
	return nil, false
}

// mayTest lets test support and benches use what is for tests only.
func mayTest(from string, home []string) bool {
	return len(home) == 0 && (strings.HasSuffix(from, "test") || strings.HasPrefix(from, "bench/"))
}

// covers says whether a pattern names room: itself, a folder's "/...", or "...".
func covers(room string) func(pattern string) bool {
	return func(pattern string) bool {
		folder, all := strings.CutSuffix(pattern, "...")
		if all {
			return strings.HasPrefix(room+"/", folder)
		}
		return room == pattern
	}
}

func within(importPath, prefix string) bool {
	return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
}
