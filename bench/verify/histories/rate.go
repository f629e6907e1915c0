package histories

import "doorstep/sessions"

// The rate of docs/contract.md, section 1: one update per 5 s, as a GCRA with 1 s of
// tolerance, on when a fix was taken by the store's clock.
const (
	intervalMS  = 5000
	toleranceMS = 1000
)

// rate is the checker's own GCRA, in the form of a leaky bucket: the level is the
// time that the fixes so far have not drained yet. The product keeps the
// theoretical arrival time, the other of the two forms that ITU-T I.371 shows to be
// equal.
type rate struct {
	levelMS int64
	lastMS  int64
}

// take adds a fix at an instant of the store's clock. It returns by how many
// milliseconds the fix is too early; 0 for one that the rate allows.
func (r *rate) take(nowMS int64) int64 {
	r.drain(nowMS)
	early := max(0, r.levelMS-toleranceMS)
	r.levelMS += intervalMS
	return early
}

func (r *rate) drain(nowMS int64) {
	r.levelMS = max(0, r.levelMS-max(0, nowMS-r.lastMS))
	r.lastMS = nowMS
}

// setBack handles a step of the clock. A phone need not wait until a clock that was
// set back catches up: the level is cleared if the step is larger than the rate
// itself could have filled.
func (r *rate) setBack(nowMS int64) {
	if due := r.lastMS + r.levelMS; due > nowMS+intervalMS+toleranceMS {
		r.levelMS, r.lastMS = 0, nowMS
		return
	}
	if nowMS < r.lastMS {
		r.levelMS += r.lastMS - nowMS
		r.lastMS = nowMS
	}
}

// ratesWereKept: the fixes that were stored, by when they were taken on the store's
// clock, pass the checker's own rate limit. Refused ones count, too, but nothing says
// when they were taken.
func (c *checker) ratesWereKept() {
	stores := map[string]map[sessions.Ref]*rate{}
	for _, ch := range c.Changes {
		rates := stores[ch.Region]
		if rates == nil {
			rates = map[sessions.Ref]*rate{}
			stores[ch.Region] = rates
		}
		switch ch.Kind {
		case Lost:
			clear(rates)
		case Opened, Ended:
			delete(rates, ch.Ref)
		case Stepped:
			for _, r := range rates {
				r.setBack(ch.StoreMS)
			}
		case Judged:
			if ch.TakenMS == 0 {
				continue
			}
			if rates[ch.Ref] == nil {
				rates[ch.Ref] = &rate{}
			}
			if early := rates[ch.Ref].take(ch.TakenMS); early > 0 {
				c.wrongf("over the rate by %d ms: %s", early, ch)
			}
		}
	}
}
