package histories

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"doorstep/gateway/consumers"
	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
	"doorstep/sessions/outbox"
)

// The size of a day, small enough for a thousand days in CI.
const (
	trainers = 3
	visits   = 2 // of a trainer
)

// world is one day: the product, its users, and the faults.
type world struct {
	seed      uint64
	began     time.Time
	record    *recorder
	regions   []string     // of the gateways; one without a name: there are no regions
	live      []*liveStore // of each region
	repo      *repository
	way       faults // between the regions
	gateway   [2]*gateway
	visits    []*visit
	users     sync.WaitGroup
	late      sync.WaitGroup // work, requests and events still under way
	notify    *consumers.Notify
	once      consumers.Once
	deaf      bool          // no consumer is told of a new code: a mutant
	noCleanUp bool          // no event reaches the clean-up, and nothing is compared with the database: a mutant
	closed    bool          // no call is forwarded: a mutant
	leases    time.Duration // how long one holds, of a mutant; 0: as the product has it
}

// visit is a session of the day.
type visit struct {
	id               sessions.ID
	trainer, student sessions.Caller
	home             geo.Point
	at               time.Time
}

// edit changes a world before its day begins, as a mutant of the product.
type edit func(*world)

// play plays the day of a seed and returns what was recorded.
func play(t *testing.T, seed uint64, edits ...edit) (r Record) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(400*24*time.Hour - time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))) // so that no clock is before the year 2000
		w := newWorld(seed)
		for _, f := range edits {
			f(w)
		}
		r = w.play(t.Context())
	})
	return r
}

func newWorld(seed uint64) *world {
	w := &world{seed: seed, began: time.Now(), regions: []string{""}}
	if withRegions(seed) {
		w.regions = []string{"eu", "us"}
	}
	w.record = &recorder{Record: Record{
		Seed: seed, Sessions: map[sessions.ID]sessions.Meta{}, Homes: map[sessions.ID]geo.Point{},
	}, regions: map[sessions.ID]string{}}
	draw := w.stream("faults")
	often := 0.01 * draw.Float64()
	for _, region := range w.regions {
		l := &liveStore{region: region, record: w.record, late: &w.late, watchers: map[*storeWatcher]struct{}{}, faults: faults{often: often}}
		l.fresh = func() sessions.Live { return memory.NewLive(sessions.LiveOptions{}, l.now) }
		l.under = l.fresh()
		w.live = append(w.live, l)
	}
	w.repo = &repository{late: &w.late, record: w.record, faults: faults{often: 0.01 * draw.Float64()}}
	w.repo.Repository = memory.NewRepository(w.commit)
	w.once = outbox.NewMemoryOnce()
	for n := range w.gateway {
		w.gateway[n] = &gateway{
			world: w, n: n, region: w.regions[n%len(w.regions)], live: w.live[n%len(w.live)],
			draw: w.stream("gateway", n), skew: between(draw, -500*time.Millisecond, 500*time.Millisecond),
		}
	}
	return w
}

// withRegions reports whether the day of a seed has regions.
func withRegions(seed uint64) bool { return seed%3 == 0 }

// stream is a source of chance for one part of the world, so that its draws do not
// change those of the others.
func (w *world) stream(name string, n ...int) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	for _, i := range n {
		_, _ = h.Write([]byte{byte(i)})
	}
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

func between(draw *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(draw.Int64N(int64(to-from)))
}

func (w *world) play(ctx context.Context) Record {
	w.book(ctx)
	w.notify = consumers.NewNotify(w.repo, w.once, pusher{w}, consumers.NotifyOptions{})
	w.drawFaults()
	w.drawCuts()
	w.drawEdits()
	for _, g := range w.gateway {
		g.up(ctx)
	}
	for n := range trainers {
		w.users.Go(func() { w.trainer(n) })
	}
	for n, v := range w.visits {
		w.users.Go(func() { w.student(n, v) })
	}
	w.users.Go(w.stranger)
	w.users.Wait()
	time.Sleep(time.Until(w.began.Add(24 * time.Hour)))
	for _, g := range w.gateway {
		g.down()
		g.served.Wait()
	}
	w.late.Wait()
	return w.record.done()
}

