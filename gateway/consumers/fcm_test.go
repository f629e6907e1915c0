package consumers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/consumers"
	"doorstep/sessions"
)

func (g *google) fcm(t testing.TB, edit ...func(*consumers.FCMOptions)) *consumers.FCM {
	t.Helper()
	opts := consumers.FCMOptions{Credentials: g.credentials(t), Endpoint: g.URL + "/", Pause: time.Millisecond}
	for _, f := range edit {
		f(&opts)
	}
	f, err := consumers.NewFCM(t.Context(), opts)
	require.NoError(t, err)
	return f
}

var (
	phone = sessions.PushToken{Token: "secret-device", UserID: sessions.NewID(), Platform: sessions.Android}
	hello = consumers.Push{
		Kind: consumers.Arrived, EventID: sessions.NewID(), SessionID: sessions.NewID(), Title: "Your trainer is here", Body: "code 0417",
		ExpiresAt: time.Now().Add(10 * time.Minute),
	}
)

func TestFCM_sends_for_all_platforms(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	require.NoError(t, g.fcm(t).Push(t.Context(), phone, hello))
	require.Len(t, g.messages(), 1)
	m := g.messages()[0]
	key := string(hello.SessionID) + ".arrived"
	assert.Equal(t, "secret-device", m["token"])
	assert.Equal(t, map[string]any{"title": "Your trainer is here", "body": "code 0417"}, m["notification"])
	android := m["android"].(map[string]any)
	assert.Equal(t, []any{key, "HIGH"}, []any{android["collapseKey"], android["priority"]})
	assert.Equal(t, key, android["notification"].(map[string]any)["tag"], "a repeat takes the first one's place")
	apns := m["apns"].(map[string]any)["headers"].(map[string]any)
	assert.Equal(t, key, apns["apns-collapse-id"])
	assert.LessOrEqual(t, len(key), 64, "what APNs takes")
	aps := m["apns"].(map[string]any)["payload"].(map[string]any)["aps"].(map[string]any)
	assert.Equal(t, map[string]any{"sound": "default", "interruption-level": "time-sensitive", "thread-id": string(hello.SessionID)}, aps)
	web := m["webpush"].(map[string]any)
	assert.LessOrEqual(t, len(web["headers"].(map[string]any)["Topic"].(string)), 32, "what web push takes")
	assert.Equal(t, key, web["notification"].(map[string]any)["tag"])
	data, err := json.Marshal(m["data"])
	require.NoError(t, err)
	assert.NotContains(t, string(data), "0417", "the code is in the text and nowhere else")
}

// Only what is of no use minutes later is shown through a Focus.
func TestFCM_interrupts_for_what_is_urgent(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	f := g.fcm(t)
	var urgent []string
	for _, kind := range consumers.PushKinds() {
		p := hello
		p.Kind = consumers.Kind(kind)
		require.NoError(t, f.Push(t.Context(), phone, p))
		sent := g.messages()
		if aps, err := json.Marshal(sent[len(sent)-1]["apns"]); err == nil && strings.Contains(string(aps), "time-sensitive") {
			urgent = append(urgent, kind)
		}
	}
	assert.ElementsMatch(t, []string{"arriving", "arrived", "code"}, urgent)
}

// A process whose own clock is an hour ahead must not make a push that is late already.
func TestFCM_goes_by_the_given_clock(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	p := hello
	p.ExpiresAt = time.Now().Add(70 * time.Minute)
	f := g.fcm(t, func(o *consumers.FCMOptions) { o.Now = func() time.Time { return p.ExpiresAt.Add(-10 * time.Minute) } })
	require.NoError(t, f.Push(t.Context(), phone, p))
	assert.Equal(t, "600s", g.messages()[0]["android"].(map[string]any)["ttl"])
}

func TestFCM_fetches_one_token_for_all(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	f := g.fcm(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { assert.NoError(t, f.Push(t.Context(), phone, hello)) })
	}
	all.Wait()
	tokens, _ := g.counts()
	require.Equal(t, 1, tokens)
	require.Len(t, g.messages(), 20)
}

