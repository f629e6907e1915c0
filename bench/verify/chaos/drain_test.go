package main

import (
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A caller that was cut must not pass for one that was answered.
func TestAnswerOf(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\n\r\n": "304",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":   "200",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}":   "cut in the body",
		"HTTP/1.1 200 OK\r\nConte":                         "cut",
		"":                                                 "cut",
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n": "503",
	} {
		mine, theirs := net.Pipe()
		go func() {
			_, _ = io.WriteString(theirs, said)
			_ = theirs.Close()
		}()
		assert.Equal(t, want, answerOf(t.Context(), mine, http.MethodGet), said)
	}
}

func TestHouse_check(t *testing.T) {
	t.Parallel()
	began := second(0)
	sound := func() *house {
		return &house{ends: map[string]int{"wait: 304": 3, "half sent: 201": 1}, first: second(1.1), last: second(1.2)}
	}
	seen := door{refusing: second(0.1), closed: second(1.2)}
	for want, change := range map[string]func(*house){
		"":                   func(*house) {},
		"1 × wait: cut":      func(h *house) { h.ends["wait: cut"] = 1 },
		"2 × half sent: cut": func(h *house) { h.ends["half sent: cut"] = 2 },
		"a waiter was sent away after 900ms, before the delay was over": func(h *house) { h.first = second(0.9) },
	} {
		h, r := sound(), row{}
		change(h)
		h.check(&r, began, seen)
		if want == "" {
			assert.Empty(t, r.Fails)
		} else {
			assert.Equal(t, []string{want}, r.Fails)
		}
	}
}
