package outbox

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"doorstep/sessions"
)

// The limits of a Memory: some 30 MB of rows that wait for one destination. Over it
// the oldest row becomes a dead letter, and the oldest dead letter is forgotten. The
// embedded default keeps nothing over a restart either.
const (
	memoryWaiting = 100_000
	memoryDead    = 1_000
	// memoryOutcomes is how many outcomes of rows that are done or dead are remembered.
	memoryOutcomes = 10_000
)

// Memory is the Store of a gateway without a database: in process, lost with it. Rows
// that are done are forgotten at once, but for the latest outcomes. Safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	seq    int64
	queues map[string]*memoryQueue // by destination; Bus is the outbox
	dead   []DeadLetter
	ended  []sessions.EventOutcome // the latest, oldest first
	also   []string                // consumers that each event is addressed to as it is recorded
}

// memoryQueue is what waits for one destination.
type memoryQueue struct {
	to      string
	waiting []*memoryRow // in the order of seq; with gone rows, which are removed later
	gone    int          // how many of waiting are gone
	bySeq   map[int64]*memoryRow
}

type memoryRow struct {
	row   Row
	since time.Time
	due   time.Time // a claim moves it to its end
	gone  bool
}

var _ Store = (*Memory)(nil)

// NewMemory makes an empty one. Each event is addressed to these consumers as it is
// recorded.
func NewMemory(also ...string) *Memory {
	return &Memory{queues: map[string]*memoryQueue{}, also: also}
}

// queue makes a destination's queue at its first use. Callers hold m.mu.
func (m *Memory) queue(to string) *memoryQueue {
	q := m.queues[to]
	if q == nil {
		q = &memoryQueue{to: to, bySeq: map[int64]*memoryRow{}}
		m.queues[to] = q
	}
	return q
}

// Record adds an event that has just happened; a repository in memory calls it within
// its transaction. It does not block.
func (m *Memory) Record(e sessions.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq++
	for _, to := range append([]string{Bus}, m.also...) {
		m.add(m.queue(to), Row{Seq: m.seq, Event: e}, time.Now())
	}
}

func (m *Memory) add(q *memoryQueue, row Row, since time.Time) {
	if len(q.bySeq) >= memoryWaiting {
		i := slices.IndexFunc(q.waiting, func(w *memoryRow) bool { return !w.gone })
		m.bury(q, q.waiting[i], "too many events wait")
	}
	row.To = q.to
	w := &memoryRow{row: row, since: since, due: time.Now()}
	q.bySeq[row.Seq] = w
	// Events are fanned out nearly in order: those of one session in order, those of
	// several as they become due.
	at := len(q.waiting)
	for at > 0 && q.waiting[at-1].row.Seq > row.Seq {
		at--
	}
	q.waiting = slices.Insert(q.waiting, at, w)
}

// Claim implements Store. Its cost is the rows that wait, from the oldest on, until
// there are enough.
func (m *Memory) Claim(_ context.Context, look Look) (claimed Claimed, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(look.FanOut) > 0 {
		bus := m.queue(Bus)
		for _, w := range bus.due(look.Limit, 0, 0) {
			for _, consumer := range look.FanOut {
				m.add(m.queue(consumer), Row{Seq: w.row.Seq, Event: w.row.Event}, w.since)
			}
			m.end(w, Bus, sessions.OutcomeDone)
			bus.remove(w)
			claimed.FannedOut++
		}
	}
	for _, ask := range look.Asks {
		for _, w := range m.queue(ask.To).due(look.Limit, ask.Older, ask.After) {
			w.due = time.Now().Add(ask.Lease)
			row := w.row
			row.Attempts++
			claimed.Rows = append(claimed.Rows, row)
		}
	}
	return claimed, nil
}

// due is up to limit rows after a seq that may be claimed, the oldest of their sessions,
// whose events were recorded at least older ago.
func (q *memoryQueue) due(limit int, older time.Duration, after int64) (rows []*memoryRow) {
	now := time.Now()
	held := map[sessions.ID]bool{}
	for _, w := range q.waiting {
		if len(rows) == limit {
			break
		}
		if w.gone || held[w.row.Event.SessionID] {
			continue
		}
		held[w.row.Event.SessionID] = true
		if w.row.Seq > after && !w.due.After(now) && now.Sub(w.since) >= older {
			rows = append(rows, w)
		}
	}
	return rows
}

// Done implements Store.
func (m *Memory) Done(_ context.Context, to string, seqs []int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue(to)
	for _, seq := range seqs {
		m.end(q.bySeq[seq], to, sessions.OutcomeDone)
		q.remove(q.bySeq[seq])
	}
	return nil
}

// end remembers what became of a row, unless it is nil.
func (m *Memory) end(w *memoryRow, to string, state sessions.OutcomeState) {
	if w == nil {
		return
	}
	if len(m.ended) >= memoryOutcomes {
		m.ended = append(m.ended[:0], m.ended[memoryOutcomes/2:]...)
	}
	m.ended = append(m.ended, sessions.EventOutcome{
		EventID: w.row.Event.ID, Type: w.row.Event.Type, To: to, State: state, Attempts: w.row.Attempts, At: time.Now(),
	})
}

