package sessions

import (
	"context"
	"slices"
	"time"
)

// MaxBatch is how many fixes a batch may hold.
const MaxBatch = 500

// maxThinned is how many fixes of a batch go to the live store. In the five
// minutes that are not stale the rate has room for 75: one in 5 s, each 1 s early.
const maxThinned = 75

// UpdateBatch judges the fixes that a phone had to keep while it was offline.
// fixes holds 1 to MaxBatch of them, in any order. They are sorted and thinned
// (see Thin), and what is left is judged in one round trip, oldest first, so the
// newest decides the pin. each is called once a fix, with at least the verdict.
//
// The receipt is that of the newest fix. Where that came too soon, the fields
// that only a judged fix has are those of the last judged one, and zero where
// there is none.
//
// Errors: those of Update. After an error some of the fixes may be stored; the
// batch can be sent again, because those are stale then. each is called only
// without an error.
func (s *Service) UpdateBatch(ctx context.Context, c Caller, id ID, fixes []Fix, each func(Receipt)) (Receipt, error) {
	thinned := Thin(fixes, s.opts.RateInterval, s.opts.RateTolerance, s.opts.StaleAfter)
	receipts, err := s.updateAll(ctx, c, id, thinned.Fixes)
	if err != nil {
		return Receipt{}, err
	}
	s.countThinned(Ref{TrainerID: c.ID, SessionID: id}, thinned, each)
	var judged Receipt
	for _, r := range receipts {
		each(r)
		if r.Verdict >= VerdictStale {
			judged = r
		}
	}
	newest := receipts[len(receipts)-1]
	if newest.Verdict == VerdictTooSoon {
		newest.Version, newest.TTL, newest.Arriving = judged.Version, judged.TTL, judged.Arriving
		newest.NextUpdate = newest.RetryAfter
	}
	return newest, nil
}

// updateAll is update for several fixes, in order. Of these only the newest can be where
// the trainer is.
func (s *Service) updateAll(ctx context.Context, c Caller, id ID, fixes []Fix) ([]Receipt, error) {
	if len(fixes) == 1 {
		receipt, err := s.Update(ctx, c, id, fixes[0])
		return []Receipt{receipt}, err
	}
	ref := Ref{TrainerID: c.ID, SessionID: id}
	var receipts []Receipt
	err := s.ask(ctx, c, ref, func() (worst Verdict, err error) {
		receipts, err = s.live.UpdateAll(ctx, ref, fixes)
		worst = VerdictStored
		for _, r := range receipts {
			worst = min(worst, r.Verdict)
		}
		return worst, err
	})
	if err != nil {
		return nil, err
	}
	newest := 0
	for i := range receipts {
		s.judged(ref, fixes[i], &receipts[i])
		if receipts[i].Verdict == VerdictStored {
			newest = i
		}
	}
	s.publishLocation(ref, fixes[newest], receipts[newest])
	return receipts, nil
}

// OneByOne is Live.UpdateAll by calls of Live.Update.
func OneByOne(fixes []Fix, update func(Fix) (Receipt, error)) ([]Receipt, error) {
	receipts, stored := make([]Receipt, len(fixes)), false
	for i, fix := range fixes {
		fix.Continued = fix.Continued || stored
		var err error
		if receipts[i], err = update(fix); err != nil {
			return nil, err
		}
		stored = stored || receipts[i].Verdict == VerdictStored
	}
	return receipts, nil
}

// countThinned counts the fixes that were not sent to the live store.
func (s *Service) countThinned(ref Ref, t Thinned, each func(Receipt)) {
	for verdict, n := range map[Verdict]int{VerdictStale: t.Stale, VerdictIgnoredTooSoon: t.TooSoon} {
		for range n {
			r := Receipt{Verdict: verdict}
			s.opts.Counter.count(ref, r, s.opts.Now())
			each(r)
		}
	}
}

// Thinned is what Thin leaves of a batch.
type Thinned struct {
	Fixes   []Fix // to update in this order, oldest first; at least one of a batch that had one
	Stale   int   // how many were left out because they are too old
	TooSoon int   // how many were left out because the rate has no room for them
}

