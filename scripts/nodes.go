package scripts

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/valkey-io/valkey-go"
)

// nodes knows which server holds a slot: always the same one, or a cluster's
// primaries, each its own slots. It asks the cluster when something looks
// wrong and now and then, and believes a redirection at once.
//
// Why not the library's client for clusters: it has one topology and no way to
// tell its servers apart, so the breaker would be one for all, and one dead
// server of two would keep its callers from both; it learns of a failover up to
// a second late; and wake-ups need to know the owner of a slot anyway. See
// ADR 6.
type nodes struct {
	opts   Options
	option valkey.ClientOption // of every connection, but for the address
	open   time.Duration       // how long a breaker stays open

	table  atomic.Pointer[table]
	nudged chan struct{}

	mu    sync.Mutex
	known map[string]*member
	seeds []string // where to ask when no known server answers
}

// table is the owner of each slot: one entry for a single server, slotCount for
// a cluster. A nil owner is nobody.
type table []atomic.Pointer[node]

// member is a node in use, or lately so.
type member struct {
	*node
	cancel context.CancelFunc // nil: not started yet
	unused int                // surveys in a row that did not name it
}

const (
	// maxRedirections of one call: two in a row are a topology in motion.
	maxRedirections = 3
	// askWithin bounds one answer to "who owns what".
	askWithin = 250 * time.Millisecond
	// Between two surveys: when all is well, when something is not, and at
	// least. A failover must show within a second of its end.
	calm, troubled, atLeast = 5 * time.Second, 250 * time.Millisecond, 100 * time.Millisecond
	// forgetAfter so many surveys that did not name it a node is closed: its
	// last calls are over by then.
	forgetAfter = 8
)

func newNodes(opts Options, option valkey.ClientOption) *nodes {
	return &nodes{
		opts: opts, option: option, open: 500 * time.Millisecond, nudged: make(chan struct{}, 1), known: map[string]*member{},
	}
}

// at is the owner of a slot, nil when there is none or it is not known yet.
func (ns *nodes) at(slot uint16) *node {
	t := ns.table.Load()
	if t == nil {
		return nil
	}
	return (*t)[int(slot)%len(*t)].Load()
}

// of is the owner of a key's slot. A single server is spared the arithmetic.
func (ns *nodes) of(key string) *node {
	if t := ns.table.Load(); t != nil && len(*t) == 1 {
		return (*t)[0].Load()
	}
	return ns.at(slotOf(key))
}

// redirection reads a cluster's answer that the slot is elsewhere, for good or
// for this call only. from is who said so.
func (ns *nodes) redirection(key string, from *node, err error) (to *node, asking, redirected bool) {
	said, ok := valkey.IsValkeyErr(err)
	if err == nil || !ok {
		return nil, false, false
	}
	if addr, ok := said.IsAsk(); ok {
		ns.survey() // which starts it, if it is new
		return ns.member(beside(from.addr, addr)), true, true
	}
	if addr, ok := said.IsMoved(); ok {
		return ns.moved(slotOf(key), beside(from.addr, addr)), false, true
	}
	return nil, false, false
}

// moved notes a slot's new owner.
func (ns *nodes) moved(slot uint16, addr string) *node {
	to := ns.member(addr)
	if t := ns.table.Load(); t != nil && len(*t) == slotCount {
		(*t)[slot].Store(to)
	}
	ns.survey()
	return to
}

// beside fills in the host where a server names only a port: its own.
func beside(asked, addr string) string {
	if !strings.HasPrefix(addr, ":") {
		return addr
	}
	host, _, _ := net.SplitHostPort(asked)
	return net.JoinHostPort(host, addr[1:])
}

// survey asks for one soon.
func (ns *nodes) survey() {
	select {
	case ns.nudged <- struct{}{}:
	default: // asked for already
	}
}

// trouble is a call without an answer. A single server has nobody to ask.
func (ns *nodes) trouble() {
	if t := ns.table.Load(); t != nil && len(*t) == slotCount {
		ns.survey()
	}
}

// member is the node at an address, made when it is new; run starts it.
func (ns *nodes) member(addr string) *node {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if m := ns.known[addr]; m != nil {
		return m.node
	}
	n := ns.node(addr)
	ns.known[addr] = &member{node: n}
	return n
}

func (ns *nodes) node(addr string) *node {
	option := ns.option
	if !ns.sentinels() {
		option.InitAddress, option.ForceSingleClient = []string{addr}, true
	}
	n := &node{addr: addr, option: option, log: ns.opts.Log, troubled: ns.trouble}
	closed := gobreaker.StateClosed
	n.state.Store(&closed)
	n.breaker = gobreaker.NewCircuitBreaker[valkey.ValkeyResult](breakerSettings(ns.open, func(to gobreaker.State) {
		n.state.Store(&to)
		ns.opts.Metrics.StoreBreaker(ns.worst().String())
	}))
	n.feed = newFeed(n)
	return n
}

