package histories

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"doorstep/internal/pause"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// request goes with a call through the product's context. It is the call's source of
// faults, so that they are the same in a replay whatever else runs.
type request struct {
	draw    *rand.Rand
	call    Call // that it is of, if it is one
	faulted atomic.Bool
}

// newRequest draws from a seed. A shared read goes on when its caller has left, so a
// request may be used by several goroutines.
func newRequest(seed uint64) *request {
	return &request{draw: rand.New(&source{from: rand.NewPCG(seed, 0)})}
}

type source struct {
	mu   sync.Mutex
	from *rand.PCG
}

// Uint64 makes it a rand.Source.
func (s *source) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from.Uint64()
}

type requestKey struct{}

func (r *request) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

func requestOf(ctx context.Context) *request {
	r, ok := ctx.Value(requestKey{}).(*request)
	if !ok {
		panic("histories: a call to a store without a request in its context")
	}
	return r
}

// valkeyTimeout is the gateway's default time-out of a call.
const valkeyTimeout = 250 * time.Millisecond

var errStore = errors.New("the store did not answer")

// faults decides when a store fails: always in its outages, and now and then.
type faults struct {
	outages []Window
	often   float64 // of calls outside of them
}

func (f faults) away(now time.Time) bool {
	for _, w := range f.outages {
		if !now.Before(w.From) && now.Before(w.To) {
			return true
		}
	}
	return false
}

// fate is what becomes of one call to a store.
type fate int

const (
	done       fate = iota
	undone          // and the caller has no answer
	unanswered      // done, and the caller has no answer
	delayed         // done later, and the caller has no answer
)

func (f faults) fate(r *request) fate {
	switch {
	case f.away(time.Now()):
		return []fate{undone, undone, undone, delayed}[r.draw.IntN(4)]
	case r.draw.Float64() < f.often:
		return []fate{undone, unanswered, delayed}[r.draw.IntN(3)]
	default:
		return done
	}
}

// hop is the way to a store or back: a fraction of a millisecond, and now and then
// two hundred times that.
func hop(ctx context.Context, r *request) error {
	d := time.Duration(50_000 + r.draw.IntN(400_000))
	if r.draw.IntN(100) == 0 {
		d *= 200
		r.faulted.Store(true)
	}
	return pause.For(ctx, d)
}

// through does one piece of work on a store, with the fate that it draws. The world
// waits for delayed work.
func (f faults) through(ctx context.Context, late *sync.WaitGroup, work func()) error {
	r := requestOf(ctx)
	if err := hop(ctx, r); err != nil {
		return err
	}
	fate := f.fate(r)
	switch fate {
	case done, unanswered:
		work()
	case delayed:
		wait := time.Duration(r.draw.Int64N(int64(8 * time.Second)))
		late.Go(func() { time.Sleep(wait); work() })
	case undone:
	}
	if fate == done {
		return hop(ctx, r)
	}
	r.faulted.Store(true)
	if err := pause.For(ctx, time.Duration(r.draw.Int64N(int64(valkeyTimeout)))); err != nil {
		return err
	}
	return errStore
}

// liveStore is a Live with faults, on a clock that steps. It records its changes.
type liveStore struct {
	faults
	region string
	record *recorder
	late   *sync.WaitGroup

	mu       sync.Mutex
	under    sessions.Live
	fresh    func() sessions.Live
	offset   time.Duration
	latest   time.Time // the latest time that its clock has shown
	floor    time.Time // latest or highest, when the data were lost
	highest  int64     // the highest version so far, which may be ahead of a clock that was set back
	watchers map[*storeWatcher]struct{}
	looks    int // calls of CachedView

	mirrored sessions.Ref         // a journey that is kept twice until it is dumped
	copied   sessions.Live        // its second keeping; nil: none, or a hash that was lost
	copy     func() sessions.Live // makes it, as a mutant; nil: fresh
	dumped   bool
	back     bool // copied stands for the journey now
}

// mirror keeps a journey twice, so that it can come back as it was: DUMP, and RESTORE
// after its end.
func (s *liveStore) mirror(ref sessions.Ref) {
	s.mirrored, s.copied = ref, s.fresh()
	if s.copy != nil {
		s.copied = s.copy()
	}
}

// dump ends the second keeping: so the hash is in the dump.
func (s *liveStore) dump(sessions.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dumped = true
}

