package app

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/httpserver"
	"doorstep/gateway/hub"
)

func TestGroupLimit(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, row := range map[string]struct {
		groups string
		files  map[string]string
		want   int64
	}{
		"no control groups":                                {"", nil, 0},
		"version 2, of its own":                            {"0::/\n", map[string]string{"memory.max": "268435456\n"}, 256 * mib},
		"version 2, none":                                  {"0::/a\n", map[string]string{"a/memory.max": "max\n"}, 0},
		"version 2, the parent's":                          {"0::/a/b\n", map[string]string{"a/b/memory.max": "536870912\n", "a/memory.max": "268435456\n", "memory.max": "max\n"}, 256 * mib},
		"version 2, the host's path inside of a container": {"0::/host/x\n", map[string]string{"memory.max": "268435456\n"}, 256 * mib},
		"version 1":                                        {"5:cpu,cpuacct:/a\n4:memory:/a\n", map[string]string{"memory/a/memory.limit_in_bytes": "268435456\n"}, 256 * mib},
		"version 1, with others in one hierarchy":          {"4:hugetlb,memory:/a\n", map[string]string{"memory/a/memory.limit_in_bytes": "268435456\n"}, 256 * mib},
		"version 1, none":                                  {"4:memory:/\n", map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"version 2, where it is slowed down":               {"0::/\n", map[string]string{"memory.max": "max\n", "memory.high": "268435456\n"}, 256 * mib},
		"version 1, the parent's, which is not mounted": {"4:memory:/ecs/task/container\n", map[string]string{
			"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.stat": "cache 4096\nhierarchical_memory_limit 268435456\nhierarchical_memsw_limit 9223372036854771712\n",
		}, 256 * mib},
		"both":      {"4:memory:/\n0::/\n", map[string]string{"memory/memory.limit_in_bytes": "536870912", "memory.max": "268435456"}, 256 * mib},
		"no number": {"0::/\n", map[string]string{"memory.max": "much\n"}, 0},
	} {
		system := fstest.MapFS{}
		if row.groups != "" {
			system["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(row.groups)}
		}
		for file, text := range row.files {
			system["sys/fs/cgroup/"+file] = &fstest.MapFile{Data: []byte(text)}
		}
		assert.Equal(t, row.want, groupLimit(system), name)
	}
}

func TestMemoryOf(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, row := range map[string]struct {
		limit int64
		set   Options
		want  memoryLimits
	}{
		"no limit":              {0, Options{}, memoryLimits{0, 0, httpserver.DefaultMaxConns, hub.DefaultTotal}},
		"no limit, but set":     {0, Options{MaxConns: 7, MaxWaits: 8}, memoryLimits{0, 0, 7, 8}},
		"256 MiB":               {256 * mib, Options{}, memoryLimits{256 * mib, 213, 8519, 6387}},
		"256 MiB over TLS":      {256 * mib, Options{TLSCert: "cert"}, memoryLimits{256 * mib, 220, 4868, 3651}},
		"much":                  {16384 * mib, Options{}, memoryLimits{16384 * mib, 14628, httpserver.DefaultMaxConns, hub.DefaultTotal}},
		"less than it takes":    {32 * mib, Options{}, memoryLimits{32 * mib, 28, 100, 75}},
		"set, and more than it": {256 * mib, Options{MaxConns: 60_000, MaxWaits: 50_000}, memoryLimits{256 * mib, 128, 60_000, 50_000}},
	} {
		got := memoryOf(row.limit, row.set)
		got.goLimit >>= 20 // in MiB
		assert.Equal(t, row.want, got, name)
	}
}

func TestLeast(t *testing.T) {
	t.Parallel()
	for _, row := range [][3]int64{{0, 0, 0}, {5, 0, 5}, {0, 5, 5}, {5, 3, 3}, {3, 1<<63 - 1, 3}, {1<<63 - 1, 3, 3}, {0, 1<<63 - 1, 0}, {1<<63 - 1, 1<<63 - 1, 0}} {
		assert.Equal(t, row[2], least(row[0], row[1]), row)
	}
}

func TestGCPercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 100, 16 << 20: 100, 20 << 20: 80, 36 << 20: 40, 64 << 20: 25, 1 << 40: 25} {
		assert.Equal(t, want, gcPercent(live), live)
	}
}

// A heap of waits is kept small. Where the collector costs much it gets room, and gives it
// back when it costs nothing any more.
func TestGCRoom(t *testing.T) {
	t.Parallel()
	const live = 100 << 20
	r := gcRoom{percent: 100}
	spent := 0.0
	after := func(seconds int, cost float64) int {
		for range seconds {
			spent += cost
			r.next(live, spent)
		}
		return r.percent
	}
	assert.Equal(t, 25, after(1, 0), "nothing costs")
	assert.Equal(t, 25, after(60, 0.03), "it may cost that")
	assert.Equal(t, 25, after(10, 0.3), "students who come at once")
	assert.Equal(t, 100, after(40, 0.3))
	assert.Equal(t, 100, after(60, 0.06), "what it costs with all room")
	assert.Equal(t, 100, after(60, 0.03), "it would be twice that with half of it")
	assert.Equal(t, 25, after(60, 0.001), "the waits are left")
	assert.Equal(t, 25, after(1, 0.1), "one collection")
}
