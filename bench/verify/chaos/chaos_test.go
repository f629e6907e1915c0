package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/requiredtest"
	"doorstep/internal/servers/valkeyserver"
)

// TestChaos_short plays every scenario in its short form.
func TestChaos_short(t *testing.T) {
	if _, _, ok := valkeyserver.Find(); !ok {
		requiredtest.Missing(t, valkeyserver.ErrNotFound)
	}
	t.Parallel()
	var out bytes.Buffer
	err := run(t.Context(), options{short: true, only: regexp.MustCompile("")}, &out, testWriter{t})
	t.Log("\n" + out.String())
	require.NoError(t, err)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

func TestRow_verdict(t *testing.T) {
	t.Parallel()
	var r row
	r.check(true, "this holds")
	assert.Equal(t, "as promised", r.verdict())
	r.check(false, "%d of 3 were lost", 2)
	assert.Equal(t, "BROKEN: 2 of 3 were lost", r.verdict())
}

// A caller that was cut must not count as answered.
func TestAnswerOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\n\r\n": "304",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":   "200",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}":   "cut in the body",
		"HTTP/1.1 200 OK\r\nConte":                         "cut",
		"":                                                 "cut",
	} {
		mine, theirs := net.Pipe()
		go func() {
			_, _ = io.WriteString(theirs, text)
			_ = theirs.Close()
		}()
		assert.Equal(t, want, answerOf(t.Context(), mine, http.MethodGet), text)
	}
}

func TestDrain_check(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*drain){
		"":                   func(*drain) {},
		"1 × wait: cut":      func(d *drain) { d.ends["wait: cut"] = 1 },
		"2 × half sent: cut": func(d *drain) { d.ends["half sent: cut"] = 2 },
		"a waiter was sent away after 900ms, before the delay was over": func(d *drain) { d.first = second(0.9) },
	} {
		d := &drain{ends: map[string]int{"wait: 304": 3, "half sent: 201": 1}, first: second(1.1), last: second(1.2)}
		var r row
		change(d)
		d.check(&r, second(0), readiness{refusing: second(0.1), closed: second(1.2)})
		if want == "" {
			assert.Empty(t, r.Fails)
		} else {
			assert.Equal(t, []string{want}, r.Fails)
		}
	}
}
