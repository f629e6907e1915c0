package chaosevents

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// made is a history without a fault: three sessions, one of them started twice and once almost there, a
// repeat on the bus, and a worker killed between a push and its record.
func made() History {
	h := History{Journeys: map[sessions.ID]int{}, Rows: map[sessions.ID]int{}, Fatal: map[int]bool{7: true}}
	noon := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	const start, near, end = sessions.JourneyStarted, sessions.JourneyArriving, sessions.JourneyEnded
	for _, types := range [][]sessions.EventType{{start, end}, {start, end, start, near, end}, {start, end}} {
		session := sessions.NewID()
		h.Journeys[session] = len(types)
		for i, eventType := range types {
			e := sessions.Event{
				ID: sessions.NewID(), Type: eventType,
				SessionID: session, At: noon.Add(time.Duration(i) * time.Minute), Reason: sessions.EndCancelled,
			}
			h.Written = append(h.Written, Arrival{e, string(e.Detail())})
			h.Pushes = append(h.Pushes, Push{e.ID, i})
			h.Rows[e.ID] = 1
		}
	}
	h.Bus = append(slices.Clone(h.Written), h.Written[2])
	h.Pushes = append(h.Pushes, Push{h.Written[0].Event.ID, 7})
	return h
}

// A checker that finds nothing proves something only if it can find.
func TestCheck(t *testing.T) {
	t.Parallel()
	require.Empty(t, Check(made()))
	require.Equal(t, 1, made().Repeats())
	for name, row := range map[string]struct {
		spoil func(*History)
		want  string
	}{
		"dropped":                {func(h *History) { h.Bus = slices.Delete(h.Bus, 1, 2) }, "was lost"},
		"reordered":              {func(h *History) { h.Bus[0], h.Bus[1] = h.Bus[1], h.Bus[0] }, "out of order"},
		"repeat_with_new_id":     {func(h *History) { h.Bus[9].Event.ID = sessions.NewID() }, "never written"},
		"changed_on_the_way":     {func(h *History) { h.Bus[3].Detail = "{}" }, "differs"},
		"written_twice":          {func(h *History) { h.Written = append(h.Written, h.Written[0]) }, "written twice"},
		"transition_not_written": {func(h *History) { h.Journeys[h.Written[0].Event.SessionID] = 4 }, "its transitions make 4"},
		"transition_repeated":    {func(h *History) { h.Written[1].Event.Type = sessions.JourneyStarted }, "event 1 is TrainerJourneyStarted"},
		"arriving_twice":         {func(h *History) { h.Written[6].Event.Type = sessions.JourneyArriving }, "event 4 is TrainerArriving"},
		"arriving_after_the_end": {func(h *History) {
			h.Written[5].Event.Type, h.Written[6].Event.Type = sessions.JourneyEnded, sessions.JourneyArriving
		}, "event 4 is TrainerArriving"},
		"arriving_lost":       {func(h *History) { h.Bus = slices.Delete(h.Bus, 5, 6) }, "was lost"},
		"two_pushes":          {func(h *History) { h.Pushes = append(h.Pushes, Push{h.Written[4].Event.ID, 3}) }, "pushed 2 times"},
		"three_though_killed": {func(h *History) { h.Pushes = append(h.Pushes, Push{h.Written[0].Event.ID, 7}) }, "pushed 3 times"},
		"no_push":             {func(h *History) { h.Pushes = h.Pushes[1:8] }, "pushed 0 times"},
		"push_of_nothing":     {func(h *History) { h.Pushes = append(h.Pushes, Push{sessions.NewID(), 3}) }, "pushed and never written"},
		"two_rows":            {func(h *History) { h.Rows[h.Written[4].Event.ID] = 2 }, "has 2 rows"},
		"no_row":              {func(h *History) { delete(h.Rows, h.Written[4].Event.ID) }, "has 0 rows"},
		"dead_letter":         {func(h *History) { h.Dead = 1 }, "1 dead letters"},
		"empty_bus":           {func(h *History) { h.Bus = nil }, "was lost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := made()
			row.spoil(&h)
			found := Check(h)
			require.NotEmpty(t, found)
			require.Contains(t, found[0], row.want)
		})
	}
}
