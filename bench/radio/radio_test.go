// Package radio counts what a phone's updates cost on the wire: the bytes of one TLS 1.3
// connection in each direction, from below TLS, for each way of reporting the same fixes.
//
//	go test ./bench/radio -v
//
// prints the table of docs/http.md. The gateway is whole, but its stores are in memory, and
// its clock is the test's, which moves on by the five seconds between two fixes. So an hour
// takes no hour: 120 fixes are counted, and an hour has 720.
package radio

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	interval = 5 * time.Second // between two fixes
	counted  = 120             // fixes
	anHour   = 720             // fixes

	segment  = 1388    // bytes that a TCP segment has on a phone's network, as a rule
	envelope = 20 + 32 // bytes of its headers: IPv4, and TCP with time stamps
)

// way is one way to report.
type way struct {
	name  string
	fixes int // in a request
	wire  *wire
	// send sends fixes, and fails the test unless all of them are stored.
	send func(t *testing.T, fixes []fix)
}

// cost is what a way costs, in bytes.
type cost struct {
	requests int // an hour
	opening  int // the handshake, both ways
	up, down int // a request
}

func TestRadio(t *testing.T) {
	t.Parallel()
	s := open(t)
	var costs []cost
	var table strings.Builder
	for _, begin := range []func(*testing.T) way{
		s.before, s.body(1), s.minimal(1), s.body(10), s.minimal(10), s.ownTracks, s.webSocket,
	} {
		w := begin(t)
		costs = append(costs, s.measure(t, w))
		table.WriteString(costs[len(costs)-1].row(w.name))
	}
	t.Logf("\n| Answered with | Requests an hour | Up, each | Down, each | Up, an hour | Down, an hour | Both | With TCP/IP |\n|---|---|---|---|---|---|---|---|\n%s"+
		"\nhandshake: %d bytes", &table, costs[0].opening)
	before, body, minimal, batchOfMinimal := costs[0], costs[1], costs[2], costs[4]
	assert.Less(t, body.down, before.down)
	assert.LessOrEqual(t, 2*minimal.down, before.down, "half")
	assert.Less(t, 2*batchOfMinimal.hour(), minimal.hour())
}

// measure sends what opens the connection, and then what is counted.
func (s *stage) measure(t *testing.T, w way) cost {
	t.Helper()
	w.send(t, s.drive(w.fixes))
	firstUp, firstDown := w.wire.up.Load(), w.wire.down.Load()
	n := counted / w.fixes
	for range n {
		w.send(t, s.drive(w.fixes))
	}
	require.Equal(t, int64(1), w.wire.opened.Load(), "%s: one connection", w.name)
	each := func(all, first int64) int { return int(math.Round(float64(all-first) / float64(n))) }
	c := cost{requests: anHour / w.fixes, up: each(w.wire.up.Load(), firstUp), down: each(w.wire.down.Load(), firstDown)}
	c.opening = int(firstUp+firstDown) - c.up - c.down
	return c
}

func (c cost) hour() int { return c.requests * (c.up + c.down) }

// packets is an hour with the headers of TCP/IP, where each segment is acknowledged by one of
// its own: on a phone's network the answer to a request comes later than that.
func (c cost) packets() int {
	segments := (c.up+segment-1)/segment + (c.down+segment-1)/segment
	return c.hour() + c.requests*2*segments*envelope
}

func (c cost) row(name string) string {
	kB := func(bytes int) string { return fmt.Sprintf("%.0f kB", float64(bytes)/1000) }
	return fmt.Sprintf("| %s | %d | %d | %d | %s | %s | %s | %s |\n", name, c.requests, c.up, c.down,
		kB(c.requests*c.up), kB(c.requests*c.down), kB(c.hour()), kB(c.packets()))
}
