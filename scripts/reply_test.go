package scripts

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

// garbage are replies that no script of ours gives: lists as JSON, in which null is a
// nil, and texts.
var garbage = []string{
	`[]`, `[null]`, `["x"]`, `[-1]`, `[9]`, `[99999999]`, `[0, 1]`, `[1, 2, 3]`, `[2]`, `[2, 1]`, `[2, "x", 3]`, `[2, null, 3]`, `[[2], 1, 2]`,
	`[3, 1, 2, 3, 4, 5]`, `[4, 1, 2, 3, 4, 5, 6, 7, 8]`, `[8]`, `[8, 1, 2, 3, 4, 5, 6, 7]`,
	`[8, 1, 2, 3, 4, 5, 6, 7, 80, 9, "1 1 car 1.0 2.0"]`, `[2, 999999999999999, 1]`,
	"", "x", stored("1 1 car 1.0 2.0", 1, 2, 3, 4, 1, 6, 7, 80), stored("", 1, 2, 3, 4, 1, 6, 7, 80, 5000),
	stored("1 1 car nan nan", 1, 2, 3, 4, 1, 6, 7, 80, 5000), stored("1 1 car 91.0 0.0", 1, 2, 3, 4, 1, 6, 7, 80, 5000),
	stored("1 1 car 1.0 2.0 1 2 x 3 ", 1, 2, 3, 4, 1, 6, 7, 80, 5000), stored("1 1 car 1.0 2.0", -1, 2, 3, 4, 1, 6, 7, 80, 5000),
	stored("1 1 car 1.0 2.0", 1, 2, 3, 4, 1, 6, 7, 0.5, 5000), stored("1 1 car 1.0 2.0", 1, 2, 3, math.NaN(), 1, 6, 7, 80, 5000),
	stored("1 1 car 1.0 2.0", 1, 2, 3, math.Inf(1), 1, 6, 7, 80, 5000),
}

// stored is the reply of update.lua to a stored fix.
func stored(rest string, numbers ...float64) string {
	var b []byte
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(n))
	}
	return string(b) + rest
}

func TestReceiptOf_garbage(t *testing.T) {
	t.Parallel()
	c := rawClient(t, valkeytest.Valkey(t))
	for _, text := range garbage {
		reply, err := replyOf(t, c, text)
		require.NoError(t, err, "%q", text)
		_, err = receiptOf(reply, home)
		assert.Error(t, err, "%q", text)
	}
	reply, err := replyOf(t, c, stored("1 1 car 1.0 2.0 7 3 2 0 ", 1, 2, 3, 4, 1, 6, 7, 80, 5000))
	require.NoError(t, err)
	receipt, err := receiptOf(reply, home)
	require.NoError(t, err)
	require.Equal(t, sessions.VerdictStored, receipt.Verdict)
	require.True(t, receipt.Arriving)
	require.InDelta(t, 8, receipt.MovedM, 0)
	require.Equal(t, 5*time.Second, receipt.SeenAgo)
	require.Equal(t, sessions.PhoneClock{OffsetMS: 7, ToldMS: 4, SinceMS: 2}, receipt.Clock)
}

// replyOf has a real server send it: no reply is put together by hand.
func replyOf(t testing.TB, c valkey.Client, text string) (valkey.ValkeyMessage, error) {
	t.Helper()
	const script = `if string.sub(ARGV[1], 1, 1) ~= '[' then return ARGV[1] end
local r = cjson.decode(ARGV[1])
for i, v in ipairs(r) do r[i] = v ~= cjson.null and v end
return r`
	return do(t, c, "EVAL", script, "0", text).ToMessage()
}

// Whatever a server sends is a receipt that can be shown, or an error.
func FuzzReceiptOf(f *testing.F) {
	for _, text := range garbage {
		f.Add(text)
	}
	c := rawClient(f, valkeytest.Valkey(f))
	f.Fuzz(func(t *testing.T, text string) {
		reply, err := replyOf(t, c, text)
		if _, answered := valkey.IsValkeyErr(err); answered {
			t.Skip("no reply of that: " + text)
		}
		require.NoError(t, err)
		receipt, err := receiptOf(reply, home)
		if err != nil {
			return
		}
		assert.NotEqual(t, "invalid", receipt.Verdict.String())
		assert.False(t, math.IsNaN(receipt.DistanceM) || math.IsNaN(receipt.MovedM))
		requireJSON(t, receipt)
	})
}

