// Package valkeytest gives tests a real Valkey and a real Redis.
//
// One server of each kind serves a whole test binary: keys are unique to a test,
// so sharing is safe, and a test costs no start. Private is for a test that
// stops, pauses or fills its server. A missing server skips the test, and fails
// it when DOORSTEP_REQUIRE_SERVERS is set, as make test and CI do.
//
// A package that uses it ends its servers with
//
//	func TestMain(m *testing.M) { valkeytest.Main(m) }
//
// Without that the servers end with the process all the same, but leave a small
// folder, which the next run removes. Leak checkers see one goroutine for each
// running server: doorstep/internal/servers/process.(*Process).run.
package valkeytest
