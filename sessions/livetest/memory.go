package livetest

import (
	"testing"

	"doorstep/sessions"
)

// Memory is the fixture of a sessions.Memory: the twin in Histories, and what
// its own tests run on. They, which can look inside, set Kept.
func Memory(_ testing.TB, rules sessions.LiveOptions) Fixture {
	clock := NewClock()
	m := &forgetful{Memory: sessions.NewMemory(rules, clock.Now)}
	return Fixture{
		Live: m, Clock: clock,
		Forget: func() { m.Memory = sessions.NewMemory(rules, clock.Now) },
		Kept:   func(sessions.Ref) string { return "" },
	}
}

// MemoryOf is the store in a fixture that Memory made.
func MemoryOf(f Fixture) *sessions.Memory {
	m, _ := f.Live.(*forgetful)
	return m.Memory
}

// forgetful is a Memory that can be restarted, while no one else uses it.
type forgetful struct{ *sessions.Memory }
