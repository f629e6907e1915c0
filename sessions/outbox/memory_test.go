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
	for _, to := range []string{outbox.Bus, "notify"} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			outboxtest.Run(t, func(testing.TB) outboxtest.Fixture {
				m := outbox.NewMemory()
				return outboxtest.Fixture{Store: m, To: to, Record: func(_ testing.TB, events ...sessions.Event) {
					for _, e := range events {
						m.Record(e)
					}
				}}
			})
		})
	}
}

// The embedded default must not grow for ever, whatever a consumer does.
func TestMemory_bounds(t *testing.T) {
	t.Parallel()
	m := outbox.NewMemory()
	const over = 2000
	for _, e := range outboxtest.Events(100_000 + over) {
		m.Record(e)
	}
	list, err := m.Backlog(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, 100_000, list[0].Waiting)
	require.Equal(t, 1000, list[0].Dead)
	letters := m.DeadLetters()
	require.Equal(t, int64(over), letters[len(letters)-1].Seq, "the oldest go first")
	require.Equal(t, "too many events wait", letters[0].Reason)
}

func TestMemory_forgets_what_is_done(t *testing.T) {
	t.Parallel()
	m := outbox.NewMemory()
	for _, e := range outboxtest.Events(10_000) {
		m.Record(e)
	}
	for {
		claimed, err := m.Claim(t.Context(), outbox.Look{Asks: []outbox.Ask{{To: outbox.Bus, Lease: 1 << 40}}, Limit: 10})
		require.NoError(t, err)
		if len(claimed.Rows) == 0 {
			break
		}
		for _, row := range claimed.Rows {
			require.NoError(t, m.Done(t.Context(), outbox.Bus, []int64{row.Seq}))
		}
	}
	require.LessOrEqual(t, m.Held(), 200)
}
