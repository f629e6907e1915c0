package scripts

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// watcher turns the scripts' sharded publishes into wake-ups. A channel is
// subscribed to on the feed of the server that owns its slot, so that no slow
// subscriber can stall an update, and only while somebody here watches it, or
// has just watched: a student's next poll comes within seconds, so leaving is
// lazy.
//
// A publish carries what a reader would read, which spares the read; but
// nothing that is needed: whatever is lost while a channel has no feed costs a
// wait, never data, and whoever waits on it is woken to read again as soon as
// it has one. A message counts only while the connection it came by stands,
// for on that nothing is lost in between.
type watcher struct {
	nodes *nodes
	laps  *laps
	log   *slog.Logger
	// linger is how long a subscription that nobody watches stays, sweepEvery
	// how often such are looked for; askEvery is how often a connection is asked
	// whether it is alive, and how long it may take to say so.
	linger, sweepEvery, askEvery time.Duration

	mu   sync.Mutex
	subs map[string]*subscription
}

type subscription struct {
	slot      uint16
	entries   map[*entry]struct{}
	confirmed chan struct{} // closed when the server has confirmed, or could not
	idleSince time.Time
	on        *link       // the connection that has it; nil: none
	cached    *cachedView // the last message on that connection; nil: none that says enough
}

// leave forgets the connection and its last message.
func (s *subscription) leave() { s.on, s.cached = nil, nil }

// handOver is leave, and has the connection give the channel up: a server goes
// on telling, as its successor's replica.
func (s *subscription) handOver(channel string) {
	if s.on != nil {
		s.on.left = append(s.on.left, channel)
	}
	s.leave()
}

type entry struct{ wake func() }

func newWatcher(nodes *nodes, laps *laps, log *slog.Logger) *watcher {
	return &watcher{
		nodes: nodes, laps: laps, log: log, linger: 15 * time.Second, sweepEvery: 5 * time.Second, askEvery: time.Second,
		subs: map[string]*subscription{},
	}
}

// add registers wake and returns once the server has confirmed the
// subscription. While the slot's owner is away or unknown it returns at once:
// its coming back subscribes and wakes everybody. The only error is the
// context's.
func (w *watcher) add(ctx context.Context, channel string, wake func()) (func(), error) {
	e := &entry{wake: wake}
	sub, first := w.register(channel, e)
	stop := func() { w.remove(channel, e) }
	if first {
		defer close(sub.confirmed)
		if owner := w.nodes.at(sub.slot); owner != nil {
			w.subscribe(ctx, owner.feed, channel, sub)
		}
		return stop, nil
	}
	select {
	case <-sub.confirmed:
		return stop, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

func (w *watcher) register(channel string, e *entry) (sub *subscription, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sub = w.subs[channel]
	if sub == nil {
		sub = &subscription{slot: slotOf(channel), entries: map[*entry]struct{}{}, confirmed: make(chan struct{})}
		w.subs[channel] = sub
		first = true
	}
	sub.entries[e] = struct{}{}
	return sub, first
}

func (w *watcher) remove(channel string, e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sub := w.subs[channel]
	if sub == nil {
		return
	}
	delete(sub.entries, e)
	if len(sub.entries) == 0 {
		sub.idleSince = time.Now()
	}
}

// subscribe subscribes to one channel. It is not cancelled by the caller's
// leaving: others may be waiting on the same confirmation.
func (w *watcher) subscribe(ctx context.Context, f *feed, channel string, sub *subscription) {
	f.turn.RLock()
	defer f.turn.RUnlock()
	l := f.link.Load()
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), subscribeWithin)
	defer cancel()
	err := l.Do(ctx, l.B().Ssubscribe().Channel(channel).Build()).Error()
	w.settle(f, l, channel, sub, err)
}

// settle notes how a subscribe went. A slot that is elsewhere is subscribed to
// there by that server's feed; what a server refuses is tried again; a
// connection that does not answer is given up.
func (w *watcher) settle(f *feed, l *link, channel string, sub *subscription, err error) (placed bool) {
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.subs[channel] != sub:
			l.left = append(l.left, channel) // forgotten meanwhile
		case f.link.Load() == l && sub.on != l:
			sub.handOver(channel) // what came by another one may be old by now
			sub.on = l
		}
		return true
	}
	if to, asking, redirected := w.nodes.redirection(channel, f.node, err); redirected && !asking {
		to.feed.look()
	} else if refused(err) {
		f.lookSoon()
	} else {
		l.giveUp(err)
	}
	return false
}

// due are the channels that a connection lacks and those that it has to no
// purpose: another server's now, or watched by nobody since before.
func (w *watcher) due(l *link, before time.Time) (lacking map[string]*subscription, idle []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lacking = map[string]*subscription{}
	for channel, sub := range w.subs {
		mine := w.nodes.at(sub.slot) == l.node
		switch forgotten := len(sub.entries) == 0 && sub.idleSince.Before(before); {
		case sub.on == l && (forgotten || !mine):
			sub.leave()
			idle = append(idle, channel)
			if forgotten {
				delete(w.subs, channel)
			}
		case mine && forgotten:
			sub.handOver(channel)
			delete(w.subs, channel)
		case mine && sub.on != l:
			lacking[channel] = sub
		}
	}
	for _, channel := range l.left {
		if sub := w.subs[channel]; sub == nil || sub.on != l && lacking[channel] == nil { // else it has it again, or will
			idle = append(idle, channel)
		}
	}
	l.left = nil
	return lacking, idle
}

// lost forgets what a connection had.
func (w *watcher) lost(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, sub := range w.subs {
		if sub.on == l {
			sub.leave()
		}
	}
}

// unasked notices that the server ended a subscription that is still wanted, as
// a cluster does when it moves the slot.
func (w *watcher) unasked(channel string, f *feed, l *link) {
	w.mu.Lock()
	sub := w.subs[channel]
	taken := sub != nil && sub.on == l
	if taken {
		sub.leave()
	}
	w.mu.Unlock()
	if taken {
		f.look()
		w.nodes.trouble()
	}
}

// deliver takes a message: what it tells, and that it came.
func (w *watcher) deliver(l *link, channel, message string) {
	v := parseMessage(message)
	w.mu.Lock()
	defer w.mu.Unlock()
	if sub := w.subs[channel]; sub != nil {
		if sub.on == l { // else it is not yet, or no more, the one whose messages count
			sub.cached = v
		}
		sub.wake()
	}
}

func (w *watcher) wake(channel string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sub := w.subs[channel]; sub != nil {
		sub.wake()
	}
}

func (w *watcher) lastView(channel string) *cachedView {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sub := w.subs[channel]; sub != nil {
		return sub.cached
	}
	return nil
}

func (s *subscription) wake() {
	for e := range s.entries {
		e.wake()
	}
}
