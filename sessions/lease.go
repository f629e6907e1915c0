package sessions

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"doorstep/internal/pause"
)

// Leases is the part of the Repository that keeps the leases of the regions.
type Leases interface {
	// RenewLease notes, by the repository's clock, that a region serves its journeys.
	RenewLease(ctx context.Context, region string) error
}

// Lease is a region's permission to serve its journeys. A gateway has it for as long as it
// has renewed it in the repository lately: one statement for all journeys of the region. A
// region that is cut off from the repository serves none after that, so that it could be
// known from outside when it has ended (docs/adr/0022). It counts from before the statement
// was sent, by this process's monotonic clock: no clock that is set makes it longer.
//
// A nil Lease, of an installation without regions, is held for ever. Held and Age may be
// called by any goroutine at any time.
type Lease struct {
	repo Leases
	opts LeaseOptions

	held   atomic.Bool
	sentAt atomic.Int64 // of the last renewal that succeeded: nanoseconds since epoch
	epoch  time.Time
	until  time.Time // of Renew alone
}

// LeaseOptions are the settings of a Lease. Zero means default.
type LeaseOptions struct {
	Region string        // needed
	For    time.Duration // how long one renewal counts. 120 s
	Log    *slog.Logger
}

// NewLease makes a lease that is not held. Renew takes it, and Run keeps it.
func NewLease(repo Leases, opts LeaseOptions) *Lease {
	opts.For = cmp.Or(opts.For, 2*time.Minute)
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	return &Lease{repo: repo, opts: opts, epoch: time.Now()}
}

// Held reports whether the region's journeys may be served: one atomic load. It ends within
// moments of the lease, also while the repository does not answer; a process that the system
// has stopped is later by as long as it takes to run again.
func (l *Lease) Held() bool { return l == nil || l.held.Load() }

// Age is how long ago the last renewal that succeeded was sent; before the first, how long
// ago the lease was made.
func (l *Lease) Age() time.Duration { return time.Since(l.epoch) - time.Duration(l.sentAt.Load()) }

// Run renews the lease four times in its length until ctx ends, and more often while that
// fails.
func (l *Lease) Run(ctx context.Context) error {
	for failed := !l.Held(); ; {
		wait := l.opts.For / 4
		if failed {
			wait = l.opts.For / 60
		}
		if l.Held() {
			wait = min(wait, time.Until(l.until))
		}
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
		failed = l.Renew(ctx) != nil
	}
}

// Renew renews the lease once, or notes that it has ended. Not for use beside Run. Errors:
// those of the repository.
func (l *Lease) Renew(ctx context.Context) error {
	sent, held := time.Now(), l.Held()
	call, cancel := ctx, func() {}
	if held {
		call, cancel = context.WithDeadline(ctx, l.until) // so that its end is noticed in time
	}
	err := l.repo.RenewLease(call, l.opts.Region)
	cancel()
	if err == nil {
		l.until = sent.Add(l.opts.For)
		l.sentAt.Store(int64(sent.Sub(l.epoch)))
	}
	now := time.Now().Before(l.until)
	l.held.Store(now)
	switch {
	case held && !now && ctx.Err() == nil:
		l.opts.Log.WarnContext(ctx, "lease of the region has ended", slog.String("region", l.opts.Region), slog.Any("error", err))
	case !held && now:
		l.opts.Log.InfoContext(ctx, "lease of the region is held", slog.String("region", l.opts.Region))
	}
	return err
}

// errNoLease is why a region that is cut off does not serve its journeys.
var errNoLease = unavailableError("the region has not renewed its lease")

// latest is Live.Latest while the region's journeys may be served.
func (s *Service) latest(ctx context.Context, ref Ref) (Snapshot, error) {
	if !s.opts.Lease.Held() {
		return Snapshot{}, errNoLease
	}
	return s.live.Latest(ctx, ref)
}

// cutOff is a degraded view where the repository cannot be asked: whether the journey runs,
// as the live store last knew, and no location. err is the repository's.
func (s *Service) cutOff(ctx context.Context, ref Ref, err error) (View, error) {
	snap, liveErr := s.live.Latest(ctx, ref)
	if liveErr != nil || !snap.Known {
		return View{}, err
	}
	return View{Ref: ref, Snapshot: Snapshot{Known: true, Active: snap.Active, Over: snap.Over}, Degraded: true}, nil
}
