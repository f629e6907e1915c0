package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/sessions"
)

// second is an instant of a made-up trip.
func second(s float64) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(s * float64(time.Second)))
}

// soundTrip is one at which nothing is wrong: three fixes, ten seconds apart,
// each seen at once; the second's answer was lost and healed by a repetition.
func soundTrip() *trip {
	home := geo.MustPoint(52, 5)
	t := &trip{
		plan: fleetPlan{wait: 5}, answers: map[string]int{"201": 2, noAnswer: 1, "429 RATE_LIMITED": 1},
		sent: []geo.Point{geo.Offset(home, 0, 40), geo.Offset(home, 0, 30), geo.Offset(home, 0, 20)},
		accepted: []acceptance{
			{fix: 0, version: 100, sent: second(10), at: second(10.1)},
			{fix: 1, sent: second(20), at: second(20.2)},
			{fix: 2, version: 300, sent: second(30), at: second(30.1)},
		},
		healed: []healing{{call: "update", failures: []failure{{noAnswer, second(20.1)}}, answer: "429 RATE_LIMITED", took: 100 * time.Millisecond}},
		end:    sessions.EndArrived, endedAt: second(40), endSeen: second(40.1),
	}
	add := func(asked, at float64, etag, version int64, status, fix int) {
		l := look{asked: second(asked), at: second(at), wait: 5 * time.Second, etag: etag, version: version, status: status, active: true}
		if fix >= 0 {
			l.location = &t.sent[fix]
		}
		t.looks = append(t.looks, l)
	}
	add(6, 10.05, 1, 100, 200, 0)
	add(10.05, 15.05, 100, 100, 304, -1)
	add(15.05, 20.1, 100, 200, 200, 1)
	add(20.1, 25.1, 200, 200, 304, -1)
	add(25.1, 30.05, 200, 300, 200, 2)
	add(35.05, 40.1, 300, 400, 200, -1)
	t.looks[5].active = false
	return t
}

func TestJudge(t *testing.T) {
	t.Parallel()

	t.Run("sound", func(t *testing.T) {
		t.Parallel()
		v := judge([]*trip{soundTrip(), soundTrip()})
		assert.Empty(t, v.wrong)
		assert.Equal(t, []int{2, 6, 12, 0}, []int{v.trips, v.fixes, v.waits, v.late})
		assert.Equal(t, []time.Time{second(20.1), second(20.1)}, v.silent)
		require.Len(t, v.eye, 6)
		assert.Equal(t, 50*time.Millisecond, v.eye[0])
	})

	for want, change := range map[string]func(*trip){
		"an accepted fix never reached the student, nor did a newer one": func(t *trip) {
			t.looks, t.endSeen = t.looks[:4], time.Time{}
		},
		"the student never saw the end of a journey": func(t *trip) { t.endSeen = time.Time{} },
		"a student saw a place where their trainer never was": func(t *trip) {
			foreign := geo.MustPoint(52, 5.1)
			t.looks[2].location = &foreign
		},
		"the pin went back from fix 1 to 0":                                    func(t *trip) { t.looks[4].location = &t.sent[0] },
		"the version went back from 200 to 150":                                func(t *trip) { t.looks[4].version = 150 },
		"a 200 to version 200 shows it again":                                  func(t *trip) { t.looks[4].version = 200 },
		"a read was degraded, or had no version, while both stores were there": func(t *trip) { t.looks[3].version = 0 },
		"a wait ended as 304, 4.9s after something newer was answered": func(t *trip) {
			l := &t.looks[4]
			l.status, l.version, l.location, l.asked, l.at = 304, 200, nil, second(30), second(35)
		},
		"a wait of 5s took 15s": func(t *trip) { t.looks[0].asked = second(-4.95) },
		"odd":                   func(t *trip) { t.odd = []string{"odd"} },
		"strange":               func(t *trip) { t.strange = []string{"strange"} },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			broken := soundTrip()
			change(broken)
			assert.Contains(t, judge([]*trip{soundTrip(), broken}).wrong, want)
		})
	}

	t.Run("a late wake-up is counted", func(t *testing.T) {
		t.Parallel()
		late := soundTrip()
		late.looks[4].asked, late.looks[4].at = second(29), second(34)
		v := judge([]*trip{late})
		assert.Empty(t, v.wrong)
		assert.Equal(t, 1, v.late)
		assert.Equal(t, 3900*time.Millisecond, v.lateBy)
	})
}

func TestTrip_expect(t *testing.T) {
	t.Parallel()
	var tr trip
	assert.True(t, tr.expect("update", "201", false, []string{"201", "~429"}))
	assert.True(t, tr.expect("update", "429", true, []string{"201", "~429"}))
	assert.Empty(t, tr.odd)
	assert.False(t, tr.expect("update", "429", false, []string{"201", "~429"}), "too soon, though nothing was repeated")
	assert.False(t, tr.expect("update", "404", true, []string{"201", "~429"}))
	assert.Len(t, tr.odd, 2)
}

