package valkeyconn

import (
	"context"
	"errors"
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

	"doorstep/internal/pause"
)

// topology knows which server owns a slot: always the same server, or one of a
// cluster's primaries. It surveys the cluster (asks a server which server owns
// which slots) every few seconds, and sooner when something looks wrong. It
// follows a redirection at once.
//
// valkey-go's own client for clusters was rejected (docs/adr/0006). It has one
// topology, and its errors do not say which server failed. So there would be one
// breaker for all servers, and one dead server of two would keep the callers away
// from both. It also learns of a failover up to a second late. And wake-ups need the
// owner of a slot anyway.
type topology struct {
	option      valkey.ClientOption // of every connection, except the address
	log         *slog.Logger
	onBreaker   func(state string)
	breakerOpen time.Duration // how long a breaker stays open
	rights      [][]string    // Options.Rights

	owners    atomic.Pointer[owners]
	forbidden atomic.Bool // the last survey was, by the server's ACL
	granted   atomic.Bool // a server has let the user connect, with all rights
	surveyDue chan struct{}

	mu    sync.Mutex
	known map[string]*member
	seeds []string // addresses to ask when no known server answers
}

// owners is the owner of each slot: one entry for a single server, slotCount
// entries for a cluster. Nil is a slot without an owner.
type owners []atomic.Pointer[node]

// member is a node that is in use, or was until lately.
type member struct {
	*node
	cancel context.CancelFunc // nil: not started yet
	unused int                // surveys in a row that did not name it; 1 where calls are redirected to it
}

const (
	// surveyTimeout bounds one server's answer to a survey.
	surveyTimeout = 250 * time.Millisecond
	// The time between two surveys: when all is well, when something is not, and
	// the least. A failover must be noticed within a second of its end.
	calmInterval, troubledInterval, minInterval = 5 * time.Second, 250 * time.Millisecond, 100 * time.Millisecond
	// troubledFor is how long something is taken to be wrong after a failure or a
	// redirection.
	troubledFor = 2 * time.Second
	// forgetAfter this many surveys that did not name it, a node is closed. Its
	// last calls are over by then.
	forgetAfter = 8
)

func newTopology(opts Options, option valkey.ClientOption) *topology {
	return &topology{
		option: option, log: opts.Log, onBreaker: opts.OnBreaker, breakerOpen: 500 * time.Millisecond,
		rights: opts.Rights, surveyDue: make(chan struct{}, 1), known: map[string]*member{},
	}
}

// ownerOf is the owner of a slot. It is nil when there is none or it is not known
// yet.
func (tp *topology) ownerOf(slot uint16) *node {
	t := tp.owners.Load()
	if t == nil {
		return nil
	}
	return (*t)[int(slot)%len(*t)].Load()
}

// ownerOfKey is the owner of a key's slot. For a single server the slot is not
// computed.
func (tp *topology) ownerOfKey(key string) *node {
	if t := tp.owners.Load(); t != nil && len(*t) == 1 {
		return (*t)[0].Load()
	}
	return tp.ownerOf(slotOf(key))
}

// redirection reads a cluster's answer that a slot is on another server:
// permanently (MOVED) or for this call only (ASK). from is the server that
// answered.
func (tp *topology) redirection(key string, from *node, err error) (to *node, asking, redirected bool) {
	reply, ok := valkey.IsValkeyErr(err)
	if err == nil || !ok {
		return nil, false, false
	}
	if addr, ok := reply.IsAsk(); ok {
		tp.requestSurvey() // which starts the node, if it is new
		return tp.member(withHost(addr, from.addr)), true, true
	}
	if addr, ok := reply.IsMoved(); ok {
		return tp.moved(slotOf(key), withHost(addr, from.addr)), false, true
	}
	return nil, false, false
}

// moved notes a slot's new owner.
func (tp *topology) moved(slot uint16, addr string) *node {
	to := tp.member(addr)
	if t := tp.owners.Load(); t != nil && len(*t) == slotCount {
		(*t)[slot].Store(to)
	}
	tp.requestSurvey()
	return to
}

// withHost completes an address that is only a port: the server means its own
// host, the one that we asked.
func withHost(addr, asked string) string {
	if !strings.HasPrefix(addr, ":") {
		return addr
	}
	host, _, _ := net.SplitHostPort(asked)
	return net.JoinHostPort(host, addr[1:])
}

func (tp *topology) requestSurvey() {
	select {
	case tp.surveyDue <- struct{}{}:
	default: // requested already
	}
}

// reportFailure requests a survey after a call that got no answer. It does
// nothing with a single server, because there is no other server to find.
func (tp *topology) reportFailure() {
	if t := tp.owners.Load(); t != nil && len(*t) == slotCount {
		tp.requestSurvey()
	}
}

// member is the node at an address. It is made when the address is new; run
// starts it. It is kept while calls are redirected to it: a server that gets its first
// slot is named by no survey before it has all of the slot's keys.
func (tp *topology) member(addr string) *node {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	if m := tp.known[addr]; m != nil {
		m.unused = min(m.unused, 1)
		return m.node
	}
	n := tp.newNode(addr)
	tp.known[addr] = &member{node: n}
	return n
}

