package histories

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// A checker that finds nothing proves something only if it can find. Each row adds
// one violation to the record of a good day.
func TestCheck_finds_what_is_planted(t *testing.T) {
	t.Parallel()
	good := play(t, 22)
	require.Empty(t, Check(good))
	finds(t, good, map[string]planted{
		"version_back": {func(r *Record) { lastShown(r).Version = firstShown(r).Version - 1 }, "the version went back"},
		"version_back_for_another_reader": {func(r *Record) {
			c := *lastShown(r)
			c.Caller, c.Version = sessions.Caller{ID: "b", Role: sessions.Admin}, firstShown(r).Version
			c.From, c.To = c.To.Add(time.Minute), c.To.Add(2*time.Minute)
			r.Calls = append(r.Calls, c)
		}, "the version went back"},
		"receipt_back": {func(r *Record) { lastStored(r).Version = firstShown(r).Version - 1 }, "the version went back"},
		"stored_after_the_end": {func(r *Record) {
			ch := *judged(r)
			ch.At, ch.StoreMS, ch.Version = ch.At.Add(4*time.Hour), ch.StoreMS+4*3600_000, ch.Version+4*3600_000
			r.Changes = append(r.Changes, ch)
		}, "stored after the end"},
		"shown_after_the_end": {func(r *Record) {
			c := *lastShown(r)
			c.From, c.To = c.From.Add(4*time.Hour), c.To.Add(4*time.Hour)
			r.Calls = append(r.Calls, c)
		}, "shown after the end"},
		"active_while_degraded_after_the_end": {func(r *Record) {
			c := *lastShown(r)
			c.From, c.To = c.From.Add(4*time.Hour), c.To.Add(4*time.Hour)
			c.Degraded, c.Version, c.Location = true, 0, geo.Point{}
			r.Calls = append(r.Calls, c)
		}, "shown after the end"},
		"end_never_told_the_store": {func(r *Record) {
			r.Changes = slices.DeleteFunc(r.Changes, func(ch Change) bool { return ch.Kind == Ended })
		}, "still holds the journey"},
		"stored_before_the_start": {func(r *Record) {
			ch := *judged(r)
			ch.At = ch.At.Add(-8 * time.Hour)
			r.Changes = slices.Insert(r.Changes, 0, ch)
		}, "stored before the start"},
		"another_students_place": {func(r *Record) {
			mine := lastShown(r)
			for _, c := range r.Calls {
				if c.Verb == Update && c.Session != mine.Session {
					mine.Location = c.Fix
				}
			}
		}, "not sent for this session"},
		"a_place_nobody_sent": {func(r *Record) { lastShown(r).Location = geo.MustPoint(1, 1) }, "not sent for this session"},
		"an_old_place":        {func(r *Record) { lastShown(r).Location = firstShown(r).Location }, "not what its version names"},
		"inactive_too_early":  {func(r *Record) { lastShown(r).Active = false }, "not what its version names"},
		"an_unknown_version":  {func(r *Record) { lastShown(r).Version++ }, "a version that no change made"},
		"a_degraded_place":    {func(r *Record) { lastShown(r).Degraded = true }, "degraded, but"},
		"a_stranger":          {func(r *Record) { lastShown(r).Caller.ID = "c" }, "a stranger was let in"},
		"a_student_who_stops": {func(r *Record) { lastShown(r).Verb = Stop }, "a stranger was let in"},
		"two_journeys": {func(r *Record) {
			for i := range r.Commits { // all the day's journeys are one trainer's
				r.Commits[i].Event.TrainerID = "d"
			}
			for i := range r.Commits {
				if r.Commits[i].Event.Type == sessions.JourneyEnded {
					r.Commits[i].At = r.Commits[i].At.Add(6 * time.Hour)
				}
			}
		}, "has two journeys"},
		"an_end_lost":  {func(r *Record) { dropCommit(r, sessions.JourneyEnded) }, "never ended"},
		"a_start_lost": {func(r *Record) { dropCommit(r, sessions.JourneyStarted) }, "not start, end"},
		"arriving_twice": {func(r *Record) {
			again := *arriving(r)
			again.Event.ID = sessions.NewID()
			r.Commits = slices.Insert(r.Commits, slices.IndexFunc(r.Commits, isArriving)+1, again)
		}, "the second of a journey"},
		"arriving_after_the_end": {func(r *Record) {
			late := *arriving(r)
			r.Commits = slices.DeleteFunc(r.Commits, isArriving)
			late.At = r.Commits[len(r.Commits)-1].At
			r.Commits = append(r.Commits, late)
		}, "its journey does not run"},
		"arriving_for_another_journey": {func(r *Record) {
			e := &arriving(r).Event
			e.JourneyStartedAt = e.JourneyStartedAt.Add(-time.Minute)
		}, "its journey does not run"},
		"arriving_too_early": {func(r *Record) {
			began := r.Commits[slices.IndexFunc(r.Commits, func(c Commit) bool {
				return c.Event.Type == sessions.JourneyStarted && c.Event.JourneyStartedAt.Equal(arriving(r).Event.JourneyStartedAt)
			})]
			arriving(r).At = began.At.Add(20 * time.Second)
		}, "no fix of its journey has reached the fence"},
		"an_event_twice":  {func(r *Record) { r.Commits = append(r.Commits, r.Commits[0]) }, "committed twice"},
		"an_end_too_late": {func(r *Record) { firstEnd(r).At = r.Commits[0].At.Add(90 * time.Minute) }, "long past its hour"},
		"an_end_of_another": {func(r *Record) {
			firstEnd(r).Event.JourneyStartedAt = firstEnd(r).Event.JourneyStartedAt.Add(1)
		}, "the end of another"},
		"a_start_untold": {func(r *Record) {
			for i := range r.Commits {
				r.Commits[i].At = r.Commits[i].At.Add(time.Second)
			}
		}, "no event of it"},
		"a_fix_over_the_rate": {func(r *Record) {
			ch := *judged(r)
			ch.TakenMS += 3999
			r.Changes = slices.Insert(r.Changes, slices.Index(r.Changes, *judged(r))+1, ch)
		}, "over the rate"},
		"a_fix_lost": {func(r *Record) {
			i := slices.Index(r.Changes, *judged(r))
			r.Changes = slices.Delete(r.Changes, i, i+1)
		}, "answered as stored, and is not"},
		"slept_through_a_fix": {func(r *Record) {
			for i, c := range r.Calls {
				if c.Verb == Live && c.Location.Valid() && c.Wait > 0 && c.Seen != 0 && !c.Faulted {
					r.Calls[i].To = c.To.Add(3 * time.Second)
				}
			}
		}, "after a change"},
		"no_news_of_a_fix": {func(r *Record) {
			c := lastShown(r)
			c.Status, c.Version = 304, c.Seen
		}, "though there was a change"},
		"an_old_student": {func(r *Record) {
			edited(r, lastShown(r).From.Add(-time.Minute), false, sessions.Meta{TrainerID: r.Sessions[lastShown(r).Session].TrainerID, StudentID: "e"})
		}, "a stranger was let in"},
		"an_old_trainers_place": {func(r *Record) {
			edited(r, begun(r, lastShown(r)), false, sessions.Meta{TrainerID: "e", StudentID: lastShown(r).Caller.ID})
		}, "not sent for this session"},
		"a_party_shut_out": {func(r *Record) { lastShown(r).Status, lastShown(r).Code = 403, sessions.Forbidden }, "a party was shut out"},
		"shown_after_sql":  {func(r *Record) { edited(r, begun(r, lastShown(r)), true, r.Sessions[lastShown(r).Session]) }, "shown after the end"},
		"stored_after_sql": {func(r *Record) {
			edited(r, begun(r, lastStored(r)), true, r.Sessions[lastStored(r).Session])
		}, "stored after the end"},
		"shown_long_after_it_came_back": {func(r *Record) { comesBack(r, 2*time.Minute) }, "shown after the end"},
		"pushed_twice":                  {func(r *Record) { r.Pushes = append(r.Pushes, *code(r)) }, "pushed twice"},
		"pushed_to_a_stranger":          {func(r *Record) { code(r).To = "e" }, "a code was pushed to a stranger"},
		"a_code_not_pushed": {func(r *Record) {
			r.Pushes = slices.DeleteFunc(r.Pushes, func(p Push) bool { return p.Code })
		}, "a code was never pushed"},
		"a_code_pushed_after_the_cancellation": {func(r *Record) { cancelled(r, code(r).Session, code(r).At.Add(-3*time.Second)) }, "a code was pushed after the cancellation"},
		"a_lesson_after_the_cancellation": {func(r *Record) {
			c := last(r, func(c Call) bool { return c.Verb == Verify && c.Status == 200 })
			cancelled(r, c.Session, c.From.Add(-time.Millisecond))
		}, "a code after the cancellation"},
		"a_cancellation_untold": {func(r *Record) { lastStop(r).Verb, lastStop(r).Caller.Role = Cancel, sessions.Admin }, "no event of it"},
		"a_stop_of_another":     {func(r *Record) { lastStop(r).Caller = sessions.Caller{ID: "f", Role: sessions.Admin} }, "no event of it"},
		"a_stop_of_a_time_out": {func(r *Record) {
			stop := lastStop(r)
			for i, c := range r.Commits {
				if c.Event.SessionID == stop.Session && c.Event.Type == sessions.JourneyEnded {
					r.Commits[i].Event.Reason = sessions.EndTimeout
				}
			}
		}, "no event of it"},
		"a_stop_repeated_by_another": {func(r *Record) {
			again := *lastStop(r)
			again.From, again.To = again.To.Add(time.Second), again.To.Add(2*time.Second)
			again.Caller = sessions.Caller{ID: "f", Role: sessions.Admin}
			r.Calls = append(r.Calls, again)
		}, "no event of it"},
		"a_stop_repeated_after_a_start": {func(r *Record) {
			again := *lastStop(r)
			again.From, again.To = again.To.Add(2*time.Second), again.To.Add(3*time.Second)
			r.Calls = append(r.Calls, again)
			r.Commits = append(r.Commits, Commit{At: again.From.Add(-time.Second), Event: sessions.Event{
				ID: "g", Type: sessions.JourneyStarted, SessionID: again.Session, TrainerID: again.Caller.ID, At: again.From, JourneyStartedAt: again.From,
			}})
			slices.SortStableFunc(r.Commits, func(a, b Commit) int { return a.At.Compare(b.At) })
		}, "no event of it: " + clock(lastStop(&good).To.Add(2*time.Second))},
		"a_phone_shown_a_fault": {func(r *Record) { lastStored(r).Status = 503 }, "a server error"},
		"an_internal_error":     {func(r *Record) { lastShown(r).Code = sessions.Internal }, "a server error"},
	})
}

