package ingest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"doorstep/gateway/api/ingest"
	"doorstep/sessions"
)

// day is how many points a phone keeps in 24 hours at one in 5 s.
const day = 17_280

var dayStart = time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC)

// backlog is a body with n points, oldest first, as transistorsoft writes them, some
// 700 bytes each.
func backlog(n int) string {
	var b strings.Builder
	b.WriteString(`{"location":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"event":"motionchange","is_moving":true,"uuid":"7f1c5a52-0000-4000-8000-%012d","timestamp":%q,"age":12,"odometer":%d.5,`+
			`"coords":{"latitude":%.6f,"longitude":77.594600,"accuracy":8.4,"speed":9.72,"speed_accuracy":1.2,"heading":271.3,"heading_accuracy":11.0,"altitude":905.2,"ellipsoidal_altitude":820.1,"altitude_accuracy":3.0,"floor":null},`+
			`"activity":{"type":"in_vehicle","confidence":92},"battery":{"level":0.81,"is_charging":false},"extras":{"note":%q}}`,
			i, dayStart.Add(time.Duration(i)*5*time.Second).Format("2006-01-02T15:04:05.000Z"), i*48, 12.9+float64(i)*1e-5, strings.Repeat("x", 200))
	}
	b.WriteString(`],"device":{"model":"a phone"}}`)
	return b.String()
}

// A day's queue in one body, and the one point that most requests hold.
func BenchmarkDecode(b *testing.B) {
	for name, row := range map[string]struct {
		format sessions.Format
		body   string
	}{
		"day":   {sessions.Transistorsoft, backlog(day)},
		"point": {sessions.OwnTracks, `{"_type":"location",` + owntracksHere + `,"vel":35,"cog":271,"acc":8,"topic":"owntracks/t1/phone"}`},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(row.body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ingest.Decode(row.format, ingest.Request{Body: strings.NewReader(row.body)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
