package demo

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
	"doorstep/geo"
	"doorstep/geo/trace"
)

// drive plays three fixes 100 m apart against scripted answers.
func drive(t *testing.T, answers ...func(w http.ResponseWriter)) (*service, error) {
	t.Helper()
	s := setup(t, []trace.Fix{fix(0, 200), fix(5, 100), fix(10, 0)}, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < len(answers) {
			answers[n](w)
			return
		}
		reply(t, w, http.StatusCreated, storedBody)
	})
	return s, s.phone.drive(t.Context())
}

func TestPhone_drive(t *testing.T) {
	t.Parallel()
	say := func(status int, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { reply(t, w, status, body) }
	}
	hangUp := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	stored := say(http.StatusCreated, storedBody)
	for name, c := range map[string]struct {
		answers []func(http.ResponseWriter)
		sent    map[string]int
		odd     int
		log     string
	}{
		"all stored": {nil, map[string]int{labelStored: 3}, 0, ""},
		"too soon": {
			[]func(http.ResponseWriter){stored, say(http.StatusTooManyRequests, `{"code":"RATE_LIMITED","retryAfterMs":400}`)},
			map[string]int{labelStored: 3, "429 RATE_LIMITED": 1},
			0, "sent again in 400ms",
		},
		"too vague": {
			[]func(http.ResponseWriter){say(http.StatusCreated, `{"data":{"ignored":"low_accuracy","nextUpdateMs":5000}}`)},
			map[string]int{labelStored: 2, labelVague: 1},
			0, "accuracy is 5 m",
		},
		"a lost answer": {
			[]func(http.ResponseWriter){stored, stored, hangUp, say(http.StatusOK, staleBody)},
			map[string]int{labelStored: 2, labelStale: 1},
			0, "no answer to a fix",
		},
		"stale at first": {
			[]func(http.ResponseWriter){say(http.StatusOK, staleBody)},
			map[string]int{labelStored: 2, labelStale: 1},
			1, "sent for the first time",
		},
		"the store away at the end": {
			[]func(http.ResponseWriter){stored, stored, say(http.StatusAccepted, `{"data":{"stored":false,"nextUpdateMs":5000}}`)},
			map[string]int{labelStored: 3, labelUnstored: 1},
			0, "live store is away",
		},
		"a fault at the end": {
			[]func(http.ResponseWriter){stored, stored, say(http.StatusInternalServerError, `{"code":"INTERNAL"}`)},
			map[string]int{labelStored: 3, "500 INTERNAL": 1},
			1, "UNEXPLAINED",
		},
		"the first not believed": {
			[]func(http.ResponseWriter){say(http.StatusBadRequest, speedBody)},
			map[string]int{labelStored: 2, "400 IMPLAUSIBLE_SPEED": 1},
			1, "first fix of a journey",
		},
		"an honest one not believed": { // 100 m in 5 s is 72 km/h
			[]func(http.ResponseWriter){stored, say(http.StatusBadRequest, speedBody)},
			map[string]int{labelStored: 2, "400 IMPLAUSIBLE_SPEED": 1},
			1, "72 km/h",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, err := drive(t, c.answers...)
				require.NoError(t, err)
				now := s.report.now()
				assert.Equal(t, c.sent, now.sent)
				assert.Equal(t, c.odd, now.oddCount, "%v", now.odd)
				assert.Contains(t, s.said.String(), c.log)
				assert.NotContains(t, s.said.String(), "52.0", "never a coordinate")
			})
		})
	}
}

func TestPhone_drive_ends_at_an_answer_it_does_not_know(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, err := drive(t, func(w http.ResponseWriter) {
			reply(t, w, http.StatusNotFound, `{"code":"NO_ACTIVE_JOURNEY","message":"none"}`)
		})
		require.ErrorContains(t, err, "update: 404 NO_ACTIVE_JOURNEY: none")
	})
}

// The last fix must arrive before the trainer can; it is not tried for ever.
func TestPhone_drive_gives_up_the_last_fix(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, every(5, 0, 5), func(n int, w http.ResponseWriter, _ *http.Request) {
			if n > 0 {
				panic(http.ErrAbortHandler)
			}
			reply(t, w, http.StatusCreated, storedBody)
		})
		require.ErrorIs(t, s.phone.drive(t.Context()), errUndelivered)
		assert.Len(t, s.asked, 1+tries)
	})
}

func TestPhone_drive_explains_a_refusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, []trace.Fix{fix(0, 2000), fix(5, 1000), fix(10, 0)}, func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				reply(t, w, http.StatusBadRequest, speedBody)
				return
			}
			reply(t, w, http.StatusCreated, storedBody)
		})
		require.NoError(t, s.phone.drive(t.Context()))
		assert.Zero(t, s.report.now().oddCount)
		assert.Contains(t, s.said.String(), "IMPLAUSIBLE_SPEED: 1000 m in 5s is 720 km/h, and a car may do 120 (faster than the travel mode allows)")
	})
}

