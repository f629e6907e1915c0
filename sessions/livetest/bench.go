package livetest

import (
	"testing"
	"time"

	"doorstep/sessions"
)

// Bench measures one call of each kind, alone and from many goroutines. A
// journey lasts ten years here, or it would be over within a benchmark.
func Bench(b *testing.B, open Open) {
	b.Helper()
	rules := sessions.LiveOptions{JourneyTTL: 10 * 365 * 24 * time.Hour}
	for name, bench := range map[string]func(*testing.B, journey){
		"Update/stored":   benchStored,
		"Update/too_soon": benchTooSoon,
		"Update/parallel": benchParallel,
		"Latest":          benchLatest,
		"Open/again":      benchOpen,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			bench(b, fresh(b, open(b, rules)).begun(b))
		})
	}
}

func benchStored(b *testing.B, j journey) {
	fix := sessions.Fix{Point: north(1000), AccuracyM: 12, SpeedKMH: new(30.0), HeadingDeg: new(180.0)}
	for b.Loop() {
		j.Clock.Advance(5 * time.Second)
		j.bench(b, fix, sessions.VerdictStored)
	}
}

func benchTooSoon(b *testing.B, j journey) {
	j.stored(b, 1000)
	for b.Loop() {
		j.bench(b, sessions.Fix{Point: north(1000)}, sessions.VerdictTooSoon)
	}
}

// benchParallel is a journey for every caller. The clock stands, so all but the
// first fix are too soon, which is the same round trip.
func benchParallel(b *testing.B, j journey) {
	fix := sessions.Fix{Point: north(1000)}
	b.RunParallel(func(pb *testing.PB) {
		mine := j.sameTrainer().begun(b)
		for pb.Next() {
			if _, err := mine.Live.Update(b.Context(), mine.Ref, fix); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func benchLatest(b *testing.B, j journey) {
	j.stored(b, 1000)
	for b.Loop() {
		if _, err := j.Live.Latest(b.Context(), j.Ref); err != nil {
			b.Fatal(err)
		}
	}
}

func benchOpen(b *testing.B, j journey) {
	for b.Loop() {
		if _, err := j.Live.Open(b.Context(), j.Journey); err != nil {
			b.Fatal(err)
		}
	}
}

func (j journey) bench(b *testing.B, fix sessions.Fix, want sessions.Verdict) {
	b.Helper()
	receipt, err := j.Live.Update(b.Context(), j.Ref, fix)
	if err != nil || receipt.Verdict != want {
		b.Fatal(receipt.Verdict, err)
	}
}