// Whatever somebody has written into a hash is a snapshot that can be shown,
// or an error.
func FuzzSnapshotOf(f *testing.F) {
	for _, value := range []string{"", "x", "nan", "inf", "-1", "1e999", "9223372036854775808", "1773480000000 1 car 12.9763472 77.5929284", "1773480000000 3 car 12.9763472 77.5929284", "1773480000000 car 12.9763472 77.5929284", "12.9 77.5 10.0 0 1 - -", "1 12.9 77.5 100 1 1 1", "1 2 3 4 5", "0x1p4"} {
		for i := range latestFields {
			f.Add(uint8(i), value)
		}
	}
	url := valkeytest.Valkey(f)
	c, s := rawClient(f, url), connected(f, Options{URL: url})
	f.Fuzz(func(t *testing.T, field uint8, value string) {
		ref := newRef()
		j := journeyNow()
		j.Ref = ref
		requireTakesFix(t, s, j)
		name := latestFields[int(field)%len(latestFields)]
		require.NoError(t, do(t, c, "HSET", journeyKey(ref), name, value).Error())
		snap, err := s.Latest(t.Context(), ref)
		if err != nil {
			require.ErrorIs(t, err, sessions.ErrUnavailable)
			return
		}
		requireJSON(t, snap)
		// And the script, which reads the same fields, gives a receipt or is
		// refused by itself.
		if _, err := s.Update(t.Context(), ref, fixAt(home)); err != nil {
			require.ErrorIs(t, err, sessions.ErrUnavailable)
		}
	})
}

func requireJSON(t *testing.T, v any) {
	t.Helper()
	_, err := json.Marshal(v)
	require.NoError(t, err)
}

// Each field of a hash, spoilt in turn: the journey's own calls fail or do not,
// and no other's do.
func TestLatest_spoilt(t *testing.T) {
	t.Parallel()
	valkeytest.Each(t, func(t *testing.T, url string) {
		t.Parallel()
		s, c := connected(t, Options{URL: url}), rawClient(t, url)
		for _, spoilt := range []struct{ field, value string }{
			{"seq", "x"},
			{"to", "x 1 car 12.9 77.5"},
			{"to", "1773480000000 1 car x"},
			{"to", "1773480000000 3 car 12.9 77.5"},
			{"fix", "nan 77.5 10.0 0 1 - -"},
			{"fix", "91 77.5 10.0 0 1 - -"},
			{"fix", "12.9 "},
			{"fix", "12.9 77.5 inf 0 1 - -"},
			{"fix", "12.9 77.5 10.0 0 1 nan -"},
			{"fix", "12.9 77.5 10.0 0 1 - x"},
			{"fix", "12.9 77.5 10.0  1 - -"},
			{"fix", "12.9 77.5 10.0 1.5 1 - -"},
			{"fix", "12.9 77.5 10.0 0 x - -"},
			{"fix", "12.9 77.5 10.0 0 1 - - 1"},
			{"fix", "12.9 77.5 10.0 0 999999999999999 - -"},
			{"fix", "12.9 77.5 10.0 9223372036854775807 1 - -"},
			{"odd", "0 999999999999999 0 0 0"},
			{"anchor", ""},
		} {
			j := journeyNow()
			requireTakesFix(t, s, j)
			require.NoError(t, do(t, c, "HSET", journeyKey(j.Ref), spoilt.field, spoilt.value).Error())
			_, err := s.Latest(t.Context(), j.Ref)
			assert.ErrorIs(t, err, sessions.ErrUnavailable, "%v", spoilt)
			assert.NoError(t, s.End(t.Context(), j))
			_, err = s.Latest(t.Context(), j.Ref)
			assert.NoError(t, err, "the end cleans up after anybody")
		}
	})
}
