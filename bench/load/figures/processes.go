// Package figures measures what processes use, and writes what was measured as
// Markdown and SVG.
package figures

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"doorstep/bench/rig"
)

// Processes are the ids of the measured processes, by the name of their part.
type Processes map[string][]int

// Sample is what each part has used until an instant.
type Sample struct {
	At    time.Time
	Parts map[string]rig.Usage // summed over a part's processes; PeakRSS, too
}

// Sample reads /proc. A process that has ended meanwhile counts nothing.
func (p Processes) Sample() (Sample, error) {
	s := Sample{At: time.Now(), Parts: map[string]rig.Usage{}}
	for name, pids := range p {
		var sum rig.Usage
		for _, pid := range pids {
			u, err := rig.UsageOf(pid)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return s, err
			}
			sum.CPU += u.CPU
			sum.RSS += u.RSS
			sum.PeakRSS += u.PeakRSS
		}
		s.Parts[name] = sum
	}
	return s, nil
}

// Cost is what one part used between two samples.
type Cost struct {
	Name string
	CPU  time.Duration
	Core float64 // share of one core
	RSS  int64   // bytes, at the end
}

// Since is the cost of each part since an earlier sample, by name.
func (s Sample) Since(before Sample) (costs []Cost) {
	took := s.At.Sub(before.At)
	for _, name := range slices.Sorted(maps.Keys(s.Parts)) {
		cpu := s.Parts[name].CPU - before.Parts[name].CPU
		costs = append(costs, Cost{Name: name, CPU: cpu, Core: cpu.Seconds() / took.Seconds(), RSS: s.Parts[name].RSS})
	}
	return costs
}

// CPU is the CPU time that some parts used together.
func CPU(costs []Cost, names ...string) (sum time.Duration) {
	for _, c := range costs {
		if slices.Contains(names, c.Name) {
			sum += c.CPU
		}
	}
	return sum
}

// Descendants are a process and those below it whose program has this name, such
// as PostgreSQL's many; an empty name means all. Processes that start later are
// not among them.
func Descendants(root int, program string) (pids []int) {
	parents := map[int]int{}
	names := map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		head, rest, ok := strings.Cut(string(text), " (")
		end := strings.LastIndexByte(rest, ')')
		fields := strings.Fields(rest[end+1:])
		if !ok || len(fields) < 2 {
			continue
		}
		pid, _ := strconv.Atoi(head)
		parents[pid], _ = strconv.Atoi(fields[1])
		names[pid] = rest[:end]
	}
	for pid := range parents {
		for up := pid; up > 1; up = parents[up] {
			if up == root && (program == "" || names[pid] == program) {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return pids
}
