package repotest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"doorstep/sessions"
)

// Histories plays random histories on the fixture and on memory.Repository: bookings,
// transitions and reads of a few sessions that share trainers and students, on a clock
// that also steps back. It requires the same answer to each call, and the same rows
// and events at the end. rapid shrinks a disagreement to a short history.
func Histories(t *testing.T, open func(t testing.TB) Fixture) {
	t.Helper()
	tested := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(rt, tested, Memory(t))
		for i, verb := range rapid.SliceOfN(rapid.SampledFrom(verbs), 1, 40).Draw(rt, "verbs") {
			h.clock = h.clock.Add(rapid.SampledFrom(steps).Draw(rt, "step"))
			h.play(t, i, verb)
		}
		h.compareEnd(t)
	})
}

var verbs = []string{
	"create", "create", "start", "start", "start", "stop", "arrive", "arrive", "verify", "miss", "miss", "resend", "unlock", "cancel", "no_show", "list", "fail",
}

var steps = []time.Duration{
	0, 0, time.Microsecond, time.Millisecond, 5 * time.Second, 10*time.Minute - time.Millisecond, 10 * time.Minute,
	-time.Second,
}

// history is a history while it is played: the same bookings and clock, two stores.
type history struct {
	rt             *rapid.T
	tested, memory Fixture
	booked         []sessions.Session
	clock          time.Time
}

func newHistory(rt *rapid.T, tested, memory Fixture) *history {
	trainers := []sessions.ID{sessions.NewID(), sessions.NewID()}
	student := sessions.NewID()
	h := &history{rt: rt, tested: tested, memory: memory, clock: now}
	for i := range 4 {
		s := booking()
		s.TrainerID, s.StudentID = trainers[i%2], student
		h.booked = append(h.booked, s)
	}
	return h
}

// answer is the part of an answer that must be equal: all but the random parts.
type answer struct {
	Code    sessions.Code
	Created bool
	List    []sessions.Session
}

func (h *history) play(t *testing.T, i int, verb string) {
	s := rapid.SampledFrom(h.booked).Draw(h.rt, "session")
	var do func(f Fixture) answer
	switch verb {
	case "create":
		s.ScheduledAt = s.ScheduledAt.Add(rapid.SampledFrom(steps[:4]).Draw(h.rt, "otherwise"))
		do = func(f Fixture) answer {
			stored, created, err := f.Repo.Create(t.Context(), s)
			return answer{sessions.CodeOf(err), created, masked(stored)}
		}
	case "list":
		do = func(f Fixture) answer {
			list, err := f.Repo.List(t.Context(), sessions.SessionQuery{StudentID: s.StudentID, Limit: 200})
			return answer{Code: sessions.CodeOf(err), List: masked(list...)}
		}
	default:
		do = func(f Fixture) answer { return h.change(t, f, s.ID, verb) }
	}
	require.Equal(h.rt, do(h.memory), do(h.tested), "step %d, %s of %s at %s", i, verb, s.ID, h.clock)
}

func (h *history) change(t *testing.T, f Fixture, id sessions.ID, verb string) answer {
	var refused error
	stored, err := f.Repo.Change(t.Context(), id, func(s *sessions.Session) ([]sessions.Event, error) {
		switch verb {
		case "start":
			return s.Start("", h.clock)
		case "stop":
			return s.Stop(sessions.EndCancelled, h.clock)
		case "arrive":
			return s.Arrive(h.clock)
		case "verify":
			refused = s.Verify(s.OTP, h.clock)
		case "miss":
			refused = s.Verify(wrong(s.OTP), h.clock)
		case "resend":
			return s.ResendOTP(h.clock)
		case "cancel":
			return s.Cancel(sessions.Caller{ID: s.StudentID, Role: sessions.Student}, "ill", h.clock)
		case "no_show":
			return s.MarkNoShow(sessions.Caller{ID: s.TrainerID, Role: sessions.Trainer}, h.clock)
		case "unlock":
			return nil, s.UnlockOTP()
		case "fail":
			events, _ := s.Start("", h.clock)
			return events, sessions.Refuse(sessions.Forbidden, "after all")
		}
		return nil, nil
	})
	if err == nil {
		err = refused
	}
	return answer{Code: sessions.CodeOf(err), List: masked(stored)}
}

func (h *history) compareEnd(t *testing.T) {
	for _, s := range h.booked {
		want, wantErr := h.memory.Repo.Session(t.Context(), s.ID)
		got, err := h.tested.Repo.Session(t.Context(), s.ID)
		require.Equal(h.rt, sessions.CodeOf(wantErr), sessions.CodeOf(err))
		require.Equal(h.rt, masked(want), masked(got))
		require.Equal(h.rt, unnamed(h.memory.Events(t, s.ID)), unnamed(h.tested.Events(t, s.ID)))
	}
}

// masked replaces the codes, which are random, by their length.
func masked(list ...sessions.Session) []sessions.Session {
	masked := make([]sessions.Session, len(list))
	for i, s := range list {
		if s.OTP != "" {
			s.OTP = fmt.Sprint(len(s.OTP), " digits")
		}
		s.Codes.Proof = fmt.Sprint(len(s.Codes.Proof), " digits")
		masked[i] = s
	}
	return masked
}

// unnamed drops the events' ids, which are random.
func unnamed(events []sessions.Event) []sessions.Event {
	list := make([]sessions.Event, len(events))
	for i, e := range events {
		e.ID = ""
		list[i] = e
	}
	return list
}
