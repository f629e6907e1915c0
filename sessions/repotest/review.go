package repotest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

func reviewOf(s sessions.Session, stars int) sessions.Review {
	return sessions.Review{
		SessionID: s.ID, TrainerID: s.TrainerID, StudentID: s.StudentID, Stars: stars,
		Comment: strings.Repeat("ö", 2000), At: now,
	}
}

// review stores a review without the rules, which the service has.
func (f Fixture) review(t testing.TB, s sessions.Session, stars int) (sessions.Rating, error) {
	return f.Repo.Review(t.Context(), s.ID, func(s sessions.Session) (sessions.Review, error) { return reviewOf(s, stars), nil })
}

var reviewTests = map[string]func(*testing.T, Fixture){
	"moves_the_rating": func(t *testing.T, f Fixture) {
		trainer := sessions.NewID()
		rating, err := f.Repo.Rating(t.Context(), trainer)
		require.NoError(t, err)
		require.Zero(t, rating)
		for i, stars := range []int{5, 1, 3} {
			rating, err = f.review(t, f.create(t, bookingOf(trainer)), stars)
			require.NoError(t, err)
			require.EqualValues(t, i+1, rating.Count)
		}
		require.Equal(t, sessions.Rating{Sum: 9, Count: 3}, rating)
		stored, err := f.Repo.Rating(t.Context(), trainer)
		require.NoError(t, err)
		require.Equal(t, rating, stored)
	},
	"one_a_session": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, err := f.review(t, s, 5)
		require.NoError(t, err)
		_, err = f.review(t, s, 1)
		requireCode(t, sessions.AlreadyReviewed, err)
		rating, err := f.Repo.Rating(t.Context(), s.TrainerID)
		require.NoError(t, err)
		require.Equal(t, sessions.Rating{Sum: 5, Count: 1}, rating)
	},
	"read_again": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, ok, err := f.Repo.ReviewOf(t.Context(), s.ID)
		require.NoError(t, err)
		require.False(t, ok)
		_, err = f.review(t, s, 5)
		require.NoError(t, err)
		stored, ok, err := f.Repo.ReviewOf(t.Context(), s.ID)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, reviewOf(s, 5), stored)
	},
	"given_the_session_and_refused": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		_, err := f.Repo.Review(t.Context(), s.ID, func(given sessions.Session) (sessions.Review, error) {
			require.Equal(t, s, given)
			return reviewOf(s, 5), sessions.Refuse(sessions.NotCompleted, "not yet")
		})
		requireCode(t, sessions.NotCompleted, err)
		rating, err := f.review(t, s, 4)
		require.NoError(t, err)
		require.Equal(t, sessions.Rating{Sum: 4, Count: 1}, rating, "nothing was stored")
	},
	"unknown_session": func(t *testing.T, f Fixture) {
		_, err := f.review(t, booking(), 5)
		requireCode(t, sessions.SessionNotFound, err)
	},
	"race": func(t *testing.T, f Fixture) {
		s := f.create(t, booking())
		var codes counter
		atOnce(func(i int) {
			_, err := f.review(t, s, 1+i%5)
			codes.add(string(sessions.CodeOf(err)))
		})
		require.Equal(t, map[string]int{"": 1, string(sessions.AlreadyReviewed): racers - 1}, codes.counts)
		rating, err := f.Repo.Rating(t.Context(), s.TrainerID)
		require.NoError(t, err)
		require.EqualValues(t, 1, rating.Count)
	},
	"race_for_one_trainer": func(t *testing.T, f Fixture) {
		trainer := sessions.NewID()
		booked := make([]sessions.Session, racers)
		for i := range booked {
			booked[i] = f.create(t, bookingOf(trainer))
		}
		atOnce(func(i int) {
			if _, err := f.review(t, booked[i], 4); err != nil {
				t.Error(err)
			}
		})
		rating, err := f.Repo.Rating(t.Context(), trainer)
		require.NoError(t, err)
		require.Equal(t, sessions.Rating{Sum: 4 * racers, Count: racers}, rating, "none is lost")
	},
}

func device(user sessions.ID, token string, at time.Time) sessions.PushToken {
	return sessions.PushToken{Token: token, UserID: user, Platform: sessions.IOS, Language: "pt-BR", RegisteredAt: at, LastUsedAt: at}
}

// fresh is a token that nobody else has.
func fresh() string { return "t:" + string(sessions.NewID()) }

func (f Fixture) put(t testing.TB, d sessions.PushToken) {
	t.Helper()
	require.NoError(t, f.Repo.PutPushToken(t.Context(), d))
}

func (f Fixture) devices(t testing.TB, user sessions.ID) []sessions.PushToken {
	t.Helper()
	list, err := f.Repo.PushTokensOf(t.Context(), user)
	require.NoError(t, err)
	return list
}

