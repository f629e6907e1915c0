package main

import "time"

// treatment counts how an engine treated honest phones.
type treatment struct {
	recordings, fixes, refused, ignored, flagged int
	longestRun                                   int
	longestBlind                                 time.Duration
	blindest                                     string // the file with the longest blind time
}

// silentMS is the longest that one refused fix adds to the blind time: three usual
// intervals. After that the phone is silent, which is not the engine's doing.
const silentMS = 15_000

// add counts one recording.
//
// A run is refused fixes in a row. An ignored fix, too inaccurate to be shown,
// neither ends nor lengthens it. Blind time is how long a phone sent fixes that
// were refused: for each refused fix of a run the time until the phone's next fix,
// at most silentMS. At a steady cadence that is the time from the first refused
// fix to the next accepted one.
func (t *treatment) add(file string, all []sent) {
	t.recordings++
	run, blindMS := 0, int64(0)
	for i, s := range all {
		t.count(s)
		switch {
		case s.refused:
			run++
			if i+1 < len(all) {
				blindMS += min(all[i+1].RecordedMS-s.RecordedMS, silentMS)
			}
			t.stretch(file, run, blindMS)
		case s.accepted():
			run, blindMS = 0, 0
		}
	}
}

func (t *treatment) count(s sent) {
	t.fixes++
	switch {
	case s.refused:
		t.refused++
	case !s.accepted():
		t.ignored++
	}
	if s.flags != 0 {
		t.flagged++
	}
}

func (t *treatment) stretch(file string, run int, blindMS int64) {
	t.longestRun = max(t.longestRun, run)
	if blind := time.Duration(blindMS) * time.Millisecond; blind > t.longestBlind {
		t.longestBlind, t.blindest = blind, file
	}
}

// plus adds up two treatments.
func (t treatment) plus(u treatment) treatment {
	sum := treatment{
		recordings: t.recordings + u.recordings, fixes: t.fixes + u.fixes,
		refused: t.refused + u.refused, ignored: t.ignored + u.ignored, flagged: t.flagged + u.flagged,
		longestRun: max(t.longestRun, u.longestRun), longestBlind: t.longestBlind, blindest: t.blindest,
	}
	if u.longestBlind > t.longestBlind {
		sum.longestBlind, sum.blindest = u.longestBlind, u.blindest
	}
	return sum
}

func (t treatment) refusedShare() float64 { return share(t.refused, t.fixes) }

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
