package main

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/bench/rig"
)

// Each row of docs/contract.md, section 5: what is allowed and what is not.
func TestExpectations_check(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		expectations expectations
		kind         kind
		label        string
		allowed      bool
	}{
		"an update that is not stored":             {storeDown(), update, notStored, true},
		"an update with a 5xx":                     {storeDown(), update, storeGone, false},
		"a degraded read":                          {storeDown(), live, degraded, true},
		"a degraded read that is wrong":            {storeDown(), live, degradedEnded, false},
		"a read with a 5xx, the database is there": {storeDown(), live, storeGone, false},
		"a wait that ends at its time":             {storeDown(), wait, timedOut, true},
		"a wait that ends early":                   {storeDown(), wait, timedOutEarly, false},
		"a wait that hangs":                        {storeDown(), wait, timedOutLate, false},
		"a start without the live store":           {storeDown(), start, "201", true},
		"a start refused without need":             {storeDown(), start, storeGone, false},
		"an arrival unchecked":                     {storeDown(), unseen, "200", false},
		"an arrival refused":                       {storeDown(), arrive, storeGone, true},
		"an arrival refused for ever":              {storeDown(), arrive, storeGone + withoutARetry, false},
		"a healed update":                          {storeLost(), update, "201", true},
		"a lost update, the store is there":        {storeLost(), update, notStored, false},
		"an update without the database":           {databaseDown(), update, "201", true},
		"an update lost without need":              {databaseDown(), update, notStored, false},
		"a cached read":                            {databaseDown(), live, databaseGone, false},
		"a start without the database":             {databaseDown(), start, databaseGone, true},
		"a read without both":                      {bothDown(), live, databaseGone, true},
		"a foreign read":                           {bothDown(), foreign, "200", false},
		"a wrong code":                             {bothDown(), wrong, "200", false},
		"no answer":                                {bothDown(), update, noAnswer, false},
	} {
		var r row
		c.expectations.check(&r, map[kind]*counts{c.kind: {labels: map[string]int{c.label: 3}}}, 0)
		assert.Equal(t, c.allowed, len(r.Fails) == 0, "%s: %s", name, r.verdict())
	}
}

// On a busy machine a few time-outs are excused, and nothing else.
func TestExpectations_check_on_a_busy_machine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		label string
		n     int
		noise time.Duration
		fails int
	}{
		{notStored, 2, 2 * stalled, 0},
		{"500 INTERNAL", 2, 2 * stalled, 1},
		{storeGone, 2, 2 * stalled, 1},
		{notStored, 3, 2 * stalled, 1}, // too many
		{notStored, 1, stalled, 1},     // not busy enough
	} {
		fails := failsOf(func(r *row) {
			normal().check(r, map[kind]*counts{update: {labels: map[string]int{c.label: c.n, "201": 30}}}, c.noise)
		})
		assert.Len(t, fails, c.fails, "%+v", c)
	}
}

func failsOf(check func(*row)) []string {
	var r row
	check(&r)
	return r.Fails
}

// Nothing fails open: no row allows a success where the call must be refused, nor a
// 5xx to a phone's fix.
func TestExpectations_nothing_fails_open(t *testing.T) {
	t.Parallel()
	for _, e := range []expectations{normal(), storeDown(), storeLost(), databaseDown(), bothDown()} {
		for _, k := range []kind{foreign, wrong, afar, unseen, stranger, intruder} {
			for _, label := range e[k] {
				assert.True(t, label[0] >= '4' || k == intruder && label == notStored, "%s may get %s", k, label)
			}
		}
		for _, label := range e[update] {
			assert.Equal(t, byte('2'), label[0], "an update may get %s", label)
		}
	}
}

func TestCheckPrompt(t *testing.T) {
	t.Parallel()
	calls := &counts{labels: map[string]int{"202": 40}}
	for n := range 40 {
		took := 250 * time.Millisecond
		if n < 3 {
			took = 400 * time.Millisecond
		}
		calls.took = append(calls.took, took)
	}
	assert.Len(t, failsOf(func(r *row) { checkPrompt(r, calls, 10*time.Millisecond) }), 1)
	assert.Empty(t, failsOf(func(r *row) { checkPrompt(r, calls, 100*time.Millisecond) }), "the machine was as slow")
}

func TestLabels(t *testing.T) {
	t.Parallel()
	ok, none := http.StatusOK, http.StatusNotModified
	for want, a := range map[string]rig.Answer{
		woken:         {Status: ok, Took: 200 * time.Millisecond},
		wokenLate:     {Status: ok, Took: waitFor},
		timedOut:      {Status: none, Took: waitFor},
		timedOutEarly: {Status: none, Took: time.Second},
		timedOutLate:  {Status: none, Took: late + 1},

		databaseGone:                 {Status: http.StatusServiceUnavailable, Code: "DATABASE_UNAVAILABLE", RetryAfter: "1"},
		databaseGone + withoutARetry: {Status: http.StatusServiceUnavailable, Code: "DATABASE_UNAVAILABLE"},
	} {
		assert.Equal(t, want, waitLabel(a))
	}
	for body, want := range map[string]string{
		`{"location":{},"isActive":true}`:                      "200",
		`{"location":null,"isActive":true}`:                    noLocation,
		`{"location":null,"isActive":true,"degraded":true}`:    degraded,
		`{"location":null,"isActive":false,"degraded":true}`:   degradedEnded,
		`{"location":null,"isActive":false,"lastUpdate":null}`: "200 not active",
	} {
		assert.Equal(t, want, liveLabel(rig.Answer{Status: ok, Data: []byte(body)}))
	}
}

func TestRecorder_note(t *testing.T) {
	t.Parallel()
	r := newRecorder()
	r.note(update, before, "201", time.Millisecond)
	r.enter(during)
	r.note(update, before, "202", 260*time.Millisecond) // began before, ended in it
	r.note(update, during, "202", 310*time.Millisecond)
	r.enter(after)
	r.note(update, during, "201", time.Second)
	r.note(update, after, "201", time.Millisecond)
	assert.Equal(t, "201 ×1", r.of(before, update).String())
	assert.Equal(t, "202 ×2, 201 ×1", r.of(during, update).String(), "a call that overlaps the fault counts to it")
	assert.Equal(t, "201 ×1", r.of(after, update).String())
	assert.Equal(t, "none", r.of(during, live).String())
}

// The time to well ends with the first good answer of the kind of call that
// recovers last, and is only known when that has lasted.
func TestRecorder_recovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		good := func() {
			for _, k := range kinds() {
				r.note(k, after, normal()[k][0], 0)
			}
		}
		known := func() bool { _, _, known := r.recovery(time.Second); return known }
		r.enter(after)
		good()
		good()
		time.Sleep(time.Second)
		took, last, ok := r.recovery(time.Second)
		assert.True(t, ok && took == 0 && last == "", "no kind was affected: at once")

		time.Sleep(2 * time.Second)
		r.note(live, after, degraded, 0)
		time.Sleep(2 * time.Second)
		good()
		assert.False(t, known(), "one good read is not enough")
		assert.Contains(t, r.notRecovered(), "live")
		good()
		took, last, ok = r.recovery(time.Second)
		assert.True(t, ok)
		assert.Equal(t, 5*time.Second, took)
		assert.Equal(t, live, last)

		r.note(update, after, "429 RATE_LIMITED", 0)
		assert.True(t, known(), "a healthy gateway may answer so")
		r.note(update, after, notStored, 0)
		good()
		good()
		assert.False(t, known(), "it has not lasted yet")
		time.Sleep(time.Second)
		assert.True(t, known())
	})
}
