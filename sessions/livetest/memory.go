package livetest

import (
	"testing"

	"doorstep/internal/testclock"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// Memory is the fixture of a memory.Live: the reference store in Histories, and
// the store under test of package memory. That package, which can look inside,
// sets Kept.
func Memory(_ testing.TB, rules sessions.LiveOptions) Fixture {
	clock := testclock.New()
	m := &restartable{Live: memory.NewLive(rules, clock.Now)}
	return Fixture{
		Live: m, Clock: clock,
		Forget: func() { m.Live = memory.NewLive(rules, clock.Now) },
		Kept:   func(sessions.Ref) string { return "" },
	}
}

// MemoryOf is the store in a fixture that Memory made.
func MemoryOf(f Fixture) *memory.Live {
	m, _ := f.Live.(*restartable)
	return m.Live
}

// restartable is a store that can lose its content, while no one else uses it.
type restartable struct{ *memory.Live }