// planted is a violation, and what the checker says of it.
type planted struct {
	spoil func(*Record)
	want  string
}

func finds(t *testing.T, good Record, rows map[string]planted) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := good
			r.Calls, r.Changes, r.Commits = slices.Clone(r.Calls), slices.Clone(r.Changes), slices.Clone(r.Commits)
			r.Pushes, r.Outages = slices.Clone(r.Pushes), slices.Clone(r.Outages)
			row.spoil(&r)
			assert.Contains(t, strings.Join(Check(r), "\n"), row.want)
		})
	}
}

// shown selects calls of the first session that showed a place after a wait.
func shown(r *Record) func(Call) bool {
	id := r.Commits[0].Event.SessionID
	return func(c Call) bool {
		return c.Session == id && c.Location.Valid() && c.Wait > 0 && c.Seen != 0 && c.Status == 200 && !c.Faulted
	}
}

func firstShown(r *Record) *Call { return &r.Calls[slices.IndexFunc(r.Calls, shown(r))] }

func lastShown(r *Record) *Call { return last(r, shown(r)) }

func lastStored(r *Record) *Call {
	id := r.Commits[0].Event.SessionID
	return last(r, func(c Call) bool { return c.Stored && c.Session == id })
}

func last(r *Record, is func(Call) bool) *Call {
	for i, c := range slices.Backward(r.Calls) {
		if is(c) {
			return &r.Calls[i]
		}
	}
	panic("histories: the day has none")
}

