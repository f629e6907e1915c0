// Package sessions holds the domain: the tutoring session, the trainer's journey
// to it, the fix (one position that a phone reports), the verdict on a fix, the
// rules they obey, and the contracts of the two stores.
//
// # Where to start
//
//   - session.go: the types. transition.go: how a session changes.
//   - repository.go: the contract of the store of record (PostgreSQL).
//     live.go: the contract of the live store (Valkey).
//   - service.go and journey.go: the calls that change a session.
//     fix.go and locate.go: the two frequent calls, an update and a live read.
//   - sweeper.go, fixcounter.go: what runs in the background.
//   - report.go: what an update tells beside its answer.
//
// Package memory has both stores in process memory. Packages postgres and scripts
// have the real ones. Packages repotest and livetest are the contract suites that
// all of them must pass.
//
// # The session
//
//	            start                 arrived                verify-otp              complete
//	scheduled ────────► scheduled ────────────► pending ────────────► in_progress ────────────► completed
//	    ▲               + journey               _verification
//	    │                  │
//	    └──────────────────┘
//	     stop, time-out: the journey ends, the session stays and may be started again
//
//	A completed session may be reviewed once, by its student.
//
//	cancelled: by its student while scheduled, by an admin also while pending_verification,
//	or by the operator's own system. no_show: by the trainer or an admin while
//	pending_verification. Both are final.
//
// A journey is the travelling part of a session. It has no status field: it runs
// while JourneyStartedAt is set and JourneyEndedAt is not. Its identity is its
// session and the millisecond in which it started. transition.go makes each
// start of a session later than the one before, so a late message about an old
// journey cannot touch a newer one.
//
// # Invariants
//
//   - Only transition.go changes a session. Every change and the event about it
//     are one transaction of the Repository.
//   - A trainer has at most one running journey.
//   - The Repository is the truth. The live store is a cache of what happens now.
//     Losing it loses no journey: the next update or read restores it.
//   - A version never goes back for a reader. It is the store's clock in
//     milliseconds, or the last version plus one, whichever is larger.
//   - When Live.End has returned, no coordinate of the journey is in the live
//     store, and no call that was under way can bring one back: the tombstone
//     that End leaves refuses it.
//
// # Units and clocks
//
// Instants are UTC with milliseconds. Rate, order and expiry use the store's
// clock. The implied speed of a fix uses the phone's clock where that is sane.
// Degrees are WGS 84, distances metres, speeds km/h.
package sessions
