package sessions

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"doorstep/internal/pause"
)

const (
	// reportersFor is how long a look-up counts. A device that was revoked by way of
	// another gateway can report for that long, and a journey that was started there is
	// found within it.
	reportersFor = 10 * time.Second
	// reportersRoom is how many devices and how many trainers are remembered: some 20 MB.
	reportersRoom = 65_536
	// unknownRoom is how many ids are remembered that no device has. They have their own
	// room, so that made-up ids push no device out.
	unknownRoom = 4096
	// maxLookUp is how many devices one query asks for.
	maxLookUp = 2000
	// useEvery is how often a device's last use is written, and flushUsesEvery how often
	// this process writes those that are due, in one statement.
	useEvery       = time.Hour
	flushUsesEvery = time.Minute
	// flushUsesWithin bounds the last of those writes.
	flushUsesWithin = 3 * time.Second
)

// Reporter is a device as it reports: with the session of its trainer's running
// journey.
type Reporter struct {
	Device
	RunningSession // zero: no journey runs
}

// reporters remembers the devices that have reported lately and the running journeys of
// their trainers, so that a report costs no query as a rule. All look-ups that are
// asked for while one is under way share the next: any number of devices that come back
// at one instant cost a query for each maxLookUp of them, one at a time. Safe for
// concurrent use.
type reporters struct {
	repo Devices
	now  func() time.Time

	mu       sync.Mutex
	devices  *simplelru.LRU[ID, deviceSeen]
	journeys *simplelru.LRU[ID, journeySeen] // by trainer
	unknown  *simplelru.LRU[ID, time.Time]
	used     map[ID]time.Time // to be written

	lookUps *lookUps[ID, struct{}] // which leaves what it finds in the above
}

type deviceSeen struct {
	device Device
	at     time.Time
}

type journeySeen struct {
	RunningSession
	at time.Time
}

func newReporters(repo Devices, now func() time.Time) *reporters {
	r := &reporters{repo: repo, now: now, used: map[ID]time.Time{}}
	r.lookUps = &lookUps[ID, struct{}]{max: maxLookUp, look: r.look}
	r.devices, _ = simplelru.NewLRU[ID, deviceSeen](reportersRoom, nil) // these fail only for a size of 0 or less
	r.journeys, _ = simplelru.NewLRU[ID, journeySeen](reportersRoom, nil)
	r.unknown, _ = simplelru.NewLRU[ID, time.Time](unknownRoom, nil)
	return r
}

// Reporter finds a device and its trainer's running journey. It reports false for a
// device that does not exist. What it says is at most reportersFor old; while the
// database cannot be asked, at most answerFor. Error: DatabaseUnavailable.
func (s *Service) Reporter(ctx context.Context, id ID) (Reporter, bool, error) {
	return s.reporters.get(ctx, id)
}

// KnownReporter is Reporter without a query: it reports false for a device that has not
// been looked up lately.
func (s *Service) KnownReporter(id ID) (Reporter, bool) {
	found, _, _ := s.reporters.remembered(id, s.opts.Now())
	return found, found.ID != ""
}

func (r *reporters) get(ctx context.Context, id ID) (Reporter, bool, error) {
	found, fresh, unknown := r.remembered(id, r.now())
	if fresh || unknown {
		return found, !unknown, nil
	}
	if _, _, err := r.lookUps.ask(ctx, id); err != nil {
		if found.ID != "" && CodeOf(err) == DatabaseUnavailable {
			return found, true, nil
		}
		return Reporter{}, false, err
	}
	found, _, unknown = r.remembered(id, r.now())
	return found, !unknown && found.ID != "", nil
}

// remembered is what is known of a device. fresh means that it need not be asked for;
// unknown, that no device has the id.
func (r *reporters) remembered(id ID, now time.Time) (found Reporter, fresh, unknown bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.devices.Get(id)
	if !ok || age(d.at, now) >= answerFor {
		at, ok := r.unknown.Get(id)
		return Reporter{}, false, ok && age(at, now) < reportersFor
	}
	j, ok := r.journeys.Get(d.device.TrainerID)
	if !ok || age(j.at, now) >= answerFor {
		return Reporter{Device: d.device}, false, false
	}
	return Reporter{d.device, j.RunningSession}, age(d.at, now) < reportersFor && age(j.at, now) < reportersFor, false
}

