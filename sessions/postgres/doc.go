// Package postgres is the store of record on PostgreSQL 12 or later: the
// sessions.Repository, the outbox table that its events are written to, and
// the migrations that make both. pgx lives here and nowhere else.
//
// # One transition, one transaction
//
// Change reads the session FOR UPDATE, lets transition.go decide, writes the
// row and the events, commits: four round trips, the row locked for the last
// three. There is no NOTIFY in it: measured, one in the transaction costs 57 %
// of the throughput, for a lock that all committers share. The relay is nudged
// in process and polls (see the outbox table in migrations/).
//
// # Faults
//
// Everything but a refusal is *sessions.Error with DatabaseUnavailable, a
// RetryAfter of one second and the cause, the caller's own context included:
// errors.Is finds context.Canceled in it. Nothing is retried here. A commit
// whose answer is lost has an unknown outcome, and the caller may try again,
// because no transition does a second time what it has done: a start that
// happened answers JourneyAlreadyStarted with the running journey, a stop
// NoActiveJourney, an arrival the same OTP, a verification
// NotPendingVerification. Only a wrong OTP can be counted twice, which is the
// side to err on. A Create that happened finds its own booking.
//
// # Breaker
//
// All calls go through one breaker (breaker.go). Half of at least twenty calls
// in ten seconds without an answer open it: then calls fail at once, and not
// after their time-out, until three in a row have been answered; the first is
// tried after a second. What the server refuses is an answer, and a caller that
// left says nothing.
//
// # Time
//
// Each call has one time-out, Options.CallTimeout, for all it does: waiting for
// a connection, too. The server's own time-outs are shorter, so that it is the
// server that ends a slow statement and the connection lives on; the one here
// is for a server that does not answer at all. Once Create or Change has its
// connection, the caller's leaving no longer cancels it.
//
// # Healing
//
// Nothing has to be restarted. After a restart of the server each connection
// that was used within the last second costs one refusal; what has idled longer
// is looked at first. After a server that was stopped goes on, the next call is
// answered (measured: 10 ms), or where the breaker had opened the first one a
// second after that. A host that leaves the network without a word is
// the slow case: pgx gives each silent connection 15 s to say goodbye, and it
// keeps its place in the pool so long, so a pool of nothing else is back after
// 18 s (measured), and Close takes up to 15 s.
package postgres
