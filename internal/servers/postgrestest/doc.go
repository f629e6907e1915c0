// Package postgrestest gives tests a real PostgreSQL.
//
// One server on a unix socket serves a whole test binary, and New hands each
// test a database of its own on it; Private is for a test that stops, pauses
// or kills a server. The server starts in about a second, once; a database
// takes some 20 ms. Fsync is off: no test pulls the plug, and what a test may
// do, to kill the process, loses nothing that the kernel has.
//
// A missing PostgreSQL skips the test, and fails it when
// DOORSTEP_REQUIRE_SERVERS is set, as make test and CI do. A package that uses
// it ends its server with
//
//	func TestMain(m *testing.M) { postgrestest.Main(m) }
//
// Without that it ends with the process all the same, but leaves its folder
// (some 40 MB) for the next run to sweep. Leak checkers see one goroutine for
// the running server: doorstep/internal/servers/process.(*Process).run.
package postgrestest
