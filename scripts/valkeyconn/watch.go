package valkeyconn

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// watcher turns messages of sharded channels into wake-ups. A channel is
// subscribed to on the feed of the server that owns its slot. The feed has its
// own connection, so a slow subscriber cannot stall a call. A channel is
// subscribed to only while somebody watches it or did so within the last
// seconds (linger): the next long poll of a student comes within seconds, and behind
// a load balancer at this gateway once in as many polls as there are gateways, so
// unsubscribing at once would only cost another subscribe.
//
// A message may carry what a reader would read, and then saves the read. But no
// reader depends on a message. A message that is lost while a channel has no
// feed costs a wait, never data: all watchers of the channel are woken, and
// read again, as soon as it has a feed. The last message of a channel is used
// only while the connection that delivered it is open, because no message is
// lost between two messages of one connection.
type watcher struct {
	servers *topology
	laps    *laps
	decode  func(text string) any
	log     *slog.Logger
	// linger is how long a subscription without a watcher stays. sweepEvery is
	// how often such subscriptions are looked for. pingEvery is how often a
	// connection is pinged, and how long its reply may take.
	linger, sweepEvery, pingEvery time.Duration

	probe   string      // Options.Probe
	granted atomic.Bool // a server has let the user subscribe

	mu   sync.Mutex
	subs map[string]*subscription
}

// subscription is one watched channel.
type subscription struct {
	slot      uint16
	entries   []*entry      // in no order
	confirmed chan struct{} // closed when the server has confirmed, or could not; then nil
	idleSince time.Time
	on        *link    // the connection that has the subscription; nil: none
	last      *Message // the last message on that connection; nil: none yet
}

// entry is one caller of add. There are as many as waits: docs/adr/0017.
type entry struct {
	wake func()
	of   *subscription // nil: it was removed
	at   int           // in of.entries
}

// leave forgets the connection and its last message.
func (s *subscription) leave() { s.on, s.last = nil, nil }

// handOver does what leave does, and also makes the old connection
// unsubscribe. A server that has lost the slot and is now a replica of the
// new owner still sends the slot's messages.
func (s *subscription) handOver(channel string) {
	if s.on != nil {
		s.on.left = append(s.on.left, channel)
	}
	s.leave()
}

func (s *subscription) wake() {
	for _, e := range s.entries {
		e.wake()
	}
}

func newWatcher(servers *topology, laps *laps, opts Options) *watcher {
	return &watcher{
		servers: servers, laps: laps, decode: opts.Decode, log: opts.Log, probe: opts.Probe,
		linger: 30 * time.Second, sweepEvery: 5 * time.Second, pingEvery: time.Second,
		subs: map[string]*subscription{},
	}
}

// connected reports whether every server's feed has its connection.
func (w *watcher) connected() bool {
	nodes := w.servers.inUse()
	return len(nodes) > 0 && !slices.ContainsFunc(nodes, func(n *node) bool { return n.feed.link.Load() == nil })
}

// denied reports whether a server does not let the user subscribe, and none ever has.
func (w *watcher) denied() bool {
	return !w.granted.Load() && slices.ContainsFunc(w.servers.inUse(), func(n *node) bool { return n.feed.denied.Load() })
}

// add registers wake and returns once the server has confirmed the
// subscription. While the slot's owner is away or unknown it returns at once:
// when the owner is back, its feed subscribes and wakes all watchers. The only
// error is the context's.
func (w *watcher) add(ctx context.Context, channel string, wake func()) (func(), error) {
	e, confirmed, first := w.register(channel, wake)
	stop := func() { w.remove(e) }
	switch {
	case first:
		defer w.confirm(e.of)
		if owner := w.servers.ownerOf(e.of.slot); owner != nil {
			w.subscribe(ctx, owner.feed, channel, e.of)
		}
	case confirmed != nil:
		select {
		case <-confirmed:
		case <-ctx.Done():
			stop()
			return nil, ctx.Err()
		}
	}
	return stop, nil
}

// register adds an entry. The first of a subscription must call confirm; confirmed is
// nil where that has happened.
func (w *watcher) register(channel string, wake func()) (e *entry, confirmed chan struct{}, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sub := w.subs[channel]
	if sub == nil {
		sub = &subscription{slot: slotOf(channel), confirmed: make(chan struct{})}
		w.subs[channel] = sub
		first = true
	}
	e = &entry{wake: wake, of: sub, at: len(sub.entries)}
	sub.entries = append(sub.entries, e)
	return e, sub.confirmed, first
}

