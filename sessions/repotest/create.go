package repotest

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

var createTests = map[string]func(*testing.T, Fixture){
	"new": func(t *testing.T, f Fixture) {
		s := booking()
		require.Equal(t, s, f.create(t, s))
		require.Equal(t, s, f.read(t, s.ID))
	},
	"without_a_date": func(t *testing.T, f Fixture) {
		s := booking()
		s.ScheduledAt = time.Time{}
		require.Equal(t, s, f.create(t, s))
		require.True(t, f.read(t, s.ID).ScheduledAt.IsZero())
	},
	"cut_to_milliseconds_in_UTC": func(t *testing.T, f Fixture) {
		s := booking()
		exact := s.ScheduledAt
		s.ScheduledAt = exact.Add(999_999 * time.Nanosecond).In(time.FixedZone("IST", 19800))
		stored := f.create(t, s)
		require.Equal(t, exact, stored.ScheduledAt)
		again, created, err := f.Repo.Create(t.Context(), s)
		require.NoError(t, err, "the same booking again must not differ by what was cut")
		require.False(t, created)
		require.Equal(t, stored, again)
	},
	"again": func(t *testing.T, f Fixture) {
		s := booking()
		f.create(t, s)
		repeated := s
		repeated.CreatedAt = s.CreatedAt.Add(time.Minute) // not part of a booking
		stored, created, err := f.Repo.Create(t.Context(), repeated)
		require.NoError(t, err)
		require.False(t, created)
		require.Equal(t, s, stored)
	},
	"again_after_a_start": func(t *testing.T, f Fixture) {
		s := booking()
		f.create(t, s)
		started, err := f.start(t, s.ID, now)
		require.NoError(t, err)
		stored, created, err := f.Repo.Create(t.Context(), s)
		require.NoError(t, err)
		require.False(t, created)
		require.Equal(t, started, stored)
	},
	"region": func(t *testing.T, f Fixture) {
		pinned := booking()
		pinned.Region = "eu-west-1"
		require.Equal(t, pinned, f.create(t, pinned))
		require.Equal(t, pinned, f.read(t, pinned.ID))
		again, created, err := f.Repo.Create(t.Context(), pinned)
		require.NoError(t, err)
		require.False(t, created)
		require.Equal(t, pinned, again)
		other := pinned
		other.Region = "us"
		_, _, err = f.Repo.Create(t.Context(), other)
		requireCode(t, sessions.SessionConflict, err)
	},
	"again_without_the_region_that_the_start_has_set": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		started, err := f.Repo.Change(t.Context(), s.ID, func(now *sessions.Session) ([]sessions.Event, error) {
			now.Region = "eu"
			return now.Start("", s.ScheduledAt)
		})
		require.NoError(t, err)
		require.Equal(t, "eu", started.Region)
		require.Equal(t, started, f.read(t, s.ID))
		stored, created, err := f.Repo.Create(t.Context(), s)
		require.NoError(t, err)
		require.False(t, created)
		require.Equal(t, started, stored)
	},
	"otherwise_booked": otherwiseBooked,
	"the_world's_corners": func(t *testing.T, f Fixture) {
		for _, p := range []geo.Point{
			geo.MustPoint(0, 0), geo.MustPoint(90, 180), geo.MustPoint(-90, -180),
			geo.MustPoint(0.0000001, -0.0000001), geo.MustPoint(-33.8567844, 151.2152967),
		} {
			s := booking()
			s.Home = p
			f.create(t, s)
			require.Equal(t, p, f.read(t, s.ID).Home)
		}
	},
}

