package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/internal/testclock"
	"doorstep/sessions"
)

// offices are two gateways on one clock, one database and one live store, which no
// other test uses, so that all of it can be searched.
type offices struct {
	one, two *gateway
	store    string
}

func openOffices(t *testing.T) offices {
	t.Helper()
	began := time.Now()
	c := testclock.At(began)
	o := offices{store: valkeytest.Private(t, valkeyserver.Valkey).URL()}
	shared := func(opts *app.Options) {
		opts.ValkeyURL, opts.Now = o.store, func() time.Time { return time.Now().Add(c.Now().Sub(began)) }
	}
	o.one = open(t, servers, hurried, shared)
	o.two = open(t, servers, hurried, shared, func(opts *app.Options) { opts.DatabaseURL = o.one.databaseURL })
	o.one.Clock, o.two.Clock = c, c
	return o
}

// events are a session's starts, ends, codes and cancellations, each with its reason.
func (o offices) events(t *testing.T, v visit) (list []string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), o.one.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	rows, err := conn.Query(t.Context(), `SELECT trim(type || ' ' || coalesce(detail->>'reason', '')) FROM outbox
		WHERE session_id = $1 AND type NOT IN ('TrainerArriving', 'TrainerLocationSuspicious') ORDER BY seq`, string(v.id))
	require.NoError(t, err)
	list, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// over requires that nothing is left of a journey: no coordinate in the live store, none
// shown by either gateway, and no update taken.
func (o offices) over(t *testing.T, v visit) {
	t.Helper()
	require.False(t, o.one.knowsWhere(t, o.store), "a coordinate outlives the end")
	for _, h := range []*gateway{o.one, o.two} {
		live := h.get(t, v.admin, v.live("")).want(t, 200, "").data()
		require.Equal(t, []any{false, nil}, []any{live["isActive"], live["location"]})
		require.Equal(t, 404, h.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).status)
	}
	require.False(t, o.one.knowsWhere(t, o.store), "a late update brings a coordinate back")
}

func patch(t *testing.T, h *gateway, v visit, body map[string]any) answer {
	t.Helper()
	text, err := jsonOf(body)
	require.NoError(t, err)
	return h.do(t, http.MethodPatch, v.admin, v.path(""), text)
}

// fields are those of a PATCH as an answer shows them.
func fields(of map[string]any, like map[string]any) map[string]any {
	out := map[string]any{}
	for name := range like {
		out[name] = of[name]
	}
	return out
}

func home(lat float64) map[string]any {
	return map[string]any{"latitude": lat, "longitude": homeLng}
}

// Two offices that change all of a booking at once: each is told what it has stored, and
// what stays is the whole of one, in both stores.
func TestRace_offices_change_a_booking(t *testing.T) {
	t.Parallel()
	o := openOffices(t)
	for range 12 {
		v := o.one.begun(t)
		o.one.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
		bodies, metres := [2]map[string]any{}, [2]float64{1001, 2113}
		for i := range bodies {
			bodies[i] = map[string]any{
				"studentHome": home(homeLat + 0.01*float64(i+1)), "scheduledAt": fmt.Sprintf("2026-03-1%dT09:30:00.000Z", i),
				"travelMode": []string{"bike", "walk"}[i], "studentId": string(sessions.NewID()),
			}
		}
		answers := atOnce(
			func() answer { return patch(t, o.one, v, bodies[0]) },
			func() answer { return patch(t, o.two, v, bodies[1]) })
		for i, a := range answers {
			require.Equal(t, bodies[i], fields(a.want(t, 200, "").data(), bodies[i]), "its own, and whole")
		}
		stays := o.one.get(t, v.admin, v.path("")).want(t, 200, "").data()
		last := 0
		if stays["studentId"] == bodies[1]["studentId"] {
			last = 1
		}
		require.Equal(t, bodies[last], fields(stays, bodies[last]), "of one office alone")
		o.one.Advance(18 * time.Second) // as long as a gateway may remember the parties
		for _, h := range []*gateway{o.one, o.two} {
			for i, body := range bodies {
				student := h.token(t, sessions.ID(body["studentId"].(string)), sessions.Student)
				a := h.get(t, student, v.live(""))
				if i != last {
					a.want(t, 403, sessions.Forbidden)
					continue
				}
				assert.InDelta(t, metres[i], a.want(t, 200, "").data()["distanceMeters"], 3, "the fence is at that home")
			}
		}
		o.one.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
	}
}

