// Package requiredtest ends a test whose server or tool is not on this machine.
package requiredtest

import (
	"os"
	"testing"
)

// Missing skips the test, or fails it where DOORSTEP_REQUIRE_SERVERS is set, as make test
// and CI do: nobody would notice a skipped test there. what is an error or a text that says
// what is not there.
func Missing(t testing.TB, what any) {
	t.Helper()
	if os.Getenv("DOORSTEP_REQUIRE_SERVERS") != "" {
		t.Fatalf("%v, and DOORSTEP_REQUIRE_SERVERS is set: run .ci/install", what)
	}
	t.Skipf("%v: run .ci/install", what)
}