var listTests = map[string]func(*testing.T, Fixture){
	"filtered": func(t *testing.T, f Fixture) {
		trainer, student := sessions.NewID(), sessions.NewID()
		var list []sessions.Session
		for i := range 6 {
			s := bookingOf(trainer)
			s.ScheduledAt = now.Add(time.Duration(i) * time.Hour)
			if i%2 == 0 {
				s.StudentID = student
			}
			if i == 5 {
				s.ScheduledAt = time.Time{}
			}
			list = append(list, f.create(t, s))
		}
		_, err := f.Repo.Change(t.Context(), list[2].ID, func(s *sessions.Session) ([]sessions.Event, error) {
			s.Status = sessions.Cancelled
			return nil, nil
		})
		require.NoError(t, err)
		for name, test := range map[string]struct {
			query sessions.SessionQuery
			want  []int
		}{
			"trainer":  {sessions.SessionQuery{}, []int{4, 3, 2, 1, 0, 5}},
			"student":  {sessions.SessionQuery{StudentID: student}, []int{4, 2, 0}},
			"status":   {sessions.SessionQuery{Status: sessions.Cancelled}, []int{2}},
			"from":     {sessions.SessionQuery{From: now.Add(3 * time.Hour)}, []int{4, 3}},
			"to":       {sessions.SessionQuery{To: now.Add(time.Hour)}, []int{0}},
			"limit":    {sessions.SessionQuery{Limit: 2}, []int{4, 3}},
			"together": {sessions.SessionQuery{StudentID: student, Status: sessions.Scheduled, From: now.Add(time.Hour), To: now.Add(9 * time.Hour)}, []int{4}},
		} {
			test.query.TrainerID, test.query.Limit = trainer, cmp.Or(test.query.Limit, 10)
			got, err := f.Repo.List(t.Context(), test.query)
			require.NoError(t, err)
			var ids, want []sessions.ID
			for _, s := range got {
				ids = append(ids, s.ID)
			}
			for _, i := range test.want {
				want = append(want, list[i].ID)
			}
			require.Equal(t, want, ids, name)
		}
	},
	"page_by_page": func(t *testing.T, f Fixture) {
		trainer, seen := sessions.NewID(), map[sessions.ID]bool{}
		for i := range 10 {
			s := bookingOf(trainer)
			s.ScheduledAt = now.Add(time.Duration(i/3) * time.Hour) // some at the same time
			if i > 6 {
				s.ScheduledAt = time.Time{}
			}
			f.create(t, s)
		}
		q := sessions.SessionQuery{TrainerID: trainer, Limit: 3}
		for range 4 {
			page, err := f.Repo.List(t.Context(), q)
			require.NoError(t, err)
			for _, s := range page {
				require.False(t, seen[s.ID], "twice")
				seen[s.ID] = true
			}
			last := page[len(page)-1]
			q.After = sessions.Cursor{At: last.ScheduledAt, ID: last.ID}
			later := bookingOf(trainer) // what is booked meanwhile disturbs no one
			later.ScheduledAt = now.AddDate(1, 0, 0)
			f.create(t, later)
		}
		require.Len(t, seen, 10)
		page, err := f.Repo.List(t.Context(), q)
		require.NoError(t, err)
		require.Empty(t, page)
	},
	"running": func(t *testing.T, f Fixture) {
		var running []sessions.Session
		for i := range 3 {
			s, err := f.start(t, f.create(t, booking()).ID, now.AddDate(-20, 0, 0).Add(time.Duration(i)*time.Second))
			require.NoError(t, err)
			running = append(running, s)
		}
		page, err := f.Repo.RunningPage(t.Context(), running[1].TrainerID, sessions.Cursor{}, 10)
		require.NoError(t, err)
		require.Equal(t, running[1:2], page)
		after := sessions.Cursor{At: running[0].JourneyStartedAt, ID: running[0].ID}
		page, err = f.Repo.RunningPage(t.Context(), "", after, 2)
		require.NoError(t, err)
		require.Equal(t, running[1:], page)
		for _, s := range running {
			_, err := f.stop(t, s.ID, now)
			require.NoError(t, err)
		}
		page, err = f.Repo.RunningPage(t.Context(), running[1].TrainerID, sessions.Cursor{}, 10)
		require.NoError(t, err)
		require.Empty(t, page)
	},
}

var createOnceTests = map[string]func(*testing.T, Fixture){
	"again": func(t *testing.T, f Fixture) {
		key := bookingKey()
		first, created, err := f.Repo.CreateOnce(t.Context(), key, booking())
		require.NoError(t, err)
		require.True(t, created)
		started, err := f.start(t, first.ID, now)
		require.NoError(t, err)
		key.At = key.At.Add(sessions.KeysFor - time.Millisecond)
		again, created, err := f.Repo.CreateOnce(t.Context(), key, booking()) // the gateway has made another id
		require.NoError(t, err)
		require.False(t, created)
		require.Equal(t, started, again, "as it is now")
	},
	"another_body": func(t *testing.T, f Fixture) {
		key := bookingKey()
		_, _, err := f.Repo.CreateOnce(t.Context(), key, booking())
		require.NoError(t, err)
		key.BodyHash = "other"
		s := booking()
		_, _, err = f.Repo.CreateOnce(t.Context(), key, s)
		requireCode(t, sessions.SessionConflict, err)
		_, err = f.Repo.Session(t.Context(), s.ID)
		requireCode(t, sessions.SessionNotFound, err)
	},
	"another_caller": func(t *testing.T, f Fixture) {
		key := bookingKey()
		for range 2 {
			_, created, err := f.Repo.CreateOnce(t.Context(), key, booking())
			require.NoError(t, err)
			require.True(t, created)
			key.CallerID = sessions.NewID()
		}
	},
	"after_a_week": func(t *testing.T, f Fixture) {
		key := bookingKey()
		for range 2 {
			_, created, err := f.Repo.CreateOnce(t.Context(), key, booking())
			require.NoError(t, err)
			require.True(t, created)
			key.At, key.BodyHash = key.At.Add(sessions.KeysFor), "other"
		}
	},
	"a_refusal_uses_no_key": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		taken, key := s, bookingKey()
		taken.Mode = sessions.Walk
		_, _, err := f.Repo.CreateOnce(t.Context(), key, taken)
		requireCode(t, sessions.SessionConflict, err)
		same, created, err := f.Repo.CreateOnce(t.Context(), key, s)
		require.NoError(t, err)
		require.False(t, created)
		require.Equal(t, s, same)
	},
	"race": func(t *testing.T, f Fixture) {
		key := bookingKey()
		var ids counter
		atOnce(func(int) {
			s, _, err := f.Repo.CreateOnce(t.Context(), key, booking())
			if err != nil {
				t.Error(err)
			}
			ids.add(string(s.ID))
		})
		require.Len(t, ids.counts, 1, "one session")
	},
}