// Two offices that change different fields lose neither change.
func TestRace_offices_change_other_fields(t *testing.T) {
	t.Parallel()
	o := openOffices(t)
	for range 12 {
		v := o.one.begun(t)
		before := o.one.get(t, v.admin, v.path("")).want(t, 200, "").data()
		bodies := []map[string]any{{"studentHome": home(farLat)}, {"travelMode": "walk", "scheduledAt": "2026-03-14T09:30:00.000Z"}}
		answers := atOnce(
			func() answer { return patch(t, o.one, v, bodies[0]) },
			func() answer { return patch(t, o.two, v, bodies[1]) })
		stays := o.two.get(t, v.admin, v.path("")).want(t, 200, "").data()
		for i, a := range answers {
			mine, theirs := bodies[i], bodies[1-i]
			require.Equal(t, mine, fields(a.want(t, 200, "").data(), mine))
			require.Contains(t, []any{theirs, fields(before, theirs)}, fields(a.data(), theirs), "the other's as it was, or as it is")
			require.Equal(t, mine, fields(stays, mine))
		}
		o.one.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
	}
}

// Two offices give a running journey's session to two trainers: the journey ends once,
// and the session is one trainer's.
func TestRace_offices_reassign(t *testing.T) {
	t.Parallel()
	o := openOffices(t)
	for range 12 {
		v := o.one.begun(t)
		o.one.post(t, v.trainer, updatesPath, v.fix(nearLat, homeLng)).want(t, 201, "")
		next := [2]sessions.ID{sessions.NewID(), sessions.NewID()}
		answers := atOnce(
			func() answer { return patch(t, o.one, v, map[string]any{"trainerId": next[0]}) },
			func() answer { return patch(t, o.two, v, map[string]any{"trainerId": next[1]}) })
		for i, a := range answers {
			require.Equal(t, []any{string(next[i]), "cancelled"}, []any{a.want(t, 200, "").data()["trainerId"], a.data()["journeyEndReason"]})
		}
		require.Equal(t, []string{"TrainerJourneyStarted", "TrainerJourneyEnded cancelled"}, o.events(t, v))
		require.False(t, o.one.knowsWhere(t, o.store), "a coordinate outlives the end")
		winner := sessions.ID(o.one.get(t, v.admin, v.path("")).want(t, 200, "").data()["trainerId"].(string))
		o.one.Advance(18 * time.Second)
		for _, id := range next {
			token := o.one.token(t, id, sessions.Trainer)
			if id == winner {
				o.one.get(t, token, v.live("")).want(t, 200, "")
				o.two.post(t, token, v.path("start-journey"), nil).want(t, 201, "")
				o.one.post(t, token, v.path("stop-journey"), nil).want(t, 200, "")
				continue
			}
			o.one.get(t, token, v.live("")).want(t, 403, sessions.Forbidden)
			o.two.post(t, token, v.path("start-journey"), nil).want(t, 403, sessions.Forbidden)
		}
	}
}

