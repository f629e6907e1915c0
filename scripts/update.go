package scripts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/sessions"
)

// Update implements sessions.Live by update.lua, in one round trip.
func (s *Store) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	args := s.fixArgs(ref, fix)
	res, err := s.call(ctx, "update", journeyKey(ref), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.update.Exec(ctx, c, []string{journeyKey(ref)}, args)
	})
	if err != nil {
		return sessions.Receipt{}, err
	}
	reply, err := res.ToArray()
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
	res, err := s.call(ctx, "update", journeyKey(ref), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.updateAll.Exec(ctx, c, []string{journeyKey(ref)}, args)
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
		reply, err := replies[i].ToArray()
		if err == nil {
			receipts[i], err = receiptOf(reply, fixes[i].Point)
		}
		if err != nil {
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

// The indexes of update.lua's reply.
const (
	fieldCode = iota
	fieldClock
	fieldNext // for TooSoon: retry_ms
	fieldVersion
	fieldTTL
	fieldArriving
	fieldFlags
	fieldSuspicions
	judgedFields
	fieldMoved = iota - 1
	fieldAgo
	fieldTo
	storedFields
)

// receiptOf reads update.lua's reply. to is the point of the fix. A reply of any
// other shape is an error, and never a panic.
func receiptOf(reply []valkey.ValkeyMessage, to geo.Point) (sessions.Receipt, error) {
	n, err := integers(reply[:min(len(reply), fieldTo)])
	switch {
	case err != nil:
		return sessions.Receipt{}, err
	case len(n) == 0, n[fieldCode] < 0, n[fieldCode] > int64(sessions.VerdictNoPosition):
		return sessions.Receipt{}, fmt.Errorf("no known code in %d fields", len(reply))
	}
	r := sessions.Receipt{Verdict: sessions.Verdict(n[fieldCode])}
	if len(n) > fieldClock && !writable(n[fieldClock]) {
		return sessions.Receipt{}, fmt.Errorf("clock %d is out of range", n[fieldClock])
	}
	if want := replyLen(r.Verdict); len(reply) != want && (want != storedFields || len(reply) != want+1) {
		return sessions.Receipt{}, fmt.Errorf("%d fields for code %d, want %d", len(reply), n[fieldCode], want)
	}
	switch {
	case r.Verdict <= sessions.VerdictEnded:
		return r, nil
	case r.Verdict == sessions.VerdictTooSoon:
		r.At, r.RetryAfter = instant(n[fieldClock]), milli(n[fieldNext])
		return r, nil
	}
	r.At, r.NextUpdate, r.Version, r.TTL = instant(n[fieldClock]), milli(n[fieldNext]), n[fieldVersion], milli(n[fieldTTL])
	marks := n[fieldArriving]
	r.Arriving, r.Trusted, r.Outside, r.Late, r.Watched = marks&1 != 0, marks&2 != 0, marks&4 != 0, marks&8 != 0, marks&16 != 0
	r.Flags = geo.Flags(n[fieldFlags])
	r.Suspicions = sessions.Suspicions(n[fieldSuspicions])
	if r.Verdict == sessions.VerdictStored {
		text, err := reply[fieldTo].ToString()
		if err != nil {
			return sessions.Receipt{}, fmt.Errorf("to: %w", err)
		}
		home, err := homeOf(text)
		if err != nil {
			return sessions.Receipt{}, err
		}
		if len(reply) > storedFields {
			if r.Clock, err = clockOf(reply[fieldTo+1]); err != nil {
				return sessions.Receipt{}, err
			}
		}
		r.SeenAgo = milli(n[fieldAgo])
		r.MovedM, r.DistanceM = float64(n[fieldMoved])/10, sessions.RoundM(geo.DistanceM(to, home))
	}
	return r, nil
}

// clockOf reads the words "offset_ms drift_ms since_ms began_ms ".
func clockOf(reply valkey.ValkeyMessage) (sessions.PhoneClock, error) {
	text, err := reply.ToString()
	if err != nil {
		return sessions.PhoneClock{}, fmt.Errorf("clock: %w", err)
	}
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

// replyLen is how many fields update.lua replies with a verdict.
func replyLen(v sessions.Verdict) int {
	switch {
	case v <= sessions.VerdictEnded:
		return fieldCode + 1
	case v == sessions.VerdictTooSoon:
		return fieldNext + 1
	case v == sessions.VerdictStored:
		return storedFields
	default:
		return judgedFields
	}
}

func integers(reply []valkey.ValkeyMessage) ([]int64, error) {
	n := make([]int64, len(reply))
	for i := range reply {
		v, err := reply[i].ToInt64()
		if err != nil {
			return nil, err
		}
		n[i] = v
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