func bookingKey() sessions.BookingKey {
	return sessions.BookingKey{CallerID: sessions.NewID(), Key: "k", BodyHash: "h", At: now}
}

func otherwiseBooked(t *testing.T, f Fixture) {
	s := booking()
	f.create(t, s)
	for name, differ := range map[string]func(*sessions.Session){
		"trainer":  func(s *sessions.Session) { s.TrainerID = sessions.NewID() },
		"student":  func(s *sessions.Session) { s.StudentID = sessions.NewID() },
		"date":     func(s *sessions.Session) { s.ScheduledAt = s.ScheduledAt.Add(time.Millisecond) },
		"no_date":  func(s *sessions.Session) { s.ScheduledAt = time.Time{} },
		"home":     func(s *sessions.Session) { s.Home = geo.MustPoint(s.Home.Lat()+1e-7, s.Home.Lng()) },
		"mode":     func(s *sessions.Session) { s.Mode = sessions.Walk },
		"no_place": func(s *sessions.Session) { s.Home = geo.Point{} },
	} {
		other := s
		differ(&other)
		stored, created, err := f.Repo.Create(t.Context(), other)
		requireCode(t, sessions.SessionConflict, err)
		require.False(t, created, name)
		require.Zero(t, stored, "%s: another's booking is not told", name)
	}
	require.Equal(t, s, f.read(t, s.ID))
}

var sessionTests = map[string]func(*testing.T, Fixture){
	"unknown": func(t *testing.T, f Fixture) {
		s, err := f.Repo.Session(t.Context(), sessions.NewID())
		requireCode(t, sessions.SessionNotFound, err)
		require.Zero(t, s)
	},
}

var ofStudentTests = map[string]func(*testing.T, Fixture){
	"none": func(t *testing.T, f Fixture) {
		list, err := f.Repo.List(t.Context(), sessions.SessionQuery{StudentID: sessions.NewID(), Limit: 200})
		require.NoError(t, err)
		require.Empty(t, list)
	},
	"theirs_only": func(t *testing.T, f Fixture) {
		mine, other := booking(), booking()
		f.create(t, mine)
		f.create(t, other)
		list, err := f.Repo.List(t.Context(), sessions.SessionQuery{StudentID: mine.StudentID, Limit: 200})
		require.NoError(t, err)
		require.Equal(t, []sessions.Session{mine}, list)
	},
	"latest_booking_first": latestFirst,
	"at_most_200": func(t *testing.T, f Fixture) {
		student := sessions.NewID()
		for i := range 203 {
			s := booking()
			s.StudentID, s.ScheduledAt = student, now.Add(time.Duration(i)*time.Hour)
			f.create(t, s)
		}
		list, err := f.Repo.List(t.Context(), sessions.SessionQuery{StudentID: student, Limit: 200})
		require.NoError(t, err)
		require.Len(t, list, 200)
		require.Equal(t, now.Add(202*time.Hour), list[0].ScheduledAt)
		require.Equal(t, now.Add(3*time.Hour), list[199].ScheduledAt, "the oldest are left out")
	},
}

// latestFirst is the order of List: by date, without a date last; then by id, so that a
// list read twice is the same list.
func latestFirst(t *testing.T, f Fixture) {
	student := sessions.NewID()
	book := func(scheduled, created time.Time) sessions.Session {
		s := booking()
		s.StudentID, s.ScheduledAt, s.CreatedAt = student, scheduled, created
		return s
	}
	want := []sessions.Session{
		book(now.Add(time.Hour), now.Add(-time.Hour)),
		book(now, now.Add(time.Minute)),
	}
	for range 20 {
		want = append(want, book(now, now))
	}
	want = append(want, book(time.Time{}, now.Add(time.Hour)), book(time.Time{}, now))
	slices.SortFunc(want, func(a, b sessions.Session) int {
		return cmp.Or(b.ScheduledAt.Compare(a.ScheduledAt), cmp.Compare(b.ID, a.ID))
	})
	for i := range want {
		f.create(t, want[i*7%len(want)]) // all of them, as 7 and 24 have no divisor in common
	}
	list, err := f.Repo.List(t.Context(), sessions.SessionQuery{StudentID: student, Limit: 200})
	require.NoError(t, err)
	require.Equal(t, want, list)
}
