package scripts

import (
	"context"
	"fmt"
	"strconv"

	"github.com/valkey-io/valkey-go"

	"doorstep/geo"
	"doorstep/sessions"
)

// latestFields are what a read needs. One HMGET is atomic, so it needs no
// script.
var latestFields = []string{
	"ended", "seq", "arriving", "lat", "lng", "acc", "spd", "hdg", "ts", "fix", "home_lat", "home_lng",
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
		Known: true, Active: !f.has("ended"), Version: f.integer("seq"),
		Arriving: f.text("arriving") == "1",
	}
	if f.has("lat") {
		at, home := f.point("lat", "lng"), f.point("home_lat", "home_lng")
		snap.Location = &sessions.Location{
			Fix: sessions.Fix{
				Point: at, AccuracyM: f.float("acc"), SpeedKMH: f.optional("spd"), HeadingDeg: f.optional("hdg"),
				RecordedAt: instant(f.integer("fix")),
			},
			At: instant(f.integer("ts")),
		}
		snap.DistanceM = sessions.RoundM(geo.DistanceM(at, home))
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

func (f *fields) point(lat, lng string) geo.Point {
	p, err := geo.NewPoint(f.float(lat), f.float(lng))
	f.keep(lat, err)
	return p
}

func (f *fields) keep(name string, err error) {
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("latest reply: %s: %w", name, err)
	}
}
