package scripts

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// script is a file, and the ARGV of an unremarkable call of it.
type script struct {
	source string
	args   []string
}

const (
	nowMS   = 1_773_480_413_589
	startMS = nowMS - 600_000
	ttlMS   = 1_000_000 // of a key that is there before
	hourMS  = 3_600_000
	any_    = "*" // whatever it is: another test's business
)

const trainer, student = "0b7b3ad8-1d2c-4b8f-9d3e-5f8a2c6e4b10", "7f1f7f2e-93d5-4c3c-8a51-0e2d9b6a1c42"

func scriptsUnderTest() map[string]script {
	now, start, fence, toHome := ms(nowMS), ms(startMS), fenceOf(home), destination(sessions.Car, home)
	return map[string]script{
		"open": {openLua, []string{"", now, start, toHome, fence, ms(hourMS), "0", "-", "300000"}},
		"update": {updateLua, []string{
			"", "12.9790452", "77.5929284", "10.0", "-", "-", "-", "0", geo.CellOf(geo.MustPoint(12.9790452, 77.5929284)), "-", now,
		}},
		"move": {moveLua, []string{"", now, start, place(home), fence}},
		"end":  {endLua, []string{"", now, start, "300000", "arrived"}},
		"meta": {metaLua, []string{trainer, student, "300000", "eu"}},
	}
}

func ms(n int64) string { return strconv.FormatInt(n, 10) }

func fenceOf(p geo.Point) string {
	fence, err := geo.Cover(p, 150)
	if err != nil {
		panic(err)
	}
	return fence.String()
}

type hash map[string]string

// with is the hash with these fields on top.
func (h hash) with(fields hash) hash {
	all := maps.Clone(h)
	maps.Copy(all, fields)
	return all
}

// elsewhere is another home.
var elsewhere = geo.MustPoint(12.98, 77.6)

// without is the hash without a field.
func without(h hash, field string) hash {
	h = maps.Clone(h)
	delete(h, field)
	return h
}

var (
	opened = hash{"to": startedAt(startMS), "fence": fenceOf(home), "seq": ms(startMS)}
	// tombstone is what an end leaves.
	tombstone = hash{"to": ms(startMS) + " 1", "ended": "arrived", "seq": ms(startMS + 1)}
	// moving is opened with a fix 300 m north of home, five seconds ago.
	moving = opened.with(hash{
		"fix": "12.9790452 77.5929284 10.0 0 " + ms(nowMS-6000) + " - -",
		"seq": ms(nowMS - 5000), "tat": ms(nowMS),
	})
)

// startedAt is a field to: a drive to home.
func startedAt(startedMS int64) string { return inLayout("1", startedMS) }

// inLayout is startedAt in a layout of this number.
func inLayout(number string, startedMS int64) string {
	return strings.TrimSpace(ms(startedMS)+" "+number) + " " + destination(sessions.Car, home)
}

// message is what update.lua publishes: seq, arriving, and the fields to, fix
// and anchor.
func message(seq, started int64, arriving, fix, anchor string) string {
	return strings.Join([]string{ms(seq), arriving, startedAt(started), fix, anchor}, " ")
}

// movingAnchor is the anchor that moving gets from its fix.
const movingAnchor = "594000 12.9790452 77.5929284 100 - 0 0"

// told are the fields that this test speaks of. All others are the judgement's
// memory, which geo.Judge specifies and other tests compare.
var told = []string{"to", "last", "ended", "fence", "seq", "tat", "fix", "trainer", "student"}

// row is one call of a script on a key in a known state. At least one for each
// return code: header_test.go counts them.
type row struct {
	script, name string
	before       hash           // nil: no key
	args         map[int]string // by index, over the script's usual ones
	reply        []any          // the code first; any_ for what does not matter here
	fails        string         // the beginning of the error that it replies with instead
	after        hash           // the fields that changed, of those told; nil: nothing at all was written; "": removed
	gone         bool           // whatever was there before is not
	ttl          int64          // PTTL after; 0: as before
	told         string         // the message on the channel; empty: none
}

