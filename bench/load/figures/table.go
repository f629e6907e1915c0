package figures

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"doorstep/bench/load/drive"
)

// Row writes one row of a Markdown table.
func Row(w io.Writer, cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = fmt.Sprint(c)
	}
	fmt.Fprintf(w, "| %s |\n", strings.Join(text, " | "))
}

// Head writes a table's head.
func Head(w io.Writer, names ...string) {
	fmt.Fprintf(w, "\n| %s |\n|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
}

// Number formats a positive number with three digits at least, and a comma
// between thousands: 3.14, 31.4, 314, 31,416.
func Number(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	text := fmt.Sprintf("%.0f", v)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// MS is a duration in milliseconds, two digits after the point.
func MS(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

// At is a quantile, in percent, of a histogram of microseconds.
func At(h *drive.Histogram, percent float64) time.Duration {
	if h == nil {
		return 0
	}
	return time.Duration(h.ValueAtQuantile(percent)) * time.Microsecond
}

// Latencies writes a table of the histograms that are not empty.
func Latencies(w io.Writer, all map[string]*drive.Histogram) {
	Head(w, "latency, ms", "count", "p50", "p90", "p99", "p99.9", "max")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if h := all[name]; h.TotalCount() > 0 {
			Row(w, name, h.TotalCount(), MS(At(h, 50)), MS(At(h, 90)), MS(At(h, 99)), MS(At(h, 99.9)), MS(At(h, 100)))
		}
	}
}

// Counts writes how often each call had each answer.
func Counts(w io.Writer, counts map[string]int64) {
	Head(w, "call and answer", "count")
	for _, label := range slices.Sorted(maps.Keys(counts)) {
		Row(w, label, counts[label])
	}
}

// Costs writes what each part used, in all and for each of n updates.
func Costs(w io.Writer, costs []Cost, n int64) {
	Head(w, "part", "CPU, % of a core", "CPU per update, µs", "RSS, MB")
	for _, c := range costs {
		per := "–"
		if n > 0 {
			per = fmt.Sprintf("%.1f", float64(c.CPU.Microseconds())/float64(n))
		}
		Row(w, c.Name, fmt.Sprintf("%.1f", 100*c.Core), per, fmt.Sprintf("%.1f", float64(c.RSS)/(1<<20)))
	}
}

// Machine names the processor and the memory, for the head of a report.
func Machine() string {
	model := cmp.Or(proc("cpuinfo", "model name"), runtime.GOARCH)
	var kB float64
	_, _ = fmt.Sscan(proc("meminfo", "MemTotal"), &kB) // 0 GB where it is not told
	return fmt.Sprintf("%d cores (%s), %.0f GB, %s, %s", runtime.NumCPU(), model, kB/(1<<20), runtime.GOOS, runtime.Version())
}

// proc is the first value of a name in a file of /proc; empty where there is none.
func proc(file, name string) string {
	text, _ := os.ReadFile("/proc/" + file)
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