// book makes the day's sessions; those of a trainer are some hours apart.
func (w *world) book(ctx context.Context) {
	draw := w.stream("bookings")
	id := func() sessions.ID { return idFrom(draw) }
	for n := range trainers {
		trainer := sessions.Caller{ID: id(), Role: sessions.Trainer}
		for m := range visits {
			v := &visit{
				id: id(), trainer: trainer, student: sessions.Caller{ID: id(), Role: sessions.Student},
				home: geo.MustPoint(12.9+0.05*float64(n), 77.5+0.05*float64(m)),
				at:   w.began.Add(time.Duration(8+4*m)*time.Hour + between(draw, 0, 2*time.Hour)),
			}
			region := ""
			if len(w.regions) > 1 && draw.IntN(3) == 0 { // the others are taken by their first start
				region = w.regions[draw.IntN(2)]
			}
			_, _, err := w.repo.Create(ctx, sessions.Session{
				ID: v.id, TrainerID: trainer.ID, StudentID: v.student.ID, Status: sessions.Scheduled, Home: v.home, Mode: sessions.Car, Region: region,
			})
			if err != nil {
				panic(err)
			}
			w.visits = append(w.visits, v)
			w.device(ctx, v.student.ID)
			w.record.Homes[v.id] = v.home
			w.record.Sessions[v.id] = sessions.Meta{TrainerID: trainer.ID, StudentID: v.student.ID, Region: region}
		}
	}
}

// idFrom draws an id.
func idFrom(draw *rand.Rand) sessions.ID {
	var b [16]byte
	for i := range b {
		b[i] = byte(draw.UintN(256))
	}
	return sessions.ID(uuid.UUID(b).String())
}

// device registers a user's phone for pushes.
func (w *world) device(ctx context.Context, user sessions.ID) {
	err := w.repo.PutPushToken(ctx, sessions.PushToken{Token: string(user), UserID: user, Platform: sessions.Android, RegisteredAt: time.Now()})
	if err != nil {
		panic(err)
	}
}

// pusher reaches every device. Those of one event are pushed to at once, so each has a
// stream of its own to draw from.
type pusher struct{ *world }

func (p pusher) Push(ctx context.Context, to sessions.PushToken, push consumers.Push) error {
	own := p.stream(fmt.Sprint("push ", to.Token, push.Kind, push.SessionID))
	if err := hop(ctx, &request{draw: own}); err != nil {
		return err
	}
	p.record.push(Push{
		At: time.Now(), To: to.UserID, Session: push.SessionID, Event: push.EventID,
		Code: push.Kind == consumers.Arrived || push.Kind == consumers.Code,
	})
	return nil
}

// commit is called by the repository for each event, in order and under its lock. It
// is the bus: it delivers each event to the consumers some time later, some twice, some of
// those at once.
func (w *world) commit(e sessions.Event) {
	n := w.record.commit(e)
	if w.noCleanUp {
		return
	}
	draw := w.stream("bus", n, n>>8)
	own := func() *rand.Rand { return rand.New(rand.NewPCG(draw.Uint64(), 0)) }
	at := w.gateway[0]
	if len(w.regions) > 1 { // the relay of either publishes it, to its own consumers
		at = w.gateway[draw.IntN(2)]
	}
	w.deliver(own(), consumers.NewCleanUp(at.repo, at.live, at.region), e)
	w.deliver(own(), consumers.NewAnalytics(w.repo, unreadJourneys), e)
	if w.deaf && e.Type == sessions.CodeIssued {
		return
	}
	w.deliver(own(), w.notify, e)
	if draw.IntN(4) == 0 {
		w.deliver(own(), w.notify, e)
	}
}

func (w *world) deliver(draw *rand.Rand, to outbox.Handler, e sessions.Event) {
	r := &request{draw: draw}
	w.late.Go(func() {
		for again := true; again; again = draw.IntN(5) == 0 {
			time.Sleep(between(draw, 20*time.Millisecond, 2*time.Second))
			for to.Handle(r.in(context.Background()), e) != nil {
				time.Sleep(between(draw, time.Second, 5*time.Second))
			}
		}
	})
}

// drawEdits draws what another service of the operator writes into the table.
func (w *world) drawEdits() {
	draw := w.stream("office")
	for n := range draw.IntN(4) {
		v, kind, next := w.visits[draw.IntN(len(w.visits))], draw.IntN(4), idFrom(draw)
		returns := rand.New(rand.NewPCG(draw.Uint64(), 0))
		w.at(v.at.Add(between(draw, 0, 6*time.Minute)), func() {
			w.device(context.Background(), next)
			if w.edit(v, kind, next) && kind == 0 {
				joined := *v
				joined.student.ID = next
				w.users.Go(func() { w.student(100+n, &joined) })
			}
			w.users.Go(func() { w.returns(returns, v) })
		})
	}
}