func rows() []row {
	toHome := startedAt(startMS)
	judged := func(code int64) []any { return []any{code, nowMS, 5000, nowMS - 5000, 295_000, 0, any_, any_} }
	confirmed := moving.with(hash{"proof": "0 2 2 1 0 0"}) // a second fix has agreed
	return []row{
		{script: "open", name: "past_its_hour", args: map[int]string{3: ms(nowMS - hourMS)}, reply: []any{0}},
		{script: "open", name: "older", before: opened, args: map[int]string{3: ms(startMS - 1)}, reply: []any{0}},
		{script: "open", name: "ended", before: tombstone, reply: []any{0}},
		{script: "open", name: "older_than_the_ended", before: tombstone, args: map[int]string{3: ms(startMS - 1)}, reply: []any{0}},
		{script: "open", name: "never_started", args: map[int]string{3: "0"}, reply: []any{0}},
		{
			script: "open", name: "new", reply: []any{1}, after: opened.with(hash{"seq": ms(nowMS)}),
			ttl: hourMS - 600_000, told: ms(nowMS),
		},
		{
			script: "open", name: "newer", before: moving, args: map[int]string{3: ms(startMS + 1)}, reply: []any{1}, gone: true,
			after: opened.with(hash{"to": startedAt(startMS + 1), "seq": ms(nowMS)}), ttl: hourMS - 599_999, told: ms(nowMS),
		},
		{
			script: "open", name: "newer_than_the_ended", before: tombstone.with(hash{"seq": ms(nowMS + 7)}), args: map[int]string{3: ms(startMS + 1)},
			reply: []any{1}, gone: true, after: opened.with(hash{"to": startedAt(startMS + 1), "seq": ms(nowMS + 8)}),
			ttl: hourMS - 599_999, told: ms(nowMS + 8),
		},
		{
			script: "open", name: "restored", args: map[int]string{7: "1"}, reply: []any{1},
			after: opened.with(hash{"seq": ms(nowMS)}), ttl: hourMS - 600_000, told: ms(nowMS),
		},
		{
			script: "open", name: "restored/after_a_silence", args: map[int]string{7: "1", 8: ms(nowMS-300_000) + " 500 1 0 1 0 0 0"}, reply: []any{1},
			after: opened.with(hash{"seq": ms(nowMS), "last": ms(nowMS-300_000) + " 500 1 0", "fence": ""}), ttl: hourMS - 600_000, told: ms(nowMS),
		},
		{
			script: "open", name: "restored/after_a_loss", args: map[int]string{7: "1", 8: ms(nowMS-299_999) + " 500 1 0 1 0 0 0"}, reply: []any{1},
			after: opened.with(hash{"seq": ms(nowMS)}), ttl: hourMS - 600_000, told: ms(nowMS),
		},
		{
			script: "open", name: "restored/of_a_wrong_clock", args: map[int]string{7: "1", 8: ms(nowMS-300_000) + " 500 1 0 0 -3600000 -3599500 " + ms(nowMS-1)}, reply: []any{1},
			after: opened.with(hash{"seq": ms(nowMS), "last": ms(nowMS-300_000) + " 500 1 0"}),
			ttl:   hourMS - 600_000, told: ms(nowMS),
		},
		{script: "open", name: "again", before: moving, reply: []any{2}},
		{script: "open", name: "again/next_layout", before: moving.with(hash{"to": inLayout("2", startMS)}), reply: []any{2}},
		{script: "open", name: "again/layout_too_new", before: moving.with(hash{"to": inLayout("3", startMS)}), reply: []any{2}},
		{
			script: "open", name: "again/layout_too_old", before: moving.with(hash{"to": inLayout("0", startMS)}), reply: []any{1}, gone: true,
			after: opened.with(hash{"seq": ms(nowMS)}), ttl: hourMS - 600_000, told: ms(nowMS),
		},
		{
			script: "open", name: "again/no_layout", before: moving.with(hash{"to": inLayout("", startMS)}), reply: []any{1}, gone: true,
			after: opened.with(hash{"seq": ms(nowMS)}), ttl: hourMS - 600_000, told: ms(nowMS),
		},
		{
			script: "open", name: "older_layout_too_new", before: moving.with(hash{"to": inLayout("3", startMS)}), args: map[int]string{3: ms(startMS - 1)},
			reply: []any{0},
		},

		{script: "move", name: "unknown", reply: []any{0}},
		{script: "move", name: "ended", before: tombstone, reply: []any{0}},
		{script: "move", name: "another_journey", before: moving, args: map[int]string{3: ms(startMS - 1)}, reply: []any{0}},
		{script: "move", name: "layout_too_new", before: moving.with(hash{"to": inLayout("3", startMS)}), reply: []any{0}},
		{script: "move", name: "layout_too_old", before: moving.with(hash{"to": inLayout("0", startMS)}), reply: []any{0}},
		{
			script: "move", name: "same", before: moving, reply: []any{2}, told: ms(nowMS), after: hash{
				"seq": ms(nowMS), "fix": "12.9790452 77.5929284 10.0 5000 " + ms(nowMS-6000) + " - -",
			},
		},
		{
			script: "move", name: "arriving", before: without(moving.with(hash{"last": "1 2 1 0"}), "fence"), reply: []any{1}, told: ms(nowMS),
			args: map[int]string{4: place(elsewhere), 5: fenceOf(elsewhere)}, after: hash{
				"to": ms(startMS) + " 1 " + destination(sessions.Car, elsewhere), "fence": fenceOf(elsewhere), "last": "",
				"seq": ms(nowMS), "fix": "12.9790452 77.5929284 10.0 5000 " + ms(nowMS-6000) + " - -",
			},
		},
		{
			script: "move", name: "without_a_fix", before: opened.with(hash{"seq": ms(nowMS + 7)}), reply: []any{1}, told: ms(nowMS + 8),
			args: map[int]string{4: place(elsewhere), 5: fenceOf(elsewhere)}, after: hash{
				"to": ms(startMS) + " 1 " + destination(sessions.Car, elsewhere), "fence": fenceOf(elsewhere), "seq": ms(nowMS + 8),
			},
		},
		{script: "end", name: "newer_known", before: moving, args: map[int]string{3: ms(startMS - 1)}, reply: []any{0}},
		{script: "end", name: "again", before: tombstone, reply: []any{0}},
		{script: "end", name: "over_already", before: tombstone.with(hash{"ended": "ended"}), reply: []any{0}},
		{
			script: "end", name: "moved_on", before: tombstone, args: map[int]string{5: "ended"}, reply: []any{1},
			after: tombstone.with(hash{"ended": "ended", "seq": ms(nowMS)}), ttl: 300_000, told: ms(nowMS),
		},
		{
			script: "end", name: "by_v0.1.0", before: tombstone.with(hash{"ended": "1"}), reply: []any{1},
			after: tombstone.with(hash{"seq": ms(nowMS)}), ttl: 300_000, told: ms(nowMS),
		},
		{script: "end", name: "never_started_under_a_running_one", before: moving, args: map[int]string{3: "0"}, reply: []any{0}},
		{
			script: "end", name: "running", before: moving, reply: []any{1}, gone: true,
			after: tombstone.with(hash{"seq": ms(nowMS)}), ttl: 300_000, told: ms(nowMS),
		},
		{
			script: "end", name: "layout_too_new", before: moving.with(hash{"to": inLayout("3", startMS)}), reply: []any{1}, gone: true,
			after: tombstone.with(hash{"seq": ms(nowMS)}), ttl: 300_000, told: ms(nowMS),
		},
		{
			script: "end", name: "no_layout", before: moving.with(hash{"to": inLayout("", startMS)}), reply: []any{1}, gone: true,
			after: tombstone.with(hash{"seq": ms(nowMS)}), ttl: 300_000, told: ms(nowMS),
		},
		{script: "end", name: "unknown", reply: []any{1}, after: tombstone.with(hash{"seq": ms(nowMS)}), ttl: 300_000, told: ms(nowMS)},
		{
			script: "end", name: "never_started", args: map[int]string{3: "0"}, reply: []any{1},
			after: hash{"to": "0 1", "ended": "arrived", "seq": ms(nowMS)}, ttl: 300_000, told: ms(nowMS),
		},
		{
			script: "end", name: "clock_set_back", before: moving.with(hash{"seq": ms(nowMS + 7)}), reply: []any{1}, gone: true,
			after: tombstone.with(hash{"seq": ms(nowMS + 8)}), ttl: 300_000, told: ms(nowMS + 8),
		},

		{script: "update", name: "unknown", reply: []any{0}},
		{script: "update", name: "layout_too_old", before: moving.with(hash{"to": inLayout("0", startMS)}), reply: []any{0}},
		{script: "update", name: "no_layout", before: moving.with(hash{"to": inLayout("", startMS)}), reply: []any{0}},
		{script: "update", name: "layout_too_new", before: moving.with(hash{"to": inLayout("3", startMS)}), fails: "LAYOUT"},
		{script: "update", name: "ended", before: tombstone, reply: []any{1}},
		{script: "update", name: "ended/layout_too_new", before: tombstone.with(hash{"to": ms(startMS) + " 3"}), reply: []any{1}},
		{script: "update", name: "never_started", before: tombstone.with(hash{"to": "0 1"}), reply: []any{1}},
		{script: "update", name: "had_its_hour", before: moving.with(hash{"to": startedAt(nowMS - hourMS)}), reply: []any{1}},
		{script: "update", name: "too_soon", before: moving.with(hash{"tat": ms(nowMS + 1001)}), reply: []any{2, nowMS, 1}},
		{
			script: "update", name: "stale/equal", before: moving, args: map[int]string{7: ms(nowMS - 6000)},
			reply: []any{3, nowMS, 1000, nowMS - 5000, 295_000, 0, 0, 0},
		},
		{
			script: "update", name: "stale/too_old", before: opened, args: map[int]string{7: ms(nowMS - 300_001)},
			reply: []any{3, nowMS, 1000, startMS, 3_000_000, 0, 0, 0}, after: opened,
		},
		{
			script: "update", name: "before_start", before: opened, args: map[int]string{7: ms(startMS - 2001)},
			reply: []any{9, nowMS, 1000, startMS, 3_000_000, 0, 0, 0}, after: opened,
		},
		{
			script: "update", name: "ignored_too_soon", before: moving, args: map[int]string{7: ms(nowMS - 2000)},
			reply: []any{10, nowMS, 1000, nowMS - 5000, 295_000, 0, 0, 0},
		},
		{
			script: "update", name: "no_position", before: moving, args: map[int]string{2: "0.0000000", 3: "0.0000000", 8: "2"},
			reply: judged(11), after: hash{"tat": ms(nowMS + 5000)},
		},
		{
			script: "update", name: "vague", before: moving, args: map[int]string{4: "200.1"},
			reply: judged(4), after: hash{"tat": ms(nowMS + 5000)},
		},
		// What follows is the judgement's: here only that each code is reached.
		{
			script: "update", name: "jump", before: confirmed, args: map[int]string{2: "13.9790452"},
			reply: judged(5), after: hash{"tat": ms(nowMS + 5000)},
		},
		{
			script: "update", name: "speed", before: confirmed, args: map[int]string{2: "12.9813000", 4: "0.0"},
			reply: judged(6), after: hash{"tat": ms(nowMS + 5000)},
		},
		{
			script: "update", name: "ceiling", before: confirmed, args: map[int]string{2: "12.9840000"},
			reply: judged(7), after: hash{"tat": ms(nowMS + 5000)},
		},
		{
			script: "update", name: "stored", before: moving, args: map[int]string{2: "12.9786000", 5: "36.0", 6: "180.0", 7: ms(nowMS - 1000)},
			reply: []any{8, nowMS, 5000, nowMS, 300_000, 20, 0, 0, 495, 5000, toHome},
			after: hash{
				"fix": "12.9786000 77.5929284 10.0 0 " + ms(nowMS-1000) + " 36.0 180.0",
				"seq": ms(nowMS), "tat": ms(nowMS + 5000),
			},
			ttl: 300_000, told: message(nowMS, startMS, "0", "12.9786000 77.5929284 10.0 0 "+ms(nowMS-1000)+" 36.0 180.0", movingAnchor),
		},
		{
			script: "update", name: "stored/next_layout", before: moving.with(hash{"to": inLayout("2", startMS)}), args: map[int]string{2: "12.9786000"},
			reply: []any{8, nowMS, 5000, nowMS, 300_000, 20, 0, 0, 495, 5000, inLayout("2", startMS)},
			after: hash{"fix": "12.9786000 77.5929284 10.0 0 - - -", "seq": ms(nowMS), "tat": ms(nowMS + 5000)},
			ttl:   300_000, told: strings.Replace(message(nowMS, startMS, "0", "12.9786000 77.5929284 10.0 0 - - -", movingAnchor), toHome, inLayout("2", startMS), 1),
		},
		{
			script: "update", name: "stored/first_and_near_the_hour", before: opened.with(hash{"to": startedAt(nowMS - hourMS + 2000)}),
			reply: []any{8, nowMS, 5000, nowMS, 2000, 16, 0, 0, 0, -1, startedAt(nowMS - hourMS + 2000)},
			after: hash{
				"fix": "12.9790452 77.5929284 10.0 0 - - -",
				"seq": ms(nowMS), "tat": ms(nowMS + 5000),
			},
			ttl: 2000, told: message(nowMS, nowMS-hourMS+2000, "0", "12.9790452 77.5929284 10.0 0 - - -", "3598000 12.9790452 77.5929284 100 - 0 0"),
		},
		{
			script: "update", name: "stored/arriving", before: moving,
			args:  map[int]string{2: "12.9776062", 9: geo.CellOf(geo.MustPoint(12.9776062, 77.5929284))},
			reply: []any{8, nowMS, 5000, nowMS, 300_000, 21, 0, 0, any_, 5000, toHome},
			after: hash{
				"fix": "12.9776062 77.5929284 10.0 0 - - -", "fence": "",
				"seq": ms(nowMS), "tat": ms(nowMS + 5000),
			},
			ttl: 300_000, told: message(nowMS, startMS, "1", "12.9776062 77.5929284 10.0 0 - - -", movingAnchor),
		},

		{script: "meta", name: "new", reply: []any{1}, after: hash{"trainer": trainer, "student": student, "region": "eu"}, ttl: 300_000},
		{
			script: "meta", name: "again", before: hash{"trainer": student, "student": trainer}, reply: []any{1},
			after: hash{"trainer": trainer, "student": student, "region": "eu"}, ttl: 300_000,
		},
	}
}