func TestTrip_persist(t *testing.T) {
	t.Parallel()
	var tr trip
	answers := []rig.Answer{{}, {Status: 503}, {Status: 201}}
	n := 0
	a, ok := tr.persist(t.Context(), "update", func() rig.Answer { n++; return answers[n-1] }, "201")
	assert.True(t, ok)
	assert.Equal(t, 201, a.Status)
	require.Len(t, tr.healed, 1)
	assert.Len(t, tr.healed[0].failures, 2)
	assert.Equal(t, "201", tr.healed[0].answer)
}

func TestMember_was(t *testing.T) {
	t.Parallel()
	m := &member{turns: []turn{
		{second(0), serving},
		{second(10), terminated},
		{second(12), serving},
		{second(20), killed},
		{second(21), serving},
		{second(21.5), terminated},
	}}
	for at, want := range map[float64]string{0.1: serving, 9: serving, 10: terminated, 12.5: terminated, 13.1: serving, 20.1: killed, 21.2: killed, 21.6: terminated} {
		assert.Equal(t, want, m.was(second(at)), at)
	}
	assert.False(t, m.died(second(19.9)))
	assert.True(t, m.died(second(20.1)))
	assert.False(t, m.died(second(22.1)))
}

func TestFleet_ends(t *testing.T) {
	t.Parallel()
	m := &member{name: "gateway1", turns: []turn{{second(0), serving}, {second(10), killed}, {second(20), terminated}}}
	f := &fleet{members: []*member{m}, mishaps: []mishap{
		{at: second(10.1), server: "gateway1", state: "SH", status: "502"},
		{at: second(20.1), server: "gateway1", state: "CD", status: "200"},
		{at: second(20.1), server: "gateway1", state: ofCheck, status: "503"},
	}}
	var r row
	assert.Equal(t, map[string]int{killed: 1}, f.ends(&r))
	assert.Empty(t, r.Fails)

	f.mishaps = append(f.mishaps, mishap{at: second(20.1), server: "gateway1", state: "SH", status: "502"}, mishap{at: second(1), server: "<NOSRV>", state: "SC", status: "503"},
		mishap{at: second(2), server: "gateway1", state: ofCheck, status: "503"})
	m.uneven = []string{"gateway1 after SIGTERM: exit status 1"}
	f.mishaps = append(f.mishaps, f.mishaps[len(f.mishaps)-2])
	f.ends(&r)
	assert.Equal(t, []string{
		"gateway1 after SIGTERM: exit status 1",
		"2 × <NOSRV> SC 503 no gateway; the first: <NOSRV> SC 503 after 0s ",
		"1 × gateway1 SH 502 terminated; the first: gateway1 SH 502 after 0s ",
		"1 × gateway1 check 503 serving; the first: gateway1 check 503 after 0s ",
	}, r.Fails)
}

func TestCompareEvents(t *testing.T) {
	t.Parallel()
	started := transition{"a", sessions.JourneyStarted, "", ""}
	ended := transition{"a", sessions.JourneyEnded, sessions.EndArrived, ""}
	var r row
	compareEvents(&r, map[transition]int{started: 1, ended: 1}, map[transition]int{started: 1, ended: 1})
	assert.Empty(t, r.Fails)
	compareEvents(&r, map[transition]int{started: 1, ended: 1}, map[transition]int{started: 2, {"a", sessions.JourneyEnded, sessions.EndCancelled, ""}: 1})
	assert.ElementsMatch(t, []string{
		"TrainerJourneyStarted has 2 events, not 1",
		"TrainerJourneyEnded has 0 events, not 1",
		"1 TrainerJourneyEnded that PostgreSQL does not know",
	}, r.Fails)
}

func TestParseMishap(t *testing.T) {
	t.Parallel()
	m, ok := parseMishap("gateway2 SH 502 31 GET /api/v1/x")
	require.True(t, ok)
	assert.Equal(t, "gateway2 SH 502 after 31ms GET /api/v1/x", m.String())
	assert.False(t, m.byCaller())
	m, ok = parseMishap("<NOSRV> CR 400 0 <BADREQ> <BADREQ>")
	require.True(t, ok)
	assert.True(t, m.byCaller())
	_, ok = parseMishap("Server gateways/gateway1 is DOWN, reason: Layer4 connection problem")
	assert.False(t, ok)
}

func TestTrip_excuse(t *testing.T) {
	t.Parallel()
	doubt := transition{"a", sessions.LocationSuspicious, "", "reanchored"}
	for _, call := range []string{"start", "update"} {
		tr := &trip{journey: &rig.Journey{ID: "a"}, healed: []healing{{call: call}}}
		got := map[transition]int{doubt: 1, {"b", sessions.LocationSuspicious, "", "reanchored"}: 1, {"a", sessions.JourneyStarted, "", ""}: 1}
		tr.excuse(got)
		if call == "start" {
			assert.Len(t, got, 2)
			assert.NotContains(t, got, doubt)
		} else {
			assert.Len(t, got, 3)
		}
	}
}
