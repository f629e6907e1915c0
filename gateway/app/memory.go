package app

import (
	"cmp"
	"context"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
)

// What is reckoned with where memory is limited, by measurement: docs/adr/0017. A
// connection that waits takes a quarter of it. But all may be idle instead, between two
// requests, and then each has a goroutine and a buffer.
const (
	processBytes = 64 << 20 // a process that nobody calls
	connBytes    = 18 << 10
	tlsBytes     = 15 << 10 // of a connection's TLS: 33 KB instead of 18 for 4,000 idle ones
	kernelBytes  = 2 << 10  // of a connection's socket. The control group counts it, and Go does not
)

// memoryLimits are what a process may take, and what follows from that.
type memoryLimits struct {
	limit   int64 // of the control group, or of GOMEMLIMIT; 0: none
	goLimit int64 // for debug.SetMemoryLimit; 0: it is left as it is
	conns   int
	waits   int
}

// memoryOf derives the limits that are not set from the memory limit.
func memoryOf(limit int64, o Options) memoryLimits {
	m := memoryLimits{limit: limit, conns: o.MaxConns, waits: o.MaxWaits}
	usable := limit - limit/10 // the other tenth is for what was not reckoned with
	each := int64(connBytes + kernelBytes)
	if o.TLSCert != "" {
		each += tlsBytes
	}
	room := int(max(0, usable-processBytes) / each)
	if limit == 0 {
		room = math.MaxInt
	}
	// A wait too many gets an answer, a connection too many none. So there are fewer waits.
	m.conns = cmp.Or(m.conns, min(httpserver.DefaultMaxConns, max(room, 100)))
	m.waits = cmp.Or(m.waits, min(hub.DefaultTotal, max(room/4*3, 75)))
	if limit > 0 {
		m.goLimit = max(usable-int64(m.conns)*kernelBytes, limit/2)
	}
	return m
}

// FitMemory fits the process to the memory that it may take, and returns the options
// with the limits that follow from it. system is the root of the file system. For a
// process that has nothing else to do: what it sets holds for all of it. What the
// operator says by GOMEMLIMIT and GOGC holds instead.
func (o Options) FitMemory(ctx context.Context, system fs.FS) Options {
	limit := groupLimit(system)
	if os.Getenv("GOMEMLIMIT") != "" {
		limit = least(limit, debug.SetMemoryLimit(-1))
	}
	m := memoryOf(limit, o)
	if os.Getenv("GOMEMLIMIT") == "" && m.goLimit > 0 {
		debug.SetMemoryLimit(m.goLimit)
	}
	o.MaxConns, o.MaxWaits = m.conns, m.waits
	o.smallHeap = os.Getenv("GOGC") == ""
	if o.Log != nil {
		o.Log.InfoContext(ctx, "memory", slog.Int64("limit_bytes", m.limit), slog.Int64("go_limit_bytes", debug.SetMemoryLimit(-1)),
			slog.Int("max_conns", m.conns), slog.Int("max_waits", m.waits), slog.Int("processors", runtime.GOMAXPROCS(0)))
	}
	return o
}

// groupLimit is the memory limit of the control group that this process is in, in
// bytes: the least of its own and its ancestors', of version 1 and 2. 0: none. Inside
// of a container its path may be the host's, of which nothing is mounted but the end,
// as the root; so a folder that is not there is passed over.
func groupLimit(system fs.FS) int64 {
	groups, err := fs.ReadFile(system, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	var limit int64
	for line := range strings.Lines(string(groups)) {
		// number:controllers:path; of version 2 the controllers are empty.
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, at, _ := strings.Cut(rest, ":")
		root, files := "sys/fs/cgroup", []string{"memory.max", "memory.high"} // over the latter it is slowed down to a crawl
		switch {
		case controllers == "":
		case strings.Contains(","+controllers+",", ",memory,"):
			root, files = "sys/fs/cgroup/memory", []string{"memory.limit_in_bytes", memoryStat}
		default:
			continue
		}
		for at = path.Join("/", at); ; at = path.Dir(at) {
			for _, file := range files {
				limit = least(limit, limitIn(system, path.Join(root, at, file)))
			}
			if at == "/" {
				break
			}
		}
	}
	return limit
}

// memoryStat has, of version 1, the least limit of a group and its ancestors. Inside of a
// container those are not mounted: on Fargate the limit is the task's.
const memoryStat = "memory.stat"

// limitIn reads a limit; 0: there is none. Version 1 says a number close to 1<<63 then,
// version 2 "max".
func limitIn(system fs.FS, name string) int64 {
	held, err := fs.ReadFile(system, name)
	if err != nil {
		return 0
	}
	text := string(held)
	if path.Base(name) == memoryStat {
		_, text, _ = strings.Cut(text, "hierarchical_memory_limit ")
		text, _, _ = strings.Cut(text, "\n")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n >= 1<<60 {
		return 0
	}
	return n
}

// least is the lesser of two limits, of which 0 and math.MaxInt64 are none. If neither
// is one, it is 0.
func least(a, b int64) int64 {
	if a == 0 {
		a = math.MaxInt64
	}
	if b != 0 {
		a = min(a, b)
	}
	if a == math.MaxInt64 {
		return 0
	}
	return a
}

// keepHeapSmall gives the collector less room while much lives, which are waits as a
// rule, and all the room it has by default while it would cost too much CPU otherwise. Go
// lets a heap grow to twice what lives. docs/adr/0017 has the measurements.
func keepHeapSmall(ctx context.Context) error {
	read := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	r := gcRoom{percent: 100}
	for now := r.percent; ; {
		metrics.Read(read)
		if percent := r.next(read[0].Value.Uint64(), read[1].Value.Float64()); percent != now {
			debug.SetGCPercent(percent)
			now = percent
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

const (
	// roomBytes is the room that a heap gets at least, if that is not more than what lives.
	roomBytes = 16 << 20
	// gcDear is what the collector may cost, in cores, before its room is doubled. The room
	// goes back to what gcPercent says where it would cost less than four fifths of that there.
	gcDear = 0.15
)

// gcRoom decides GOGC, once a second.
type gcRoom struct {
	percent int
	spent   float64 // by the collector until the last look, in seconds of CPU
	cost    float64 // in cores, of the last half minute: students who all come at once need no room for long
}

// next is GOGC from the bytes that live and the collector's CPU time until now.
func (r *gcRoom) next(live uint64, spent float64) int {
	r.cost += (spent - r.spent - r.cost) / 32
	r.spent = spent
	least := gcPercent(live)
	switch {
	case r.cost*float64(r.percent) < 0.8*gcDear*float64(least): // half the room is twice the cost
		r.percent = least
	case r.cost > gcDear:
		r.percent = min(100, 2*r.percent)
	}
	r.percent = max(r.percent, least)
	return r.percent
}

// gcPercent is GOGC for a heap of which so many bytes live: 100 up to roomBytes, and then
// so much that the room stays the same, down to 25. It is a multiple of 5, because each
// change stops the world for a moment.
func gcPercent(live uint64) int {
	percent := 100 * roomBytes / max(live, roomBytes)
	return max(25, int(percent)/5*5) //nolint:gosec // it is at most 100
}