// TestScripts calls each script as the store does, by EVAL with one key, and
// looks at everything it may touch: the reply, the hash, its life, the channel.
func TestScripts(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		b := newBench(t, url)
		for _, r := range rows() {
			t.Run(r.script+"/"+r.name, func(t *testing.T) { b.play(t, r) })
		}
	})
}

// bench is a place to call scripts at.
type bench struct {
	client valkey.Client
	feed   valkey.DedicatedClient

	mu    sync.Mutex
	heard map[string][]string
}

func newBench(t *testing.T, url string) *bench {
	t.Helper()
	b := &bench{client: rawClient(t, url), heard: map[string][]string{}}
	feed, release := b.client.Dedicate()
	t.Cleanup(release)
	feed.SetPubSubHooks(valkey.PubSubHooks{OnMessage: func(m valkey.PubSubMessage) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.heard[m.Channel] = append(b.heard[m.Channel], m.Message)
	}})
	b.feed = feed
	return b
}

func (b *bench) play(t *testing.T, r row) {
	t.Helper()
	ref := newRef()
	key, channel := journeyKey(ref), liveChannel(ref)
	require.NoError(t, b.feed.Do(t.Context(), b.feed.B().Ssubscribe().Channel(channel).Build()).Error())
	before := b.prepare(t, key, channel, r.before)

	reply, err := b.eval(t, key, channel, r)
	if r.fails != "" {
		require.ErrorContains(t, err, r.fails)
		reply = nil
	} else {
		require.NoError(t, err)
	}
	require.Len(t, reply, len(r.reply), "%v", reply)
	for i, want := range r.reply {
		if want != any_ {
			assert.EqualValues(t, want, reply[i], "field %d of %v", i, reply)
		}
	}
	b.requireHash(t, key, before, r)
	b.requireLife(t, key, r)
	b.requireTold(t, channel, r.told)
}

