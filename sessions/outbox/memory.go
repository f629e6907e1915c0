package outbox

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"doorstep/sessions"
)

// What a Memory holds at most: some 30 MB of rows that wait. Over it the oldest
// becomes a dead letter, of which the oldest is forgotten; the embedded default
// keeps nothing over a restart either.
const (
	memoryWaiting = 100_000
	memoryDead    = 1_000
)

// Memory is the Store of the embedded default: in process, gone with it. What
// was published is forgotten at once. Safe for concurrent use.
type Memory struct {
	now func() time.Time

	mu      sync.Mutex
	seq     int64
	waiting []*memoryRow // in the order of seq; with gaps that are compacted later
	gone    int          // how many of waiting are done with
	bySeq   map[int64]*memoryRow
	dead    []DeadLetter
	max     int
}

type memoryRow struct {
	row   Row
	since time.Time
	due   time.Time // a claim moves it to its end
	gone  bool
}

var (
	_ Store = (*Memory)(nil)
	_ Inbox = (*Memory)(nil)
)

// NewMemory makes an empty one. A nil now is the wall clock.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, bySeq: map[int64]*memoryRow{}, max: memoryWaiting}
}

// Record adds an event that has just happened: what a MemoryRepository calls
// within its transaction. It does not block.
func (m *Memory) Record(e sessions.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq++
	m.add(Row{Seq: m.seq, Event: e})
}

// Add keeps the contract of Inbox.
func (m *Memory) Add(_ context.Context, rows []Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, row := range rows {
		if m.bySeq[row.Seq] == nil {
			row.Attempts = 0
			m.add(row)
		}
	}
	return nil
}

func (m *Memory) add(row Row) {
	if len(m.bySeq) >= m.max {
		i := slices.IndexFunc(m.waiting, func(w *memoryRow) bool { return !w.gone })
		m.bury(m.waiting[i], "too many events wait")
	}
	w := &memoryRow{row: row, since: m.now(), due: m.now()}
	m.bySeq[row.Seq] = w
	// An inbox is filled by several batches at once, so nearly in order.
	at := len(m.waiting)
	for at > 0 && m.waiting[at-1].row.Seq > row.Seq {
		at--
	}
	m.waiting = slices.Insert(m.waiting, at, w)
}

// Claim keeps the contract of Store. It looks at the rows that wait from the
// oldest on, until it has enough.
func (m *Memory) Claim(_ context.Context, limit int, lease time.Duration) ([]Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	var rows []Row
	older := map[sessions.ID]bool{}
	for _, w := range m.waiting {
		if len(rows) == limit {
			break
		}
		if w.gone || older[w.row.Event.SessionID] {
			continue
		}
		older[w.row.Event.SessionID] = true
		if w.due.After(now) {
			continue
		}
		w.due = now.Add(lease)
		row := w.row
		row.Attempts++
		rows = append(rows, row)
	}
	return rows, nil
}

// Published keeps the contract of Store.
func (m *Memory) Published(_ context.Context, seqs []int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, seq := range seqs {
		m.remove(m.bySeq[seq])
	}
	return nil
}

// Retry keeps the contract of Store.
func (m *Memory) Retry(_ context.Context, seq int64, wait time.Duration, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.bySeq[seq]; w != nil {
		w.row.Attempts++
		w.due = m.now().Add(wait)
	}
	return nil
}

// Release keeps the contract of Store.
func (m *Memory) Release(_ context.Context, seqs []int64, wait time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, seq := range seqs {
		if w := m.bySeq[seq]; w != nil {
			w.due = m.now().Add(wait)
		}
	}
	return nil
}

// Bury keeps the contract of Store.
func (m *Memory) Bury(_ context.Context, seq int64, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.bySeq[seq]; w != nil {
		w.row.Attempts++
		m.bury(w, reason)
	}
	return nil
}

func (m *Memory) bury(w *memoryRow, reason string) {
	m.remove(w)
	if len(m.dead) >= memoryDead {
		m.dead = slices.Delete(m.dead, 0, 1)
	}
	m.dead = append(m.dead, DeadLetter{
		Seq: w.row.Seq, Type: w.row.Event.Type, SessionID: w.row.Event.SessionID, Attempts: w.row.Attempts,
		Since: w.since, DeadAt: m.now(), Reason: reason,
	})
}

func (m *Memory) remove(w *memoryRow) {
	if w == nil {
		return
	}
	delete(m.bySeq, w.row.Seq)
	w.gone = true
	if m.gone++; m.gone > 64 && m.gone > len(m.waiting)/2 {
		m.waiting = slices.DeleteFunc(m.waiting, func(w *memoryRow) bool { return w.gone })
		m.gone = 0
	}
}

// Lag keeps the contract of Store.
func (m *Memory) Lag(context.Context) (waiting int, oldest time.Time, dead int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.waiting {
		if !w.gone {
			oldest = w.since
			break
		}
	}
	return len(m.bySeq), oldest, len(m.dead), nil
}

// Sweep keeps the contract of Store: there is nothing to delete.
func (m *Memory) Sweep(context.Context, time.Duration, int) (int, error) { return 0, nil }

// Dead lists the dead letters, lowest seq first.
func (m *Memory) Dead() []DeadLetter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(slices.Values(m.dead), func(a, b DeadLetter) int { return cmp.Compare(a.Seq, b.Seq) })
}

// DeadLetter is a row that was given up, as an operator sees it: nothing of
// what is in it.
type DeadLetter struct {
	Consumer  string // whose inbox; empty: the bus's outbox
	Seq       int64
	Type      sessions.EventType
	SessionID sessions.ID
	Attempts  int
	Since     time.Time // when it happened
	DeadAt    time.Time
	Reason    string
}
