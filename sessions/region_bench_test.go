package sessions_test

import (
	"testing"

	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// What regions cost an update of an own journey: a look-up in a map, and without regions the
// comparison of a name.
func BenchmarkElsewhere(b *testing.B) {
	for _, row := range []struct{ name, region string }{{"one region", ""}, {"own region", "eu"}} {
		b.Run(row.name, func(b *testing.B) {
			s := sessions.NewService(memory.NewRepository(nil), memory.NewLive(sessions.LiveOptions{}, nil), sessions.ServiceOptions{Region: row.region})
			id := sessions.NewID()
			b.ReportAllocs()
			for b.Loop() {
				if _, elsewhere := s.Elsewhere(id); elsewhere {
					b.Fatal("it is not")
				}
			}
		})
	}
}
