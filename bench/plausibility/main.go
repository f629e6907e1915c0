package main

import (
	"fmt"
	"os"
)

func main() {
	all, err := load(os.Args[1], "")
	if err != nil {
		panic(err)
	}
	exp := int64(locationTTLMS)
	if len(os.Args) > 2 {
		exp = 0
	}
	groups := map[string]*[2]tally{}
	for _, r := range all {
		var one [2]tally
		for k, e := range []engine{&naive{expiryMS: exp}, &judge{expiryMS: exp}} {
			s, _ := play(e, r)
			one[k].add(r.file, s)
			if groups[r.group] == nil {
				groups[r.group] = &[2]tally{}
			}
			groups[r.group][k].add(r.file, s)
			if k == 1 {
				fl := map[string]int{}
				for i, x := range s {
					if x.refused {
						d := ""
						for q := i - 1; q >= max(0, i-2); q-- {
							d += fmt.Sprintf(" [%s acc=%.0f dt=%.0f]", s[q].verdict, s[q].AccuracyM, float64(x.RecordedMS-s[q].RecordedMS)/1000)
						}
						if i+1 < len(s) {
							d += fmt.Sprintf(" next: %s %s dt=%.0f", s[i+1].verdict, s[i+1].flags, float64(s[i+1].RecordedMS-x.RecordedMS)/1000)
						}
						fmt.Printf("   %s seq=%d %s acc=%.0f%s\n", r.file, x.Seq, x.verdict, x.AccuracyM, d)
					}
					if x.flags != 0 {
						fl[x.flags.String()]++
					}
				}
				fmt.Println(r.file, r.mode, "n", len(s), "naive", one[0].refused, one[0].longestRun, one[0].longestBlind, "judge", one[1].refused, one[1].longestRun, one[1].longestBlind, one[1].longestStuck, fl)
			}
		}
	}
	for g, t := range groups {
		fmt.Printf("%-14s n=%6d naive %.2f%% %d %v | judge refused %d = %.3f%% run %d blind %v stuck %v (%s) ignored %d flagged %.1f%%\n", g, t[0].fixes, 100*t[0].refusedShare(), t[0].longestRun, t[0].longestBlind, t[1].refused, 100*t[1].refusedShare(), t[1].longestRun, t[1].longestBlind, t[1].longestStuck, t[1].worstFile, t[1].ignored, 100*share(t[1].flagged, t[1].fixes))
	}
}