func (w *watcher) confirm(sub *subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(sub.confirmed)
	sub.confirmed = nil
}

// remove removes an entry. Idempotent. A subscription that has entries stays in subs.
func (w *watcher) remove(e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sub := e.of
	if sub == nil {
		return
	}
	e.of = nil
	last := len(sub.entries) - 1
	sub.entries[e.at] = sub.entries[last]
	sub.entries[e.at].at = e.at
	sub.entries[last] = nil
	sub.entries = sub.entries[:last]
	if last == 0 {
		sub.idleSince = time.Now()
	}
}

// subscribe subscribes to one channel. A caller that leaves does not cancel it,
// because others may be waiting for the same confirmation.
func (w *watcher) subscribe(ctx context.Context, f *feed, channel string, sub *subscription) {
	f.turn.RLock()
	defer f.turn.RUnlock()
	l := f.link.Load()
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), subscribeTimeout)
	defer cancel()
	err := l.Do(ctx, l.B().Ssubscribe().Channel(channel).Build()).Error()
	w.settle(f, l, channel, sub, err)
}

// settle notes the result of a subscribe. If the slot is on another server, that
// server's feed subscribes. If the server refused, its feed tries again later. If
// the connection did not answer, it is discarded.
func (w *watcher) settle(f *feed, l *link, channel string, sub *subscription, err error) (placed bool) {
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.subs[channel] != sub:
			l.left = append(l.left, channel) // it is not watched any more
		case f.link.Load() == l && sub.on != l:
			sub.handOver(channel) // a message of the other connection may be outdated by now
			sub.on = l
		}
		return true
	}
	if to, asking, redirected := w.servers.redirection(channel, f.node, err); redirected && !asking {
		to.feed.requestSync()
	} else if refused(err) {
		f.requestSyncLater()
	} else {
		l.discard(err)
	}
	return false
}

// due are the channels that a connection must still subscribe to, and those that
// it must unsubscribe from: channels that now belong to another server, and
// channels whose last watcher left before the instant before.
func (w *watcher) due(l *link, before time.Time) (missing map[string]*subscription, surplus []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	missing = map[string]*subscription{}
	for channel, sub := range w.subs {
		mine := w.servers.ownerOf(sub.slot) == l.node
		switch expired := len(sub.entries) == 0 && sub.idleSince.Before(before); {
		case sub.on == l && (expired || !mine):
			sub.leave()
			surplus = append(surplus, channel)
			if expired {
				delete(w.subs, channel)
			}
		case mine && expired:
			sub.handOver(channel)
			delete(w.subs, channel)
		case mine && sub.on != l:
			missing[channel] = sub
		}
	}
	for _, channel := range l.left {
		// Not if the connection has the channel again, or is about to.
		if sub := w.subs[channel]; sub == nil || sub.on != l && missing[channel] == nil {
			surplus = append(surplus, channel)
		}
	}
	l.left = nil
	return missing, surplus
}

// linkLost forgets the subscriptions of a connection.
func (w *watcher) linkLost(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, sub := range w.subs {
		if sub.on == l {
			sub.leave()
		}
	}
}

// serverUnsubscribed handles a subscription that the server has ended. A cluster
// does that when it moves the slot. If the channel is still watched, it is
// subscribed to again.
func (w *watcher) serverUnsubscribed(channel string, f *feed, l *link) {
	w.mu.Lock()
	sub := w.subs[channel]
	taken := sub != nil && sub.on == l
	if taken {
		sub.leave()
	}
	w.mu.Unlock()
	if taken {
		f.requestSync()
		w.servers.reportFailure()
	}
}

// deliver keeps a message as the channel's last one and wakes the watchers.
func (w *watcher) deliver(l *link, channel, text string) {
	m := &Message{Value: w.decode(text), Received: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	if sub := w.subs[channel]; sub != nil {
		if sub.on == l { // only the messages of the channel's own connection count
			sub.last = m
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

func (w *watcher) lastMessage(channel string) (Message, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sub := w.subs[channel]; sub != nil && sub.last != nil {
		return *sub.last, true
	}
	return Message{}, false
}
