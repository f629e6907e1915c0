package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/geo"
	"doorstep/internal/servers/haproxy"
	"doorstep/sessions"
)

// second is an instant of a made-up log.
func second(s float64) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(s * float64(time.Second)))
}

// soundLog is a log without a fault: three fixes, ten seconds apart, each seen at
// once; the answer to the second was lost, and a repetition was answered.
func soundLog() *journeyLog {
	home := geo.MustPoint(52, 5)
	t := &journeyLog{
		plan: trafficPlan{wait: 5}, answers: map[string]int{"201": 2, noAnswer: 1, "429 RATE_LIMITED": 1},
		sent: []geo.Point{geo.Offset(home, 0, 40), geo.Offset(home, 0, 30), geo.Offset(home, 0, 20)},
		accepted: []acceptance{
			{fix: 0, version: 100, sent: second(10), at: second(10.1)},
			{fix: 1, sent: second(20), at: second(20.2)},
			{fix: 2, version: 300, sent: second(30), at: second(30.1)},
		},
		retries: []retried{{call: "update", failures: []failure{{noAnswer, second(20.1)}}, answer: "429 RATE_LIMITED", took: 100 * time.Millisecond}},
		end:     sessions.EndArrived, endedAt: second(40), endSeen: second(40.1),
	}
	add := func(asked, at float64, etag, version int64, status, fix int) {
		l := read{asked: second(asked), at: second(at), wait: 5 * time.Second, etag: etag, version: version, status: status, active: true}
		if fix >= 0 {
			l.location = &t.sent[fix]
		}
		t.reads = append(t.reads, l)
	}
	add(6, 10.05, 1, 100, 200, 0)
	add(10.05, 15.05, 100, 100, 304, -1)
	add(15.05, 20.1, 100, 200, 200, 1)
	add(20.1, 25.1, 200, 200, 304, -1)
	add(25.1, 30.05, 200, 300, 200, 2)
	add(35.05, 40.1, 300, 400, 200, -1)
	t.reads[5].active = false
	return t
}

func TestJudge(t *testing.T) {
	t.Parallel()

	t.Run("sound", func(t *testing.T) {
		t.Parallel()
		v := judge([]*journeyLog{soundLog(), soundLog()})
		assert.Empty(t, v.wrong)
		assert.Equal(t, []int{2, 6, 12, 0}, []int{v.journeys, v.fixes, v.waits, v.late})
		assert.Equal(t, []time.Time{second(20.1), second(20.1)}, v.silent)
		require.Len(t, v.delays, 6)
		assert.Equal(t, 50*time.Millisecond, v.delays[0])
	})

	for want, change := range map[string]func(*journeyLog){
		"an accepted fix never reached the student, nor did a newer one": func(t *journeyLog) {
			t.reads, t.endSeen = t.reads[:4], time.Time{}
		},
		"the student never saw the end of a journey": func(t *journeyLog) { t.endSeen = time.Time{} },
		"a student saw a place where their trainer never was": func(t *journeyLog) {
			foreign := geo.MustPoint(52, 5.1)
			t.reads[2].location = &foreign
		},
		"the pin went back from fix 1 to 0":                                    func(t *journeyLog) { t.reads[4].location = &t.sent[0] },
		"the version went back from 200 to 150":                                func(t *journeyLog) { t.reads[4].version = 150 },
		"a 200 to version 200 shows it again":                                  func(t *journeyLog) { t.reads[4].version = 200 },
		"a read was degraded, or had no version, while both stores were there": func(t *journeyLog) { t.reads[3].version = 0 },
		"a wait ended as 304, 4.9s after something newer was answered": func(t *journeyLog) {
			l := &t.reads[4]
			l.status, l.version, l.location, l.asked, l.at = 304, 200, nil, second(30), second(35)
		},
		"a wait of 5s took 15s": func(t *journeyLog) { t.reads[0].asked = second(-4.95) },
		"odd":                   func(t *journeyLog) { t.odd = []string{"odd"} },
		"strange":               func(t *journeyLog) { t.strange = []string{"strange"} },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			broken := soundLog()
			change(broken)
			assert.Contains(t, judge([]*journeyLog{soundLog(), broken}).wrong, want)
		})
	}

	t.Run("a late wake-up is counted", func(t *testing.T) {
		t.Parallel()
		late := soundLog()
		late.reads[4].asked, late.reads[4].at = second(29), second(34)
		v := judge([]*journeyLog{late})
		assert.Empty(t, v.wrong)
		assert.Equal(t, 1, v.late)
		assert.Equal(t, 3900*time.Millisecond, v.lateBy)
	})
}

func TestJourneyLog_persist(t *testing.T) {
	t.Parallel()
	var l journeyLog
	answers := []rig.Answer{{}, {Status: 503}, {Status: 201}}
	n := 0
	_, ok := l.persist(t.Context(), "update", func() rig.Answer { n++; return answers[n-1] }, "201")
	assert.True(t, ok)
	require.Len(t, l.retries, 1)
	assert.Len(t, l.retries[0].failures, 2)
	assert.Equal(t, "201", l.retries[0].answer)
	assert.True(t, l.expect("update", "429", true, []string{"201", "~429"}))
	assert.Empty(t, l.odd)
	assert.False(t, l.expect("update", "429", false, []string{"201", "~429"}), "too soon, though nothing was repeated")
	assert.Len(t, l.odd, 1)
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

func TestFleet_errorsByCause(t *testing.T) {
	t.Parallel()
	m := &member{name: "gateway1", turns: []turn{{second(0), serving}, {second(10), killed}, {second(20), terminated}}}
	f := &fleet{members: []*member{m}, failures: []haproxy.Failure{
		{At: second(10.1), Server: "gateway1", State: "SH", Status: "502"},
		{At: second(20.1), Server: "gateway1", State: "CD", Status: "200"},
		{At: second(20.1), Server: "gateway1", State: haproxy.Check, Status: "503"},
	}}
	var r row
	assert.Equal(t, map[string]int{killed: 1}, f.errorsByCause(&r))
	assert.Empty(t, r.Fails)

	f.failures = append(f.failures, haproxy.Failure{At: second(20.1), Server: "gateway1", State: "SH", Status: "502"}, haproxy.Failure{At: second(1), Server: "<NOSRV>", State: "SC", Status: "503"},
		haproxy.Failure{At: second(2), Server: "gateway1", State: haproxy.Check, Status: "503"})
	m.uneven = []string{"gateway1 after SIGTERM: exit status 1"}
	f.failures = append(f.failures, f.failures[len(f.failures)-2])
	f.errorsByCause(&r)
	assert.Equal(t, []string{
		"gateway1 after SIGTERM: exit status 1",
		"2 × <NOSRV> SC 503 no gateway; the first: <NOSRV> SC 503 after 0s ",
		"1 × gateway1 SH 502 terminated; the first: gateway1 SH 502 after 0s ",
		"1 × gateway1 check 503 serving; the first: gateway1 check 503 after 0s ",
	}, r.Fails)
}
