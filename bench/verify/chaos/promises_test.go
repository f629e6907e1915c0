package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/bench/rig"
)

func seen(k kind, label string) map[kind]*tally {
	return map[kind]*tally{k: {labels: map[string]int{label: 3}}}
}

// The contract's table, cell by cell: what is promised and what is not.
func TestPromises(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		promises promises
		kind     kind
		label    string
		kept     bool
	}{
		"an update that is not stored":             {storeGone(), update, notStored, true},
		"an update with a 5xx":                     {storeGone(), update, liveStoreGone, false},
		"a degraded read":                          {storeGone(), live, degraded, true},
		"a degraded read that is wrong":            {storeGone(), live, degradedEnded, false},
		"a read with a 5xx, the database is there": {storeGone(), live, liveStoreGone, false},
		"a wait that ends at its time":             {storeGone(), wait, timedOut, true},
		"a wait that ends early":                   {storeGone(), wait, timedOutEarly, false},
		"a wait that hangs":                        {storeGone(), wait, timedOutLate, false},
		"a start without the live store":           {storeGone(), start, "201", true},
		"a start refused without need":             {storeGone(), start, liveStoreGone, false},
		"an arrival unchecked":                     {storeGone(), unseen, "200", false},
		"an arrival refused":                       {storeGone(), arrive, liveStoreGone, true},
		"an arrival refused for ever":              {storeGone(), arrive, liveStoreGone + withoutARetry, false},
		"a healed update":                          {storeLost(), update, "201", true},
		"a lost update, the store is there":        {storeLost(), update, notStored, false},
		"an update without the database":           {databaseAway(), update, "201", true},
		"an update lost without need":              {databaseAway(), update, notStored, false},
		"a cached read":                            {databaseAway(), live, databaseGone, false},
		"a start without the database":             {databaseAway(), start, databaseGone, true},
		"a read without both":                      {allAway(), live, databaseGone, true},
		"a foreign read":                           {allAway(), foreign, "200", false},
		"a wrong code":                             {allAway(), wrong, "200", false},
		"no answer":                                {allAway(), update, "no answer", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r row
			c.promises.keep(&r, seen(c.kind, c.label), 0)
			assert.Equal(t, c.kept, len(r.Fails) == 0, r.verdict())
		})
	}
}

// A machine that stalls is forgiven a few time-outs, and nothing else.
func TestPromises_keep_on_a_busy_machine(t *testing.T) {
	t.Parallel()
	for label, fails := range map[string]int{notStored: 0, "500 INTERNAL": 1, liveStoreGone: 1} {
		var r row
		asEver().keep(&r, map[kind]*tally{update: {labels: map[string]int{label: 2, "201": 30}}}, 2*stalled)
		assert.Len(t, r.Fails, fails, label)
	}
	var r row
	asEver().keep(&r, map[kind]*tally{update: {labels: map[string]int{notStored: 3, "201": 30}}}, 2*stalled)
	assert.Len(t, r.Fails, 1, "too many")
	r = row{}
	asEver().keep(&r, map[kind]*tally{update: {labels: map[string]int{notStored: 1, "201": 30}}}, stalled)
	assert.Len(t, r.Fails, 1, "without an excuse")
}

func TestNever(t *testing.T) {
	t.Parallel()
	for label, kinds := range map[string][]kind{
		"200": {foreign, wrong, afar, unseen, stranger}, "201": {intruder}, "304": {foreign}, "503 OVERLOADED": {update},
	} {
		for _, k := range kinds {
			r := newRecorder()
			r.note(k, before, label, 0)
			assert.Len(t, never(r), 1, "%s %s", k, label)
		}
	}
	r := newRecorder()
	r.note(intruder, before, notStored, 0)
	r.note(foreign, before, forbidden, 0)
	r.note(live, before, "200", 0)
	assert.Empty(t, never(r))
}

func TestPrompt(t *testing.T) {
	t.Parallel()
	calls := &tally{labels: map[string]int{"202": 40}}
	for range 37 {
		calls.took = append(calls.took, 250*time.Millisecond)
	}
	for range 3 {
		calls.took = append(calls.took, 400*time.Millisecond)
	}
	var r row
	prompt(&r, calls, 10*time.Millisecond)
	assert.Len(t, r.Fails, 1)
	r = row{}
	prompt(&r, calls, 100*time.Millisecond)
	assert.Empty(t, r.Fails, "the machine was as slow")
}

func TestLabels(t *testing.T) {
	t.Parallel()
	ok, none := http.StatusOK, http.StatusNotModified
	assert.Equal(t, woken, waitLabel(rig.Answer{Status: ok, Took: 200 * time.Millisecond}))
	assert.Equal(t, wokenLate, waitLabel(rig.Answer{Status: ok, Took: waitFor}))
	assert.Equal(t, timedOut, waitLabel(rig.Answer{Status: none, Took: waitFor}))
	assert.Equal(t, timedOutEarly, waitLabel(rig.Answer{Status: none, Took: time.Second}))
	assert.Equal(t, timedOutLate, waitLabel(rig.Answer{Status: none, Took: late + 1}))
	for body, want := range map[string]string{
		`{"location":{},"isActive":true}`:                      "200",
		`{"location":null,"isActive":true}`:                    noLocation,
		`{"location":null,"isActive":true,"degraded":true}`:    degraded,
		`{"location":null,"isActive":false,"degraded":true}`:   degradedEnded,
		`{"location":null,"isActive":false,"lastUpdate":null}`: "200 not active",
	} {
		assert.Equal(t, want, liveLabel(rig.Answer{Status: ok, Data: []byte(body)}))
	}
	gone := rig.Answer{Status: http.StatusServiceUnavailable, Code: "DATABASE_UNAVAILABLE"}
	assert.Equal(t, databaseGone+withoutARetry, plainLabel(gone))
	gone.RetryAfter = "1"
	assert.Equal(t, databaseGone, plainLabel(gone))
	assert.Equal(t, "1934", another("0934"))
	assert.Equal(t, "0934", another("9934"))
}
