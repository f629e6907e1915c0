package api_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/app"
)

// Whatever a phone sends as a fix is stored, stale, or refused with a code.
func FuzzUpdate(f *testing.F) {
	h := open(f, embedded, func(o *app.Options) { o.JourneyTTL = 100_000 * time.Hour }) // five seconds a try
	v := h.begun(f)
	f.Add([]byte(with(v, "mock", "false")), "application/json")
	for field, raw := range map[string]string{
		"latitude": `1e999`, "longitude": `-180`, "accuracy": `0.1`, "speed": `null`, "heading": `360`, "recordedAt": `"2026-03-14T09:27:00Z"`, "sessionId": `""`, "x": `[[{}]]`,
	} {
		f.Add([]byte(with(v, field, raw)), "text/plain")
	}
	for _, body := range notAnObject {
		f.Add([]byte(body), "")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		h.move(5 * time.Second)
		a, err := h.try(t.Context(), t, http.MethodPost, v.trainer, updatesPath, body, off, func(r *http.Request) { r.Header["Content-Type"] = []string{contentType} })
		if err != nil {
			t.Skip("no request that can be sent: ", err)
		}
		assert.Contains(t, []int{200, 201, 400, 403, 404, 413, 415, 429, 431}, a.status, "%s", a.body)
		assert.Zero(t, h.metric(t, "doorstep_panics_total"))
		if a.status == 413 {
			assert.Greater(t, len(body), 16<<10)
		}
		if a.status < 300 { // what was taken for a fix is in the range of one
			live := h.get(t, v.student, v.live("")).want(t, 200, "")
			assert.True(t, bytes.ContainsRune(bytes.TrimSpace(body)[:1], '{'))
			assert.NotEmpty(t, live.etag())
		}
	})
}

// Whatever a reader asks is answered or refused with a code, and never waits
// where there is no room to.
func FuzzLive(f *testing.F) {
	h := open(f, embedded, func(o *app.Options) { o.MaxWaits = -1 }) // room for none
	v := h.atTheDoor(f)
	id := "sessionId=" + string(v.id)
	f.Add(id, `"1"`)
	for _, wait := range []string{"abc", "-1", "999", "", "1e3", "0", "30", "%31", "1&wait=2", "99999999999999999999"} {
		f.Add(id+"&wait="+wait, "*")
	}
	f.Add("sessionId="+strings.ToUpper(string(v.id)), `W/"1", "2"`)
	f.Add("sessionId=%zz&%", "\x80")
	f.Add("sessionId[]=1;sessionId=2", `"`)
	f.Fuzz(func(t *testing.T, query, tags string) {
		again := time.Now()
		a, err := h.try(t.Context(), t, http.MethodGet, v.student, livePath, nil, off, ifNoneMatch(tags), func(r *http.Request) { r.URL.RawQuery = query })
		if err != nil {
			t.Skip("no request that can be sent: ", err)
		}
		assert.True(t, slices.Contains([]int{200, 304, 400, 404, 431, 503}, a.status), "%d %s", a.status, a.body)
		assert.Less(t, time.Since(again), patience)
		assert.Zero(t, h.metric(t, "doorstep_panics_total"))
	})
}
