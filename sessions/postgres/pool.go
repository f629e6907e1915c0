package postgres

import "time"

// PoolState is the connections at one moment, and what has happened since the
// start.
type PoolState struct {
	InUse, Idle, Max int
	Acquired         int64         // how often a connection was had
	Waited           int64         // of those, how often none was free
	Left             int64         // how often the caller gave up waiting
	WaitedFor        time.Duration // in all
}

// Pool reads the state of the pool; it asks nobody.
func (r *Repository) Pool() PoolState {
	s := r.pool.inner.Stat()
	return PoolState{
		InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()), Max: int(s.MaxConns()),
		Acquired: s.AcquireCount(), Waited: s.EmptyAcquireCount(), Left: s.CanceledAcquireCount(),
		WaitedFor: s.EmptyAcquireWaitTime(),
	}
}
