package requiredtest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"doorstep/internal/servers/requiredtest"
)

// A missing program skips a test on a laptop and fails it in CI.
func TestMissing(t *testing.T) { // not parallel: it sets the environment
	for require, want := range map[string]string{"": "skip", "1": "fail skip"} {
		t.Setenv("DOORSTEP_REQUIRE_SERVERS", require)
		var r recorder
		requiredtest.Missing(&r, "no server")
		assert.Equal(t, want, strings.Join(r.calls, " "))
	}
}

// recorder records how a test is ended, and does not end.
type recorder struct {
	testing.TB
	calls []string
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.calls = append(r.calls, "fail") }
func (r *recorder) Skipf(string, ...any)  { r.calls = append(r.calls, "skip") }