// Thin sorts a batch and leaves out what the live store would not take, so that
// 500 fixes cost no more than 75. It is a pure function and changes nothing
// in fixes.
//
// Order: by RecordedAt. Fixes without it count as taken now, so they come last
// and only the last of them stays.
//
// Age: by the batch's SentAt where it is known, else by its newest RecordedAt,
// which is not later than the present. Over staleAfter is stale. So is a fix that
// was recorded over 2 s after SentAt, where others were not: its clock has been
// set back since, and its age cannot be known.
//
// Rate: the newest always stays, because it is the present. From there backwards a
// fix stays where a GCRA of interval and half of tolerance has room for it. A GCRA
// admits a sequence if it admits it in reverse, so the live store has room for all
// that is left. Only half of the tolerance, because the live location may have
// used the other half: the newest fix must not pay for the oldest.
func Thin(fixes []Fix, interval, tolerance, staleAfter time.Duration) Thinned {
	timed, untimed := sorted(fixes)
	recent := recentOf(timed, staleAfter)
	out := Thinned{Stale: len(timed) - len(recent)}
	early, due := tolerance/2, latest // no fix after due+early stays
	if len(untimed) > 0 {
		untimed = untimed[len(untimed)-1:]
		if sent := sentAtOf(timed); !sent.IsZero() {
			due = sent.Add(-interval)
		}
	}
	for _, f := range slices.Backward(recent) {
		if f.RecordedAt.After(due.Add(early)) || len(out.Fixes)+len(untimed) == maxThinned {
			continue
		}
		if f.RecordedAt.Before(due) {
			due = f.RecordedAt
		}
		due = due.Add(-interval)
		out.Fixes = append(out.Fixes, f)
	}
	slices.Reverse(out.Fixes)
	out.Fixes = append(out.Fixes, untimed...)
	if i := lastSent(timed); len(out.Fixes) == 0 && i >= 0 { // all are stale: the store says so with a receipt
		out.Fixes, out.Stale = timed[i:i+1], out.Stale-1
	}
	out.TooSoon = len(fixes) - out.Stale - len(out.Fixes)
	return out
}

// sorted splits a batch into the fixes with a RecordedAt, oldest first, and those
// without, in the order given.
func sorted(fixes []Fix) (timed, untimed []Fix) {
	for _, f := range fixes {
		if f.RecordedAt.IsZero() {
			untimed = append(untimed, f)
		} else {
			timed = append(timed, f)
		}
	}
	slices.SortStableFunc(timed, func(a, b Fix) int { return a.RecordedAt.Compare(b.RecordedAt) })
	return timed, untimed
}

// recentOf leaves out what is stale.
func recentOf(timed []Fix, staleAfter time.Duration) []Fix {
	present := presentOf(timed)
	return slices.DeleteFunc(slices.Clone(timed), func(f Fix) bool {
		return present.Sub(f.RecordedAt) > staleAfter || f.RecordedAt.Sub(present) > setBack
	})
}

// setBack is how much later than SentAt a fix may be recorded. Apps cut
// SentAt to whole seconds, which makes the newest fix up to 1 s younger than its
// own request.
const setBack = 2 * time.Second

// presentOf is when the batch was sent by the phone's clock: SentAt, or no
// earlier than the newest RecordedAt. Zero for no fixes.
func presentOf(timed []Fix) time.Time {
	sent := sentAtOf(timed)
	if sent.IsZero() && len(timed) > 0 {
		return timed[len(timed)-1].RecordedAt
	}
	return sent
}

// lastSent is the index of the newest fix that was recorded by the clock of
// SentAt; -1 where there is none.
func lastSent(timed []Fix) int {
	for i, f := range slices.Backward(timed) {
		if !f.SentAt.IsZero() {
			return i
		}
	}
	return -1
}

// sentAtOf is the batch's SentAt; zero where it is not known.
func sentAtOf(timed []Fix) time.Time {
	var sent time.Time
	for _, f := range timed {
		if f.SentAt.After(sent) {
			sent = f.SentAt
		}
	}
	return sent
}