// A cancellation at the moment of the arrival: one end, and no code that lives.
func TestRace_cancellation_and_arrival(t *testing.T) {
	t.Parallel()
	o := openOffices(t)
	for i := range 24 {
		v := o.one.atTheDoor(t)
		by := []string{v.admin, v.student}[i%2]
		answers := atOnce(
			func() answer { return o.one.post(t, v.trainer, v.path("arrived"), nil) },
			func() answer { return o.two.post(t, by, v.path("cancel"), nil) })
		arrived, cancelled := answers[0], answers[1]
		switch {
		case arrived.status == 200 && by == v.student && cancelled.status != 200:
			cancelled.want(t, 409, sessions.NotCancellable)
			require.Equal(t, []string{"TrainerJourneyStarted", "TrainerJourneyEnded arrived"}, o.events(t, v))
			require.Equal(t, arrived.data()["otp"], o.one.get(t, v.student, v.path("")).want(t, 200, "").data()["otp"])
			o.over(t, v)
			continue
		case arrived.status == 200:
			require.Equal(t, v.admin, by, "a student cancels nothing after the arrival")
			require.Equal(t, []string{"TrainerJourneyStarted", "TrainerJourneyEnded arrived", "SessionCancelled"}, o.events(t, v))
		default:
			assert.Contains(t, []string{"400 NO_FRESH_LOCATION", "404 NO_ACTIVE_JOURNEY"}, oneOf(count([]answer{arrived})))
			require.Equal(t, []string{"TrainerJourneyStarted", "TrainerJourneyEnded cancelled", "SessionCancelled"}, o.events(t, v))
		}
		cancelled.want(t, 200, "")
		after := o.one.get(t, v.student, v.path("")).want(t, 200, "").data()
		require.Equal(t, []any{"cancelled", nil, nil}, []any{after["status"], after["otp"], after["otpState"]})
		otp, _ := arrived.data()["otp"].(string)
		if otp == "" {
			otp = "0000"
		}
		o.two.post(t, v.trainer, v.path("verify-otp"), map[string]string{"otp": otp}).want(t, 409, sessions.NotPendingVerification)
		o.two.post(t, v.student, v.path("resend-otp"), nil).want(t, 409, sessions.NotPendingVerification)
		require.NotContains(t, strings.Join(o.events(t, v), " "), "SessionCodeIssued")
		o.over(t, v)
	}
}

// A cancellation at the moment of the start: the journey ends with it, or never begins.
func TestRace_cancellation_and_start(t *testing.T) {
	t.Parallel()
	o := openOffices(t)
	for range 24 {
		v := o.one.book(t)
		answers := atOnce(
			func() answer { return o.one.post(t, v.trainer, v.path("start-journey"), nil) },
			func() answer { return o.two.post(t, v.student, v.path("cancel"), nil) })
		answers[1].want(t, 200, "")
		if answers[0].status == 201 {
			require.Equal(t, []string{"TrainerJourneyStarted", "TrainerJourneyEnded cancelled", "SessionCancelled"}, o.events(t, v))
		} else {
			answers[0].want(t, 400, sessions.NotScheduled)
			require.Equal(t, []string{"SessionCancelled"}, o.events(t, v))
		}
		o.over(t, v)
		o.two.post(t, v.trainer, v.path("start-journey"), nil).want(t, 400, sessions.NotScheduled)
	}
}

// An erasure at the moment of a start: either the journey runs and the user is there, or
// the user is erased and nothing runs.
func TestRace_erasure_and_start(t *testing.T) {
	t.Parallel()
	o := openOffices(t)
	outcomes := map[string]int{}
	for i := range 24 {
		v := o.one.book(t)
		user := []sessions.ID{v.studentID, v.trainerID}[i%2]
		erase := func() answer {
			return o.two.do(t, http.MethodDelete, v.admin, base+"/admin/users/"+string(user)+"/data", nil)
		}
		answers := atOnce(func() answer { return o.one.post(t, v.trainer, v.path("start-journey"), nil) }, erase)
		session := o.one.get(t, v.admin, v.path("")).want(t, 200, "").data()
		if started := answers[0]; started.status == 201 {
			outcomes["started"]++
			running := answers[1].want(t, 409, sessions.JourneyRunning).fields["journey"].(map[string]any)
			require.Equal(t, string(v.id), running["sessionId"])
			require.Equal(t, []any{string(v.trainerID), string(v.studentID), "scheduled"}, []any{session["trainerId"], session["studentId"], session["status"]})
			o.one.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
			require.Equal(t, []string{"TrainerJourneyStarted", "TrainerJourneyEnded cancelled"}, o.events(t, v))
			continue
		}
		outcomes["erased"]++
		assert.Contains(t, []string{"400 NOT_SCHEDULED", "403 FORBIDDEN"}, oneOf(count(answers[:1])))
		require.Contains(t, []int{202, 204}, answers[1].status)
		require.Equal(t, []any{"cancelled", nil}, []any{session["status"], session["journeyStartedAt"]})
		require.Equal(t, []string{"SessionCancelled"}, o.events(t, v))
		until(t, func() bool { return erase().status == 204 }, "the events are delivered")
		require.NotContains(t, fmt.Sprint(o.one.get(t, v.admin, v.path("")).want(t, 200, "").data()), string(user))
	}
	t.Log(outcomes)
}