// restore puts the dumped hash in the place of a journey that has ended. It publishes
// nothing. The clock is not behind what it has shown, as after a loss. It reports false
// where the journey runs, so that it may be tried again.
func (s *liveStore) restore(ref sessions.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copied == nil || s.back {
		return true
	}
	now, _ := s.under.Latest(context.Background(), ref)
	was, _ := s.copied.Latest(context.Background(), ref)
	if now.Active || !was.Active {
		return !was.Active
	}
	s.floor = later(s.latest, time.UnixMilli(s.highest))
	s.offset = s.aboveFloor(s.offset)
	s.back = true
	s.note(Change{Kind: Back, Ref: ref, Version: was.Version, StoreMS: s.now().UnixMilli()})
	for w := range s.watchers {
		if w.ref == ref {
			w.stop()
			_ = s.attach(context.Background(), w)
		}
	}
	return true
}

// of is the store that keeps a journey.
func (s *liveStore) of(ref sessions.Ref) sessions.Live {
	if s.back && ref == s.mirrored {
		return s.copied
	}
	return s.under
}

// also does the same work on the second keeping of a journey.
func (s *liveStore) also(ref sessions.Ref, work func(sessions.Live)) {
	if s.copied != nil && !s.dumped && ref == s.mirrored {
		work(s.copied)
	}
}

type storeWatcher struct {
	ref  sessions.Ref
	wake func()
	stop func()
	draw *rand.Rand
}

var _ sessions.Live = (*liveStore)(nil)

func (s *liveStore) note(ch Change) {
	ch.Region = s.region
	s.record.change(ch)
}

// now is the store's clock.
func (s *liveStore) now() time.Time {
	now := time.Now().Add(s.offset)
	s.latest = later(now, s.latest)
	return now
}

// do does one piece of work on the store below that keeps the journey, if it arrives
// there.
func (s *liveStore) do(ctx context.Context, ref sessions.Ref, work func(under sessions.Live)) error {
	err := s.through(ctx, s.late, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		work(s.of(ref))
	})
	if errors.Is(err, errStore) {
		return errors.Join(sessions.ErrUnavailable, err)
	}
	return err
}

func (s *liveStore) version(ref sessions.Ref) int64 {
	snap, _ := s.of(ref).Latest(context.Background(), ref)
	s.highest = max(s.highest, snap.Version)
	return snap.Version
}

// Open reads the work's results only when it was done in time: delayed work may
// still be writing them. So do the other calls.
func (s *liveStore) Open(ctx context.Context, j sessions.Journey) (bool, error) {
	var opened bool
	var refused error
	err := s.do(ctx, j.Ref, func(under sessions.Live) {
		before := s.version(j.Ref)
		opened, refused = under.Open(context.Background(), j)
		s.also(j.Ref, func(l sessions.Live) { _, _ = l.Open(context.Background(), j) })
		s.changed(Change{Kind: Opened, Ref: j.Ref, Journey: j.StartedAt}, before)
	})
	if err != nil {
		return false, err
	}
	return opened, refused
}

func (s *liveStore) Move(ctx context.Context, j sessions.Journey) (bool, error) {
	var known bool
	var refused error
	err := s.do(ctx, j.Ref, func(under sessions.Live) {
		before := s.version(j.Ref)
		known, refused = under.Move(context.Background(), j)
		s.also(j.Ref, func(l sessions.Live) { _, _ = l.Move(context.Background(), j) })
		ch := Change{Kind: Moved, Ref: j.Ref, Journey: j.StartedAt}
		if snap, _ := under.Latest(context.Background(), j.Ref); snap.Location != nil {
			ch.Fix = snap.Location.Point
		}
		s.changed(ch, before)
	})
	return known, errors.Join(err, refused)
}

func (s *liveStore) End(ctx context.Context, j sessions.Journey) error {
	return s.do(ctx, j.Ref, func(under sessions.Live) {
		before := s.version(j.Ref)
		_ = under.End(context.Background(), j)
		s.also(j.Ref, func(l sessions.Live) { _ = l.End(context.Background(), j) })
		s.changed(Change{Kind: Ended, Ref: j.Ref, Journey: j.StartedAt}, before)
	})
}

// changed records a change, unless the version is the same.
func (s *liveStore) changed(ch Change, before int64) {
	if ch.Version = s.version(ch.Ref); ch.Version != before {
		ch.StoreMS = s.now().UnixMilli()
		s.note(ch)
	}
}

