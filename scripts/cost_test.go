package scripts

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// updateBudget is what an accepted update may cost the store, in plain HSETs of seven
// fields.
const updateBudget = 6.0

// BenchmarkUpdate_server measures the store's own CPU for an accepted update,
// everything on, and for one HSET of seven fields, in turns in one run, so that
// the ratio holds however fast the machine is. 10,000 journeys, 5 s of driving
// a turn, commands in pipelines of 16; the store's CPU by INFO. It fails over
// the budget.
func BenchmarkUpdate_server(b *testing.B) {
	const journeys = 10_000
	server := valkeytest.Private(b, "valkey")
	now := time.Date(2026, 3, 14, 9, 26, 53, 589e6, time.UTC)
	client := rawClient(b, server.URL())
	s, err := New(Options{URL: server.URL(), Now: func() time.Time { return now }})
	require.NoError(b, err)
	refs := openMany(b, s, client, journeys)
	sha := scriptLoad(b, client, withSettings(updateLua, updateSettings(s.opts.Live)))

	var update, plain time.Duration
	turns := 0
	for b.Loop() {
		turns++
		now = now.Add(5 * time.Second)
		update += serverCPU(b, client, func() { updateAll(b, s, client, sha, refs, turns) })
		plain += serverCPU(b, client, func() { hsetAll(b, client, refs, now) })
	}
	n := float64(turns * journeys)
	ratio := float64(update) / float64(plain)
	b.ReportMetric(float64(update.Microseconds())/n, "us/update")
	b.ReportMetric(float64(plain.Microseconds())/n, "us/hset")
	b.ReportMetric(ratio, "update/hset")
	b.ReportMetric(float64(memoryOf(b, client, journeyKey(refs[0]))), "B/journey")
	if turns > 3 && ratio > updateBudget {
		b.Errorf("an update costs the store %.1f HSETs, budget %.1f", ratio, updateBudget)
	}
}

func openMany(b *testing.B, s *Store, c valkey.Client, n int) []sessions.Ref {
	b.Helper()
	ctx := context.Background()
	home := geo.MustPoint(52.1, 5.1)
	fence, err := geo.Cover(home, 150)
	require.NoError(b, err)
	refs := make([]sessions.Ref, n)
	started := strconv.FormatInt(s.opts.Now().UnixMilli(), 10)
	for i := range refs {
		refs[i] = sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()}
		require.NoError(b, s.open.Exec(ctx, c, []string{journeyKey(refs[i])}, []string{
			liveChannel(refs[i]), s.clock(), started, destination(sessions.Car, home), fence.String(), "86400000", "0",
		}).Error())
	}
	s.opts.Live.JourneyTTL = 24 * time.Hour // as long as the benchmark likes
	return refs
}

// updateAll drives every journey 70 m on.
func updateAll(b *testing.B, s *Store, c valkey.Client, sha string, refs []sessions.Ref, turn int) {
	b.Helper()
	at := geo.Offset(geo.MustPoint(52.1, 5.1), 80, 20_000-float64(turn%280)*70)
	speed, heading := 50.4, 260.0
	fix := sessions.Fix{Point: at, AccuracyM: 8.5, SpeedKMH: &speed, HeadingDeg: &heading, RecordedAt: s.opts.Now().Add(-180 * time.Millisecond)}
	pipeline(b, c, refs, func(ref sessions.Ref) valkey.Completed {
		return c.B().Evalsha().Sha1(sha).Numkeys(1).Key(journeyKey(ref)).Arg(s.fixArgs(ref, fix)...).Build()
	})
}

func hsetAll(b *testing.B, c valkey.Client, refs []sessions.Ref, now time.Time) {
	b.Helper()
	ts := strconv.FormatInt(now.UnixMilli(), 10)
	pipeline(b, c, refs, func(ref sessions.Ref) valkey.Completed {
		return c.B().Hset().Key("plain:"+journeyKey(ref)).FieldValue().
			FieldValue("lat", "52.1012345").FieldValue("lng", "5.1012345").FieldValue("acc", "8.5").
			FieldValue("spd", "50.4").FieldValue("hdg", "260.0").FieldValue("ts", ts).FieldValue("seq", ts).Build()
	})
}

func pipeline(b *testing.B, c valkey.Client, refs []sessions.Ref, command func(sessions.Ref) valkey.Completed) {
	b.Helper()
	const batch = 16 // as valkey-benchmark -P 16 does
	for len(refs) > 0 {
		n := min(batch, len(refs))
		commands := make([]valkey.Completed, n)
		for i, ref := range refs[:n] {
			commands[i] = command(ref)
		}
		for _, res := range c.DoMulti(context.Background(), commands...) {
			reply, err := res.ToAny()
			require.NoError(b, err)
			if list, ok := reply.([]any); ok && list[0] != int64(sessions.VerdictStored) {
				b.Fatalf("not stored: %v", list)
			}
		}
		refs = refs[n:]
	}
}

// serverCPU is what f cost the store's process, user and system.
func serverCPU(b *testing.B, c valkey.Client, f func()) time.Duration {
	b.Helper()
	before := cpuOf(b, c)
	f()
	return cpuOf(b, c) - before
}

func cpuOf(b *testing.B, c valkey.Client) time.Duration {
	b.Helper()
	info, err := c.Do(context.Background(), c.B().Info().Section("cpu").Build()).ToString()
	require.NoError(b, err)
	var total float64
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			total += seconds
		}
	}
	return time.Duration(total * float64(time.Second))
}

func scriptLoad(b *testing.B, c valkey.Client, script string) string {
	b.Helper()
	sha, err := c.Do(context.Background(), c.B().ScriptLoad().Script(script).Build()).ToString()
	require.NoError(b, err)
	return sha
}

func memoryOf(b *testing.B, c valkey.Client, key string) int64 {
	b.Helper()
	n, err := c.Do(context.Background(), c.B().MemoryUsage().Key(key).Build()).ToInt64()
	require.NoError(b, err)
	encoding, err := c.Do(context.Background(), c.B().ObjectEncoding().Key(key).Build()).ToString()
	require.NoError(b, err)
	require.Equal(b, "listpack", encoding, "%s at %d bytes", key, n)
	return n
}