// worstBreaker is the state of the breaker that is furthest from closed.
func (tp *topology) worstBreaker() gobreaker.State {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	worst := gobreaker.StateClosed
	for _, m := range tp.known {
		if m.unused == 0 {
			worst = max(worst, *m.state.Load()) // closed < half-open < open
		}
	}
	return worst
}

func (tp *topology) ready() bool {
	if tp.owners.Load() == nil {
		return false
	}
	return !slices.ContainsFunc(tp.inUse(), func(n *node) bool { return !n.ready() })
}

// inUse are the nodes that the last survey named.
func (tp *topology) inUse() []*node {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	var list []*node
	for _, m := range tp.known {
		if m.unused == 0 {
			list = append(list, m.node)
		}
	}
	return list
}

// run surveys until ctx ends. For each node that it finds it runs the node, and
// runFeed for the node's wake-ups.
func (tp *topology) run(ctx context.Context, runFeed func(context.Context, *feed)) {
	var running sync.WaitGroup
	defer running.Wait()
	defer tp.owners.Store(nil)
	for troubledUntil := time.Now(); ; {
		if err := tp.survey(ctx); err != nil && ctx.Err() == nil {
			tp.log.WarnContext(ctx, "live store not reached", slog.Any("error", err))
		}
		tp.startNodes(ctx, func(ctx context.Context, n *node) {
			running.Go(func() { n.run(ctx) })
			running.Go(func() { runFeed(ctx, n.feed) })
		})
		_ = pause.For(ctx, minInterval)
		select {
		case <-ctx.Done():
			return
		case <-tp.surveyDue:
			troubledUntil = time.Now().Add(troubledFor)
		case <-time.After(tp.interval(troubledUntil)):
		}
	}
}

// interval is the time until the next survey if none is requested. A single
// server that was found is never surveyed again: its address is the URL's.
func (tp *topology) interval(troubledUntil time.Time) time.Duration {
	t := tp.owners.Load()
	switch away := func(n *node) bool { return !n.alive.Load() }; {
	case t == nil:
		return troubledInterval
	case len(*t) == 1:
		return math.MaxInt64
	case time.Now().Before(troubledUntil), slices.ContainsFunc(tp.inUse(), away):
		return troubledInterval
	default:
		return calmInterval
	}
}

// startNodes starts the new nodes and stops those that have long been unused. It
// makes every feed check its channels, because their owners may have changed.
func (tp *topology) startNodes(ctx context.Context, start func(context.Context, *node)) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for addr, m := range tp.known {
		switch {
		case m.cancel == nil:
			var nodeCtx context.Context
			nodeCtx, m.cancel = context.WithCancel(ctx)
			start(nodeCtx, m.node)
		case m.unused > forgetAfter:
			m.cancel()
			delete(tp.known, addr)
		}
		m.feed.requestSync()
	}
}

// survey finds out which server owns what.
func (tp *topology) survey(ctx context.Context) error {
	if tp.usesSentinels() {
		tp.adopt(layout{single: true, spans: []span{{}}}) // the sentinels choose the address
		return nil
	}
	found, err := tp.fetch(ctx)
	tp.forbidden.Store(errors.Is(err, errForbidden))
	if err == nil {
		tp.adopt(found)
	}
	return err
}

// denied reports whether the user may not survey the cluster, or may not connect to a
// server with all rights, and never could.
func (tp *topology) denied() bool {
	if tp.owners.Load() == nil {
		return tp.forbidden.Load()
	}
	return !tp.granted.Load() && slices.ContainsFunc(tp.inUse(), func(n *node) bool { return n.denied.Load() })
}

func (tp *topology) usesSentinels() bool { return tp.option.Sentinel.MasterSet != "" }

// adopt replaces the owners with those of a layout.
func (tp *topology) adopt(found layout) {
	t := make(owners, found.size())
	used := map[string]bool{}
	for _, s := range found.spans {
		owner := tp.member(s.addr)
		used[s.addr] = true
		for slot := s.first; slot <= s.last; slot++ {
			t[slot].Store(owner)
		}
	}
	tp.owners.Store(&t)
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.seeds = found.others
	for addr, m := range tp.known {
		if m.unused++; used[addr] {
			m.unused = 0
		}
	}
}

// fetch asks the servers that answer probes, in random order. When none of those
// replies, it asks every server that was ever named.
func (tp *topology) fetch(ctx context.Context) (layout, error) {
	alive := slices.DeleteFunc(tp.inUse(), func(n *node) bool { return !n.alive.Load() })
	//nolint:gosec // to spread the questions, no secret
	rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	for _, n := range alive {
		client := n.client.Load()
		if client == nil {
			continue // it is stopping
		}
		if found, err := layoutOf(ctx, *client, n.addr); err == nil {
			return found, nil
		}
	}
	return tp.fetchFromSeeds(ctx)
}

func (tp *topology) fetchFromSeeds(ctx context.Context) (found layout, err error) {
	option := tp.option
	tp.mu.Lock()
	seeds := slices.Concat(option.InitAddress, tp.seeds)
	tp.mu.Unlock()
	option.ForceSingleClient = true
	for _, addr := range seeds {
		option.InitAddress = []string{addr}
		c, dialled := valkey.NewClient(option)
		if dialled != nil {
			err = signIn(dialled)
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