func (s *liveStore) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	var receipt sessions.Receipt
	err := s.do(ctx, ref, func(under sessions.Live) {
		receipt, _ = under.Update(context.Background(), ref, fix)
		s.also(ref, func(l sessions.Live) { _, _ = l.Update(context.Background(), ref, fix) })
		if receipt.Verdict <= sessions.VerdictStale {
			return
		}
		ch := Change{Kind: Judged, Ref: ref, Fix: fix.Point, Verdict: receipt.Verdict, StoreMS: s.now().UnixMilli(), Version: s.version(ref)}
		if snap, _ := under.Latest(context.Background(), ref); receipt.Verdict == sessions.VerdictStored && snap.Location != nil && !fix.AtArrival {
			ch.TakenMS = snap.Location.RecordedAt.UnixMilli()
		}
		s.note(ch)
	})
	if err != nil {
		return sessions.Receipt{}, err
	}
	return receipt, nil
}

func (s *liveStore) UpdateAll(ctx context.Context, ref sessions.Ref, fixes []sessions.Fix) ([]sessions.Receipt, error) {
	return sessions.OneByOne(fixes, func(f sessions.Fix) (sessions.Receipt, error) { return s.Update(ctx, ref, f) })
}

func (s *liveStore) Latest(ctx context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	var snap sessions.Snapshot
	if err := s.do(ctx, ref, func(under sessions.Live) { snap, _ = under.Latest(context.Background(), ref) }); err != nil {
		return sessions.Snapshot{}, err
	}
	return snap, nil
}

// CachedView returns nothing while the store is away, and every second time otherwise, so
// that both ways of a read are played.
func (s *liveStore) CachedView(ref sessions.Ref) (sessions.Snapshot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if s.away(time.Now()) || s.looks%2 == 0 || s.back && ref == s.mirrored { // no message has told what came back
		return sessions.Snapshot{}, false
	}
	return s.under.CachedView(ref)
}

func (s *liveStore) Meta(ctx context.Context, id sessions.ID) (sessions.Meta, bool, error) {
	var meta sessions.Meta
	var known bool
	if err := s.do(ctx, sessions.Ref{}, func(under sessions.Live) { meta, known, _ = under.Meta(context.Background(), id) }); err != nil {
		return sessions.Meta{}, false, err
	}
	return meta, known, nil
}

func (s *liveStore) SetMeta(ctx context.Context, id sessions.ID, m sessions.Meta) error {
	return s.do(ctx, sessions.Ref{}, func(under sessions.Live) { _ = under.SetMeta(context.Background(), id, m) })
}

// Watch wakes a moment late. A change in an outage wakes no watcher, but the end of
// the outage wakes all, as sessions.Live requires.
func (s *liveStore) Watch(ctx context.Context, ref sessions.Ref, wake func()) (func(), error) {
	r := requestOf(ctx)
	if err := hop(ctx, r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &storeWatcher{ref: ref, draw: rand.New(rand.NewPCG(r.draw.Uint64(), 0)), wake: wake}
	s.watchers[w] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
		w.stop()
	}, s.attach(ctx, w)
}

func (s *liveStore) attach(ctx context.Context, w *storeWatcher) (err error) {
	w.stop, err = s.of(w.ref).Watch(ctx, w.ref, func() {
		if !s.away(time.Now()) {
			time.AfterFunc(time.Duration(w.draw.IntN(3_000_000)), w.wake)
		}
	})
	return err
}

// lose restarts the store without its data. The new clock is behind neither the old
// one nor its versions: versions do not survive both a loss and a step back, and the
// contract does not promise it.
func (s *liveStore) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = later(s.latest, time.UnixMilli(s.highest))
	s.offset = s.aboveFloor(s.offset)
	s.under, s.copied, s.back = s.fresh(), nil, false
	s.note(Change{Kind: Lost, StoreMS: s.now().UnixMilli()})
	for w := range s.watchers {
		_ = s.attach(context.Background(), w)
	}
	s.wakeAll()
}

// wakeAll wakes all watchers, as when the connection is back.
func (s *liveStore) wakeAll() {
	for w := range s.watchers {
		time.AfterFunc(time.Duration(w.draw.IntN(3_000_000)), w.wake)
	}
}