// age is also large where the clock was set back by much.
func age(at, now time.Time) time.Duration { return now.Sub(at).Abs() }

// look asks for devices, and then for the journeys of their trainers: two queries.
func (r *reporters) look(ctx context.Context, ids []ID) (map[ID]struct{}, error) {
	now := r.now()
	devices, err := r.repo.Devices(ctx, ids)
	if err != nil {
		return nil, err
	}
	trainers := make([]ID, 0, len(devices))
	for _, d := range devices {
		trainers = append(trainers, d.TrainerID)
	}
	running := map[ID]RunningSession{}
	if len(trainers) > 0 {
		if running, err = r.repo.RunningSessions(ctx, trainers); err != nil {
			return nil, err
		}
	}
	r.keep(ids, devices, running, now)
	return map[ID]struct{}{}, nil
}

func (r *reporters) keep(ids []ID, devices map[ID]Device, running map[ID]RunningSession, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		d, ok := devices[id]
		if !ok {
			r.devices.Remove(id)
			r.unknown.Add(id, now)
			continue
		}
		r.unknown.Remove(id)
		if before, ok := r.devices.Get(id); ok && before.device.LastUsedAt.After(d.LastUsedAt) {
			d.LastUsedAt = before.device.LastUsedAt // it waits to be written
		}
		r.devices.Add(id, deviceSeen{d, now})
		r.journeys.Add(d.TrainerID, journeySeen{running[d.TrainerID], now})
	}
}

// use notes that a device has reported.
func (r *reporters) use(id ID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, ok := r.devices.Get(id)
	if !ok || now.Sub(seen.device.LastUsedAt) < useEvery {
		return
	}
	seen.device.LastUsedAt = now
	r.devices.Add(id, seen)
	r.used[id] = now
}

func (r *reporters) forgetDevice(id ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.devices.Remove(id)
	r.unknown.Remove(id)
	delete(r.used, id)
}

// forgetJourney lets the next report of the trainer's look for a journey again: one has
// started, ended or moved here.
func (r *reporters) forgetJourney(trainerID ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journeys.Remove(trainerID)
}

// noJourney notes that the remembered journey does not run any more.
func (r *reporters) noJourney(trainerID ID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journeys.Add(trainerID, journeySeen{at: now})
}

// KeepReporters writes the devices' last uses until ctx ends, and then once more.
func (s *Service) KeepReporters(ctx context.Context) error {
	for {
		err := pause.For(ctx, flushUsesEvery)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushUsesWithin)
		s.reporters.flush(last, s.opts.Log)
		cancel()
		if err != nil {
			return err
		}
	}
}

// flush writes the uses. What cannot be written is tried again an hour after the use.
func (r *reporters) flush(ctx context.Context, log *slog.Logger) {
	r.mu.Lock()
	used := r.used
	r.used = map[ID]time.Time{}
	r.mu.Unlock()
	if len(used) == 0 {
		return
	}
	if err := r.repo.DevicesUsed(ctx, used); err != nil {
		log.WarnContext(ctx, "last uses of devices not written", slog.Any("error", err))
	}
}

// UpdateFromDevice judges the fixes of one report, in any order and of any age: those of
// the last five minutes go to the running journey of the device's trainer as a batch
// (UpdateBatch). Two phones of one trainer report to one journey; each fix is judged by
// the same rules, whichever phone it comes from.
//
// Errors: NoActiveJourney, WrongRegion, LiveStoreUnavailable, DatabaseUnavailable.
func (s *Service) UpdateFromDevice(ctx context.Context, r Reporter, fixes []Fix, each func(Receipt)) (Receipt, error) {
	now := s.opts.Now()
	s.reporters.use(r.ID, now)
	if r.SessionID == "" {
		return Receipt{}, errNoJourney
	}
	if len(fixes) == 0 {
		return Receipt{}, nil
	}
	if err := s.Here(ctx, r); err != nil {
		return Receipt{}, err
	}
	c := Caller{ID: r.TrainerID, Role: Trainer}
	receipt, err := s.UpdateBatch(ctx, c, r.SessionID, fixes, each)
	if refused, ok := errors.AsType[*Error](err); ok {
		switch refused.Code {
		case NoActiveJourney, SessionNotFound, Forbidden, RateLimited: // it has ended, or is another trainer's by now
			s.reporters.noJourney(r.TrainerID, now)
			return Receipt{}, errNoJourney
		}
	}
	return receipt, err
}
