package scripts

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/sessions"
)

// Update implements sessions.Live by update.lua, in one round trip.
func (s *Store) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	keys, args := []string{journeyKey(ref)}, s.fixArgs(ref, fix)
	res, err := s.call(ctx, "update", keys[0], func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.update.Exec(ctx, c, keys, args)
	})
	if err != nil {
		return sessions.Receipt{}, err
	}
	reply, err := res.ToMessage()
	if err != nil {
		return sessions.Receipt{}, unreadable("update", err)
	}
	receipt, err := receiptOf(reply, fix.Point)
	if err != nil {
		return sessions.Receipt{}, unreadable("update", err)
	}
	return receipt, nil
}

// UpdateAll implements sessions.Live by updateall.lua.
func (s *Store) UpdateAll(ctx context.Context, ref sessions.Ref, fixes []sessions.Fix) ([]sessions.Receipt, error) {
	args := append(make([]string, 0, 2+fixWords*len(fixes)), liveChannel(ref), cmp.Or(s.clock(), unsaid))
	for _, fix := range fixes {
		args = appendFix(args, fix)
	}
	keys := []string{journeyKey(ref)}
	res, err := s.call(ctx, "update", keys[0], func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.updateAll.Exec(ctx, c, keys, args)
	})
	if err != nil {
		return nil, err
	}
	receipts, err := receiptsOf(res, fixes)
	if err != nil {
		return nil, unreadable("update", err)
	}
	return receipts, nil
}

// receiptsOf reads updateall.lua's reply.
func receiptsOf(res valkey.ValkeyResult, fixes []sessions.Fix) ([]sessions.Receipt, error) {
	replies, err := res.ToArray()
	if err != nil {
		return nil, err
	}
	if len(replies) != len(fixes) {
		return nil, fmt.Errorf("%d replies for %d fixes", len(replies), len(fixes))
	}
	receipts := make([]sessions.Receipt, len(fixes))
	for i := range replies {
		if receipts[i], err = receiptOf(replies[i], fixes[i].Point); err != nil {
			return nil, err
		}
	}
	return receipts, nil
}

// fixArgs returns the ARGV of update.lua.
func (s *Store) fixArgs(ref sessions.Ref, fix sessions.Fix) []string {
	args := appendFix(append(make([]string, 0, 2+fixWords), liveChannel(ref)), fix)
	if s.opts.Now != nil {
		args = append(args, s.clock())
	}
	return args
}

// fixWords is how many arguments a fix is.
const fixWords = 9

// appendFix appends the arguments 2 to 10 of update.lua.
func appendFix(args []string, fix sessions.Fix) []string {
	w := words{text: make([]byte, 0, 112)}
	w.end(fix.Point.AppendLat(w.text))
	w.end(fix.Point.AppendLng(w.text))
	w.end(appendTenths(w.text, fix.AccuracyM))
	w.end(appendTenthsOf(w.text, fix.SpeedKMH))
	w.end(appendTenthsOf(w.text, fix.HeadingDeg))
	w.end(appendUnixMS(w.text, fix.RecordedAt))
	w.end(appendUnixMS(w.text, fix.SentAt))
	text := string(w.text)
	begin := 0
	for _, end := range w.ends[:len(w.ends)-1] {
		args = append(args, text[begin:end])
		begin = end
	}
	return append(args, marksOf(fix), geo.CellOf(fix.Point), text[begin:])
}

// marksOf is the argument marks of update.lua.
func marksOf(fix sessions.Fix) string {
	marks := 0
	if fix.Mock {
		marks++
	}
	if fix.Point.Nowhere() {
		marks += 2
	}
	if fix.Continued {
		marks += 4
	}
	if fix.AtArrival {
		marks += 8
	}
	return strconv.Itoa(marks)
}

// words are arguments that are written one after the other into one text: one
// allocation instead of one for each.
type words struct {
	text []byte
	ends [7]int
	n    int
}

// end keeps text, to which the caller has appended one word, and notes where
// that word ends.
func (w *words) end(text []byte) {
	w.text, w.ends[w.n] = text, len(text)
	w.n++
}

// The numbers of update.lua's reply, after the code where it has one.
const (
	fieldClock = iota
	fieldNext  // for TooSoon: retry_ms
	fieldVersion
	fieldTTL
	fieldArriving
	fieldFlags
	fieldSuspicions
	judgedFields
	fieldMoved = iota - 1
	fieldAgo
	storedFields
)

// receiptOf reads update.lua's reply. to is the point of the fix. A reply of any
// other shape is an error, and never a panic.
func receiptOf(reply valkey.ValkeyMessage, to geo.Point) (sessions.Receipt, error) {
	if reply.IsString() {
		text, err := reply.ToString()
		if err != nil {
			return sessions.Receipt{}, err
		}
		return storedOf(text, to)
	}
	n, err := integers(reply)
	switch {
	case err != nil:
		return sessions.Receipt{}, err
	case len(n) == 0, n[0] < 0, n[0] > int64(sessions.VerdictNoPosition):
		return sessions.Receipt{}, fmt.Errorf("no known code in %d fields", len(n))
	}
	verdict, n := sessions.Verdict(n[0]), n[1:]
	if len(n) != replyLen(verdict) {
		return sessions.Receipt{}, fmt.Errorf("%d numbers for verdict %s, want %d", len(n), verdict, replyLen(verdict))
	}
	if verdict <= sessions.VerdictEnded {
		return sessions.Receipt{Verdict: verdict}, nil
	}
	return judged(verdict, n)
}

