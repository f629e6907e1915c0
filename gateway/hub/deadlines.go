package hub

import (
	"container/heap"
	"time"
)

// deadlines are the waits that wait, as a heap: first the one whose time is up first.
// One timer serves them all. A timer each, with its function, would take as much memory
// as a wait.
type deadlines struct {
	epoch time.Time // what the instants of waits count from: a time.Time has three words
	waits []*Wait
	alarm *time.Timer // nil until it is needed
}

// await has a wait end when its time is up. Call it with mu held.
func (h *Hub) await(w *Wait) {
	heap.Push(&h.due, w)
	if w.at == 0 {
		h.setAlarm()
	}
}

// setAlarm sets the timer for the first wait. Call it with mu held.
func (h *Hub) setAlarm() {
	if len(h.due.waits) == 0 {
		return
	}
	pause := h.due.waits[0].until - time.Since(h.due.epoch)
	if h.due.alarm == nil {
		h.due.alarm = time.AfterFunc(pause, h.timesUp)
	} else {
		h.due.alarm.Reset(pause)
	}
}

// timesUp ends the waits whose time is up. Each has a goroutine, because it reads.
func (h *Hub) timesUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for now := time.Since(h.due.epoch); len(h.due.waits) > 0 && h.due.waits[0].until <= now; {
		w := h.due.waits[0]
		w.watch.remove(w)
		go w.timeUp()
	}
	h.setAlarm()
}

// The methods of heap.Interface.

func (d *deadlines) Len() int           { return len(d.waits) }
func (d *deadlines) Less(i, j int) bool { return d.waits[i].until < d.waits[j].until }

func (d *deadlines) Swap(i, j int) {
	d.waits[i], d.waits[j] = d.waits[j], d.waits[i]
	d.waits[i].at, d.waits[j].at = int32(i), int32(j) //nolint:gosec // there are fewer waits
}

func (d *deadlines) Push(w any) {
	at := w.(*Wait)             //nolint:forcetypeassert // await's
	at.at = int32(len(d.waits)) //nolint:gosec // there are fewer waits
	d.waits = append(d.waits, at)
}

func (d *deadlines) Pop() any {
	last := len(d.waits) - 1
	w := d.waits[last]
	d.waits[last] = nil
	d.waits = d.waits[:last]
	return w
}