// edit writes a row by SQL. It reports whether there was something to change.
func (w *world) edit(v *visit, kind int, next sessions.ID) bool {
	e, changed := Edit{Session: v.id}, false
	_, err := w.repo.Repository.Rebook(context.Background(), v.id, func(s *sessions.Session) ([]sessions.Event, error) {
		runs := s.JourneyActive()
		switch {
		case s.Status != sessions.Scheduled: // the gateways' own
			return nil, nil
		case kind == 0:
			s.StudentID, changed = next, true
		case kind == 1:
			s.TrainerID, changed, e.Ends = next, true, runs
		case kind == 2 && runs:
			s.Status, changed, e.Ends = sessions.Cancelled, true, true
		case kind == 3 && runs:
			s.JourneyEndedAt, changed, e.Ends = later(time.Now(), s.JourneyStartedAt.Add(time.Millisecond)), true, true
		}
		e.Meta = s.Meta()
		return nil, nil
	})
	if err != nil {
		panic(err)
	}
	if changed {
		w.record.edit(e)
	}
	return changed
}

// returns is a student who opens the app now and then, whatever has become of the session.
func (w *world) returns(draw *rand.Rand, v *visit) {
	p := w.phone(draw)
	for range 8 {
		time.Sleep(between(draw, time.Second, 90*time.Second))
		_, _, _ = p.do(Call{Caller: v.student, Verb: Live, Session: v.id}, "")
	}
}

// drawFaults draws the day's faults, most of them during journeys. A third of the
// days have none, a sixth have many.
func (w *world) drawFaults() {
	draw, losses := w.stream("trouble"), 4
	switch draw.IntN(6) {
	case 0, 1:
		return
	case 2:
		losses, w.repo.often = 60, 0.05
		for _, l := range w.live {
			l.often = 0.15
		}
	}
	store := func() *liveStore {
		if len(w.live) == 1 {
			return w.live[0]
		}
		return w.live[draw.IntN(len(w.live))]
	}
	during := func() time.Time {
		return w.visits[draw.IntN(len(w.visits))].at.Add(between(draw, 0, 6*time.Minute))
	}
	window := func(longest time.Duration) Window {
		from := during()
		return Window{from, from.Add(between(draw, time.Second, longest))}
	}
	for range draw.IntN(5) {
		l, outage := store(), window(2*time.Minute)
		l.outages = append(l.outages, outage)
		w.record.outage(Outage{outage, TheLiveStore, l.region})
		w.at(outage.To, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.wakeAll()
		})
	}
	for range draw.IntN(3) {
		outage := window(time.Minute)
		w.repo.outages = append(w.repo.outages, outage)
		w.record.outage(Outage{outage, TheRepository, ""})
	}
	for range draw.IntN(losses) {
		w.at(during(), store().lose)
	}
	if draw.IntN(4) != 0 {
		v := w.visits[draw.IntN(len(w.visits))]
		ref := sessions.Ref{TrainerID: v.trainer.ID, SessionID: v.id}
		dumped := v.at.Add(between(draw, 20*time.Second, 100*time.Second))
		back := dumped.Add(between(draw, time.Second, 5*time.Minute))
		for _, l := range w.live { // of those of two regions one has it
			l.mirror(ref)
			w.at(dumped, func() { l.dump(ref) })
			w.at(back, func() {
				for range 40 { // until there is an end to come back from
					if l.restore(ref) {
						return
					}
					time.Sleep(10 * time.Second)
				}
			})
		}
	}
	for range draw.IntN(4) {
		// Versions do not survive a clock that is set back by more than a hash lives
		// together with a loss of the data.
		offset := between(draw, -time.Minute, time.Minute)
		l := store()
		w.at(during(), func() { l.step(offset) })
	}
	for _, g := range w.gateway {
		if draw.IntN(2) == 0 {
			continue
		}
		w.at(during(), func() {
			g.down()
			from := time.Now()
			time.Sleep(between(g.draw, time.Second, time.Minute))
			g.up(context.Background())
			if g.region != "" { // else there is another one
				w.record.outage(Outage{Window{from, time.Now()}, TheGateway, g.region})
			}
		})
	}
}

func (w *world) at(t time.Time, f func()) {
	w.users.Go(func() {
		time.Sleep(time.Until(t))
		f()
	})
}

// recorder gathers a Record.
type recorder struct {
	mu sync.Mutex
	Record
	regions map[sessions.ID]string // of the sessions, by the last transaction of each
}

func (r *recorder) call(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Calls = append(r.Calls, c)
}

func (r *recorder) change(ch Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch.At = time.Now()
	r.Changes = append(r.Changes, ch)
}

func (r *recorder) edit(e Edit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = time.Now()
	r.Edits = append(r.Edits, e)
}

func (r *recorder) outage(o Outage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Outages = append(r.Outages, o)
}

func (r *recorder) inRegion(id sessions.ID, region string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.regions[id] = region
}

func (r *recorder) push(p Push) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Pushes = append(r.Pushes, p)
}

func (r *recorder) commit(e sessions.Event) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Commits = append(r.Commits, Commit{time.Now(), e, r.regions[e.SessionID]})
	return len(r.Commits)
}

func (r *recorder) done() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Record
}