// A workload identity federation has no key: the process proves who it is, and gets a token
// of the service account.
func TestFCM_federation(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("of the pod"), 0o600))
	own := func(context.Context) (consumers.AWSCredentials, error) {
		return consumers.AWSCredentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "hidden", SessionToken: "session", Region: "eu-west-1"}, nil
	}
	for name, row := range map[string]struct {
		source map[string]any
		proof  []string
	}{
		"of_a_pod":      {map[string]any{"file": file}, []string{"of the pod"}},
		"of_a_task_ECS": {map[string]any{"environment_id": "aws1"}, []string{"https://sts.eu-west-1.amazonaws.com?Action=GetCallerIdentity", "Credential=AKIDEXAMPLE/", `"session"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := openGoogle(t)
			f := g.fcm(t, func(o *consumers.FCMOptions) { o.Credentials, o.AWS = g.federation(t, row.source), own })
			require.NoError(t, f.Push(t.Context(), phone, hello))
			require.Len(t, g.messages(), 1)
			proof, err := url.QueryUnescape(g.proof)
			require.NoError(t, err)
			for _, part := range row.proof {
				require.Contains(t, strings.ReplaceAll(proof, `\u0026`, "&"), part)
			}
			require.NotContains(t, proof, "hidden")
		})
	}
	_, err := consumers.NewFCM(t.Context(), consumers.FCMOptions{Credentials: []byte(`{"type":"external_account","audience":"` + pool + `","credential_source":{"file":"x"}}`)})
	require.ErrorContains(t, err, "no service account to act as")
}

func TestFCM_refusals(t *testing.T) {
	t.Parallel()
	badToken := map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": []map[string]any{{"field": "message.token"}}}
	badTTL := map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": []map[string]any{{"field": "message.android.ttl"}}}
	for name, row := range map[string]struct {
		answer func(http.ResponseWriter, map[string]any) bool
		want   error // nil: a fault of ours
		tries  int
	}{
		"unregistered":            {refusing(404, "NOT_FOUND", "UNREGISTERED"), consumers.ErrNotRegistered, 1},
		"not_a_token":             {refusing(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", badToken), consumers.ErrNotRegistered, 1},
		"not_a_message":           {refusing(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", badTTL), nil, 1},
		"not_said_what":           {refusing(400, "INVALID_ARGUMENT", ""), nil, 1},
		"another_sender":          {refusing(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), consumers.ErrNotOurs, 1},
		"may_not_send":            {refusing(403, "PERMISSION_DENIED", ""), nil, 1},
		"apns_certificate":        {refusing(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), consumers.ErrNotOurs, 1},
		"a_wrong_project":         {refusing(404, "NOT_FOUND", ""), nil, 1},
		"access_token_taken_back": {refusing(401, "UNAUTHENTICATED", ""), consumers.ErrUnavailable, 3},
		"internal":                {refusing(500, "INTERNAL", "INTERNAL"), consumers.ErrUnavailable, 3},
		"unavailable":             {refusing(503, "UNAVAILABLE", "UNAVAILABLE"), consumers.ErrUnavailable, 3},
		"quota":                   {refusing(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), consumers.ErrUnavailable, 1},
		"a_proxy's_page": {func(w http.ResponseWriter, _ map[string]any) bool {
			http.Error(w, "<html>secret-device", http.StatusBadGateway)
			return true
		}, consumers.ErrUnavailable, 3},
		"hangs_up": {func(w http.ResponseWriter, _ map[string]any) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
			return true
		}, consumers.ErrUnavailable, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := openGoogle(t)
			g.answer(row.answer)
			err := g.fcm(t).Push(t.Context(), phone, hello)
			require.Error(t, err)
			if row.want != nil {
				require.ErrorIs(t, err, row.want)
			} else {
				require.NotErrorIs(t, err, consumers.ErrNotRegistered, "no device is forgotten for it")
				require.False(t, consumers.Down(err))
			}
			_, tries := g.counts()
			require.Equal(t, row.tries, tries)
			require.NotContains(t, err.Error(), "secret-device", "it goes to logs and dead letters")
			require.NotContains(t, err.Error(), "0417")
		})
	}
}

func TestFCM_comes_back_when_asked_to(t *testing.T) {
	t.Parallel()
	t.Run("soon", func(t *testing.T) {
		t.Parallel()
		g, asked := openGoogle(t), false
		g.answer(func(w http.ResponseWriter, _ map[string]any) bool {
			if asked {
				return false
			}
			asked = true
			w.Header().Set("Retry-After", "1")
			refuse(w, 503, "UNAVAILABLE", "UNAVAILABLE")
			return true
		})
		began := time.Now()
		require.NoError(t, g.fcm(t).Push(t.Context(), phone, hello), "kept in hand that long")
		require.GreaterOrEqual(t, time.Since(began), 900*time.Millisecond)
	})
	for name, header := range map[string]string{"in_seconds": "60", "at_a_time": time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)} {
		t.Run("later_"+name, func(t *testing.T) {
			t.Parallel()
			g := openGoogle(t)
			g.answer(func(w http.ResponseWriter, _ map[string]any) bool {
				w.Header().Set("Retry-After", header)
				refuse(w, 503, "UNAVAILABLE", "UNAVAILABLE")
				return true
			})
			f := g.fcm(t)
			for range 5 {
				require.ErrorIs(t, f.Push(t.Context(), phone, hello), consumers.ErrUnavailable)
			}
			_, tries := g.counts()
			require.Equal(t, 1, tries, "the others did not even ask")
		})
	}
}

func TestFCM_breaker(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	g.answer(refusing(500, "INTERNAL", "INTERNAL"))
	var mu sync.Mutex
	var states []string
	f := g.fcm(t, func(o *consumers.FCMOptions) {
		o.Attempts = 1
		o.OnBreaker = func(state string) { mu.Lock(); defer mu.Unlock(); states = append(states, state) }
	})
	for range 50 {
		require.ErrorIs(t, f.Push(t.Context(), phone, hello), consumers.ErrUnavailable)
	}
	_, tries := g.counts()
	require.Equal(t, 20, tries)
	require.Equal(t, []string{"open"}, states)
}

func TestFCM_refused_tokens_trip_nothing(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	g.answer(refusing(404, "NOT_FOUND", "UNREGISTERED"))
	f := g.fcm(t)
	for range 50 {
		require.ErrorIs(t, f.Push(t.Context(), phone, hello), consumers.ErrNotRegistered)
	}
	g.answer(nil)
	require.NoError(t, f.Push(t.Context(), phone, hello))
}

func TestFCM_times_out(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	release := make(chan struct{})
	g.answer(func(http.ResponseWriter, map[string]any) bool { <-release; return true })
	t.Cleanup(func() { close(release) })
	f := g.fcm(t, func(o *consumers.FCMOptions) { o.Timeout, o.Attempts = 50*time.Millisecond, 1 })
	require.ErrorIs(t, f.Push(t.Context(), phone, hello), consumers.ErrUnavailable)
}

func TestFCM_token_server_down(t *testing.T) {
	t.Parallel()
	g := openGoogle(t)
	text := bytes.ReplaceAll(g.credentials(t), []byte(g.URL+"/token"), []byte("http://127.0.0.1:1/token"))
	f, err := consumers.NewFCM(t.Context(), consumers.FCMOptions{Credentials: text, Endpoint: g.URL + "/", Pause: time.Millisecond, Attempts: 1})
	require.NoError(t, err)
	err = f.Push(t.Context(), phone, hello)
	require.ErrorIs(t, err, consumers.ErrUnavailable)
	require.NotContains(t, err.Error(), "PRIVATE")
}

// The client would log whole requests, the code with them.
func TestFCM_logs_nothing_of_a_push(t *testing.T) { //nolint:paralleltest // it sets the environment and the default logger
	t.Setenv("GOOGLE_SDK_GO_LOGGING_LEVEL", "debug")
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer slog.SetDefault(before)
	g := openGoogle(t)
	require.NoError(t, g.fcm(t).Push(t.Context(), phone, hello))
	require.NotContains(t, log.String(), "0417")
	require.NotContains(t, log.String(), "secret-device")
}

func TestNewFCM_refuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no_JSON": `hunter2`, "no_project": `{"type":"service_account","private_key":"hunter2"}`,
		"a_user": `{"type":"authorized_user","project_id":"p","refresh_token":"hunter2"}`,
		"no_key": `{"type":"service_account","project_id":"p","client_email":"a@b","private_key":"hunter2","token_uri":"http://127.0.0.1:1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := consumers.NewFCM(t.Context(), consumers.FCMOptions{Credentials: []byte(text)})
			require.Error(t, err)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}
