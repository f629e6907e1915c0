package livetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"doorstep/sessions"
)

// Histories plays random histories on the store and on memory.Live, its executable
// specification: openings, fixes, ends and restarts of two trainers and two sessions,
// with clocks that step in both directions, expiry and loss of data. Every receipt
// and, after every step, every snapshot must agree. rapid shrinks a disagreement to
// the shortest history that shows it. history_test.go proves that the test finds
// wrong stores.
func Histories(t *testing.T, open Open) {
	t.Helper()
	other := open(t, sessions.LiveOptions{})
	rapid.Check(t, func(rt *rapid.T) {
		h := histories.Draw(rt, "history")
		found, err := diverge(t.Context(), Memory(t, sessions.LiveOptions{}), other, h)
		if err != nil {
			rt.Fatal(err)
		}
		if found != "" {
			rt.Fatal(found)
		}
	})
}

// history is a random sequence of calls, as data, so that rapid can shrink it.
type history []step

// step is one call, after a step of the clock. All its values are relative, so that a
// shortened history is still valid.
type step struct {
	WaitMS           int64
	Verb             string
	Trainer, Session int // 0 or 1
	Start            string
	Restored         bool
	Phase            sessions.Phase
	Last             lastDraw
	Fix              fixDraw
}

// lastDraw is a sessions.LastFix of AgoMS before the store's clock; 0 for none.
type lastDraw struct {
	AgoMS                      int64
	Metres                     float64
	Arriving, Trusted, Outside bool
	OffsetMS                   int64 // of the phone's clock
}

// fixDraw is a fix as rapid draws it: its place is Metres from the home, and
// its time is RecordedMS from the store's clock.
type fixDraw struct {
	Metres, AccuracyM float64
	RecordedMS        int64
	SentMS            int64 // after it was recorded
	Clockless, Mock   bool
	Sent, Continued   bool
	AtArrival         bool
	Again             bool // the last fix once more, as after a lost answer
	SpeedKMH          *float64
	HeadingDeg        *float64
}

// The choices are at and beside every limit of the default rules. rapid shrinks
// towards the first choice.
var (
	waits = rapid.SampledFrom([]int64{
		5000, 0, 5000, 5000, 5000, 5000, 4000, 1, 3999, 4001, 6000, 10_000, 60_000, 500, 5000, 4500,
		299_999, 300_000, 200_000, 1_800_000, 3_300_000, 3_600_000,
		-1, -500, -1000, -2001, -5000, -6001, -60_000, -600_000,
	})
	verbs = rapid.SampledFrom([]string{
		"update", "open", "update", "update", "update", "update", "update", "update", "open", "end", "lose", "meta", "move", "batch",
	})
	starts     = rapid.SampledFrom([]string{"last", "now", "last", "now", "older", "59min", "hour", "never"})
	metres     = rapid.SampledFrom([]float64{300, 0, 100, 140, 149.5, 150.5, 160, 200, 250, 330, 400, 700, 1000, 1250, 2500})
	accuracies = rapid.SampledFrom([]float64{0, 0, 0, 5, 30, 199.9, 200, 200.1, 500})
	records    = rapid.SampledFrom([]int64{0, -1, -1000, -4999, -5000, -6000, 1999, 2000, 2001, 60_000, -299_999, -300_000, -300_001, -2000, -2001, -10_001, -40_000, -40_000, -41_500, 9_000, 3_600_000})
	sents      = rapid.SampledFrom([]int64{0, 1, 500, 1999, 2000, 2001, 10_000, -1})
	offsets    = rapid.SampledFrom([]int64{0, 0, 40_000, -3_600_000})
	agos       = rapid.SampledFrom([]int64{0, 300_000, 299_999, 310_000, 1_800_000})
	phases     = rapid.SampledFrom([]sessions.Phase{sessions.Ended, sessions.Arrived, sessions.NotStarted})
	speeds     = rapid.SampledFrom([]*float64{nil, new(0.0), new(12.3), new(49.9)})
	headings   = rapid.SampledFrom([]*float64{nil, new(0.0), new(359.9)})
	steps      = rapid.Custom(func(t *rapid.T) step {
		return step{
			WaitMS: waits.Draw(t, "wait"), Verb: verbs.Draw(t, "verb"), Start: starts.Draw(t, "start"),
			Restored: rapid.IntRange(0, 3).Draw(t, "restored") == 3,
			Phase:    phases.Draw(t, "phase"),
			Last: lastDraw{
				AgoMS: agos.Draw(t, "last_ago"), Metres: metres.Draw(t, "last_metres"), Arriving: rapid.Bool().Draw(t, "last_arriving"),
				Trusted: rapid.IntRange(0, 3).Draw(t, "last_trusted") > 0, Outside: rapid.Bool().Draw(t, "last_outside"),
				OffsetMS: offsets.Draw(t, "last_offset"),
			},
			Trainer: rapid.IntRange(0, 1).Draw(t, "trainer"), Session: rapid.IntRange(0, 1).Draw(t, "session"),
			Fix: fixDraw{
				Metres: metres.Draw(t, "metres"), AccuracyM: accuracies.Draw(t, "accuracy"), RecordedMS: records.Draw(t, "recorded"),
				Clockless: rapid.Bool().Draw(t, "clockless"), Mock: rapid.IntRange(0, 15).Draw(t, "mock") == 15, Again: rapid.IntRange(0, 7).Draw(t, "again") == 7,
				Sent: rapid.IntRange(0, 2).Draw(t, "sent") == 2, SentMS: sents.Draw(t, "sent_ms"), Continued: rapid.IntRange(0, 3).Draw(t, "continued") == 3,
				AtArrival: rapid.IntRange(0, 7).Draw(t, "at_arrival") == 7,
				SpeedKMH:  speeds.Draw(t, "speed"), HeadingDeg: headings.Draw(t, "heading"),
			},
		}
	})
	histories = rapid.Map(rapid.SliceOfN(steps, 1, 60), func(s []step) history {
		return append(history{{Verb: "open", Start: "now"}}, s...)
	})
)

