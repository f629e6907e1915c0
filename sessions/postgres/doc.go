// Package postgres is the store of record on PostgreSQL 12 or later: the
// sessions.Repository, the outbox.Store of its events, and the migrations that make both.
// pgx lives here and nowhere else in the product.
//
// # One transition, one transaction
//
// Change reads the session FOR UPDATE, lets transition.go decide, writes the
// row and the events, commits: four round trips, the row locked for the last
// three. There is no NOTIFY in it: measured, a NOTIFY in the transaction costs 57 % of the
// throughput, because all committers share its lock. The relay is nudged in process and
// polls (see the outbox table in migrations/).
//
// # Faults
//
// Every error but a refusal is *sessions.Error with DatabaseUnavailable, a RetryAfter of
// one second and the cause. That includes the caller's own context: errors.Is finds
// context.Canceled in it. Nothing is retried here. A commit whose answer is lost has an
// unknown outcome. The caller may try again, because no transition happens twice: a start
// that happened answers JourneyAlreadyStarted with the running journey, a stop
// NoActiveJourney, an arrival the same OTP, a verification NotPendingVerification. Only a
// wrong OTP can be counted twice, which is the safe side. A Create that happened finds its
// own booking.
//
// # Breaker
//
// All calls go through one breaker (pool.go). It opens when half of at least twenty calls
// in ten seconds get no answer: then calls fail at once, and not after their time-out,
// until three in a row have been answered; the first is tried after a second. A refusal by
// the server is an answer. A call whose caller has left does not count.
//
// # Reader
//
// Reader sends a few reads that may be a second old to a hot standby near the gateway, and to
// the primary where the standby is behind or away. reader.go says how that is known.
//
// # Time
//
// Each call has one time-out for all it does, Options.CallTimeout, with the wait for a
// connection. The server's own time-outs are shorter, so that the server ends a slow
// statement and the connection stays usable; the one here is for a server that does not
// answer at all. Once Create or Change has its connection, the caller's leaving no longer
// cancels it.
//
// # Healing
//
// Nothing has to be restarted. After a restart of the server each connection that was used
// within the last second costs one failed call; a connection that was idle for longer is
// pinged first. One whose server has become a standby is closed at its first refused write.
// When a stopped server process goes on, the next call is answered (measured:
// 10 ms), or the first one a second later where the breaker had opened. A host that leaves
// the network without closing its connections is the slow case: pgx waits up to 15 s to
// close each silent connection, which keeps its place in the pool meanwhile. A pool of
// nothing else is back after 18 s (measured), and Close takes up to 15 s.
package postgres
