package sessions_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
)

func TestCaller_roles(t *testing.T) {
	t.Parallel()
	id := sessions.NewID()
	c := sessions.CallerOf(id, sessions.Student, sessions.Admin, sessions.Student)
	require.Equal(t, []sessions.Role{sessions.Student, sessions.Admin}, c.Roles())
	require.False(t, c.Has(sessions.Trainer))
	admin, ok := c.As(sessions.Admin)
	require.True(t, ok)
	require.Equal(t, sessions.Caller{ID: id, Role: sessions.Admin}, admin)
	_, ok = admin.As(sessions.Student)
	require.False(t, ok, "a role that was chosen is the only one")
	require.Equal(t, sessions.Caller{ID: id, Role: sessions.Trainer}, sessions.CallerOf(id, sessions.Trainer))
	require.False(t, sessions.Caller{}.Has("driver"))
}

// Who has several roles may do what each of them may, and acts in one: as the
// session's own party, elsewhere as an admin.
func TestService_of_a_caller_with_several_roles(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	ctx, id := t.Context(), v.session.ID
	staff := sessions.CallerOf(v.trainer.ID, sessions.Trainer, sessions.Student, sessions.Admin)
	v.trainer = staff
	other, _, err := v.Create(ctx, staff, sessions.Booking{TrainerID: sessions.NewID(), StudentID: staff.ID, Home: geo.MustPoint(52, 5)})
	require.NoError(t, err)

	v.start(t)
	require.Equal(t, sessions.VerdictStored, v.fix(t, 52.5))
	_, err = v.Stop(ctx, staff, id)
	require.NoError(t, err)
	_, err = v.Start(ctx, staff, other.ID, "")
	require.NoError(t, err, "an admin for the trainer")
	_, err = v.Update(ctx, staff, other.ID, sessions.Fix{Point: geo.MustPoint(52, 5), AccuracyM: 5})
	require.Equal(t, sessions.Forbidden, sessions.CodeOf(err), "no admin reports a trainer's place")
	_, err = v.Cancel(ctx, staff, other.ID, "")
	require.NoError(t, err)
	_, err = v.Rebook(ctx, staff, id, sessions.Rebooking{Home: new(geo.MustPoint(52.1, 5))})
	require.NoError(t, err)

	acted := map[sessions.ID][]sessions.Role{}
	for _, session := range []sessions.ID{id, other.ID} {
		h, err := v.History(ctx, staff, session, sessions.HistoryPlace{}, 100)
		require.NoError(t, err)
		for _, e := range h.Entries {
			acted[session] = append(acted[session], e.By.Role)
		}
	}
	require.Equal(t, []sessions.Role{sessions.Admin, sessions.Trainer, sessions.Trainer, sessions.Admin}, acted[id], "booked, started, ended, rebooked")
	require.Equal(t, []sessions.Role{sessions.Admin, sessions.Admin, sessions.Admin, sessions.Admin}, acted[other.ID], "booked, started, ended, cancelled")

	for as, want := range map[sessions.Role]sessions.ID{sessions.Trainer: id, sessions.Student: other.ID} {
		list, err := v.Own(ctx, staff, as, sessions.SessionQuery{TrainerID: "", Limit: 10})
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, want, list[0].ID)
	}
	_, err = v.Own(ctx, sessions.CallerOf(staff.ID, sessions.Trainer, sessions.Admin), sessions.Student, sessions.SessionQuery{Limit: 10})
	require.Equal(t, sessions.Forbidden, sessions.CodeOf(err))
}

// The code proves to the trainer that the student is there: being an admin, too, does not
// show it.
func TestService_hides_the_code_from_the_sessions_trainer(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.start(t)
	for range 14 {
		require.Equal(t, sessions.VerdictStored, v.fix(t, 52))
	}
	require.Equal(t, sessions.Code(""), v.arrive(t))
	for c, shown := range map[sessions.Caller]bool{
		v.trainer: false,
		sessions.CallerOf(v.trainer.ID, sessions.Trainer, sessions.Admin):          false,
		sessions.CallerOf(sessions.NewID(), sessions.Trainer, sessions.Admin):      true,
		sessions.CallerOf(v.session.StudentID, sessions.Trainer, sessions.Student): true,
	} {
		s, err := v.Session(t.Context(), c, v.session.ID)
		require.NoError(t, err)
		require.Equal(t, shown, s.OTP != "", c.Roles())
		if c.Has(sessions.Admin) {
			list, err := v.List(t.Context(), c, sessions.SessionQuery{Limit: 10})
			require.NoError(t, err)
			require.Equal(t, shown, list[0].OTP != "")
		}
	}
}
