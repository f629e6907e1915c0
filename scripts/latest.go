package scripts

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/sessions"
)

// latestFields are what a read needs. One HMGET is atomic, so it needs no
// script.
var latestFields = []string{
	"seq", "mode", "home", "arriving", "lat", "lng", "acc", "spd", "hdg", "ts", "rec", "pace", "odd",
}

// Latest keeps the contract of sessions.Live.
func (s *Store) Latest(ctx context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	res, err := s.call(ctx, "latest", journeyKey(ref), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return c.Do(ctx, c.B().Hmget().Key(journeyKey(ref)).Field(latestFields...).Build())
	})
	if err != nil {
		return sessions.Snapshot{}, err
	}
	reply, err := res.ToArray()
	if err != nil {
		return sessions.Snapshot{}, unreadable("latest", err)
	}
	snap, err := snapshotOf(reply)
	if err != nil {
		return sessions.Snapshot{}, unreadable("latest", err)
	}
	return snap, nil
}

func snapshotOf(reply []valkey.ValkeyMessage) (sessions.Snapshot, error) {
	if len(reply) != len(latestFields) {
		return sessions.Snapshot{}, fmt.Errorf("%d fields, want %d", len(reply), len(latestFields))
	}
	f := fields{reply: reply}
	if !f.has("seq") {
		return sessions.Snapshot{}, nil
	}
	snap := sessions.Snapshot{
		Known: true, Active: f.has("mode"), Version: f.integer("seq"), // the mark of an end has no mode
		Arriving: f.text("arriving") == "1", ReanchoredAt: f.reanchored(),
	}
	if f.has("lat") {
		snap.Location = f.location()
		snap.DistanceM = sessions.RoundM(geo.DistanceM(snap.Location.Point, f.home()))
		snap.Pace = f.pace()
	}
	return snap, f.err
}

// fields reads an HMGET reply by name and keeps the first error.
type fields struct {
	reply []valkey.ValkeyMessage
	err   error
}

func (f *fields) message(name string) *valkey.ValkeyMessage {
	for i, n := range latestFields {
		if n == name {
			return &f.reply[i]
		}
	}
	return &valkey.ValkeyMessage{}
}

func (f *fields) has(name string) bool { return !f.message(name).IsNil() }

func (f *fields) text(name string) string {
	m := f.message(name)
	if m.IsNil() {
		return ""
	}
	s, err := m.ToString()
	f.keep(name, err)
	return s
}

func (f *fields) integer(name string) int64 {
	n, err := strconv.ParseInt(f.text(name), 10, 64)
	f.keep(name, err)
	return n
}

func (f *fields) float(name string) float64 {
	v, err := strconv.ParseFloat(f.text(name), 64)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		err = strconv.ErrRange // no JSON could hold it
	}
	f.keep(name, err)
	return v
}

func (f *fields) optional(name string) *float64 {
	if f.text(name) == "" {
		return nil
	}
	v := f.float(name)
	return &v
}

func (f *fields) location() *sessions.Location {
	at, err := geo.NewPoint(f.float("lat"), f.float("lng"))
	f.keep("lat", err)
	received, recorded := f.integer("ts"), f.integer("rec")
	if recorded == 0 {
		recorded = received
	}
	return &sessions.Location{
		Fix: sessions.Fix{
			Point: at, AccuracyM: f.float("acc"), SpeedKMH: f.optional("spd"), HeadingDeg: f.optional("hdg"),
			RecordedAt: instant(recorded),
		},
		At: instant(received),
	}
}

func (f *fields) home() geo.Point {
	p, err := parsePlace(f.text("home"))
	f.keep("home", err)
	return p
}

// reanchored is the second number of update.lua's field "odd".
func (f *fields) reanchored() time.Time {
	if n := f.numbers("odd", 4); n[1] > 0 {
		return instant(n[1])
	}
	return time.Time{}
}

func (f *fields) pace() sessions.Pace {
	n := f.numbers("pace", 2)
	return sessions.Pace{MMS: n[0], OverMS: n[1]}
}

// numbers reads n integers with spaces between; an empty field is n zeros.
func (f *fields) numbers(name string, n int) []int64 {
	values := make([]int64, n)
	words := strings.Fields(f.text(name))
	if len(words) != 0 && len(words) != n {
		f.keep(name, fmt.Errorf("%d numbers, want %d", len(words), n))
		return values
	}
	for i, word := range words {
		v, err := strconv.ParseInt(word, 10, 64)
		f.keep(name, err)
		values[i] = v
	}
	return values
}

func (f *fields) keep(name string, err error) {
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("%s: %w", name, err)
	}
}
