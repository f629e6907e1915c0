package scripts

import (
	"context"
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

// The layouts of a journey's hash: the one that open.lua writes, and the oldest
// and the newest that can be read. See the header of update.lua and
// docs/adr/0011-layout-number.md.
const (
	hashLayout   = 1
	layoutOldest = 1
	layoutNewest = hashLayout + 1
)

// latestFields are the fields that a read needs; their forms are in the header
// of update.lua. One HMGET is atomic, so a read needs no script.
var latestFields = []string{"to", "fence", "seq", "fix", "anchor", "odd", "proof", "clock", "ended", "flags"}

// Latest implements sessions.Live by one HMGET, and the server's TIME, in one round
// trip. TIME comes first, so that nothing in the answer is later than Now.
func (s *Store) Latest(ctx context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	var now time.Time
	res, err := s.call(ctx, "latest", journeyKey(ref), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		hmget := c.B().Hmget().Key(journeyKey(ref)).Field(latestFields...).Build()
		if s.opts.Now != nil {
			now = s.opts.Now()
			return c.Do(ctx, hmget)
		}
		both := c.DoMulti(ctx, c.B().Time().Build(), hmget)
		var err error
		if now, err = serverTime(both[0]); err != nil {
			return both[0]
		}
		return both[1]
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
	snap.Now = instant(now.UnixMilli())
	return snap, nil
}

// serverTime reads the reply of TIME: seconds and microseconds.
func serverTime(res valkey.ValkeyResult) (time.Time, error) {
	parts, err := res.AsIntSlice()
	if err != nil {
		return time.Time{}, err
	}
	if len(parts) != 2 {
		return time.Time{}, fmt.Errorf("TIME has %d parts", len(parts))
	}
	return time.UnixMicro(parts[0]*1_000_000 + parts[1]), nil
}

// The indexes of latestFields.
const (
	hashTo = iota
	hashFence
	hashSeq
	hashFix
	hashAnchor
	hashOdd
	hashProof
	hashClock
	hashEnded
	hashFlags
	hashFields
)

func snapshotOf(reply []valkey.ValkeyMessage) (sessions.Snapshot, error) {
	var text [hashFields]string
	if len(reply) != hashFields {
		return sessions.Snapshot{}, fmt.Errorf("%d fields, want %d", len(reply), hashFields)
	}
	for i := range reply {
		var err error
		if text[i], err = reply[i].ToString(); err != nil && !valkey.IsValkeyNil(err) {
			return sessions.Snapshot{}, fmt.Errorf("%s: %w", latestFields[i], err)
		}
	}
	snap, _, err := journeyOf(&text)
	return snap, err
}

// journeyOf reads the fields of latestFields; an absent one is empty. startedMS
// is when the journey began, Unix ms, and 0 for one that does not run. A running
// journey whose layout is too old is unknown, so that it is opened anew; one
// whose layout is too new is an error, because a place could be read wrongly.
func journeyOf(text *[hashFields]string) (snap sessions.Snapshot, startedMS int64, err error) {
	if text[hashSeq] == "" {
		return snap, 0, nil
	}
	p := parser{}
	snap = sessions.Snapshot{Known: true, Version: p.integer(text[hashSeq])}
	started, rest, _ := strings.Cut(text[hashTo], " ")
	digit, _, running := strings.Cut(rest, " ")
	if !running {
		snap.Over = phaseOf(text[hashEnded], started)
		return snap, 0, p.err // a tombstone
	}
	switch number, err := strconv.ParseUint(digit, 10, 8); {
	case err != nil || number < layoutOldest:
		return sessions.Snapshot{}, 0, nil //nolint:nilerr // no layout, or one too old: the journey is unknown, not unreadable
	case number > layoutNewest:
		return sessions.Snapshot{}, 0, fmt.Errorf("layout %d, want %d to %d", number, layoutOldest, layoutNewest)
	}
	startedMS = p.integer(started)
	snap.Active, snap.Arriving = true, text[hashFence] == ""
	snap.StartedAt, snap.Home = p.instant(startedMS), p.home(text[hashTo])
	snap.ReanchoredAt = p.reanchored(text[hashOdd])
	if text[hashFlags] != "" {
		snap.Suspicions = sessions.Suspicions(p.integer(text[hashFlags]))
	}
	clock := p.clock(text[hashClock])
	if clock[clockSince] != 0 {
		snap.LearntAt = p.instant(clock[clockSince])
	}
	if text[hashFix] != "" {
		snap.Location = p.location(text[hashFix], snap.Version)
		if text[hashClock] != "" {
			snap.Location.RecordedAt = p.instant(startedMS + clock[clockTaken])
		}
		snap.Evidence = p.proof(text[hashProof], snap.Location.RecordedAt.UnixMilli()-startedMS)
		snap.DistanceM = sessions.RoundM(geo.DistanceM(snap.Location.Point, snap.Home))
		snap.Pace = p.pace(text, startedMS, snap.Location)
	}
	return snap, startedMS, p.err
}

// phaseOf reads the field `ended`. v0.1.0 does not write the phase.
func phaseOf(ended, started string) sessions.Phase {
	switch phase := sessions.Phase(ended); {
	case phase.Rank() >= 0:
		return phase
	case started == "0":
		return sessions.NotStarted
	default:
		return sessions.Ended
	}
}

// parser reads the texts that the scripts wrote, and keeps the first error.
type parser struct{ err error }

func (p *parser) keep(err error) {
	if err == nil { // as nearly always; what follows costs an allocation
		return
	}
	// A strconv error quotes its input, which may be part of a coordinate, and
	// the errors of a parser are logged.
	if quoting := (*strconv.NumError)(nil); errors.As(err, &quoting) {
		err = quoting.Err
	}
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) integer(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	p.keep(err)
	return n
}

// instant reads a time that RFC 3339 can write.
func (p *parser) instant(unixMS int64) time.Time {
	if !writable(unixMS) {
		p.keep(strconv.ErrRange)
		return time.Time{}
	}
	return instant(unixMS)
}

func (p *parser) float(text string) float64 {
	v, err := strconv.ParseFloat(text, 64)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		err = strconv.ErrRange // no JSON could hold it
	}
	p.keep(err)
	return v
}

func (p *parser) optional(text string) *float64 {
	if text == unsaid {
		return nil
	}
	v := p.float(text)
	return &v
}

// words splits text into exactly len(into) words.
func (p *parser) words(text string, into []string) {
	for i := range into {
		into[i], text, _ = strings.Cut(text, " ")
		if into[i] == "" {
			p.keep(fmt.Errorf("%d words, want %d", i, len(into)))
		}
	}
	if text != "" {
		p.keep(fmt.Errorf("more than %d words", len(into)))
	}
}

func (p *parser) point(lat, lng string) geo.Point {
	at, err := geo.NewPoint(p.float(lat), p.float(lng))
	p.keep(err)
	return at
}

// location reads a field `fix` of this version, of a phone whose clock agrees with
// the store's.
func (p *parser) location(fix string, version int64) *sessions.Location {
	var w [7]string
	p.words(fix, w[:])
	at := p.point(w[0], w[1])
	received := p.instant(version - p.integer(w[3]))
	recorded := received
	if w[4] != unsaid {
		if said := p.instant(p.integer(w[4])); said.Before(received) {
			recorded = said
		}
	}
	return &sessions.Location{
		Fix: sessions.Fix{
			Point: at, AccuracyM: p.float(w[2]), SpeedKMH: p.optional(w[5]), HeadingDeg: p.optional(w[6]),
			RecordedAt: recorded,
		},
		At: received,
	}
}

func (p *parser) home(to string) geo.Point {
	home, err := homeOf(to)
	p.keep(err)
	return home
}

// pace reads the field anchor. v0.1.0 wrote two times, of which the earlier counts.
func (p *parser) pace(text *[hashFields]string, startedMS int64, last *sessions.Location) sessions.Pace {
	var w [7]string
	p.words(text[hashAnchor], w[:])
	at := p.integer(w[0])
	if w[4] != unsaid {
		at = min(at, p.integer(w[4]))
	}
	_, rest := cutWords(text[hashTo], 2)
	mode, _, _ := strings.Cut(rest, " ")
	pace := sessions.Pace{Mode: sessions.Mode(mode)}
	pace.MMS, pace.OverMS = geo.PaceFrom(
		geo.TrackPoint{Point: p.point(w[1], w[2]), TakenMS: startedMS + at},
		geo.TrackPoint{Point: last.Point, TakenMS: last.RecordedAt.UnixMilli()},
		p.integer(w[5]), p.integer(w[6]),
	)
	return pace
}

// reanchored reads the second number of a field `odd`, if there is one.
func (p *parser) reanchored(odd string) time.Time {
	if odd == "" {
		return time.Time{}
	}
	var w [5]string
	p.words(odd, w[:])
	if ms := p.integer(w[1]); ms != 0 {
		return p.instant(ms)
	}
	return time.Time{}
}

// The words of a field `clock` that are read.
const (
	clockSince = 2
	clockTaken = 5
	clockWords = 6
)

// clock reads a field `clock`; all zero where there is none.
func (p *parser) clock(text string) (n [clockWords]int64) {
	if text == "" {
		return n
	}
	var w [clockWords]string
	p.words(text, w[:])
	for i := range w {
		if w[i] != unsaid {
			n[i] = p.integer(w[i])
		}
	}
	return n
}

// proof reads a field `proof`. takenMS is when the live fix was taken, in ms after the
// start.
func (p *parser) proof(text string, takenMS int64) sessions.Evidence {
	if text == "" {
		return sessions.Evidence{Outside: true, Fixes: sessions.EvidenceFixes, Requests: sessions.EvidenceRequests}
	}
	var w [6]string
	p.words(text, w[:])
	e := sessions.Evidence{
		Guess: w[0] != "0", Fixes: p.integer(w[1]), Requests: p.integer(w[2]), Outside: w[3] == "1", Mock: w[5] == "1",
	}
	if !e.Outside {
		e.Lasted = milli(takenMS - p.integer(w[4]))
	}
	return e
}