// aboveFloor returns an offset with which the clock is past all times and versions
// that the store gave before it lost its data.
func (s *liveStore) aboveFloor(offset time.Duration) time.Duration {
	if behind := s.floor.Sub(time.Now().Add(offset)); behind >= 0 {
		return offset + behind + time.Millisecond
	}
	return offset
}

// step sets the clock's offset from the true one. It never goes below the floor of
// the last loss, see lose.
func (s *liveStore) step(offset time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = s.aboveFloor(offset)
	s.note(Change{Kind: Stepped, StoreMS: s.now().UnixMilli()})
}

// repository is a Repository with faults.
type repository struct {
	*memory.Repository
	faults
	late   *sync.WaitGroup
	record *recorder

	asBooked *recorder // whose sessions have the parties that the reconciler is told: a mutant
	endless  bool      // the reconciler is told that all journeys run that have begun: a mutant
	anywhere bool      // sessions are read without their region: a mutant
}

func (r *repository) do(ctx context.Context, work func()) error {
	err := r.through(ctx, r.late, work)
	if errors.Is(err, errStore) {
		return sessions.Fault(sessions.DatabaseUnavailable, "the database is away", err)
	}
	return err
}

func (r *repository) Session(ctx context.Context, id sessions.ID) (sessions.Session, error) {
	var found sessions.Session
	var refused error
	if err := r.do(ctx, func() { found, refused = r.Repository.Session(context.Background(), id) }); err != nil {
		return sessions.Session{}, err
	}
	if r.anywhere {
		found.Region = ""
	}
	return found, refused
}

func (r *repository) Sessions(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Session, error) {
	var found map[sessions.ID]sessions.Session
	if err := r.do(ctx, func() { found, _ = r.Repository.Sessions(context.Background(), ids) }); err != nil {
		return nil, err
	}
	for id, s := range found {
		if r.asBooked != nil {
			s.TrainerID, s.StudentID = r.asBooked.Sessions[id].TrainerID, r.asBooked.Sessions[id].StudentID
		}
		if r.endless {
			s.Status, s.JourneyEndedAt = sessions.Scheduled, time.Time{}
		}
		if r.anywhere {
			s.Region = ""
		}
		found[id] = s
	}
	return found, nil
}

func (r *repository) EndedSince(ctx context.Context, at time.Time, after sessions.ID, limit int) ([]sessions.Session, error) {
	var list []sessions.Session
	if err := r.do(ctx, func() { list, _ = r.Repository.EndedSince(context.Background(), at, after, limit) }); err != nil {
		return nil, err
	}
	return list, nil
}

// Change is never delayed: a transaction whose connection is lost is rolled back, or
// was committed. f is called while the caller waits.
func (r *repository) Change(ctx context.Context, id sessions.ID, f func(*sessions.Session) ([]sessions.Event, error)) (sessions.Session, error) {
	q := requestOf(ctx)
	if err := hop(ctx, q); err != nil {
		return sessions.Session{}, err
	}
	var s sessions.Session
	var err error
	fate := r.fate(q)
	if fate == done || fate == unanswered {
		s, err = r.Repository.Change(context.Background(), id, func(now *sessions.Session) ([]sessions.Event, error) {
			events, err := f(now)
			r.record.inRegion(id, now.Region)
			return events, err
		})
	}
	if fate == done {
		return s, err
	}
	q.faulted.Store(true)
	_ = pause.For(ctx, time.Duration(q.draw.Int64N(int64(2*time.Second))))
	return sessions.Session{}, sessions.Fault(sessions.DatabaseUnavailable, "the database is away", errStore)
}

func (r *repository) RenewLease(ctx context.Context, _ string) error { return r.do(ctx, func() {}) }

func (r *repository) Record(ctx context.Context, e sessions.Event) (bool, error) {
	var first bool
	var refused error
	if err := r.do(ctx, func() { first, refused = r.Repository.Record(context.Background(), e) }); err != nil {
		return false, err
	}
	return first, refused
}

func (r *repository) Running(ctx context.Context, startedBy time.Time, after sessions.JourneyKey, limit int) ([]sessions.Session, error) {
	if err := hop(ctx, requestOf(ctx)); err != nil || r.away(time.Now()) {
		return nil, errors.Join(err, errStore)
	}
	return r.Repository.Running(context.Background(), startedBy, after, limit)
}