// worst is the state of the breaker that is furthest from closed.
func (ns *nodes) worst() gobreaker.State {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	worst := gobreaker.StateClosed
	for _, m := range ns.known {
		if m.unused == 0 {
			worst = max(worst, *m.state.Load()) // closed < half-open < open
		}
	}
	return worst
}

func (ns *nodes) ready() bool {
	if ns.table.Load() == nil {
		return false
	}
	return !slices.ContainsFunc(ns.inUse(), func(n *node) bool { return !n.ready() })
}

// inUse are the nodes that the last survey named.
func (ns *nodes) inUse() []*node {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	var list []*node
	for _, m := range ns.known {
		if m.unused == 0 {
			list = append(list, m.node)
		}
	}
	return list
}

// run surveys, and runs what it finds and serve for each, until ctx ends.
func (ns *nodes) run(ctx context.Context, serve func(context.Context, *feed)) {
	var running sync.WaitGroup
	defer running.Wait()
	defer ns.table.Store(nil)
	for hurry := time.Now(); ; {
		if err := ns.look(ctx); err != nil && ctx.Err() == nil {
			ns.opts.Log.WarnContext(ctx, "live store not reached", slog.Any("error", err))
		}
		ns.start(ctx, func(ctx context.Context, n *node) {
			running.Go(func() { n.run(ctx) })
			running.Go(func() { serve(ctx, n.feed) })
		})
		pause(ctx, atLeast)
		select {
		case <-ctx.Done():
			return
		case <-ns.nudged:
			hurry = time.Now().Add(2 * time.Second)
		case <-time.After(ns.pace(hurry)):
		}
	}
}

// pace is how soon to look again unasked. A single server, once found, is never
// looked for again: its address is the URL's.
func (ns *nodes) pace(hurry time.Time) time.Duration {
	t := ns.table.Load()
	switch away := func(n *node) bool { return !n.alive.Load() }; {
	case t == nil:
		return troubled
	case len(*t) == 1:
		return math.MaxInt64
	case time.Now().Before(hurry), slices.ContainsFunc(ns.inUse(), away):
		return troubled
	default:
		return calm
	}
}

// start starts the new nodes, ends those that have long been unused, and has
// every feed see to its channels: their owners may be others now.
func (ns *nodes) start(ctx context.Context, run func(context.Context, *node)) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for addr, m := range ns.known {
		switch {
		case m.cancel == nil:
			var mine context.Context
			mine, m.cancel = context.WithCancel(ctx)
			run(mine, m.node)
		case m.unused > forgetAfter:
			m.cancel()
			delete(ns.known, addr)
		}
		m.feed.look()
	}
}

// look finds out who owns what.
func (ns *nodes) look(ctx context.Context) error {
	if ns.sentinels() {
		ns.adopt(layout{single: true, spans: []span{{}}}) // the sentinels choose the address
		return nil
	}
	found, err := ns.ask(ctx)
	if err == nil {
		ns.adopt(found)
	}
	return err
}

func (ns *nodes) sentinels() bool { return ns.option.Sentinel.MasterSet != "" }

// adopt makes what was found the table.
func (ns *nodes) adopt(found layout) {
	t := make(table, found.size())
	used := map[string]bool{}
	for _, s := range found.spans {
		owner := ns.member(s.addr)
		used[s.addr] = true
		for slot := s.first; slot <= s.last; slot++ {
			t[slot].Store(owner)
		}
	}
	ns.table.Store(&t)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.seeds = found.others
	for addr, m := range ns.known {
		if m.unused++; used[addr] {
			m.unused = 0
		}
	}
}

// ask asks the servers that answer probes, in any order, and when none of those
// does, any that was ever named.
func (ns *nodes) ask(ctx context.Context) (layout, error) {
	alive := slices.DeleteFunc(ns.inUse(), func(n *node) bool { return !n.alive.Load() })
	//nolint:gosec // to spread the asking, no secret
	rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	for _, n := range alive {
		client := n.client.Load()
		if client == nil {
			continue // it ends just now
		}
		if found, err := layoutOf(ctx, *client, n.addr); err == nil {
			return found, nil
		}
	}
	return ns.askSeeds(ctx)
}

func (ns *nodes) askSeeds(ctx context.Context) (found layout, err error) {
	option := ns.option
	ns.mu.Lock()
	seeds := slices.Concat(option.InitAddress, ns.seeds)
	ns.mu.Unlock()
	option.ForceSingleClient = true
	for _, addr := range seeds {
		option.InitAddress = []string{addr}
		c, dialled := valkey.NewClient(option)
		if dialled != nil {
			err = dialled
			continue
		}
		found, err = layoutOf(ctx, c, addr)
		c.Close()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return found, err
}
