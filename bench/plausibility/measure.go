package main

import "time"

// tally is how an engine treated honest phones.
type tally struct {
	recordings, fixes, refused, ignored, flagged int
	longestRun                                   int
	longestBlind, longestStuck                   time.Duration
	worstFile                                    string
}

// add counts one recording. A run is refused fixes in a row; an ignored fix
// neither ends nor extends it. Blind is from the first refused fix of a run to
// the next accepted one, by the clock of arrival.
func (t *tally) add(file string, all []sent) {
	t.recordings++
	run, sinceMS, lastMS := 0, int64(0), int64(0)
	for _, s := range all {
		t.fixes++
		if s.flags != 0 {
			t.flagged++
		}
		switch {
		case s.refused:
			t.refused++
			if run++; run == 1 {
				sinceMS = s.RecordedMS
			}
			lastMS = s.RecordedMS
		case s.accepted():
			if run > 0 {
				t.close(file, run, s.RecordedMS-sinceMS, lastMS-sinceMS)
			}
			run = 0
		default:
			t.ignored++
		}
	}
	if run > 0 {
		t.close(file, run, lastMS-sinceMS, lastMS-sinceMS)
	}
}

func (t *tally) close(file string, run int, blindMS, stuckMS int64) {
	t.longestRun = max(t.longestRun, run)
	t.longestStuck = max(t.longestStuck, time.Duration(stuckMS)*time.Millisecond)
	if blind := time.Duration(blindMS) * time.Millisecond; blind > t.longestBlind {
		t.longestBlind, t.worstFile = blind, file
	}
}

func (t *tally) refusedShare() float64 { return share(t.refused, t.fixes) }

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
