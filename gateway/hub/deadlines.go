package hub

import (
	"container/heap"
	"slices"
	"time"
)

// deadlines are the waits that wait, as a heap: first the one whose time is up first.
// One timer serves them all. A timer each, with its function, would take as much memory
// as a wait.
type deadlines []*Wait

// await has a wait end when its time is up. Call it with mu held.
func (h *Hub) await(w *Wait) {
	heap.Push(&h.due, w)
	if w.at == 0 {
		h.setAlarm()
	}
}

// setAlarm sets the timer for the first wait. Call it with mu held.
func (h *Hub) setAlarm() {
	if len(h.due) == 0 {
		return
	}
	pause := h.due[0].until - time.Since(h.epoch)
	if h.alarm == nil {
		h.alarm = time.AfterFunc(pause, h.timesUp)
	} else {
		h.alarm.Reset(pause)
	}
}

// timesUp ends the waits whose time is up. Each has a goroutine, because it reads.
func (h *Hub) timesUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for now := time.Since(h.epoch); len(h.due) > 0 && h.due[0].until <= now; {
		w := h.due[0]
		w.watch.remove(w)
		go w.timeUp()
	}
	h.setAlarm()
}

// The methods of heap.Interface.

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].until < d[j].until }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].at, d[j].at = int32(i), int32(j) //nolint:gosec // there are fewer waits
}

func (d *deadlines) Push(w any) {
	at := w.(*Wait)        //nolint:forcetypeassert // await's
	at.at = int32(len(*d)) //nolint:gosec // there are fewer waits
	*d = append(*d, at)
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	w := (*d)[last]
	*d = slices.Delete(*d, last, last+1)
	return w
}
