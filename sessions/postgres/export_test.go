package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolConfig is what the pool was made with.
func (r *Repository) PoolConfig() *pgxpool.Config { return r.pool.inner.Config() }

// ClaimStatement is a claim's statement, to look at its plan.
var ClaimStatement = claimStatement

// MigrateTimes is Migrate with so many tries for a lock, one after the other.
func MigrateTimes(ctx context.Context, url string, tries int, progress func(Progress)) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	return migrator{opts: Options{URL: url}, known: migrations(), told: progress, tries: tries, pause: time.Millisecond}.migrate(ctx)
}

// DeleteStatement is the statement that deletes old rows, to look at its plan.
var DeleteStatement = deleteStatement

// RequeueSQL is the statement that requeues a batch, to look at its plan, and RequeueLimit its size.
var RequeueSQL = requeueSQL

const RequeueLimit = requeueLimit

// InsertMoments is the statement that stores moments, to look at its plan.
const InsertMoments = insertMoments

// DoneSQL and ReleaseSQL are statements about claimed events, to look at their plans.
func DoneSQL(to string) string    { return statement(doneSQL, to, 2) }
func ReleaseSQL(to string) string { return statement(releaseSQL, to, 3) }

// Conns is the pool behind the breaker, to ask what its connections have prepared.
func (r *Repository) Conns() *pgxpool.Pool { return r.pool.inner }

// AboutUser is the condition by which an erasure finds events, to look at its plan.
const AboutUser = about
