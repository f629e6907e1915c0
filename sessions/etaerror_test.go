package sessions_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

// shows shows the student the counted journey, leftS seconds from the door.
func (c *counted) shows(leftS float64, edit ...func(*sessions.View)) {
	v := sessions.View{
		Ref: sessions.Ref{TrainerID: c.trainer.ID, SessionID: c.session.ID},
		Snapshot: sessions.Snapshot{
			Known: true, Active: true, DistanceM: leftS * 11 / geo.DefaultDetour,
			Pace:     sessions.Pace{MMS: 11_000, OverMS: 120_000},
			Location: &sessions.Location{Fix: sessions.Fix{Point: geo.MustPoint(12.94, 77.62), RecordedAt: c.now}, At: c.now},
		},
	}
	for _, e := range edit {
		e(&v)
	}
	c.Seen(sessions.Caller{ID: c.session.StudentID, Role: sessions.Student}, v)
}

func arriving(v *sessions.View) { v.Arriving = true }

func TestFixCounter_compares_the_ETA_with_the_arrival(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		shown []float64 // the ETAs in seconds, one every 10 s; the trainer reaches the fence 200 s after the last
		want  []time.Duration
	}{
		"sooner":                        {[]float64{300}, []time.Duration{-100 * time.Second}},
		"sooner_by_less":                {[]float64{240}, []time.Duration{-40 * time.Second}},
		"the_first_counts":              {[]float64{290, 245}, []time.Duration{-80 * time.Second}},
		"from_further_out":              {[]float64{900, 310, 300}, []time.Duration{-100 * time.Second}},
		"only_looked_when_it_was_close": {[]float64{200, 100}, nil},
		"nothing_shown":                 {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCounted(t)
			for i, left := range row.shown {
				if i > 0 {
					c.now = c.now.Add(10 * time.Second)
				}
				c.shows(left)
			}
			c.now = c.now.Add(200 * time.Second)
			c.shows(15, arriving)
			c.shows(10, arriving) // once is enough
			require.Equal(t, row.want, c.off)
		})
	}
}

func TestFixCounter_ETAs_are_bounded(t *testing.T) {
	t.Parallel()
	c := startCounted(t)
	c.counter.SetLimit(1)
	other := func(v *sessions.View) { v.SessionID = sessions.NewID() }
	c.shows(300, other)
	c.shows(300)
	c.now = c.now.Add(time.Minute)
	c.shows(15, arriving)
	require.Empty(t, c.off, "there was no room")
	c.now = c.now.Add(2 * time.Hour)
	c.shows(300)
	c.now = c.now.Add(5 * time.Minute)
	c.shows(15, arriving)
	require.Equal(t, []time.Duration{0}, c.off, "the old one has gone")
}

// The phone's clock says when the fix was taken, where it is sane.
func TestFixCounter_measures_from_the_phones_clock_where_it_is_sane(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		recorded time.Duration // time from taken to stored
		want     string
	}{
		"taken_before":   {2 * time.Second, "phone 3s"},
		"ahead_of_ours":  {-1500 * time.Millisecond, "phone 0s"},
		"did_not_say":    {0, "store 1s"},
		"a_minute_off":   {time.Minute, "store 1s"},
		"minutes_behind": {4 * time.Minute, "store 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCounted(t)
			c.shows(900, func(v *sessions.View) {
				v.Location.At = c.now.Add(-time.Second)
				v.Location.RecordedAt = v.Location.At.Add(-row.recorded)
			})
			require.Equal(t, []string{row.want}, c.taken)
			require.Equal(t, []time.Duration{time.Second}, c.seen)
		})
	}
}