// Outcomes implements Store. Its cost is the rows that wait and those that are
// remembered.
func (m *Memory) Outcomes(_ context.Context, events []sessions.ID) (list []sessions.EventOutcome, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.ended {
		if slices.Contains(events, o.EventID) {
			list = append(list, o)
		}
	}
	for to, q := range m.queues {
		for _, w := range q.bySeq {
			if e := w.row.Event; slices.Contains(events, e.ID) {
				list = append(list, sessions.EventOutcome{EventID: e.ID, Type: e.Type, To: to, State: sessions.OutcomeWaiting, Attempts: w.row.Attempts})
			}
		}
	}
	return list, nil
}

// Retry implements Store.
func (m *Memory) Retry(_ context.Context, to string, seq int64, wait time.Duration, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.queue(to).bySeq[seq]; w != nil {
		w.row.Attempts++
		w.due = time.Now().Add(wait)
	}
	return nil
}

// Release implements Store.
func (m *Memory) Release(_ context.Context, to string, seqs []int64, wait time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, seq := range seqs {
		if w := m.queue(to).bySeq[seq]; w != nil {
			w.due = time.Now().Add(wait)
		}
	}
	return nil
}

// Bury implements Store.
func (m *Memory) Bury(_ context.Context, to string, seq int64, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue(to)
	if w := q.bySeq[seq]; w != nil {
		w.row.Attempts++
		m.bury(q, w, reason)
	}
	return nil
}

func (m *Memory) bury(q *memoryQueue, w *memoryRow, reason string) {
	m.end(w, q.to, sessions.OutcomeDead)
	q.remove(w)
	if len(m.dead) >= memoryDead {
		m.dead = slices.Delete(m.dead, 0, 1)
	}
	m.dead = append(m.dead, DeadLetter{
		To: q.to, Seq: w.row.Seq, Type: w.row.Event.Type, SessionID: w.row.Event.SessionID, Attempts: w.row.Attempts,
		Since: w.since, DeadAt: time.Now(), Reason: reason,
	})
}

// remove takes a row out, unless it is nil. The slice is compacted when half of it is
// gone.
func (q *memoryQueue) remove(w *memoryRow) {
	if w == nil {
		return
	}
	delete(q.bySeq, w.row.Seq)
	w.gone = true
	if q.gone++; q.gone > 64 && q.gone > len(q.waiting)/2 {
		q.waiting = slices.DeleteFunc(q.waiting, func(w *memoryRow) bool { return w.gone })
		q.gone = 0
	}
}

// Backlog implements Store. No event in memory is newer than this binary.
func (m *Memory) Backlog(_ context.Context, consumers []string) ([]Backlog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Backlog, 1+len(consumers))
	for i, name := range append([]string{Bus}, consumers...) {
		q := m.queue(name)
		list[i] = Backlog{To: name, Waiting: len(q.bySeq)}
		if first := slices.IndexFunc(q.waiting, func(w *memoryRow) bool { return !w.gone }); first >= 0 {
			list[i].Oldest = q.waiting[first].since
		}
		for _, d := range m.dead {
			if d.To == name {
				list[i].Dead++
			}
		}
	}
	return list, nil
}

// DeadLetters lists the dead letters, lowest seq first.
func (m *Memory) DeadLetters() []DeadLetter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(slices.Values(m.dead), func(a, b DeadLetter) int { return cmp.Compare(a.Seq, b.Seq) })
}

// MemoryOnce is the Once of a gateway without a database. It remembers an event for
// at least an hour and at most two: in process, repeats come within minutes. Safe for
// concurrent use.
type MemoryOnce struct {
	mu         sync.Mutex
	turned     time.Time         // when young was begun
	young, old map[consumed]bool // true: done; false: being handled
}

const onceWindow = time.Hour

type consumed struct {
	consumer string
	event    sessions.ID
}

var _ Once = (*MemoryOnce)(nil)

// NewMemoryOnce makes an empty one.
func NewMemoryOnce() *MemoryOnce {
	return &MemoryOnce{turned: time.Now(), young: map[consumed]bool{}, old: map[consumed]bool{}}
}

// Once implements Once.
func (m *MemoryOnce) Once(ctx context.Context, consumer string, event sessions.ID, do func(context.Context) error) error {
	key := consumed{consumer, event}
	switch known, done := m.begin(key); {
	case done:
		return nil
	case known:
		return ErrInProgress
	}
	err := ErrInProgress // what a panic in do leaves: the event may be tried again
	defer func() { m.end(key, err == nil) }()
	err = do(ctx)
	return err
}

func (m *MemoryOnce) begin(key consumed) (known, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	for _, generation := range []map[consumed]bool{m.young, m.old} {
		if done, known = generation[key]; known {
			return known, done
		}
	}
	m.young[key] = false
	return false, false
}

func (m *MemoryOnce) end(key consumed, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.old, key)
	delete(m.young, key)
	if ok {
		m.young[key] = true
	}
}

// turn forgets what is older than two windows. Two maps, so that forgetting costs
// nothing an event.
func (m *MemoryOnce) turn() {
	if now := time.Now(); now.Sub(m.turned) >= onceWindow {
		m.old, m.young, m.turned = m.young, map[consumed]bool{}, now
	}
}