// prepare puts a key into a state and gives all of that. A state with a fix gets
// it from update.lua, which alone knows what it keeps beside the fields we tell.
func (b *bench) prepare(t *testing.T, key, channel string, state hash) hash {
	t.Helper()
	if state == nil {
		return hash{}
	}
	if _, moving := state["fix"]; moving {
		b.set(t, key, opened)
		fix := row{script: "update", args: map[int]string{11: ms(nowMS - 5000), 7: ms(nowMS - 6000)}}
		reply, err := b.eval(t, key, channel, fix)
		require.NoError(t, err)
		require.EqualValues(t, 8, reply[0])
		b.requireTold(t, channel, message(nowMS-5000, startMS, "0", state["fix"], movingAnchor))
		b.forget(channel)
	}
	b.set(t, key, state)
	require.NoError(t, do(t, b.client, "PEXPIRE", key, ms(ttlMS)).Error())
	all, err := do(t, b.client, "HGETALL", key).AsStrMap()
	require.NoError(t, err)
	return all
}

func (b *bench) set(t *testing.T, key string, state hash) {
	t.Helper()
	words := []string{"HSET", key}
	for name, value := range state {
		words = append(words, name, value)
	}
	require.NoError(t, do(t, b.client, words...).Error())
}

// eval gives integers as int64 and strings as they are. The text that update.lua
// replies to a stored fix is a list here, like its other replies.
func (b *bench) eval(t *testing.T, key, channel string, r row) ([]any, error) {
	t.Helper()
	s := scriptsUnderTest()[r.script]
	words := append([]string{"EVAL", s.source, "1", key}, s.args...)
	if s.args[0] == "" {
		words[4] = channel
	}
	for i, value := range r.args {
		words[3+i] = value
	}
	reply, err := do(t, b.client, words...).ToAny()
	switch reply := reply.(type) {
	case []any:
		return reply, err
	case string:
		return unpacked(reply), err
	default:
		return []any{reply}, err
	}
}

