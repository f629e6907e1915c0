package sessions

import (
	"context"
	"time"
)

// Repository is the contract of the store of record. MemoryRepository here and
// postgres.Repository keep it; package repotest holds both to it.
//
// Safe for concurrent use. Faults are *Error with DatabaseUnavailable; the
// refusals are named at each method.
type Repository interface {
	// Create stores a new session. With an id that exists it reports false and
	// the stored session when the booking is the same, else SessionConflict.
	Create(ctx context.Context, s Session) (Session, bool, error)

	// Session reads one; SessionNotFound.
	Session(ctx context.Context, id ID) (Session, error)

	// OfStudent lists a student's sessions, latest booking first, at most 200.
	OfStudent(ctx context.Context, studentID ID) ([]Session, error)

	// Change locks the session, calls f once with it, and stores what f made
	// of it together with the events f returned, in one transaction, then
	// returns it. When f fails nothing is stored and the error comes back as
	// it is, with the session as it stood. SessionNotFound; TrainerBusy when
	// the trainer's other journey is still running.
	Change(ctx context.Context, id ID, f func(*Session) ([]Event, error)) (Session, error)

	// Record stores an event that changes nothing, in the order of its
	// session's others. It reports false, and stores nothing, for one whose id
	// has been recorded. SessionNotFound.
	Record(ctx context.Context, e Event) (first bool, err error)

	// Running lists up to limit sessions whose journey is running and was
	// started at or before an instant, the longest running first.
	Running(ctx context.Context, startedBy time.Time, limit int) ([]Session, error)

	// Review locks the session, calls f once with it, and stores the review
	// that f returns together with the trainer's rating, which it moves, in
	// one transaction. When f fails nothing is stored and the error comes
	// back as it is. SessionNotFound; AlreadyReviewed.
	Review(ctx context.Context, id ID, f func(Session) (Review, error)) (Rating, error)

	// Rating is what a trainer's reviews add up to; zero without any.
	Rating(ctx context.Context, trainerID ID) (Rating, error)

	PushTokens
	Analytics
}

// SameBooking reports whether two sessions were booked alike: what Create
// compares. What happened to them since does not count.
func SameBooking(a, b Session) bool {
	return a.ID == b.ID && a.TrainerID == b.TrainerID && a.StudentID == b.StudentID &&
		a.ScheduledAt.Equal(b.ScheduledAt) && a.Home == b.Home && a.Mode == b.Mode
}
