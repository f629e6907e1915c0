// Package sessions is the vocabulary of the house: the tutoring session, the
// journey to it, the fix, the verdict on a fix; the rules they obey; the
// contracts of the two stores; and both stores again in process memory, as the
// embedded default and as the executable specification of the real ones.
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
//	A completed session may be reviewed, once, by its student.
//
//	cancelled: set by the booking side of the house; nothing starts from it.
//
// A journey is the travelling part. It has no status of its own: it runs while
// JourneyStartedAt is set and JourneyEndedAt is not. Its identity is its
// session and the millisecond it started in; transition.go keeps that rising,
// so a late message about an old journey can never touch a newer one.
//
// # Invariants
//
//   - transition.go is the only place that changes a session; every change and
//     the event that tells of it are one transaction of the Repository.
//   - A trainer has at most one running journey.
//   - The Repository is the truth. The live store is a cache of what happens
//     now: losing it loses no journey, the next update or read restores it.
//   - A version never goes back for a reader. It is a store's own clock in
//     milliseconds, or one more than the last version, whichever is larger.
//   - When End has answered, no coordinate of the journey is in the live store,
//     and no call that was under way can bring one back: the mark that End
//     leaves refuses it.
//
// # Units and clocks
//
// Instants are UTC with milliseconds. Rate, order and expiry run on the store's
// clock; implied speed on the phone's where that is sane. Degrees are WGS 84,
// distances metres, speeds km/h.
package sessions