// unpacked is the reply to a stored fix as a list: the code, the numbers, the field to,
// and the words of the clock where there are any.
func unpacked(text string) []any {
	list := []any{int64(sessions.VerdictStored)}
	for range storedFields {
		list, text = append(list, int64(math.Float64frombits(binary.LittleEndian.Uint64([]byte(text))))), text[8:]
	}
	to, clock := cutWords(text, 5)
	if list = append(list, to); clock != "" {
		list = append(list, clock)
	}
	return list
}

func (b *bench) requireHash(t *testing.T, key string, before hash, r row) {
	t.Helper()
	want := before
	if r.gone {
		want = hash{}
	}
	want = want.with(r.after)
	maps.DeleteFunc(want, func(_, value string) bool { return value == "" })
	got, err := do(t, b.client, "HGETALL", key).AsStrMap()
	require.NoError(t, err)
	if r.after != nil {
		untold := func(name, _ string) bool { return !slices.Contains(told, name) }
		maps.DeleteFunc(got, untold)
		maps.DeleteFunc(want, untold)
	}
	assert.Equal(t, map[string]string(want), got)
}

func (b *bench) requireLife(t *testing.T, key string, r row) {
	t.Helper()
	left, err := do(t, b.client, "PTTL", key).AsInt64()
	require.NoError(t, err)
	switch {
	case r.before == nil && r.after == nil:
		assert.EqualValues(t, -2, left, "no key")
	case r.ttl == 0:
		assert.InDelta(t, ttlMS, left, 1500)
	default:
		assert.InDelta(t, r.ttl, left, 1500)
		assert.LessOrEqual(t, left, r.ttl)
	}
}

