package demo

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/client"
	"doorstep/geo"
	"doorstep/geo/trace"
)

// fix is one second of a made-up recording: metres north of the home.
func fix(second int, northM float64) trace.Fix {
	return trace.Fix{Seq: second, Fix: geo.Fix{Point: geo.Offset(home, 0, northM), AccuracyM: 5, RecordedMS: int64(second) * 1000}}
}

var home = geo.MustPoint(52.09, 5.12)

// service is a service that answers what the test says. There is no network
// under it: in a synctest bubble time is exact.
type service struct {
	*journey
	said   *strings.Builder // the journal
	asked  []string         // method, path and If-None-Match of each request
	answer func(n int, w http.ResponseWriter, r *http.Request)
}

// RoundTrip answers in place.
func (s *service) RoundTrip(r *http.Request) (res *http.Response, err error) {
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("If-None-Match"))
	defer func() {
		if recover() != nil {
			err = errHungUp
		}
	}()
	w := httptest.NewRecorder()
	s.answer(len(s.asked)-1, w, r)
	return w.Result(), nil
}

var errHungUp = errors.New("hung up")

// setup makes a journey whose service is answer. Call it in a bubble: its clock
// is ten times as fast as the bubble's.
func setup(t *testing.T, fixes []trace.Fix, answer func(n int, w http.ResponseWriter, r *http.Request)) *service {
	t.Helper()
	s := &service{said: &strings.Builder{}, answer: answer}
	plan := Plan{Name: "test", Mode: geo.Car, Home: home, Fixes: fixes}
	stage := &stage{clock: NewClock(time.Unix(1_700_000_000, 0), 10), board: newBoard([]Plan{plan}), report: newReport(), journal: newJournal(s.said)}
	user, err := client.New(client.Options{BaseURL: "http://service", HTTP: &http.Client{Transport: s}, Token: client.StaticToken("token")})
	require.NoError(t, err)
	s.journey = &journey{stage: stage, plan: plan, booking: client.Booking{SessionID: "s1"}}
	s.phone = &phone{Client: user, journey: s.journey, began: stage.clock.Now(), giveUp: func(error) {}}
	s.student = &student{Client: user, journey: s.journey}
	return s
}

// bubble is a parallel test in a bubble of its own.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

// reply writes an envelope.
func reply(t *testing.T, w http.ResponseWriter, status int, body string) {
	t.Helper()
	w.WriteHeader(status)
	_, err := w.Write([]byte(body))
	require.NoError(t, err)
}

const (
	storedBody = `{"success":true,"data":{"nextUpdateMs":5000}}`
	staleBody  = `{"success":true,"data":{"stale":true,"nextUpdateMs":5000}}`
	speedBody  = `{"success":false,"code":"IMPLAUSIBLE_SPEED","message":"faster than the travel mode allows"}`
)