// lastStop is a stop by a trainer that has happened.
func lastStop(r *Record) *Call {
	return last(r, func(c Call) bool { return c.Verb == Stop && c.Status == 200 && c.Caller.Role == sessions.Trainer })
}

// code is the first push of a code.
func code(r *Record) *Push {
	return &r.Pushes[slices.IndexFunc(r.Pushes, func(p Push) bool { return p.Code })]
}

// begun is a second after the start of the journey of a call.
func begun(r *Record, of *Call) time.Time {
	at := r.Commits[0].At
	for _, c := range r.Commits {
		if c.Event.SessionID == of.Session && c.Event.Type == sessions.JourneyStarted && c.At.Before(of.From) {
			at = c.At
		}
	}
	return at.Add(time.Second)
}

// edited has another service write the row of the first session.
func edited(r *Record, at time.Time, ends bool, after sessions.Meta) {
	r.Edits = append(r.Edits, Edit{At: at, Session: r.Commits[0].Event.SessionID, Ends: ends, Meta: after})
}

// cancelled adds a cancellation.
func cancelled(r *Record, id sessions.ID, at time.Time) {
	r.Commits = append(r.Commits, Commit{At: at, Event: sessions.Event{ID: "h", Type: sessions.SessionCancelled, SessionID: id, At: at}})
}

