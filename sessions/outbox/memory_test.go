package outbox_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/outboxtest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	outboxtest.Run(t, func(testing.TB) outboxtest.Fixture {
		m := outbox.NewMemory(nil)
		return outboxtest.Fixture{Store: m, Record: func(_ testing.TB, events ...sessions.Event) {
			for _, e := range events {
				m.Record(e)
			}
		}}
	})
}

func TestMemory_Add(t *testing.T) {
	t.Parallel()
	m := outbox.NewMemory(nil)
	events := outboxtest.Events(3)
	row := func(i int) outbox.Row { return outbox.Row{Seq: int64(i), Event: events[i], Attempts: 4} }
	require.NoError(t, m.Add(t.Context(), []outbox.Row{row(1)}))
	require.NoError(t, m.Add(t.Context(), []outbox.Row{row(0), row(1), row(2)}))
	rows, err := m.Claim(t.Context(), 10, 1)
	require.NoError(t, err)
	require.Len(t, rows, 3, "a repeat is dropped")
	for i, row := range rows {
		require.Equal(t, events[i], row.Event, "in order, whichever batch came first")
		require.Equal(t, 1, row.Attempts, "the bus's attempts are not the consumer's")
	}
}

// The embedded default must not grow for ever, whatever a consumer does.
func TestMemory_bounds(t *testing.T) {
	t.Parallel()
	m := outbox.NewMemory(nil)
	const over = 2000
	for _, e := range outboxtest.Events(100_000 + over) {
		m.Record(e)
	}
	waiting, _, dead, err := m.Lag(t.Context())
	require.NoError(t, err)
	require.Equal(t, 100_000, waiting)
	require.Equal(t, 1000, dead)
	letters := m.Dead()
	require.Equal(t, int64(over), letters[len(letters)-1].Seq, "the oldest go first")
	require.Equal(t, "too many events wait", letters[0].Reason)
}

func TestMemory_forgets_what_was_published(t *testing.T) {
	t.Parallel()
	m := outbox.NewMemory(nil)
	for _, e := range outboxtest.Events(10_000) {
		m.Record(e)
	}
	for {
		rows, err := m.Claim(t.Context(), 10, 1<<40)
		require.NoError(t, err)
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			require.NoError(t, m.Published(t.Context(), []int64{row.Seq}))
		}
	}
	require.LessOrEqual(t, m.Held(), 200)
}