var pushTokenTests = map[string]func(*testing.T, Fixture){
	"as_registered": func(t *testing.T, f Fixture) {
		user := sessions.NewID()
		require.Empty(t, f.devices(t, user))
		old, young := device(user, fresh(), now), device(user, fresh(), now.Add(time.Second))
		old.Platform, old.Language = sessions.Web, ""
		young.Token = strings.Repeat("~", 1024-36) + string(sessions.NewID())
		f.put(t, old)
		f.put(t, young)
		require.Equal(t, []sessions.PushToken{young, old}, f.devices(t, user))
		old.RegisteredAt = now.Add(time.Minute + time.Microsecond)
		f.put(t, old)
		old.RegisteredAt, old.LastUsedAt = now.Add(time.Minute), now.Add(time.Minute)
		require.Equal(t, []sessions.PushToken{old, young}, f.devices(t, user), "again is later")
	},
	"moves_to_the_last_user": func(t *testing.T, f Fixture) {
		a, b, token := sessions.NewID(), sessions.NewID(), fresh()
		f.put(t, device(a, token, now))
		f.put(t, device(b, token, now.Add(time.Second)))
		require.Empty(t, f.devices(t, a))
		require.Len(t, f.devices(t, b), 1)
	},
	"deleted_by_its_user_only": func(t *testing.T, f Fixture) {
		user, token := sessions.NewID(), fresh()
		f.put(t, device(user, token, now))
		require.NoError(t, f.Repo.DeletePushToken(t.Context(), sessions.NewID(), token))
		require.Len(t, f.devices(t, user), 1)
		for range 2 {
			require.NoError(t, f.Repo.DeletePushToken(t.Context(), user, token))
			require.Empty(t, f.devices(t, user))
		}
	},
	"live_activity": func(t *testing.T, f Fixture) {
		user, other := sessions.NewID(), sessions.NewID()
		d := device(user, fresh(), now)
		d.LiveActivity = sessions.LiveActivity{SessionID: sessions.NewID(), Token: strings.Repeat("0f", 512)}
		f.put(t, d)
		require.Equal(t, []sessions.PushToken{d}, f.devices(t, user))
		drop := func(user sessions.ID, token, activity string) {
			require.NoError(t, f.Repo.DropLiveActivity(t.Context(), user, token, activity))
		}
		drop(other, d.Token, d.LiveActivity.Token)
		drop(user, fresh(), d.LiveActivity.Token)
		drop(user, d.Token, "0f")
		require.Equal(t, []sessions.PushToken{d}, f.devices(t, user), "only that one, by its user")
		drop(user, d.Token, d.LiveActivity.Token)
		without := d
		without.LiveActivity = sessions.LiveActivity{}
		require.Equal(t, []sessions.PushToken{without}, f.devices(t, user), "the device stays")
		f.put(t, d)
		f.put(t, without)
		require.Equal(t, []sessions.PushToken{without}, f.devices(t, user), "a registration without it removes it")
	},
	"used": func(t *testing.T, f Fixture) {
		user, other := sessions.NewID(), sessions.NewID()
		d := device(user, fresh(), now)
		f.put(t, d)
		use := func(user sessions.ID, token string, at time.Time) {
			require.NoError(t, f.Repo.PushTokenUsed(t.Context(), user, token, at))
		}
		use(user, d.Token, now.Add(time.Hour+time.Microsecond))
		use(user, d.Token, now.Add(time.Minute))
		use(other, d.Token, now.Add(2*time.Hour))
		use(user, fresh(), now.Add(2*time.Hour))
		d.LastUsedAt = now.Add(time.Hour)
		require.Equal(t, []sessions.PushToken{d}, f.devices(t, user), "the latest use, by its user")
		d.RegisteredAt, d.LastUsedAt = now.Add(3*time.Hour), now.Add(3*time.Hour)
		f.put(t, d)
		require.Equal(t, []sessions.PushToken{d}, f.devices(t, user), "to register is a use")
	},
	"ten_a_user": func(t *testing.T, f Fixture) {
		user := sessions.NewID()
		var want []sessions.PushToken
		for i := range 13 {
			d := device(user, fresh(), now.Add(time.Duration(i)*time.Second))
			f.put(t, d)
			want = append([]sessions.PushToken{d}, want...)
		}
		require.Equal(t, want[:10], f.devices(t, user))
		behind := device(user, fresh(), now.AddDate(-1, 0, 0))
		f.put(t, behind)
		require.Equal(t, append(want[:9:9], behind), f.devices(t, user), "the one just registered stays, whatever its clock")
	},
	"race": func(t *testing.T, f Fixture) {
		user := sessions.NewID()
		atOnce(func(i int) {
			if err := f.Repo.PutPushToken(t.Context(), device(user, fresh(), now.Add(time.Duration(i)))); err != nil {
				t.Error(err)
			}
		})
		require.Len(t, f.devices(t, user), 10)
	},
	"race_of_two_users_for_each_other's": func(t *testing.T, f Fixture) {
		users := []sessions.ID{sessions.NewID(), sessions.NewID()}
		tokens := make([]string, racers)
		for i := range tokens {
			tokens[i] = fresh()
		}
		atOnce(func(i int) {
			for j := range tokens {
				err := f.Repo.PutPushToken(t.Context(), device(users[i%2], tokens[(i*5+j)%racers], now.Add(time.Duration(j)*time.Second)))
				if err != nil {
					t.Error(fmt.Errorf("put: %w", err))
				}
			}
		})
		seen := map[string]bool{}
		for _, u := range users {
			for _, d := range f.devices(t, u) {
				require.False(t, seen[d.Token], "a device has one user")
				seen[d.Token] = true
			}
			require.LessOrEqual(t, len(f.devices(t, u)), 10)
		}
	},
}