// comesBack has the first session's journey come back after its end, and shown after that.
func comesBack(r *Record, later time.Duration) {
	c := *lastShown(r)
	at := c.To.Add(time.Hour)
	r.Changes = append(r.Changes, Change{At: at, Kind: Back, Ref: sessions.Ref{TrainerID: r.Sessions[c.Session].TrainerID, SessionID: c.Session}})
	for _, after := range []time.Duration{time.Second, later} { // the first begins the half minute
		c.From, c.To, c.Wait, c.Seen = at.Add(after), at.Add(after+time.Millisecond), 0, 0
		r.Calls = append(r.Calls, c)
	}
}

// judged is the change of the first fix of the first session that was answered as stored.
func judged(r *Record) *Change {
	first := r.Calls[slices.IndexFunc(r.Calls, func(c Call) bool { return c.Stored && c.Session == r.Commits[0].Event.SessionID })]
	return &r.Changes[slices.IndexFunc(r.Changes, func(ch Change) bool { return ch.Kind == Judged && ch.Fix == first.Fix })]
}

// firstEnd is the end of the day's first journey.
func firstEnd(r *Record) *Commit {
	return &r.Commits[slices.IndexFunc(r.Commits, func(c Commit) bool { return c.Event.Type == sessions.JourneyEnded })]
}

func isArriving(c Commit) bool { return c.Event.Type == sessions.JourneyArriving }

// arriving is the first commit that a trainer is almost there; a good day has one.
func arriving(r *Record) *Commit { return &r.Commits[slices.IndexFunc(r.Commits, isArriving)] }

func dropCommit(r *Record, what sessions.EventType) {
	i := slices.IndexFunc(r.Commits, func(c Commit) bool { return c.Event.Type == what })
	r.Commits = slices.Delete(r.Commits, i, i+1)
}

// A hash that comes back is ended again within half a minute, and until then shown.
func TestCheck_allows_half_a_minute(t *testing.T) {
	t.Parallel()
	r := play(t, 22)
	comesBack(&r, 29*time.Second)
	assert.Empty(t, Check(r))
}

// The days find a broken product: each row breaks it, and one of the first days must
// show it.
func TestHistories_find(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		breaks edit
		want   string
	}{
		"a_faster_rate": {func(w *world) {
			for _, l := range w.live {
				l.fresh = func() sessions.Live {
					return memory.NewLive(sessions.LiveOptions{RateTolerance: 2 * time.Second}, l.now)
				}
			}
		}, "over the rate"},
		"ends_forgotten":         {mutant(func(m sessions.Live) sessions.Live { return endForgotten{m} }), "still holds the journey"},
		"ends_without_tombstone": {mutant(func(m sessions.Live) sessions.Live { return &noTombstone{m, map[sessions.Ref]sessions.Journey{}} }), "stored after the end"},
		"wakes_lost":             {mutant(func(m sessions.Live) sessions.Live { return neverWakes{m} }), "after a change"},
		"versions_counted":       {mutant(func(m sessions.Live) sessions.Live { return &counted{Live: m} }), "the version went back"},
		"somebody_elses":         {mutant(func(m sessions.Live) sessions.Live { return &mixed{Live: m} }), "not sent for this session"},
		"an_answer_too_soon":     {mutant(func(m sessions.Live) sessions.Live { return &forgetful{Live: m} }), "not what its version names"},
		"arriving_at_once":       {mutant(func(m sessions.Live) sessions.Live { return alwaysNear{m} }), "no fix of its journey has reached the fence"},
		"no_clean_up":            {func(w *world) { w.noCleanUp = true }, "still holds the journey"},
		"parties_by_memory":      {func(w *world) { w.repo.asBooked = w.record }, "a stranger was let in"},
		"ends_by_sql_unseen":     {func(w *world) { w.repo.endless = true }, "shown after the end"},
		"comes_back_for_good": {func(w *world) {
			for _, l := range w.live {
				fresh := l.fresh
				l.copy = func() sessions.Live { return endForgotten{fresh()} }
			}
		}, "shown after the end"},
		"pushed_each_time":  {func(w *world) { w.once = everyTime{} }, "pushed twice"},
		"codes_not_pushed":  {func(w *world) { w.deaf = true }, "a code was never pushed"},
		"regions_forgotten": {func(w *world) { w.repo.anywhere = true }, "in the live store of another region"},
		"leases_for_ever":   {func(w *world) { w.leases = 24 * time.Hour }, "served without a lease"},
		"never_forwarded":   {func(w *world) { w.closed = true }, "not judged, though nothing was away"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(60) {
				found := strings.Join(Check(play(t, seed+1, row.breaks)), "\n")
				if strings.Contains(found, row.want) {
					return
				}
			}
			assert.Fail(t, "no day has found it", "wanted: %s", row.want)
		})
	}
}