// A fix that waits long for the network leaves the service little time between
// it and the next: a refusal then is the rule's, which must not let a phone pay
// for a jump by back-dating.
func TestPhone_drive_explains_a_refusal_after_a_late_fix(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, every(5, 0, 100), func(n int, w http.ResponseWriter, _ *http.Request) {
			switch n {
			case 0:
				time.Sleep(8500 * time.Millisecond) // 85 s of virtual time
				reply(t, w, http.StatusCreated, storedBody)
			case 1:
				reply(t, w, http.StatusBadRequest, speedBody)
			default:
				reply(t, w, http.StatusCreated, storedBody)
			}
		})
		s.plan.Fixes[17].Point = geo.Offset(home, 90, 2000) // the one that is due when the answer comes
		require.NoError(t, s.phone.drive(t.Context()))
		assert.Zero(t, s.report.now().oddCount, "%v", s.report.now().odd)
		assert.Contains(t, s.said.String(), "m in 15s, for the fix before came late, is 4")
	})
}

func TestPhone_drive_explains_a_refusal_after_a_lost_answer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, []trace.Fix{fix(0, 0), fix(5, 1000), fix(10, 0)}, func(n int, w http.ResponseWriter, _ *http.Request) {
			switch n {
			case 1:
				reply(t, w, http.StatusAccepted, `{"data":{"stored":false,"nextUpdateMs":6000}}`) // but it was
			case 2:
				reply(t, w, http.StatusBadRequest, speedBody)
			default:
				reply(t, w, http.StatusCreated, storedBody)
			}
		})
		require.NoError(t, s.phone.drive(t.Context()))
		assert.Zero(t, s.report.now().oddCount, "%v", s.report.now().odd)
		assert.Contains(t, s.said.String(), "is 720 km/h from a fix that may have been stored")
	})
}

// The last fix is sent again after a 202 and refused: the earlier try of it, which
// may have been stored, is not what explains that.
func TestPhone_drive_explains_a_refused_repeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, []trace.Fix{fix(0, 0), fix(5, 1000)}, func(n int, w http.ResponseWriter, _ *http.Request) {
			switch n {
			case 0:
				reply(t, w, http.StatusCreated, storedBody)
			case 1:
				reply(t, w, http.StatusAccepted, `{"data":{"stored":false,"nextUpdateMs":5000}}`)
			default:
				reply(t, w, http.StatusBadRequest, speedBody)
			}
		})
		require.NoError(t, s.phone.drive(t.Context()))
		assert.Zero(t, s.report.now().oddCount, "%v", s.report.now().odd)
		assert.Contains(t, s.said.String(), "1000 m in 5s is 720 km/h, and")
	})
}

func TestPhone_drive_sends_what_a_phone_knows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bodies := make(chan sentFix, 3)
		first, second := fix(0, 200), fix(5, 100)
		second.AccuracyM, second.SpeedKMH, second.HeadingDeg = 0, geo.Measured(0), geo.Measured(90)
		s := setup(t, []trace.Fix{first, second}, func(_ int, w http.ResponseWriter, r *http.Request) {
			var u sentFix
			assert.NoError(t, json.NewDecoder(r.Body).Decode(&u))
			assert.Equal(t, "Bearer token", r.Header.Get("Authorization"))
			bodies <- u
			reply(t, w, http.StatusCreated, storedBody)
		})
		require.NoError(t, s.phone.drive(t.Context()))
		one, two := <-bodies, <-bodies
		assert.InDelta(t, 5, *one.Accuracy, 0)
		assert.Nil(t, one.Speed, "the recording has none")
		assert.Nil(t, two.Accuracy)
		assert.Zero(t, *two.Speed)
		assert.InDelta(t, 90, *two.Heading, 0)
		assert.WithinDuration(t, s.phone.began.Add(5*time.Second), two.RecordedAt, time.Millisecond, "the virtual time of the fix")
	})
}

// sentFix is the part of an update's body that these tests read.
type sentFix struct {
	Accuracy, Speed, Heading *float64
	RecordedAt               time.Time
}

func TestPhone_drive_skips_what_a_newer_fix_has_overtaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := setup(t, every(5, 0, 50), func(_ int, w http.ResponseWriter, _ *http.Request) { reply(t, w, http.StatusCreated, storedBody) })
		s.phone.began = s.clock.Now().Add(-time.Hour)
		require.NoError(t, s.phone.drive(t.Context()))
		now := s.report.now()
		assert.Equal(t, 1, now.stored, "only the last")
		assert.Equal(t, 10, now.overtaken)
	})
}

func TestPhone_doubts(t *testing.T) {
	t.Parallel()
	far, near := fix(0, 400), fix(0, 20)
	for name, c := range map[string]struct {
		code      client.Code
		last      *trace.Fix
		age       time.Duration
		explained bool
	}{
		"far":            {"NOT_WITHIN_RADIUS", &far, 0, true},
		"at the door":    {"NOT_WITHIN_RADIUS", &near, 0, false},
		"old":            {"NO_FRESH_LOCATION", &near, 2 * time.Minute, true},
		"fresh":          {"NO_FRESH_LOCATION", &near, time.Second, false},
		"never believed": {"NO_FRESH_LOCATION", nil, 0, true},
		"none, yet far":  {"NOT_WITHIN_RADIUS", nil, 0, false},
		"began anew":     {"SUSPICIOUS_LOCATION", &near, 0, true},
		"a leap":         {"IMPLAUSIBLE_JUMP", &far, 0, true},
		"no leap":        {"IMPLAUSIBLE_SPEED", &near, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := setup(t, every(5, 0, 5), nil)
				if c.last != nil {
					s.phone.known = []believed{{Fix: s.phone.fixOf(*c.last), by: s.clock.Now().Add(-c.age)}}
				}
				why, explained := s.phone.doubts(c.code)
				assert.Equal(t, c.explained, explained, why)
			})
		})
	}
}