// requireTold waits behind a message of its own, which comes after the script's.
func (b *bench) requireTold(t *testing.T, channel, want string) {
	t.Helper()
	require.NoError(t, do(t, b.client, "SPUBLISH", channel, "barrier").Error())
	var heard []string
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		heard = b.heard[channel]
		return len(heard) > 0 && heard[len(heard)-1] == "barrier"
	}, 10*time.Second, 100*time.Microsecond)
	assert.Equal(t, strings.TrimSpace(want+" barrier"), strings.Join(heard, " "))
}

// What a stored fix publishes is what a read of the hash would find, at every
// step of a journey that sets several anchors, returns to its track, and arrives.
func TestScripts_message(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		b := newBench(t, url)
		ref := newRef()
		key, channel := journeyKey(ref), liveChannel(ref)
		require.NoError(t, b.feed.Do(t.Context(), b.feed.B().Ssubscribe().Channel(channel).Build()).Error())
		b.set(t, key, opened)
		anchors, arrived := map[string]bool{}, false
		for i := range int64(40) {
			at := geo.Offset(home, 0, float64(max(0, 2000-60*i)))
			if i > 20 && i < 25 {
				at = geo.Offset(at, 90, 3000) // the rival track: refused twice, then accepted
			}
			fix := row{script: "update", args: map[int]string{
				11: ms(startMS + 5000*i), 2: string(at.AppendLat(nil)), 3: string(at.AppendLng(nil)), 9: geo.CellOf(at),
			}}
			reply, err := b.eval(t, key, channel, fix)
			require.NoError(t, err)
			want := ""
			if reply[0] == int64(sessions.VerdictStored) {
				h, err := do(t, b.client, "HGETALL", key).AsStrMap()
				require.NoError(t, err)
				arriving := ms(reply[5].(int64) & 1)
				want = strings.Join([]string{h["seq"], arriving, h["to"], h["fix"], h["anchor"]}, " ")
				require.Len(t, strings.Fields(want), 21)
				anchors[h["anchor"]], arrived = true, arrived || arriving == "1"
			}
			b.requireTold(t, channel, want)
			b.forget(channel)
		}
		require.Greater(t, len(anchors), 3, "it has set anchors")
		require.True(t, arrived)
	})
}

