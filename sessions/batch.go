package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxBatch is how many fixes a batch may hold.
const MaxBatch = 500

// maxThinned is how many fixes of a batch go to the live store. In the five
// minutes that are not stale the rate has room for 75: one in 5 s, each 1 s early.
const maxThinned = 75

// batchTimeout bounds the calls of one batch to the live store. 61 calls take
// some 50 ms as a rule. A store that needs 30 ms a call or more is as good as
// away: the phone sends the batch again, and what is stored by then is stale.
const batchTimeout = 2 * time.Second

// UpdateBatch judges the fixes that a phone had to keep while it was offline.
// fixes holds 1 to MaxBatch of them, in any order. They are sorted and thinned
// (see Thin), and what is left is updated one by one, oldest first, so the newest
// decides the pin. each is called once a fix, with at least the verdict.
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

// updateAll updates in order, within batchTimeout. Of a batch only the newest fix can be
// where the trainer is.
func (s *Service) updateAll(ctx context.Context, c Caller, id ID, fixes []Fix) ([]Receipt, error) {
	limited, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	receipts := make([]Receipt, 0, len(fixes))
	var newest Fix
	var stored Receipt // of newest
	for _, fix := range fixes {
		fix.Continued = stored.Verdict == VerdictStored
		r, err := s.update(limited, c, id, fix)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = liveDown(fmt.Errorf("%w: too slow for a batch: %w", ErrUnavailable, err))
		}
		if err != nil {
			return nil, err
		}
		if r.Verdict == VerdictStored {
			newest, stored = fix, r
		}
		receipts = append(receipts, r)
	}
	s.publishLocation(Ref{TrainerID: c.ID, SessionID: id}, newest, stored)
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
// 500 fixes cost no more than 75 calls. It is a pure function and changes nothing
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