func (s step) String() string {
	return fmt.Sprintf("%+dms %s trainer=%d session=%d start=%s restored=%v phase=%s last=%+v %+v", s.WaitMS, s.Verb, s.Trainer, s.Session, s.Start, s.Restored, s.Phase, s.Last, s.Fix)
}

// player plays one history on several fixtures. Each has its own clock, and all clocks
// are moved by the same steps.
type player struct {
	stores   []Fixture
	trainers [2]sessions.ID
	sessions [2]sessions.ID
	last     map[sessions.Ref]time.Time // the start that was last used
	starts   map[time.Time]bool
	lastFix  map[sessions.Ref]sessions.Fix
}

func newPlayer(stores ...Fixture) *player {
	return &player{
		stores:   stores,
		trainers: [2]sessions.ID{sessions.NewID(), sessions.NewID()},
		sessions: [2]sessions.ID{sessions.NewID(), sessions.NewID()},
		last:     map[sessions.Ref]time.Time{}, starts: map[time.Time]bool{}, lastFix: map[sessions.Ref]sessions.Fix{},
	}
}

func (p *player) now() time.Time { return p.stores[0].Clock.Now() }

func (p *player) ref(s step) sessions.Ref {
	return sessions.Ref{TrainerID: p.trainers[s.Trainer], SessionID: p.sessions[s.Session]}
}

func (p *player) refs() []sessions.Ref {
	var refs []sessions.Ref
	for _, trainer := range p.trainers {
		for _, session := range p.sessions {
			refs = append(refs, sessions.Ref{TrainerID: trainer, SessionID: session})
		}
	}
	return refs
}

// advance moves every clock by the same step, and then reads everything. A server
// expires a key by itself or when the key is used. The difference shows only when the
// clock is set back between the two, so the read makes the expiry happen now.
func (p *player) advance(ctx context.Context, d time.Duration) {
	for _, f := range p.stores {
		f.Clock.Advance(d)
		for _, ref := range p.refs() {
			_, _ = f.Live.Latest(ctx, ref)
		}
		for _, id := range p.sessions {
			_, _, _ = f.Live.Meta(ctx, id)
		}
	}
}