func (b *bench) forget(channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.heard, channel)
}

// Without a clock argument a script asks the server.
func TestScripts_server_clock(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		s := connected(t, Options{URL: url})
		j := journeyNow()
		before := time.Now().UnixMilli()
		opened, err := s.Open(t.Context(), j)
		require.NoError(t, err)
		require.True(t, opened)
		first, err := s.Latest(t.Context(), j.Ref)
		require.NoError(t, err)
		receipt, err := s.Update(t.Context(), j.Ref, fixAt(home))
		require.NoError(t, err)
		require.NoError(t, s.End(t.Context(), j))
		last, err := s.Latest(t.Context(), j.Ref)
		require.NoError(t, err)
		after := time.Now().UnixMilli()

		versions := []int64{before, first.Version, receipt.Version, last.Version, after + 2}
		assert.IsNonDecreasing(t, versions)
		assert.WithinRange(t, receipt.At, time.UnixMilli(before-1), time.UnixMilli(after+1))
	})
}

// A journey's hash stays a listpack, the compact form, whatever happens to it:
// every field under 64 bytes, and all of it within the budget.
func TestScripts_memory(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		f := virtualOn(url)(t, sessions.LiveOptions{})
		raw := rawClient(t, url)
		j := sessions.Journey{Ref: newRef(), Home: geo.MustPoint(-33.8688197, 151.2092955), Mode: sessions.Bike, StartedAt: f.Clock.Now(), Restored: true}
		largest := map[string]int64{}
		weigh := func(state string) { largest[state] = max(largest[state], weighed(t, raw, journeyKey(j.Ref))) }

		_, err := f.Live.Open(t.Context(), j)
		require.NoError(t, err)
		weigh("opened")
		at, spd, hdg := geo.Offset(j.Home, 77, 2000), 1234.5, 359.9
		for i := range 60 {
			f.Clock.Advance(5 * time.Second)
			at = geo.Offset(at, 257, 40)
			fix := sessions.Fix{
				Point: at, AccuracyM: 199.9, SpeedKMH: &spd, HeadingDeg: &hdg, Mock: true,
				RecordedAt: f.Clock.Now().Add(-1234 * time.Millisecond),
			}
			if i%7 > 4 {
				fix.Point = geo.Offset(at, 0, float64(900*i)) // the rival track
			}
			_, err := f.Live.Update(t.Context(), j.Ref, fix)
			require.NoError(t, err)
			weigh("running")
		}
		require.NoError(t, f.Live.End(t.Context(), j))
		weigh("ended")
		t.Logf("bytes at most, the key of 100 included: %v", largest)
		for state, budget := range map[string]int64{"opened": 350, "running": 600, "ended": 250} {
			require.LessOrEqual(t, largest[state], budget, state)
		}
	})
}