// mutant breaks the live store below the faults.
func mutant(of func(sessions.Live) sessions.Live) edit {
	return func(w *world) {
		for _, l := range w.live {
			fresh := l.fresh
			l.fresh = func() sessions.Live { return of(fresh()) }
			l.under = l.fresh()
		}
	}
}

// alwaysNear says that a journey is arriving from its first fix on.
type alwaysNear struct{ sessions.Live }

func (n alwaysNear) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	r, err := n.Live.Update(ctx, ref, fix)
	r.Arriving = true
	return r, err
}

type endForgotten struct{ sessions.Live }

func (endForgotten) End(context.Context, sessions.Journey) error { return nil }

// noTombstone removes the coordinates without a tombstone: an update under way
// brings them back.
type noTombstone struct {
	sessions.Live
	ended map[sessions.Ref]sessions.Journey
}

func (e *noTombstone) End(ctx context.Context, j sessions.Journey) error {
	if j.Home.Valid() { // the clean-up has no home
		e.ended[j.Ref] = j
	}
	return e.Live.End(ctx, j)
}

func (e *noTombstone) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	if j, ended := e.ended[ref]; ended {
		delete(e.ended, ref)
		j.StartedAt = j.StartedAt.Add(time.Millisecond)
		_, _ = e.Live.Open(ctx, j)
	}
	return e.Live.Update(ctx, ref, fix)
}

// everyTime is a Once that forgets.
type everyTime struct{}

func (everyTime) Once(ctx context.Context, _ string, _ sessions.ID, do func(context.Context) error) error {
	return do(ctx)
}

type neverWakes struct{ sessions.Live }

func (neverWakes) Watch(context.Context, sessions.Ref, func()) (func(), error) {
	return func() {}, nil
}

// counted has versions that begin at 1 after each loss of the data.
type counted struct {
	sessions.Live
	base int64
}

func (c *counted) Latest(ctx context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	snap, err := c.Live.Latest(ctx, ref)
	if c.base == 0 && snap.Known {
		c.base = snap.Version - 1
	}
	snap.Version -= c.base
	return snap, err
}

func (c *counted) CachedView(ref sessions.Ref) (sessions.Snapshot, bool) {
	snap, ok := c.Live.CachedView(ref)
	snap.Version -= c.base
	return snap, ok
}

func (c *counted) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	r, err := c.Live.Update(ctx, ref, fix)
	r.Version -= c.base
	return r, err
}

// mixed answers now and then for the journey that was updated last.
type mixed struct {
	sessions.Live
	last sessions.Ref
	n    int
}

func (m *mixed) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	m.last = ref
	return m.Live.Update(ctx, ref, fix)
}

func (m *mixed) Latest(ctx context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	return m.Live.Latest(ctx, m.mix(ref))
}

func (m *mixed) CachedView(ref sessions.Ref) (sessions.Snapshot, bool) {
	return m.Live.CachedView(m.mix(ref))
}

func (m *mixed) mix(ref sessions.Ref) sessions.Ref {
	if m.n++; m.n%50 == 0 && m.last.SessionID != "" {
		return m.last
	}
	return ref
}

// forgetful answers a fix now and then without storing it.
type forgetful struct {
	sessions.Live
	n int
}

func (f *forgetful) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	if f.n++; f.n%40 == 0 {
		snap, err := f.Live.Latest(ctx, ref)
		return sessions.Receipt{Verdict: sessions.VerdictStored, Version: snap.Version}, err
	}
	return f.Live.Update(ctx, ref, fix)
}

func TestRate(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		atMS  []int64
		early []int64
	}{
		"punctual":             {[]int64{0, 5000, 10_000}, []int64{0, 0, 0}},
		"within_the_tolerance": {[]int64{0, 4000, 9000, 14_000}, []int64{0, 0, 0, 0}},
		"one_ms_too_early":     {[]int64{0, 3999}, []int64{0, 1}},
		"tolerance_spent":      {[]int64{0, 4000, 8000}, []int64{0, 0, 1000}},
		"no_credit_for_pauses": {[]int64{0, 60_000, 60_001}, []int64{0, 0, 3999}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r rate
			for i, at := range row.atMS {
				assert.Equal(t, row.early[i], r.take(1e12+at), "fix %d", i)
			}
		})
	}
	var r rate
	r.take(1_000_000)
	r.setBack(900_000)
	assert.Zero(t, r.take(900_000), "the clock went back by more than the rate can account for")
	r.setBack(899_000)
	assert.Equal(t, int64(5000), r.take(899_000), "by less, the wait stays")
}
