package sessions

import (
	"context"
	"sync"
)

// lookUps asks for many keys at once: all that are asked for while one look-up is under
// way share the next, and there is one at a time. So any number of callers that come at
// one instant cost a look-up for each max of them. Safe for concurrent use.
type lookUps[K comparable, V any] struct {
	max  int // keys of one look-up
	look func(ctx context.Context, keys []K) (map[K]V, error)

	mu      sync.Mutex
	waiting []*lookUp[K, V] // those that have not begun
	asking  bool
}

type lookUp[K comparable, V any] struct {
	keys  map[K]struct{}
	done  chan struct{}
	found map[K]V
	err   error
}

// ask joins a look-up that has not begun, and waits for it. It reports false for a key
// that was not found.
func (l *lookUps[K, V]) ask(ctx context.Context, key K) (found V, ok bool, err error) {
	mine := l.join(context.WithoutCancel(ctx), key)
	select {
	case <-mine.done:
		found, ok = mine.found[key]
		return found, ok, mine.err
	case <-ctx.Done():
		return found, false, ctx.Err()
	}
}

func (l *lookUps[K, V]) join(ctx context.Context, key K) *lookUp[K, V] {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.waiting)
	if n == 0 || len(l.waiting[n-1].keys) >= l.max {
		l.waiting = append(l.waiting, &lookUp[K, V]{keys: map[K]struct{}{}, done: make(chan struct{})})
		n++
	}
	mine := l.waiting[n-1]
	mine.keys[key] = struct{}{}
	if !l.asking {
		l.asking = true
		go l.run(ctx)
	}
	return mine
}

// run does one look-up after the other until none waits. Each query is bounded by the
// repository.
func (l *lookUps[K, V]) run(ctx context.Context) {
	for {
		l.mu.Lock()
		if len(l.waiting) == 0 {
			l.asking = false
			l.mu.Unlock()
			return
		}
		next := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.mu.Unlock()
		keys := make([]K, 0, len(next.keys))
		for key := range next.keys {
			keys = append(keys, key)
		}
		next.found, next.err = l.look(ctx, keys)
		close(next.done)
	}
}