// The longest that an update may bring is still no longer than a listpack takes.
func TestScripts_longest(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		f := virtualOn(url)(t, sessions.LiveOptions{Rules: geo.Limits{Shadow: geo.Shadow{LowAccuracy: true, Speed: true, Ceiling: true}}})
		raw := rawClient(t, url)
		at, spd, hdg := geo.MustPoint(-83.8688197, -151.2092955), 2000.0, 359.9
		j := sessions.Journey{Ref: newRef(), Home: at, Mode: sessions.Walk, StartedAt: f.Clock.Now(), Restored: true}
		f.Clock.Advance(50 * time.Minute)
		_, err := f.Live.Open(t.Context(), j)
		require.NoError(t, err)
		for i := range 60 {
			fix := sessions.Fix{Point: at, AccuracyM: 100_000, SpeedKMH: &spd, HeadingDeg: &hdg, RecordedAt: f.Clock.Now()}
			if i%2 == 1 {
				fix.Point = geo.MustPoint(83.8688191, -111.2092951)
			}
			receipt, err := f.Live.Update(t.Context(), j.Ref, fix)
			require.NoError(t, err)
			require.Equal(t, sessions.VerdictStored, receipt.Verdict)
			weighed(t, raw, journeyKey(j.Ref))
			f.Clock.Advance(5 * time.Second)
		}
	})
}

// weighed is what a hash takes, which must be compact.
func weighed(t *testing.T, raw valkey.Client, key string) int64 {
	t.Helper()
	fields, err := do(t, raw, "HGETALL", key).AsStrMap()
	require.NoError(t, err)
	require.NotEmpty(t, fields)
	for name, value := range fields {
		require.Less(t, len(value), 64, "%s: %s", name, value)
	}
	encoding, err := do(t, raw, "OBJECT", "ENCODING", key).ToString()
	require.NoError(t, err)
	require.Equal(t, "listpack", encoding)
	bytes, err := do(t, raw, "MEMORY", "USAGE", key, "SAMPLES", "0").AsInt64()
	require.NoError(t, err)
	return bytes
}
