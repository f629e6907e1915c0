package main

import (
	"fmt"
	"slices"
	"strings"

	"doorstep/bench/load/figures"
)

// target is one line of the table: what is wanted, in words and as figures.
type target struct {
	measure, wanted string
	parts           []part
}

// part is one figure of a target. Without a limit it is reported, not judged.
type part struct {
	run, fact string
	floor     string // the run by whose fact of that name it is divided; empty: by none
	say       string // format of the figure
	most      *float64
	least     *float64
}

func atMost(limit float64, run, fact, say string) part {
	return part{run: run, fact: fact, say: say, most: &limit}
}

func atLeast(limit float64, run, fact, say string) part {
	return part{run: run, fact: fact, say: say, least: &limit}
}

// beside is a figure as a multiple of a floor's.
func beside(floor string, limit float64, run, fact, say string) part {
	return part{run: run, fact: fact, floor: floor, say: say, most: &limit}
}

func reported(run, fact, say string) part { return part{run: run, fact: fact, say: say} }

// none is a figure that must be 0.
func none(run, fact, say string) part { return atMost(0, run, fact, say) }

// targets are all targets, in the table's order.
var targets = []target{
	{
		"accepted updates a second, everything on: token, rate, plausible, fence, metrics, publish",
		"≥ 7 × peer (a); ≥ 0.85 × floor (c)",
		[]part{
			atLeast(7, "peers", "updates_by_express", "%.1f × (a)"),
			atLeast(0.85, "peers", "updates_by_floor", "%.2f × (c)"),
			reported("peers", "updates_by_scripted_floor", "%.2f × (e), the floor that runs the same script"),
		},
	},
	{
		"CPU of gateway and Valkey an accepted update", "≤ 1/6 of peer (a), 0.167; ≤ 1.3 × floor (e)",
		[]part{
			atMost(1.0/6, "peers", "cpu_by_express", "%.3f of (a)"),
			atMost(1.3, "peers", "cpu_by_scripted_floor", "%.2f of (e)"),
		},
	},
	{
		"Valkey's CPU an accepted update script, by `valkey-benchmark`", "≤ 6 × one HSET of seven fields",
		[]part{
			atMost(6, "script", "Update_valkey_benchmark update/hset", "%.1f × from 16 connections"),
			reported("script", "Update_valkey_benchmark update/hset-q1", "quartiles %.1f"), reported("script", "Update_valkey_benchmark update/hset-q3", "and %.1f"),
			reported("script", "Update_server update/hset", "%.1f × from one (`BenchmarkUpdate_server`)"),
		},
	},
	{
		"the same", "≤ 1.5 × its five commands in a script that does nothing else",
		[]part{
			atMost(1.5, "script", "Update_valkey_benchmark update/five", "%.2f ×"),
			reported("script", "Update_valkey_benchmark update/five-q1", "quartiles %.2f"), reported("script", "Update_valkey_benchmark update/five-q3", "and %.2f"),
		},
	},
	{
		"10,000 journeys at 5 s with 10,000 waiting students", "gateway ≤ 30 % of a core and ≤ 1.25 × the floor's CPU, no error, fix to eye p99 ≤ 8 ms",
		[]part{
			atMost(30, "pace", figures.GatewayCore, "gateway %.0f %% of a core"),
			none("pace", figures.Failures, "%.0f errors"),
			atMost(8, "pace", figures.SightP99MS, "fix to eye p99 %.1f ms"),
			reported("pace", figures.SightP50MS, "p50 %.1f ms"),
			beside("pace-floor", 1.25, "pace-alone", figures.GatewayCore, "%.2f × the floor without ends and database"),
			reported("pace-alone", figures.GatewayCore, "that is %.0f %% of a core"),
			reported("pace-floor", figures.GatewayCore, "the floor takes %.0f %%"),
			reported("pace-floor", figures.SightP99MS, "its p99 %.1f ms"),
		},
	},
	{
		"most journeys held with update p99 ≤ 100 ms and no error, no students", "≥ 50,000",
		[]part{
			atLeast(50_000, "held", "held", "%.0f"),
			reported("held", "tried", "the most tried %.0f"),
			reported("held", figures.UpdateP99MS, "p99 %.1f ms"),
			reported("held", figures.GatewayCore, "gateway %.0f %% of a core"),
		},
	},
	{
		"memory of the process a waiting student, 50,000 waiting, connection included", "≤ 4 KB; embedded, 15,000 waiting ≤ 3 KB",
		[]part{
			atMost(4, "idle", "waiting_student_kb", "%.1f KB"),
			atMost(3, "idle-embedded", "waiting_student_kb", "embedded %.1f KB"),
			reported("idle-floor", "waiting_student_kb", "the floor takes %.1f KB"),
		},
	},
	{
		"100,000 waiting students on this machine", "≤ 4 KB of RSS each, none lost",
		[]part{
			atMost(4, "waiters", "rss_kb", "%.1f KB each"),
			none("waiters", "students_who_missed", "%.0f did not see the change"),
			none("waiters", figures.Failures, "%.0f errors"),
			reported("waiters", "kernel_slab_kb", "%.1f KB of kernel objects"),
			reported("waiters", "kernel_socket_kb", "%.1f KB of socket buffers, both ends"),
			reported("waiters", "goroutines", "%.0f goroutines of all gateways"),
			reported("waiters", "idle_us_a_second", "%.1f µs of CPU a second each while nothing changes"),
			reported("waiters", figures.SightP50MS, "wake of all: p50 %.0f ms"),
			reported("waiters", figures.SightP99MS, "p99 %.0f ms"),
			reported("waiters", "fix_to_eye_max_ms", "at most %.0f ms"),
		},
	},
	{
		"mass wake of 15,000 on one gateway", "p99 ≤ 1.1 × the floor's",
		[]part{
			beside("wake-floor", 1.1, "wake-one", figures.SightP99MS, "%.2f × the floor's"),
			reported("wake-one", figures.SightP99MS, "fix to eye p99 %.0f ms"),
			reported("wake-floor", figures.SightP99MS, "on the floor %.0f ms"),
		},
	},
	{
		"mass wake of 50,000 on three gateways", "p99 ≤ 1.5 s, nothing lost",
		[]part{
			atMost(1500, "wake", figures.SightP99MS, "fix to eye p99 %.0f ms"),
			none("wake", "students_who_missed", "%.0f did not see it"),
			none("wake", figures.Failures, "%.0f errors"),
			reported("wake-three-floors", figures.SightP99MS, "on three floors %.0f ms"),
		},
	},
	{
		"the harder one, 12,500 changes at one instant", "p99 ≤ 3 s, nothing lost, no 202",
		[]part{
			atMost(3000, "wake-many", figures.SightP99MS, "fix to eye p99 %.0f ms"),
			none("wake-many", "students_who_missed", "%.0f did not see theirs"),
			none("wake-many", figures.Failures, "%.0f errors, a 202 among them"),
			reported("wake-many-floors", figures.SightP99MS, "on three floors %.0f ms"),
		},
	},
	{
		"Valkey's memory an active journey, its hash", "≤ 400 B, a listpack",
		[]part{atMost(400, "script", "Update_server B/journey", "%.0f B, a listpack")}, // else there is no such figure
	},
	{
		"start to the first 200; idle RSS", "≤ 100 ms; ≤ 40 MB",
		[]part{atMost(100, "start", "start_ms", "%.0f ms"), atMost(40, "start", "idle_rss_mb", "%.1f MB")},
	},
	{
		"flat: cost an update from 100 to 100,000 active journeys", "within 15 %",
		[]part{
			atMost(15, "flat", "growth_percent", "%+.0f %%"),
			reported("flat", "growth_least", "of five pairs %+.0f"),
			reported("flat", "growth_most", "to %+.0f %%"),
			reported("flat", "least_us", "%.1f µs"),
			reported("flat", "most_us", "then %.1f µs, medians"),
		},
	},
}

// The verdicts.
const (
	met         = "met"
	missed      = "**missed**"
	notMeasured = "not measured"
)

// judge returns what was measured and whether it meets the target. Of several
// figures, each that misses says so.
func (t target) judge(facts map[string]figures.Facts) (measured, verdict string) {
	var texts []string
	verdict = met
	for _, p := range t.parts {
		v, known := p.figure(facts)
		text := fmt.Sprintf(p.say, v)
		switch {
		case !known && p.judged():
			text, verdict = p.run+": "+notMeasured, notMeasured
		case !known:
			continue
		case p.misses(v):
			text += " (missed)"
			if verdict == met {
				verdict = missed
			}
		}
		if !slices.Contains(texts, text) { // "not measured" once is enough
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; "), verdict
}

func (p part) figure(facts map[string]figures.Facts) (v float64, known bool) {
	v, known = facts[p.run][p.fact]
	if p.floor == "" || !known {
		return v, known
	}
	by, known := facts[p.floor][p.fact]
	return v / by, known && by > 0
}

func (p part) judged() bool { return p.most != nil || p.least != nil }

func (p part) misses(v float64) bool {
	return p.most != nil && v > *p.most || p.least != nil && v < *p.least
}
