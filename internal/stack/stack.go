// Package stack grows the stack of a goroutine that is about to need one.
package stack

// Grow has the calling goroutine's stack grown for a request, at once. A new goroutine has
// 2 to 4 KB, and a request takes four to eight times as much. Go would double the stack once
// and again, each time with more frames to adjust: 7 % of a gateway's CPU, which starts a
// goroutine for each poll that it answers (docs/adr/0014). Call it where the goroutine begins,
// while there is next to nothing to copy, or where its next request begins: the collector
// shrinks the stack of a goroutine that waits.
func Grow() { grown(false) }

// grown needs the room in its frame, whether it uses it or not.
//
//go:noinline
func grown(used bool) {
	if used {
		var room [needed]byte
		touch(room[:])
	}
}

// needed makes 16 KB of a stack of 2, 4 or 8.
const needed = 8 << 10

//go:noinline
func touch(p []byte) { clear(p) }
