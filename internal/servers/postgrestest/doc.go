// Package postgrestest gives tests a real PostgreSQL.
//
// One server on a unix socket serves a whole test binary, and New gives each test
// a database of its own on it. Private is for a test that stops, pauses or kills
// its server. The server starts once, in about a second; a database takes some
// 20 ms. Fsync is off: no test cuts the machine's power, and a killed process
// loses nothing that the kernel has.
//
// A missing PostgreSQL skips the test, and fails it when
// DOORSTEP_REQUIRE_SERVERS is set, as make test and CI do. A package that uses
// it ends its server with
//
//	func TestMain(m *testing.M) { postgrestest.Main(m) }
//
// Without that the server ends with the process all the same, but leaves its
// folder (some 40 MB), which the next run removes. Leak checkers see one goroutine
// for the running server: doorstep/internal/servers/process.(*Process).run.
package postgrestest
