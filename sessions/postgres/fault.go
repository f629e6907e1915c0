package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"doorstep/sessions"
)

// retryAfter is how long callers are told to wait when the database is away: about as long
// as a restart, or the first attempt after a failover, takes.
const retryAfter = time.Second

// SQLSTATEs, from appendix A of the PostgreSQL manual.
const (
	uniqueViolation  = "23505"
	undefinedTable   = "42P01"
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
	invalidText      = "22P02" // no label of an enum
	checkViolation   = "23514"

	readOnly = "25" // the class: the server, or the transaction, takes no writes
)

const oneRunningJourney = "tutoring_sessions_one_running_journey"

// unavailable is the error of every fault: operation and cause for operators, a code and
// RetryAfter for callers.
func unavailable(operation string, cause error) error {
	fault := sessions.Fault(sessions.DatabaseUnavailable, "the database cannot be reached just now; try again",
		fmt.Errorf("%s: %w", operation, cause))
	fault.RetryAfter = retryAfter
	return fault
}

// writeFault is like unavailable, but for the one refusal that the database itself
// decides: a trainer has one running journey at most.
func writeFault(operation string, cause error) error {
	var pg *pgconn.PgError
	if errors.As(cause, &pg) && pg.Code == uniqueViolation && pg.ConstraintName == oneRunningJourney {
		return sessions.Refuse(sessions.TrainerBusy, "another journey of this trainer is running")
	}
	return unavailable(operation, cause)
}

// noStatus is NotSupported where the operator's own type or CHECK of status does not know
// the status that was written.
func noStatus(cause error, status sessions.Status) error {
	var pg *pgconn.PgError
	if status == sessions.NoShow && errors.As(cause, &pg) && (pg.Code == invalidText || pg.Code == checkViolation) {
		return sessions.Refuse(sessions.NotSupported, "the operator's table has no status "+string(status))
	}
	return nil
}

func notFound() error { return sessions.Refuse(sessions.SessionNotFound, "no such session") }