// judged is the receipt that the numbers tell, but for those of a stored fix alone.
func judged(verdict sessions.Verdict, n []int64) (sessions.Receipt, error) {
	if !writable(n[fieldClock]) {
		return sessions.Receipt{}, fmt.Errorf("clock %d is out of range", n[fieldClock])
	}
	r := sessions.Receipt{Verdict: verdict, At: instant(n[fieldClock])}
	if verdict == sessions.VerdictTooSoon {
		r.RetryAfter = milli(n[fieldNext])
		return r, nil
	}
	r.NextUpdate, r.Version, r.TTL = milli(n[fieldNext]), n[fieldVersion], milli(n[fieldTTL])
	marks := n[fieldArriving]
	r.Arriving, r.Trusted, r.Outside, r.Late, r.Watched = marks&1 != 0, marks&2 != 0, marks&4 != 0, marks&8 != 0, marks&16 != 0
	r.Flags, r.Suspicions = geo.Flags(n[fieldFlags]), sessions.Suspicions(n[fieldSuspicions])
	return r, nil
}

// storedOf reads the reply to a stored fix: numbers as doubles, little-endian, and
// then the field to, and where there is a clock its words.
func storedOf(text string, at geo.Point) (sessions.Receipt, error) {
	var n [storedFields]int64
	if len(text) < 8*len(n) {
		return sessions.Receipt{}, fmt.Errorf("%d bytes for a stored fix", len(text))
	}
	for i := range n {
		number := math.Float64frombits(binary.LittleEndian.Uint64([]byte(text[8*i : 8*i+8])))
		if n[i] = int64(number); float64(n[i]) != number {
			return sessions.Receipt{}, fmt.Errorf("number %d of a stored fix is no integer", i)
		}
	}
	r, err := judged(sessions.VerdictStored, n[:])
	if err != nil {
		return sessions.Receipt{}, err
	}
	to, clock := cutWords(text[8*len(n):], 5)
	home, err := homeOf(to)
	if err != nil {
		return sessions.Receipt{}, err
	}
	if clock != "" {
		if r.Clock, err = clockOf(clock); err != nil {
			return sessions.Receipt{}, err
		}
	}
	r.SeenAgo = milli(n[fieldAgo])
	r.MovedM, r.DistanceM = float64(n[fieldMoved])/10, sessions.RoundM(geo.DistanceM(at, home))
	return r, nil
}

// clockOf reads the words "offset_ms drift_ms since_ms began_ms ".
func clockOf(text string) (sessions.PhoneClock, error) {
	p, w := parser{}, [4]string{}
	p.words(strings.TrimSuffix(text, " "), w[:])
	offset, drift, since := p.integer(w[0]), p.integer(w[1]), p.integer(w[2])
	return sessions.PhoneClock{OffsetMS: offset, ToldMS: offset - drift, SinceMS: since}, p.err
}

// homeOf reads the home in a field `to`, "started_ms layout mode lat lng".
func homeOf(to string) (geo.Point, error) {
	_, rest := cutWords(to, 3)
	lat, lng, _ := strings.Cut(rest, " ")
	y, err1 := strconv.ParseFloat(lat, 64)
	x, err2 := strconv.ParseFloat(lng, 64)
	p, err3 := geo.NewPoint(y, x)
	if err := errors.Join(err1, err2, err3); err != nil {
		return geo.Point{}, errors.New("no place in the live store") // err quotes it
	}
	return p, nil
}

// replyLen is how many numbers follow a verdict in a list. A stored fix has no list.
func replyLen(v sessions.Verdict) int {
	switch {
	case v <= sessions.VerdictEnded:
		return 0
	case v == sessions.VerdictTooSoon:
		return fieldNext + 1
	case v == sessions.VerdictStored:
		return -1
	default:
		return judgedFields
	}
}

// integers reads a list of integers; AsIntSlice would take a nil for 0.
func integers(reply valkey.ValkeyMessage) ([]int64, error) {
	list, err := reply.ToArray()
	if err != nil {
		return nil, err
	}
	n := make([]int64, len(list))
	for i := range list {
		if n[i], err = list[i].ToInt64(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// writable reports whether RFC 3339 can write an instant: years 1970 to 9999.
func writable(unixMS int64) bool { return 0 <= unixMS && unixMS < 253_402_300_800_000 }

func instant(unixMS int64) time.Time { return time.UnixMilli(unixMS).UTC() }
func milli(n int64) time.Duration    { return time.Duration(n) * time.Millisecond }

func appendTenths(b []byte, f float64) []byte { return strconv.AppendFloat(b, f, 'f', 1, 64) }

// unsaid stands for a value that the phone did not send.
const unsaid = "-"

func appendTenthsOf(b []byte, f *float64) []byte {
	if f == nil {
		return append(b, unsaid...)
	}
	return appendTenths(b, *f)
}

func appendUnixMS(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, unsaid...)
	}
	return strconv.AppendInt(b, t.UnixMilli(), 10)
}
