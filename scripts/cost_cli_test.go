package scripts

import (
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/internal/servers/requiredtest"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// BenchmarkUpdate_valkey_benchmark is BenchmarkUpdate_server by the server's own
// tool: `valkey-benchmark -P 16` sends updates of 10,000 journeys, the five commands
// of an update alone, and HSETs of seven fields, in turns. update/hset and update/five are
// the medians of the turns' ratios, with quartiles: one turn is by a fifth what the machine makes of it. The
// tool can only vary numbers, so the journeys stroll, the phones tell no time, and
// the rate is open; all else is on. The server's CPU by INFO. It only tells: from
// sixteen connections the HSET is cheaper than from the one of
// BenchmarkUpdate_server, which holds the budget.
func BenchmarkUpdate_valkey_benchmark(b *testing.B) {
	program, err := exec.LookPath("valkey-benchmark")
	if err != nil {
		requiredtest.Missing(b, err)
	}
	const journeys, calls = 10_000, 50_000
	server := valkeytest.Private(b, "valkey")
	client := rawClient(b, server.URL())
	live := sessions.LiveOptions{RateInterval: time.Millisecond, RateTolerance: time.Hour}.WithDefaults()
	s, err := New(Options{URL: server.URL(), Live: live})
	require.NoError(b, err)
	strollers(b, s, client, journeys)
	sha := scriptLoad(b, client, withSettings(updateLua, updateSettings(live)))

	run := func(command ...string) time.Duration {
		args := append([]string{
			"-s", server.Socket(), "-q", "-n", strconv.Itoa(calls), "-r", strconv.Itoa(journeys), "-P", "16", "-c", "16",
		}, command...)
		return serverCPU(b, client, func() {
			out, err := exec.CommandContext(b.Context(), program, args...).CombinedOutput()
			require.NoError(b, err, "%s", out)
		})
	}
	updates := func() time.Duration {
		return run("EVALSHA", sha, "1", "location:trainer:{__rand_int__}", "location:live:__rand_int__",
			"52.10__rand_int__", "5.1012345", "8.5", "3.6", "260.0", "-", "0", geo.CellOf(geo.MustPoint(52.1, 5.1)))
	}
	hsets := func() time.Duration {
		return run("HSET", "plain:{__rand_int__}", "lat", "52.1012345", "lng", "5.1012345", "acc", "8.5", "spd", "50.4",
			"hdg", "260.0", "ts", "1773480413589", "seq", "1773480413589")
	}
	five := scriptLoad(b, client, fiveCommands)
	fives := func() time.Duration {
		return run("EVALSHA", five, "1", "location:trainer:{__rand_int__}", "five:{__rand_int__}",
			"52.10__rand_int__", "5.1012345", "8.5", "3.6", "260.0", "-", "0", geo.CellOf(geo.MustPoint(52.1, 5.1)))
	}
	var update, plain time.Duration
	var ratios, overFive []float64
	for b.Loop() {
		var u, f, h time.Duration
		if len(ratios)%2 == 0 { // who comes first has the machine as the last turn left it
			u, f, h = updates(), fives(), hsets()
		} else {
			h, f, u = hsets(), fives(), updates()
		}
		update, plain = update+u, plain+h
		ratios, overFive = append(ratios, float64(u)/float64(h)), append(overFive, float64(u)/float64(f))
	}
	requireStored(b, client, 2*len(ratios)*calls) // the five commands publish, too
	slices.Sort(ratios)
	slices.Sort(overFive)
	n := float64(len(ratios) * calls)
	b.ReportMetric(float64(update.Microseconds())/n, "us/update")
	b.ReportMetric(float64(plain.Microseconds())/n, "us/hset")
	b.ReportMetric(ratios[len(ratios)/2], "update/hset")
	b.ReportMetric(ratios[len(ratios)/4], "update/hset-q1")
	b.ReportMetric(ratios[len(ratios)*3/4], "update/hset-q3")
	b.ReportMetric(overFive[len(overFive)/2], "update/five")
	b.ReportMetric(overFive[len(overFive)/4], "update/five-q1")
	b.ReportMetric(overFive[len(overFive)*3/4], "update/five-q3")
}

// fiveCommands is a script that makes the calls of an update, gives a reply as long, and
// judges nothing. It writes what the hash has. What it costs, no update.lua can save.
const fiveCommands = `#!lua
local key, channel = KEYS[1], ARGV[1]
local h = redis.call('HMGET', key, 'to', 'fence', 'seq', 'tat', 'fix', 'anchor', 'odd', 'proof', 'clock')
if not h[5] then return 0 end -- no update has come to this journey yet
local t = redis.call('TIME')
local now = t[1] * 1000
local fix = ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] .. ' 0 ' .. ARGV[7] .. ' ' .. ARGV[5] .. ' ' .. ARGV[6]
redis.call('HSET', key, 'seq', h[3], 'tat', h[4], 'fix', h[5])
redis.call('PEXPIRE', key, 3600000)
redis.call('SPUBLISH', channel, h[3] .. ' 0 ' .. h[1] .. ' ' .. fix .. ' ' .. h[6])
return struct.pack('<dddddddddc0', now, 5000, now, 300000, 6, 0, 0, 700, 5000, h[1])`

// strollers opens the journeys whose keys the tool will make.
func strollers(b *testing.B, s *Store, c valkey.Client, n int) {
	b.Helper()
	home := geo.MustPoint(52.2, 5.1)
	fence, err := geo.Cover(home, 150)
	require.NoError(b, err)
	started := strconv.FormatInt(time.Now().UnixMilli(), 10)
	for i := range n {
		id := "00000000" + strconv.Itoa(10_000 + i)[1:]
		require.NoError(b, s.open.Exec(b.Context(), c, []string{"location:trainer:{" + id + "}"}, []string{
			"location:live:" + id, "", started, destination(sessions.Car, home), fence.String(), "3600000", "0",
		}).Error())
	}
}

// requireStored counts that nearly all updates were what they are counted for:
// of two at the same millisecond the second is stale.
func requireStored(b *testing.B, c valkey.Client, calls int) {
	b.Helper()
	stats, err := c.Do(b.Context(), c.B().Info().Section("commandstats").Build()).ToString()
	require.NoError(b, err)
	for line := range strings.Lines(stats) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_spublish:calls="); ok {
			published, _, _ := strings.Cut(rest, ",")
			stored, err := strconv.Atoi(published)
			require.NoError(b, err)
			require.Greater(b, float64(stored), 0.95*float64(calls))
			return
		}
	}
	b.Fatal("nothing was published")
}