// wait is the step's time, made longer where it would end in the last second of a
// journey's hour: a hash that expires during the call tests nothing.
func (p *player) wait(s step) time.Duration {
	wait := ms(s.WaitMS)
	for range 2 { // stretched to the end of one, it may fall into the next
		for start := range p.starts {
			if left := start.Add(time.Hour).Sub(p.now().Add(wait)); left > 0 && left < time.Second {
				wait += left
			}
		}
	}
	return wait
}

func (p *player) journey(s step) sessions.Journey {
	ref := p.ref(s)
	j := sessions.Journey{Ref: ref, Home: home, Mode: sessions.Car, StartedAt: p.startOf(s, ref), Restored: s.Restored, Phase: s.Phase}
	if s.Session == 1 {
		j.Mode = sessions.Walk
	}
	if l := s.Last; l.AgoMS > 0 {
		at := p.now().Add(-time.Duration(l.AgoMS) * time.Millisecond)
		j.Last = sessions.LastFix{At: at, DistanceM: l.Metres, Arriving: l.Arriving, Trusted: l.Trusted, Outside: l.Outside}
		if l.OffsetMS != 0 {
			j.Last.Clock = sessions.PhoneClock{OffsetMS: l.OffsetMS, ToldMS: l.OffsetMS + 500, SinceMS: at.UnixMilli()}
		}
	}
	p.last[ref] = j.StartedAt
	p.starts[j.StartedAt] = true
	return j
}

func (p *player) startOf(s step, ref sessions.Ref) time.Time {
	last, known := p.last[ref]
	switch {
	case s.Start == "last" && known:
		return last
	case s.Start == "older" && known && !last.IsZero():
		return last.Add(-time.Second)
	case s.Start == "59min":
		return p.now().Add(-59 * time.Minute)
	case s.Start == "hour":
		return p.now().Add(-time.Hour)
	case s.Start == "never":
		return time.Time{}
	default:
		return p.now()
	}
}

func (p *player) fix(s step) (sessions.Fix, error) {
	ref := p.ref(s)
	if last, known := p.lastFix[ref]; known && s.Fix.Again {
		return last, nil
	}
	fix := sessions.Fix{
		Point: north(s.Fix.Metres), AccuracyM: s.Fix.AccuracyM, SpeedKMH: s.Fix.SpeedKMH, HeadingDeg: s.Fix.HeadingDeg,
		Mock: s.Fix.Mock, RecordedAt: p.now().Add(ms(s.Fix.RecordedMS)),
	}
	if s.Fix.Sent {
		fix.SentAt = fix.RecordedAt.Add(ms(s.Fix.SentMS))
	}
	fix.Continued, fix.AtArrival = s.Fix.Continued, s.Fix.AtArrival
	if s.Fix.Clockless {
		fix.RecordedAt = time.Time{}
	}
	fix, err := sessions.NewFix(fix)
	p.lastFix[ref] = fix
	return fix, err
}

// batch is three fixes at every five seconds, on the way to the place of the last, which
// may be the live fix sent again.
func (p *player) batch(s step) ([]sessions.Fix, error) {
	last, err := p.fix(s)
	last.Continued = false // UpdateAll's to say
	fixes := []sessions.Fix{last, last, last}
	for i := range 2 {
		ago := 2 - i
		fixes[i].Point = north(s.Fix.Metres + float64(60*ago))
		if !last.RecordedAt.IsZero() {
			fixes[i].RecordedAt = last.RecordedAt.Add(time.Duration(-5*ago) * time.Second)
		}
	}
	return fixes, err
}

// diverge plays a history on the reference store and on another store. It returns the
// first step at which they disagree; empty when they always agree. Both clocks start
// at the same instant.
func diverge(ctx context.Context, twin, other Fixture, h history) (string, error) {
	other.Clock.Advance(twin.Clock.Now().Sub(other.Clock.Now()))
	p := newPlayer(twin, other)
	for i, s := range h {
		said, err := p.play(ctx, s)
		if err != nil {
			return "", fmt.Errorf("step %d, %v: %w", i, s, err)
		}
		if said[0] != said[1] {
			return fmt.Sprintf("step %d: %v\nmemory: %s\nother:  %s", i, s, said[0], said[1]), nil
		}
	}
	return "", nil
}

