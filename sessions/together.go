package sessions

import (
	"context"
	"sync"
)

// together lets all who read the same journey at the same time have it by one
// read: a change wakes everybody who waits for it at once. Nobody is given what
// was read before they asked, or a waiter could miss the very change that woke
// it; so who comes while a read is under way joins the next one, and however
// many come, they cost two.
//
// The zero value is ready. Safe for concurrent use.
type together struct {
	mu    sync.Mutex
	reads map[Ref]*queue
}

// queue is a journey that is being read; next is what newcomers join.
type queue struct{ running, next *sharedRead }

type sharedRead struct {
	done chan struct{}
	snap Snapshot
	err  error
}

// read calls f for ref, or shares in a call that has not begun. f runs on a
// goroutine of its own, with a context that the caller's leaving does not
// cancel: others may depend on it. And what a call to a store needs of a stack
// would else stay with each goroutine that waits for a change afterwards: 16 KB
// instead of 8, by bench/load -mode idle.
func (t *together) read(ctx context.Context, ref Ref, f func(context.Context) (Snapshot, error)) (Snapshot, error) {
	r, mine, before := t.join(ref)
	if mine {
		go t.run(context.WithoutCancel(ctx), ref, r, before, f)
	}
	select {
	case <-r.done:
		return r.snap, r.err
	case <-ctx.Done():
		return Snapshot{}, ctx.Err()
	}
}

// run does the read when the one before is over.
func (t *together) run(ctx context.Context, ref Ref, r, before *sharedRead, f func(context.Context) (Snapshot, error)) {
	if before != nil {
		<-before.done
		t.begin(ref, r)
	}
	r.snap, r.err = f(ctx)
	t.end(ref)
	close(r.done)
}

// join gives the read to share in; mine if the caller has to do it, after
// before where there is one.
func (t *together) join(ref Ref) (r *sharedRead, mine bool, before *sharedRead) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.reads[ref]
	switch {
	case now == nil:
		if t.reads == nil {
			t.reads = map[Ref]*queue{}
		}
		r = &sharedRead{done: make(chan struct{})}
		t.reads[ref] = &queue{running: r}
		return r, true, nil
	case now.next == nil:
		now.next = &sharedRead{done: make(chan struct{})}
		return now.next, true, now.running
	default:
		return now.next, false, nil
	}
}

// begin makes the next read the running one: nobody joins it any more.
func (t *together) begin(ref Ref, r *sharedRead) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads[ref] = &queue{running: r}
}

func (t *together) end(ref Ref) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reads[ref].next == nil {
		delete(t.reads, ref)
	}
}
