package scripts

import (
	"context"
	"fmt"
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
	"seq", "mode", "home", "arriving", "lat", "lng", "acc", "spd", "hdg", "ts", "rec", "pace", "paced", "odd",
}

// Latest keeps the contract of sessions.Live.
func (s *Store) Latest(ctx context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	res, err := s.call(ctx, "latest", func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return c.Do(ctx, c.B().Hmget().Key(journeyKey(ref)).Field(latestFields...).Build())
	})
	if err != nil {
		return sessions.Snapshot{}, err
	}
	reply, err := res.ToArray()
	if err != nil {
		return sessions.Snapshot{}, fmt.Errorf("latest reply: %w", err)
	}
	return snapshotOf(reply)
}

func snapshotOf(reply []valkey.ValkeyMessage) (sessions.Snapshot, error) {
	if len(reply) != len(latestFields) {
		return sessions.Snapshot{}, fmt.Errorf("latest reply: %d fields, want %d", len(reply), len(latestFields))
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
		snap.Pace = sessions.Pace{MMS: f.integer("pace"), OverMS: f.integer("paced")}
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
	odd := strings.Fields(f.text("odd"))
	if len(odd) < 2 || odd[1] == "0" {
		return time.Time{}
	}
	n, err := strconv.ParseInt(odd[1], 10, 64)
	f.keep("odd", err)
	return instant(n)
}

func (f *fields) keep(name string, err error) {
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("latest reply: %s: %w", name, err)
	}
}