// play runs one step on every store and returns each store's answer.
func (p *player) play(ctx context.Context, s step) ([]string, error) {
	p.advance(ctx, p.wait(s))
	call, err := p.call(s)
	if err != nil {
		return nil, err
	}
	said := make([]string, len(p.stores))
	for i, f := range p.stores {
		answer, err := call(ctx, f)
		if err != nil {
			return nil, err
		}
		said[i] = answer + p.seen(ctx, f)
	}
	return said, nil
}

func (p *player) call(s step) (func(context.Context, Fixture) (string, error), error) {
	ref := p.ref(s)
	switch s.Verb {
	case "open":
		j := p.journey(s)
		return func(ctx context.Context, f Fixture) (string, error) {
			opened, err := f.Live.Open(ctx, j)
			return fmt.Sprint("opened ", opened), err
		}, nil
	case "end":
		j := p.journey(s)
		return func(ctx context.Context, f Fixture) (string, error) { return "ended", f.Live.End(ctx, j) }, nil
	case "update":
		fix, err := p.fix(s)
		return func(ctx context.Context, f Fixture) (string, error) {
			receipt, err := f.Live.Update(ctx, ref, fix)
			return fmt.Sprintf("%v %+v", receipt.Verdict, receipt), err
		}, err
	case "batch":
		fixes, err := p.batch(s)
		return func(ctx context.Context, f Fixture) (string, error) {
			receipts, err := f.Live.UpdateAll(ctx, ref, fixes)
			return fmt.Sprintf("%+v", receipts), err
		}, err
	case "move":
		j := p.journey(s)
		j.Home = north(s.Fix.Metres)
		return func(ctx context.Context, f Fixture) (string, error) {
			known, err := f.Live.Move(ctx, j)
			return fmt.Sprint("moved ", known), err
		}, nil
	case "meta":
		m := sessions.Meta{TrainerID: ref.TrainerID, StudentID: p.sessions[0]}
		return func(ctx context.Context, f Fixture) (string, error) {
			return "set", f.Live.SetMeta(ctx, ref.SessionID, m)
		}, nil
	default:
		return func(_ context.Context, f Fixture) (string, error) { f.Forget(); return "lost", nil }, nil
	}
}

// seen is all that a reader can see.
func (p *player) seen(ctx context.Context, f Fixture) string {
	var b strings.Builder
	for _, ref := range p.refs() {
		snap, err := f.Live.Latest(ctx, ref)
		fmt.Fprintf(&b, "\n      %s %v", describe(snap), err)
	}
	for _, id := range p.sessions {
		m, known, err := f.Live.Meta(ctx, id)
		fmt.Fprintf(&b, "\n      %v %v %v", m, known, err)
	}
	return b.String()
}

// describe is a snapshot as text, with the values behind its pointers.
func describe(s sessions.Snapshot) string {
	text := fmt.Sprintf("known=%v active=%v phase=%s version=%d arriving=%v pace=%v reanchored=%d",
		s.Known, s.Active, s.Phase(), s.Version, s.Arriving, s.Pace, s.ReanchoredAt.UnixMilli()) +
		fmt.Sprintf(" suspicions=%v evidence=%+v learnt=%d started=%d home=%v", s.Suspicions.Names(), s.Evidence, s.LearntAt.UnixMilli(), s.StartedAt.UnixMilli(), s.Home)
	if at := s.Location; at != nil {
		text += fmt.Sprintf(" at=%v recorded=%d accepted=%d accuracy=%v speed=%s heading=%s mock=%v distance=%v", at.Point,
			at.RecordedAt.UnixMilli(), at.At.UnixMilli(), at.AccuracyM, said(at.SpeedKMH), said(at.HeadingDeg), at.Mock, s.DistanceM)
	}
	return text
}

func said(v *float64) string {
	if v == nil {
		return "unsaid"
	}
	return fmt.Sprint(*v)
}
